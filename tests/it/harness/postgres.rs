//! A PostgreSQL server, as processes of the test.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::{Config, eventually, free_port};

/// Ends the server when the test process ends, however that ends: then its input closes.
const GUARD: &str = r#""$@" & server=$!
cat >/dev/null
kill -QUIT "$server" 2>/dev/null
wait "$server""#;
/// `nobody`: the server refuses to run as root.
const NOBODY: u32 = 65_534;

/// A server of its own, with the migration of sources.
pub struct Postgres {
    guard: Option<Child>,
    port: u16,
    dir: TempDir,
}

impl Postgres {
    /// Starts a server with an empty table.
    pub async fn start() -> Self {
        let mut postgres = Self::prepare();
        postgres.launch().await;
        let migration = tidings::sources::POSTGRES_MIGRATION;
        let client = postgres.client().await;
        client.batch_execute(migration).await.unwrap();
        postgres
    }

    /// A database that no server serves yet.
    fn prepare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let postgres = Postgres {
            guard: None,
            port: free_port(),
            dir,
        };
        let made = as_nobody(&program("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"])
            .arg("--no-sync")
            .arg("-D")
            .arg(postgres.data())
            .current_dir(postgres.dir.path())
            .output()
            .unwrap_or_else(|why| {
                panic!("initdb: {why}: this test needs PostgreSQL (apt-get install postgresql)")
            });
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {said}");
        postgres
    }

    /// Starts the server that was ended.
    pub async fn launch(&mut self) {
        let server = as_nobody(&program("postgres"));
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "guard"])
            .arg(server.get_program())
            .args(server.get_args())
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1"])
            // The system stays up, so a killed server loses nothing that it has written.
            .args(["-c", "fsync=off", "-c", "track_commit_timestamp=on"])
            .arg("-k")
            .arg(self.dir.path())
            .arg("-D")
            .arg(self.data())
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.guard = Some(guard.spawn().unwrap());
        eventually("PostgreSQL to accept connections", async || {
            let connected = tokio_postgres::connect(&self.url(), NoTls).await;
            connected.is_ok().then_some(())
        })
        .await;
    }

    /// Ends every process of the server with SIGKILL.
    pub async fn kill(&mut self) {
        let file = self.data().join("postmaster.pid");
        let pid = std::fs::read_to_string(&file).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        // A child may end by itself in between.
        let script = format!(
            "children=$(ps -o pid= --ppid {pid}); kill -9 {pid} && {{ kill -9 $children; true; }}"
        );
        let killed = Command::new("sh").args(["-c", &script]).status();
        assert!(killed.unwrap().success());
        self.end();
        // The next start refuses while an old process is attached to the shared memory.
        eventually("the processes to end", async || {
            let script = format!("kill -0 {pid} 2>/dev/null");
            let alive = Command::new("sh").args(["-c", &script]).status();
            (!alive.unwrap().success()).then_some(())
        })
        .await;
        std::fs::remove_file(file).unwrap();
    }

    fn end(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection.
    #[expect(
        clippy::disallowed_methods,
        reason = "the connection ends with the client"
    )]
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A configuration with this source, named `orders`.
    pub fn source(&self, config: Config) -> Config {
        let keys = format!("kind = \"postgres\"\nurl = {:?}", self.url());
        config
            .source("orders", &keys)
            .set("server.drain", r#""2s""#)
    }

    /// Publishes `{"n": n}` in a transaction of its own.
    pub async fn count(client: &Client, channel: &str, numbers: std::ops::RangeInclusive<i64>) {
        for n in numbers {
            let sql = "SELECT tidings_publish($1, 'count.up', jsonb_build_object('n', $2::bigint))";
            client.query_one(sql, &[&channel, &n]).await.unwrap();
        }
    }

    /// The rows that are left.
    pub async fn rows(client: &Client) -> i64 {
        let sql = "SELECT count(*) FROM tidings_outbox";
        client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The program, as `nobody` if the test runs as root.
fn as_nobody(program: &PathBuf) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    command.arg(program);
    command
}

/// A server program: Debian keeps each version's in a directory of its own.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}
