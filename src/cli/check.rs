//! `tidings check` and `tidings config`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::failure::Failure;
use super::output::{Output, note};
use crate::config::{
    Config, Inputs, MemoryBound, Place, Preset, Problem, Problems, Secret, Term, available_memory,
};
use crate::server;

/// What to check.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(super) struct Args {
    /// The configuration file
    #[arg(group = "what")]
    file: Option<PathBuf>,
    /// The preset below the file, or, without a file, the preset to check
    #[arg(long, value_name = "NAME", group = "what", value_parser = preset_names())]
    preset: Option<String>,
    /// Check it as `tidings serve --dev` would
    #[arg(long)]
    dev: bool,
}

/// What to print.
#[derive(Debug, clap::Args)]
pub(super) struct PrintArgs {
    /// Print this preset instead
    #[arg(long, value_name = "NAME", value_parser = preset_names())]
    preset: Option<String>,
}

/// Parses the name of a preset.
pub(super) fn preset_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Preset::all().iter().map(|preset| preset.name))
}

/// The preset with this name, if one is given.
pub(super) fn preset(name: Option<&str>) -> Result<Option<Preset>, Problems> {
    let found = name.map(Preset::named).transpose();
    found.map_err(|problem| Problems(vec![problem]))
}

/// Checks a file by itself, without this process's environment. A missing key for tokens is only a
/// note, because secrets often come from the environment.
pub(super) fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let preset = preset(args.preset.as_deref())?;
    let name = match (&args.file, preset) {
        (Some(file), _) => file.display().to_string(),
        (None, Some(preset)) => format!("preset {}", preset.name),
        (None, None) => String::new(),
    };
    let dev = args
        .dev
        .then(|| Secret::new("a stand-in, for only the file is looked at"));
    let loaded = Config::load(&Inputs {
        preset,
        file: args.file.clone(),
        dev,
        ..Inputs::default()
    });
    // Problems that only a rehearsed start finds have no line number.
    let good = loaded.and_then(|config| match server::rehearse(&config, args.dev) {
        Ok(()) => Ok(config),
        Err(error) => Err(Problems(vec![Problem {
            place: None,
            key: String::new(),
            message: error.to_string(),
        }])),
    });
    match good {
        Ok(config) => {
            for warning in config.warnings() {
                note(&format!("{name}: {warning}"));
            }
            let memory = config.memory_bound();
            if output.is_json() {
                return output.object(&json!({
                    "file": name,
                    "valid": true,
                    "problems": [],
                    "memory": in_json(&memory),
                }));
            }
            output.line(&format!("{name}: good"))?;
            print_memory(&memory, output)
        }
        Err(problems) => {
            if output.is_json() {
                let list: Vec<_> = problems.0.iter().map(entry).collect();
                output.object(&json!({"file": name, "valid": false, "problems": list}))?;
            }
            Err(Failure::from(in_order(problems)))
        }
    }
}

/// Prints the default configuration, or a preset.
pub(super) fn print(args: &PrintArgs, output: &mut Output) -> Result<(), Failure> {
    let text = match preset(args.preset.as_deref())? {
        Some(preset) => preset.toml.to_owned(),
        None => Config::default_toml(),
    };
    if output.is_json() {
        return output.object(&json!({"toml": text}));
    }
    output.line(text.trim_end())
}

/// Prints the most memory that the server may use, and its terms.
fn print_memory(memory: &MemoryBound, output: &mut Output) -> Result<(), Failure> {
    let most = readable(memory.bytes());
    let there = readable(u64::try_from(available_memory()).unwrap_or(u64::MAX));
    output.line(&format!(
        "memory: at most {most}, if everything is used at once; here are {there}"
    ))?;
    for Term {
        name,
        bytes,
        formula,
    } in &memory.terms
    {
        let bytes = readable(*bytes);
        output.line(&format!("  {name:<17} {bytes:>10}  {formula}"))?;
    }
    Ok(())
}

fn in_json(memory: &MemoryBound) -> serde_json::Value {
    let terms = memory
        .terms
        .iter()
        .map(|term| json!({"name": term.name, "bytes": term.bytes, "formula": term.formula}));
    json!({"bytes": memory.bytes(), "terms": terms.collect::<Vec<_>>(), "available": available_memory()})
}

/// Bytes in a human-readable form, rounded up.
fn readable(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        let one = 1_u64 << shift;
        if bytes >= one {
            let tenths = bytes.div_ceil(one.div_ceil(10));
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

fn entry(problem: &Problem) -> serde_json::Value {
    let line = match &problem.place {
        Some(Place::File(_, line) | Place::Preset(_, line)) => Some(*line),
        Some(Place::Environment(_) | Place::Flag(_)) | None => None,
    };
    json!({"line": line, "key": problem.key, "message": problem.message})
}

/// Sorts the problems in the order of the file.
fn in_order(mut problems: Problems) -> Problems {
    problems.0.sort_by_key(|problem| match &problem.place {
        Some(Place::File(_, line) | Place::Preset(_, line)) => *line,
        Some(Place::Environment(_) | Place::Flag(_)) | None => 0,
    });
    problems
}
