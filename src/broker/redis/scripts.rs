//! The scripts that run in Redis.

use redis::Cmd;

/// A script, by its hash. It is loaded when a connection is made.
pub(super) struct Prepared {
    code: String,
    hash: String,
}

impl Prepared {
    fn new(body: &str) -> Self {
        let code = concat!(include_str!("scripts/prelude.lua"), "\n").to_owned() + body;
        Prepared {
            hash: redis::Script::new(&code).get_hash().to_owned(),
            code,
        }
    }

    /// The command that runs it.
    pub(super) fn command(&self, keys: &[String], args: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len());
        for key in keys {
            command.arg(key);
        }
        for arg in args {
            command.arg(*arg);
        }
        command
    }
}

/// All scripts.
pub(super) struct Scripts {
    pub(super) publish: Prepared,
    pub(super) confirm: Prepared,
    pub(super) plain: Prepared,
    pub(super) read: Prepared,
    pub(super) look: Prepared,
    pub(super) list: Prepared,
    pub(super) tidy: Prepared,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Scripts {
            publish: Prepared::new(include_str!("scripts/publish.lua")),
            confirm: Prepared::new(include_str!("scripts/confirm.lua")),
            plain: Prepared::new(include_str!("scripts/plain.lua")),
            read: Prepared::new(include_str!("scripts/read.lua")),
            look: Prepared::new(include_str!("scripts/look.lua")),
            list: Prepared::new(include_str!("scripts/list.lua")),
            tidy: Prepared::new(include_str!("scripts/tidy.lua")),
        }
    }

    /// The commands that load them into a server.
    pub(super) fn load(&self) -> redis::Pipeline {
        let mut load = redis::pipe();
        for prepared in [
            &self.publish,
            &self.confirm,
            &self.plain,
            &self.read,
            &self.look,
            &self.list,
            &self.tidy,
        ] {
            load.cmd("SCRIPT").arg("LOAD").arg(&prepared.code).ignore();
        }
        load
    }
}
