//! The servers that the command line remembers, each with its credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;
use toml_edit::{DocumentMut, Item, Table, value};

use super::failure::Failure;
use super::output::note;
use super::private_file;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The remembered servers by name, and the one that is used unless another is named.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Contexts {
    /// The name of the context in use; empty for none.
    pub(super) current: String,
    /// All of them.
    pub(super) context: BTreeMap<String, Context>,
}

/// A server, and the credentials for it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Context {
    /// The gRPC address.
    pub(super) server: String,
    /// The token.
    pub(super) token: Option<String>,
    /// Authorities to trust for https.
    pub(super) ca: Option<PathBuf>,
    /// The client certificate.
    pub(super) client_cert: Option<PathBuf>,
    /// Its private key.
    pub(super) client_key: Option<PathBuf>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Contexts {
    /// Reads the file. A missing one has no contexts.
    pub(super) fn load() -> Result<Self, Failure> {
        match path() {
            Some(path) => Contexts::read(&path),
            None => Ok(Contexts::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let about = |error: &dyn fmt::Display| Failure::new(format!("{}: {error}", path.display()));
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Contexts::default());
            }
            Err(error) => return Err(about(&error)),
        };
        if metadata.len() > LARGEST {
            return Err(about(&"larger than 1 MiB"));
        }
        if private_file::is_open_to_others(&metadata) {
            note(&format!(
                "warning: other users can read the tokens in {0}: chmod 600 {0}",
                path.display()
            ));
        }
        let text = fs::read_to_string(path).map_err(|error| about(&error))?;
        // The parser's message would quote the line, which may hold a token.
        Figment::from(Toml::string(&text))
            .extract()
            .map_err(|_| about(&"expected contexts as `tidings context set` writes them"))
    }

    /// Writes the file, so that only its owner can read it.
    pub(super) fn save(&self) -> Result<PathBuf, Failure> {
        let path = path().ok_or_else(|| {
            Failure::new("no directory for contexts: set HOME or XDG_CONFIG_HOME")
        })?;
        let about = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            private_file::create_folder(folder).map_err(about)?;
        }
        let partial = path.with_extension("partial");
        // Left over from a command that was killed.
        drop(fs::remove_file(&partial));
        let mut file = private_file::create(&partial).map_err(about)?;
        let written = file
            .write_all(self.to_toml().as_bytes())
            .and_then(|()| file.sync_all());
        written
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(about)?;
        Ok(path)
    }

    fn to_toml(&self) -> String {
        let mut document = DocumentMut::new();
        if !self.current.is_empty() {
            document.insert("current", value(&self.current));
        }
        let mut all = Table::new();
        all.set_implicit(true);
        for (name, context) in &self.context {
            let mut table = Table::new();
            table.insert("server", value(&context.server));
            if let Some(token) = &context.token {
                table.insert("token", value(token));
            }
            let files = [
                ("ca", &context.ca),
                ("client_cert", &context.client_cert),
                ("client_key", &context.client_key),
            ];
            for (key, path) in files {
                if let Some(path) = path {
                    table.insert(key, value(path.display().to_string()));
                }
            }
            all.insert(name, Item::Table(table));
        }
        document.insert("context", Item::Table(all));
        document.to_string()
    }

    /// The context of this name.
    pub(super) fn named(&self, name: &str) -> Result<&Context, Failure> {
        self.context.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.context.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                String::from("none is stored")
            } else {
                format!("stored are {}", known.join(", "))
            };
            Failure::new(format!("not_found: no context {name}: {known}"))
        })
    }
}

/// `$XDG_CONFIG_HOME/tidings/contexts.toml`, or the same under `~/.config`.
fn path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty());
    let base = folder("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(folder("HOME")?).join(".config")))?;
    Some(base.join("tidings").join("contexts.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_survive_writing_and_reading() {
        let context = Context {
            server: String::from("https://tidings.internal:50051"),
            token: Some(String::from("a.b.c")),
            ca: Some(PathBuf::from("/etc/ca \"1\".pem")),
            ..Context::default()
        };
        let contexts = Contexts {
            current: String::from("prod"),
            context: BTreeMap::from([
                (String::from("prod"), context),
                (String::from("local.dev"), Context::default()),
            ]),
        };
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("contexts.toml");
        fs::write(&file, contexts.to_toml()).expect("written");
        assert_eq!(Contexts::read(&file).expect("read"), contexts);
        assert!(!format!("{contexts:?}").contains("a.b.c"));
    }

    #[test]
    fn broken_file_is_reported_without_its_content() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("contexts.toml");
        fs::write(&file, "[context.a]\ntoken = hunter2").expect("written");
        let failure = Contexts::read(&file).expect_err("broken").to_string();
        assert!(failure.contains("contexts.toml") && !failure.contains("hunter2"));
    }
}
