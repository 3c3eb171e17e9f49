//! `tidings check` and `tidings config`.

use std::path::PathBuf;

use serde_json::json;

use super::failure::Failure;
use super::output::{Output, note};
use crate::config::{Config, Inputs, Place, Problem, Problems, Secret};

/// Which file to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    file: PathBuf,
    /// Check it as `tidings serve --dev` would take it
    #[arg(long)]
    dev: bool,
}

/// Checks a file by itself, without this process's environment. A key for tokens may be missing,
/// for secrets often come by the environment; that is only remarked.
pub(super) fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let dev = args
        .dev
        .then(|| Secret::new("a stand-in, for only the file is looked at"));
    match Config::load(&Inputs {
        file: Some(args.file.clone()),
        dev,
        ..Inputs::default()
    }) {
        Ok(config) => {
            for warning in config.warnings() {
                note(&format!("{file}: {warning}"));
            }
            if output.is_json() {
                return output.object(&json!({"file": file, "valid": true, "problems": []}));
            }
            output.line(&format!("{file}: good"))
        }
        Err(problems) => {
            if output.is_json() {
                let list: Vec<_> = problems.0.iter().map(entry).collect();
                output.object(&json!({"file": file, "valid": false, "problems": list}))?;
            }
            Err(Failure::from(in_order(problems)))
        }
    }
}

/// Prints the default configuration.
pub(super) fn print_default(output: &mut Output) -> Result<(), Failure> {
    let text = Config::default_toml();
    if output.is_json() {
        return output.object(&json!({"toml": text}));
    }
    output.line(text.trim_end())
}

fn entry(problem: &Problem) -> serde_json::Value {
    let line = match &problem.place {
        Some(Place::File(_, line)) => Some(*line),
        Some(Place::Environment(_) | Place::Flag(_)) | None => None,
    };
    json!({"line": line, "key": problem.key, "message": problem.message})
}

/// In the order of the file.
fn in_order(mut problems: Problems) -> Problems {
    problems.0.sort_by_key(|problem| match &problem.place {
        Some(Place::File(_, line)) => *line,
        Some(Place::Environment(_) | Place::Flag(_)) | None => 0,
    });
    problems
}
