//! `tidings backup`.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::client::Target;
use super::failure::Failure;
use super::output::Output;
use super::private_file;
use crate::broker::{Contents, verify};
use crate::proto::BackupRequest;

/// The arguments of `tidings backup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write; it must not exist
    file: PathBuf,
}

/// Has a running server make a backup, writes it to a file and checks it.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let Args { file } = args;
    let file = file.as_path();
    if file == Path::new("-") {
        // The backup is checked before it is reported as complete, which needs a regular file.
        return Err(Failure::new(
            "-: a backup is written to a file, not to the standard output",
        ));
    }
    if file.exists() {
        return Err(Failure::new(format!(
            "{}: it is there already",
            file.display()
        )));
    }
    let partial = partial(file)?;
    let written = match fetch(target, &partial).await {
        Ok(()) => keep(&partial, file),
        failed => failed.map(|()| Contents::default()),
    };
    if written.is_err() {
        // A partial backup is useless.
        drop(fs::remove_file(&partial));
    }
    print_contents(&written?, file, output)
}

/// Prints what a backup contains.
pub(super) fn print_contents(
    contents: &Contents,
    place: &Path,
    output: &mut Output,
) -> Result<(), Failure> {
    let Contents {
        channels,
        events,
        keys,
    } = contents;
    let place = place.display().to_string();
    if output.is_json() {
        return output.object(
            &json!({"path": place, "channels": channels, "events": events, "idempotency_keys": keys}),
        );
    }
    output.line(&format!(
        "{place}: {channels} channels, {events} events, {keys} idempotency keys"
    ))
}

async fn fetch(target: &Target, partial: &Path) -> Result<(), Failure> {
    let client = target.connect().await?;
    let request = client.endless(BackupRequest {}).await?;
    let mut parts = client.store().backup(request).await?.into_inner();
    let mut file =
        BufWriter::new(private_file::create(partial).map_err(|error| at(partial, &error))?);
    while let Some(part) = parts.message().await? {
        file.write_all(&part.part)
            .map_err(|error| at(partial, &error))?;
    }
    let file = file
        .into_inner()
        .map_err(|error| at(partial, error.error()))?;
    file.sync_all().map_err(|error| at(partial, &error))
}

/// Renames a complete backup to its final name.
fn keep(partial: &Path, file: &Path) -> Result<Contents, Failure> {
    let read = File::open(partial).map_err(|error| at(partial, &error))?;
    let contents = verify(BufReader::new(read)).map_err(|error| Failure::new(error.to_string()))?;
    fs::rename(partial, file).map_err(|error| at(file, &error))?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| at(folder, &error))?;
    Ok(contents)
}

/// The name of the file while it is incomplete.
fn partial(file: &Path) -> Result<PathBuf, Failure> {
    let mut name = file
        .file_name()
        .ok_or_else(|| Failure::new(format!("{}: not a file's name", file.display())))?
        .to_owned();
    name.push(".partial");
    Ok(file.with_file_name(name))
}

/// A failure at a path.
pub(super) fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}
