//! A look at the database's journals before it opens them.
//!
//! Where a journal can't be read any further, the database takes it for what a crash has cut off,
//! and forgets the rest. But a crash cuts off at most the batch that was being written. If whole
//! batches follow, the journal is damaged, and they hold what was acknowledged.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::trouble::Trouble;

/// The tags with which entries begin: a batch's start, its items, its end, and a cleared keyspace.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// With this a batch ends.
const TRAILER: [u8; 4] = *b"FJL\x03";
/// The bytes of a start after its tag: the number of items, and the batch's number.
const START_LEN: usize = 12;
/// The bytes of an item after its tag, up to its key.
const ITEM_LEN: usize = 20;
/// No batch is numbered this far ahead of the one before it.
const FAR_AHEAD: u64 = 1 << 32;
/// Read at a time.
const PART: usize = 64 * 1024;

/// Fails where a journal in this directory is damaged in the middle.
pub(super) fn check_all(directory: &Path) -> Result<(), Trouble> {
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            check(&path)?;
        }
    }
    Ok(())
}

fn check(path: &Path) -> Result<(), Trouble> {
    let mut file = BufReader::with_capacity(PART, File::open(path)?);
    if let Some(end) = damaged(&mut file)? {
        let name = path.file_name().unwrap_or_default().display();
        return Err(Trouble::Damaged(format!(
            "the journal {name} can't be read at byte {end}, and whole batches follow"
        )));
    }
    Ok(())
}

/// The byte at which a journal can't be read any further although whole batches follow.
pub(super) fn damaged(file: &mut BufReader<impl Read + Seek>) -> io::Result<Option<u64>> {
    let (mut end, mut last) = (0, 0);
    // The end of the last batch that is whole as far as its shape goes; the database checks sums.
    while let Some((length, number)) = batch(file)? {
        end += length;
        last = number;
    }
    file.seek(SeekFrom::Start(end))?;
    Ok(follows(file, last)?.then_some(end))
}

/// Reads over a batch: its length and its number; `None` where there is none, or not all of it.
fn batch(file: &mut BufReader<impl Read + Seek>) -> io::Result<Option<(u64, u64)>> {
    let mut length = 0;
    let mut number = None;
    loop {
        let Some([tag]) = take::<1>(file)? else {
            return Ok(None);
        };
        match (tag, number) {
            (START, None) => {
                let Some(head) = take::<START_LEN>(file)? else {
                    return Ok(None);
                };
                number = Some(number_in(&head));
                length += 1 + START_LEN;
            }
            (ITEM, Some(_)) => {
                let Some(body) = item(file)? else {
                    return Ok(None);
                };
                length += 1 + body;
            }
            (CLEAR, Some(_)) => {
                if take::<8>(file)?.is_none() {
                    return Ok(None);
                }
                length += 9;
            }
            (END, Some(number)) => {
                let trailer = take::<12>(file)?;
                if trailer.is_none_or(|trailer| !trailer.ends_with(&TRAILER)) {
                    return Ok(None);
                }
                let length = u64::try_from(length + 13).unwrap_or(u64::MAX);
                return Ok(Some((length, number)));
            }
            _ => return Ok(None),
        }
    }
}

/// Reads over an item: its length without the tag.
fn item(file: &mut BufReader<impl Read + Seek>) -> io::Result<Option<usize>> {
    let Some(head) = take::<ITEM_LEN>(file)? else {
        return Ok(None);
    };
    let [_, _, _, _, _, _, _, _, _, _, k0, k1, .., v0, v1, v2, v3] = head;
    let key = u64::from(u16::from_le_bytes([k0, k1]));
    let value = u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
    let body = key + value;
    let read = io::copy(&mut file.take(body), &mut io::sink())?;
    let length = ITEM_LEN + usize::try_from(body).unwrap_or(usize::MAX);
    Ok((read == body).then_some(length))
}

/// True if somewhere in what is left a batch ends and a later one begins.
fn follows(file: &mut BufReader<impl Read + Seek>, last: u64) -> io::Result<bool> {
    /// The end of one batch and the start of the next, up to the tag of its first item.
    const SEAM: usize = TRAILER.len() + 1 + START_LEN + 1;
    let mut part = Vec::with_capacity(PART + SEAM);
    loop {
        let kept = part.len();
        let want = u64::try_from(PART).unwrap_or(u64::MAX);
        let read = file.take(want).read_to_end(&mut part)?;
        if read == 0 {
            return Ok(false);
        }
        // What was set aside and never written.
        if part.iter().all(|byte| *byte == 0) {
            part.clear();
            continue;
        }
        if part.windows(SEAM).any(|seam| is_seam(seam, last)) {
            return Ok(true);
        }
        let done = (kept + read).saturating_sub(SEAM - 1);
        part.drain(..done);
    }
}

fn is_seam(seam: &[u8], last: u64) -> bool {
    let Some((start, tag)) = seam
        .strip_prefix(&TRAILER)
        .and_then(|rest| rest.strip_prefix(&[START]))
        .and_then(|rest| rest.split_first_chunk::<START_LEN>())
    else {
        return false;
    };
    let number = number_in(start);
    let plausible = number > last && number < last.saturating_add(FAR_AHEAD);
    plausible && (tag == [ITEM] || tag == [CLEAR])
}

fn number_in(start: &[u8; START_LEN]) -> u64 {
    let [_, _, _, _, number @ ..] = *start;
    u64::from_le_bytes(number)
}

/// The next bytes; `None` where there are not so many.
fn take<const N: usize>(file: &mut BufReader<impl Read + Seek>) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
