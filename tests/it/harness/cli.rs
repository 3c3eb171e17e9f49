//! Runs the command line.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{Server, Token, within};

/// The variable with the address of the server.
const SERVER_OPTION: &str = "--server";

/// The variable with the token.
const TOKEN_OPTION: &str = "--token";

/// A builder for a command.
pub struct Tidings {
    command: Command,
}

/// The result of a command.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Checks the exit code.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

impl Tidings {
    /// A command without a server.
    pub fn new(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
        command
            .args(args)
            .stdin(Stdio::null())
            .env_remove("RUST_LOG");
        Self { command }
    }

    /// With one more argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// With several more.
    pub fn args(self, args: &[&str]) -> Self {
        args.iter().fold(self, |command, arg| command.arg(arg))
    }

    /// In this directory.
    pub fn within(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs to completion.
    pub async fn run(mut self) -> Finished {
        let run = tokio::task::spawn_blocking(move || self.command.output().unwrap());
        let output = within("the command to end", run).await.unwrap();
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs in the background, and yields its output line by line.
    pub fn start(mut self) -> Lines {
        let stdout = Stdio::piped();
        let mut child = self
            .command
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel(1024);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Lines { child, receiver }
    }
}

impl Server {
    /// A command for this server, as an admin.
    pub fn cli(&self, args: &[&str]) -> Tidings {
        self.cli_as(&Token::new("operator").roles(&["admin", "service"]), args)
    }

    /// A command for this server, with this token.
    pub fn cli_as(&self, token: &Token, args: &[&str]) -> Tidings {
        Tidings::new(args)
            .within(self.path("").as_path())
            .arg(SERVER_OPTION)
            .arg(&format!("http://{}", self.internal))
            .arg(TOKEN_OPTION)
            .arg(&token.sign())
    }
}

/// The output of a command in the background, which is killed on drop.
pub struct Lines {
    child: Child,
    receiver: mpsc::Receiver<String>,
}

impl Lines {
    /// The next line that contains `part`.
    pub async fn expect(&mut self, part: &str) -> String {
        within(&format!("a line with {part:?}"), async {
            loop {
                let line = self.receiver.recv().await.expect("the command ended");
                if line.contains(part) {
                    return line;
                }
            }
        })
        .await
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
