//! `tidings completions` and `tidings man`: shell completions and manual pages.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use clap_complete::Shell;

use super::failure::Failure;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Where the pages go.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write a page for each command into this directory, instead of the first one to stdout
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
}

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tidings", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

/// Prints or writes the manual.
pub(super) fn manual(args: &ManArgs) -> Result<(), Failure> {
    let command = super::command().disable_help_subcommand(true);
    let Some(folder) = &args.to else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return Ok(std::io::stdout().write_all(&page)?);
    };
    let written =
        fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| Failure::new(format!("{}: {error}", folder.display())))
}
