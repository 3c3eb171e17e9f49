//! `tidings doctor`: checks this machine and the configuration for production use.

mod certificates;
mod clock;
mod engine;
mod finding;
mod keys;
mod network;
mod store;
mod system;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use self::finding::{Finding, Level};
use super::check;
use super::client::flag_or_env;
use super::failure::Failure;
use super::output::{Output, printable};
use super::private_file;
use crate::config::{Config, Inputs};
use crate::server;

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration file [env: TIDINGS_CONFIG]"
    )]
    config: Option<PathBuf>,
    #[arg(
        long,
        value_name = "NAME",
        value_parser = check::preset_names(),
        help = "The preset under it [env: TIDINGS_PRESET]"
    )]
    preset: Option<String>,
}

/// Runs all checks. Fails if the server would not start, or could not hold the configured number of
/// connections.
pub(super) async fn run(args: Args, output: &mut Output) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let config = load(args, &mut findings)?;
    findings.extend(system::findings(&config));
    findings.extend(network::findings(&config));
    findings.extend(clock::findings());
    findings.extend(certificates::findings(&config));
    findings.extend(store::findings(&config));
    findings.extend(engine::findings(&config).await);
    findings.extend(keys::findings(&config).await);
    for finding in &findings {
        print(finding, output)?;
    }
    let count = |level| findings.iter().filter(|one| one.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    if failed > 0 {
        return Err(Failure::new(format!(
            "failed_precondition: {failed} of {} checks failed, {warned} warn",
            findings.len()
        )));
    }
    Ok(())
}

/// The configuration as `tidings serve` would load it here. If it can't be loaded, the other checks
/// use the defaults.
fn load(args: Args, findings: &mut Vec<Finding>) -> Result<Config, Failure> {
    let file = args
        .config
        .or_else(|| flag_or_env(None, "TIDINGS_CONFIG").map(PathBuf::from));
    let preset = args.preset.or_else(|| flag_or_env(None, "TIDINGS_PRESET"));
    let inputs = Inputs {
        preset: check::preset(preset.as_deref())?,
        file: file.clone(),
        environment: Inputs::process_environment(),
        needs_key: true,
        ..Inputs::default()
    };
    let loaded = Config::load(&inputs).map_err(|problems| problems.to_string());
    let usable = loaded.and_then(|config| {
        let rehearsed = server::rehearse(&config, false);
        rehearsed.map_or_else(|error| Err(error.to_string()), |()| Ok(config))
    });
    let config = match usable {
        Ok(config) => {
            let name = file.as_deref().map(|path| path.display().to_string());
            let name = name.unwrap_or_else(|| String::from("environment and defaults"));
            findings.push(Finding::ok("configuration", format!("{name}: valid")));
            config
        }
        Err(problems) => {
            let advice = "correct it; the other checks are made for the defaults";
            let advice = match &file {
                None => "name a file with --config, or write one with `tidings init`",
                Some(_) => advice,
            };
            findings.push(Finding::fail("configuration", problems, advice));
            Config::default()
        }
    };
    findings.extend(
        config
            .warnings()
            .into_iter()
            .filter(|_| findings.iter().all(|one| one.level == Level::Ok))
            .map(|warning| {
                Finding::warn(
                    "configuration",
                    warning,
                    "see docs/reference/configuration.md",
                )
            })
            .collect::<Vec<_>>(),
    );
    if config.auth.hs256_secret.is_some()
        && let Some(path) = &file
    {
        findings.extend(file_mode(path));
    }
    Ok(config)
}

/// Whether every user of the machine can read the file with the secret.
fn file_mode(path: &Path) -> Option<Finding> {
    let metadata = std::fs::metadata(path).ok()?;
    private_file::is_readable_by_all(&metadata).then(|| {
        Finding::warn(
            "configuration",
            format!("{}: every user of this machine can read it", path.display()),
            &format!("chmod o-rwx {}", path.display()),
        )
    })
}

fn print(finding: &Finding, output: &mut Output) -> Result<(), Failure> {
    let Finding {
        check,
        level,
        message,
        advice,
    } = finding;
    if output.is_json() {
        return output.object(&json!({
            "check": check,
            "status": level.name(),
            "message": message,
            "advice": advice,
        }));
    }
    let (on, off) = if is_coloured() {
        (level.colour(), "\u{1b}[0m")
    } else {
        ("", "")
    };
    output.line(&format!(
        "{on}{:<4}{off}  {check:<13}  {}",
        level.name(),
        printable(&message.replace('\n', "; "))
    ))?;
    match advice {
        Some(advice) => output.line(&format!("{:21}-> {}", "", printable(advice))),
        None => Ok(()),
    }
}

/// Whether stdout shows colours (<https://no-color.org>).
fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && flag_or_env(None, "NO_COLOR").is_none()
}
