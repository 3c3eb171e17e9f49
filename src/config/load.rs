//! Loads flags, environment and file into a checked [`Config`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::Figment;

use super::layer::Layer;
use super::problem::{Place, Problem, Problems};
use super::{Config, Preset, Provenance, Secret, environment, presets, validate};

/// The sources of a configuration; later ones take precedence: defaults, `preset`, `file`,
/// `environment`, `flags`.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The preset below everything else. Its namespaces, event types and dialects are kept besides
    /// the file's, unless the file declares one of the same name.
    pub preset: Option<Preset>,
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Environment variables; those that don't begin with `TIDINGS_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags that set keys: the flag, the key and its text.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// For development, with the secret to use if no key is set: anonymous connections are accepted
    /// unless `auth.required` is set.
    pub dev: Option<Secret>,
    /// Whether a configuration without a key in `[auth]` is refused.
    pub needs_key: bool,
}

impl Inputs {
    /// This process's environment variables that begin with `TIDINGS_`.
    #[must_use]
    pub fn process_environment() -> Vec<(String, String)> {
        std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .filter(|(name, _)| name.starts_with(environment::PREFIX))
            .collect()
    }
}

impl Config {
    /// Loads and checks everything.
    ///
    /// # Errors
    ///
    /// All problems, each with its place and the expected value.
    pub fn load(inputs: &Inputs) -> Result<Config, Problems> {
        let file = match &inputs.file {
            None => Layer::default(),
            Some(path) => Layer::file(path, &read(path)?),
        };
        merge(file, inputs)
    }

    /// Loads and checks a text as if it were a file of this name.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn from_toml(name: &Path, text: &str, inputs: &Inputs) -> Result<Config, Problems> {
        merge(Layer::file(name, text), inputs)
    }
}

/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

fn read(path: &Path) -> Result<String, Problems> {
    let wrong = |message: String| {
        let key = path.display().to_string();
        Problems(vec![Problem {
            place: None,
            key,
            message,
        }])
    };
    let size = std::fs::metadata(path)
        .map_err(|error| wrong(format!("can't be read: {error}")))?
        .len();
    if size > LARGEST {
        return Err(wrong(String::from("expected a file of at most 16 MiB")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(format!("can't be read: {error}")))
}

fn merge(file: Layer, inputs: &Inputs) -> Result<Config, Problems> {
    let mut layers = vec![
        file,
        Layer::environment(&inputs.environment),
        Layer::flags(&inputs.flags),
    ];
    if let Some(preset) = inputs.preset {
        presets::put_under(Layer::preset(preset), &mut layers);
    }
    let mut figment = Figment::from(Layer::defaults());
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let mut problems = Vec::new();
    for mut layer in layers {
        problems.append(&mut layer.problems);
        places.append(&mut layer.places);
        figment = figment.merge(layer);
    }
    let mut config: Config = match figment.extract() {
        Ok(config) => config,
        Err(error) => {
            problems.extend(error.into_iter().map(|error| unread(&error, &places)));
            return Err(Problems(problems));
        }
    };
    config.limits.event_bytes_is_set = places.contains_key("limits.event_bytes");
    if let Some(secret) = &inputs.dev {
        if !config.auth.has_key() {
            config.auth.hs256_secret = Some(secret.clone());
        }
        if !places.contains_key("auth.required") {
            config.auth.required = false;
        }
    }
    config.provenance = Provenance::new(&figment, &places);
    let setting = validate::Setting {
        dev: inputs.dev.is_some(),
        needs_key: inputs.needs_key,
    };
    problems.extend(validate::problems(&config, setting, &places, &problems));
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Problems(problems))
    }
}

/// The problem of a value that passed its check but can't be used. Does not contain the value.
fn unread(error: &figment::Error, places: &BTreeMap<String, Place>) -> Problem {
    let key = error.path.join(".");
    Problem {
        place: places.get(&key).cloned(),
        key,
        message: String::from("can't be taken"),
    }
}
