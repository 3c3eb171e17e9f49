//! Prints results.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::failure::Failure;

/// Results, for people or for machines.
pub(super) struct Output {
    json: bool,
    out: Box<dyn Write + Send>,
}

impl Output {
    /// Prints to stdout.
    pub(super) fn stdout(json: bool) -> Self {
        Output {
            json,
            out: Box::new(BufWriter::new(io::stdout())),
        }
    }

    /// True if the output is for a machine.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line and flushes it.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Prints a value as one line of JSON and flushes it.
    pub(super) fn object(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value)?;
        self.line("")
    }

    /// Prints aligned columns under their headings.
    pub(super) fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        self.out.write_all(table(headings, rows).as_bytes())?;
        Ok(self.out.flush()?)
    }
}

/// Prints a note for people on stderr.
pub(super) fn note(text: &str) {
    // A note that can't be written is not an error.
    drop(writeln!(io::stderr(), "{}", printable(text)));
}

/// The text without control characters, which could drive the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings
        .iter()
        .map(|heading| (*heading).to_owned())
        .collect();
    let mut lines: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
    if headings.iter().any(|heading| !heading.is_empty()) {
        lines.push(headings);
    }
    lines.extend(
        rows.iter()
            .map(|row| row.iter().map(|cell| printable(cell)).collect()),
    );
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec![String::from("alice"), String::from("3")],
            vec![String::from("b"), String::from("10")],
        ];
        assert_eq!(
            table(&["USER", "N"], &rows),
            "USER   N\nalice  3\nb      10\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
        assert!(!table(&["A"], &[vec![String::from("\u{1b}c")]]).contains('\u{1b}'));
    }
}
