//! Ready configurations, each for one system that Tidings replaces.

use super::layer::Layer;
use super::problem::{Place, Problem};

/// A ready configuration: a layer under the file, the environment and the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// The TOML file, with comments that explain it.
    pub toml: &'static str,
}

/// All presets.
const PRESETS: [Preset; 5] = [
    Preset {
        name: "football",
        toml: include_str!("../../presets/football.toml"),
    },
    Preset {
        name: "devplatform",
        toml: include_str!("../../presets/devplatform.toml"),
    },
    Preset {
        name: "spc",
        toml: include_str!("../../presets/spc.toml"),
    },
    Preset {
        name: "photo",
        toml: include_str!("../../presets/photo.toml"),
    },
    Preset {
        name: "robotics",
        toml: include_str!("../../presets/robotics.toml"),
    },
];

/// Arrays of tables that are merged by `name`; other arrays are replaced as a whole.
const TABLES: [&str; 3] = ["namespace", "event_type", "dialect"];

impl Preset {
    /// All presets.
    #[must_use]
    pub fn all() -> &'static [Preset] {
        &PRESETS
    }

    /// The preset with this name.
    ///
    /// # Errors
    ///
    /// Unknown name; lists the known ones.
    pub fn named(name: &str) -> Result<Preset, Problem> {
        let found = PRESETS.iter().find(|preset| preset.name == name).copied();
        found.ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            Problem {
                place: Some(Place::Flag("--preset")),
                key: String::new(),
                message: format!("no such preset: expected one of {}", names.join(", ")),
            }
        })
    }
}

/// Puts a preset's layer below the others; later layers take precedence. Of its namespaces, event
/// types and dialects those are kept that no other layer declares.
pub(super) fn put_under(mut preset: Layer, layers: &mut Vec<Layer>) {
    for table in TABLES {
        let winner = layers.iter_mut().rev().find(|layer| layer.has(table));
        if let Some(winner) = winner {
            preset.lend(table, winner);
        }
    }
    layers.insert(0, preset);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::environment;
    use super::super::{Config, Inputs};
    use super::*;

    /// Loads a file over a test preset; `Err` with the problems.
    fn load(preset: &'static str, file: &str, inputs: &Inputs) -> Result<Config, String> {
        let preset = Preset {
            name: "made-up",
            toml: preset,
        };
        let inputs = Inputs {
            preset: Some(preset),
            ..inputs.clone()
        };
        Config::from_toml(Path::new("config.toml"), file, &inputs)
            .map_err(|problems| problems.to_string())
    }

    const MADE_UP: &str = "public.listen = \"127.0.0.1:1\"\nlimits.connections = 7\n\
        heartbeat.interval = \"5s\"\nauto_subscribe = [\"a\", \"b\"]\n\
        [[namespace]]\nname = \"first\"\npresence = true\nsubscribe = 'true'\n\
        [[namespace]]\nname = \"second\"\npresence = true\n\
        [[event_type]]\nname = \"a.b\"\nnamespace = \"first\"";

    #[test]
    fn every_preset_is_valid_and_named_like_its_file() {
        for preset in Preset::all() {
            let inputs = Inputs {
                preset: Some(*preset),
                ..Inputs::default()
            };
            let config = Config::load(&inputs).unwrap_or_else(|problems| panic!("{problems}"));
            assert!(!config.event_type.is_empty(), "{}", preset.name);
            assert_eq!(Preset::named(preset.name), Ok(*preset));
            let longest = preset.toml.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(140), "{}: {longest:?}", preset.name);
        }
        let unknown = Preset::named("chess").expect_err("unknown");
        assert_eq!(
            unknown.to_string(),
            "--preset: no such preset: expected one of football, devplatform, spc, photo, robotics"
        );
    }

    #[test]
    fn preset_is_overridden_by_other_sources() {
        let mut inputs = environment(&[("TIDINGS_HEARTBEAT__INTERVAL", "6s")]);
        let flag = ("--public", "public.listen", String::from("127.0.0.1:2"));
        inputs.flags.push(flag);
        let file = "limits.connections = 8\nauto_subscribe = [\"c\"]";
        let config = load(MADE_UP, file, &inputs).expect("good");
        assert_eq!(config.public.listen.port(), 2);
        assert_eq!(config.limits.connections, 8);
        assert_eq!(config.heartbeat.interval.as_secs(), 6);
        assert_eq!(config.auto_subscribe, ["c"]);
        let config = load(MADE_UP, "", &Inputs::default()).expect("good");
        assert_eq!(config.limits.connections, 7);
        assert_eq!(config.auto_subscribe, ["a", "b"]);
    }

    #[test]
    fn tables_are_merged_by_name() {
        let file = "[[namespace]]\nname = \"third\"\n[[namespace]]\nname = \"first\"";
        let names = |config: &Config| {
            let namespaces = config.namespace.iter();
            namespaces
                .map(|n| (n.name.clone(), n.presence))
                .collect::<Vec<_>>()
        };
        let expected = [("third", false), ("first", false), ("second", true)]
            .map(|(name, presence)| (name.to_owned(), presence));
        let config = load(MADE_UP, file, &Inputs::default()).expect("good");
        assert_eq!(names(&config), expected);
        assert_eq!(config.event_type.len(), 1);
        // A table replaces the preset's as a whole, its rule included.
        assert_eq!(
            config.namespace.get(1).and_then(|n| n.subscribe.as_deref()),
            None
        );

        let variable = environment(&[("TIDINGS_NAMESPACE", "[{ name = \"second\" }]")]);
        let config = load(MADE_UP, "", &variable).expect("good");
        let expected = [("second", false), ("first", true)]
            .map(|(name, presence)| (name.to_owned(), presence));
        assert_eq!(names(&config), expected);
    }

    #[test]
    fn mistake_names_source_and_line() {
        let bad = "[[namespace]]\nname = \"a\"\n[[namespace]]\nname = \"b\"\nsubscribe = 'id =='";
        let says = load(bad, "", &Inputs::default()).expect_err("a bad rule");
        let start = "preset made-up:5: namespace[1].subscribe: not valid CEL";
        assert!(says.starts_with(start), "{says}");

        let file = "[[namespace]]\nname = \"a\"\npublish = '=='";
        let says = load(bad, file, &Inputs::default()).expect_err("two bad rules");
        let lines: Vec<&str> = says.lines().collect();
        let starts = [
            "config.toml:3: namespace[0].publish: not valid CEL",
            "preset made-up:5: namespace[1].subscribe: not valid CEL",
        ];
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{says}");
        }
        assert_eq!(lines.len(), 2, "{says}");

        let says = load("limits.conections = 1", "x = 1", &Inputs::default());
        let says = says.expect_err("unknown keys");
        assert!(
            says.contains("preset made-up:1: unknown key limits.conections"),
            "{says}"
        );
        assert!(says.contains("config.toml:1: unknown key x"), "{says}");
    }

    #[test]
    fn preset_settings_apply_in_dev_mode() {
        let dev = Inputs {
            dev: Some(super::super::Secret::new("x".repeat(32))),
            ..Inputs::default()
        };
        let config = load("auth.required = true", "", &dev).expect("good");
        assert!(config.auth.required);
        assert!(!load("", "", &dev).expect("good").auth.required);
    }
}
