//! A disk that can be full, and syncs that can fail.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A tmpfs of its own, unmounted on drop.
pub struct SmallDisk(TempDir);

/// Its size while it is not full: more than any run writes.
const ROOMY: &str = "size=8g";
/// The block size.
const PAGE: u64 = 4096;

impl SmallDisk {
    /// `None` if this user may not mount.
    pub fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", ROOMY, "tidings-faults"])
            .arg(directory.path())
            .output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk(directory))
    }

    /// The store's directory.
    pub fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Shrinks it so that only `left` bytes are free, without using memory.
    pub fn fill(&self, left: u64) {
        // A write between measuring and resizing makes this fail, so it is retried.
        for _ in 0..100 {
            let size = (self.used() + left).next_multiple_of(PAGE);
            if self.resize(&format!("size={size}")) {
                return;
            }
        }
        eprintln!("the disk could not be filled");
    }

    /// Restores its size.
    pub fn free(&self) {
        assert!(self.resize(ROOMY), "the disk can grow");
    }

    fn used(&self) -> u64 {
        let output = Command::new("df")
            .args(["--output=used", "-B1"])
            .arg(self.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse().unwrap()
    }

    fn resize(&self, size: &str) -> bool {
        let remount = Command::new("mount")
            .args(["-o", &format!("remount,{size}")])
            .arg(self.0.path())
            .output();
        remount.is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path: &Path = self.0.path();
        // A lazy unmount: the server may still have files open.
        let _ = Command::new("umount").arg("-l").arg(path).status();
    }
}

/// True if strace can inject errors into another process.
pub fn can_fail_syncs() -> bool {
    let run = Command::new("strace")
        .args(["-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"])
        .output();
    run.is_ok_and(|output| output.status.success())
}

/// Makes every sync of a process fail for this long.
pub async fn fail_syncs(process: u32, lasts: Duration) -> bool {
    let strace = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null"])
        .args(["-e", "trace=fsync,fdatasync"])
        .args(["-e", "inject=fsync,fdatasync:error=EIO"])
        .args(["-p", &process.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else {
        return false;
    };
    tokio::time::sleep(lasts).await;
    let lasted = strace.try_wait().unwrap().is_none();
    detach(&mut strace);
    lasted
}

/// On SIGINT, strace detaches cleanly.
fn detach(strace: &mut Child) {
    let pid = Pid::from_raw(i32::try_from(strace.id()).unwrap()).unwrap();
    if strace.try_wait().unwrap().is_none() {
        let _ = kill_process(pid, Signal::INT);
    }
    strace.wait().unwrap();
}
