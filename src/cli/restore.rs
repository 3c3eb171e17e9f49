//! `tidings restore`.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::backup::{at, print_contents};
use super::failure::Failure;
use super::output::Output;
use crate::broker::restore;

/// The backup and the target directory.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup file, written by `tidings backup`
    file: PathBuf,
    /// The store's directory (`history.path`); it must be empty or not exist
    #[arg(long, value_name = "DIRECTORY")]
    to: PathBuf,
}

/// Creates a store from a backup.
pub(super) fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let file = File::open(&args.file).map_err(|error| at(&args.file, &error))?;
    let contents =
        restore(BufReader::new(file), &args.to).map_err(|error| Failure::new(error.to_string()))?;
    print_contents(&contents, &args.to, output)
}
