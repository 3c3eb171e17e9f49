//! The definition of an event type: its schema and an example, inline or in files.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Schema;
use crate::event::Payload;

/// The largest schema or example, in bytes: 1 MiB.
const LARGEST: u64 = 1 << 20;

/// The source of a schema or an example.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Inline JSON.
    Inline(&'a str),
    /// A file.
    File(&'a Path),
}

impl<'a> Source<'a> {
    /// The inline text if there is one, or else the file.
    #[must_use]
    pub fn of(text: Option<&'a str>, file: Option<&'a Path>) -> Option<Source<'a>> {
        text.map(Source::Inline).or(file.map(Source::File))
    }

    fn file(self) -> Option<PathBuf> {
        match self {
            Source::Inline(_) => None,
            Source::File(path) => Some(path.to_owned()),
        }
    }

    fn read(self) -> Result<String, String> {
        match self {
            Source::File(path) => read(path),
            Source::Inline(text) if u64::try_from(text.len()).is_ok_and(|len| len <= LARGEST) => {
                Ok(text.to_owned())
            }
            Source::Inline(_) => Err(String::from("expected at most 1 MiB")),
        }
    }
}

/// The sources of both.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// The schema.
    pub schema: Option<Source<'a>>,
    /// The example.
    pub example: Option<Source<'a>>,
}

/// The contents of both.
#[derive(Debug, Clone, Default)]
pub struct Definition {
    /// The schema of the payload.
    pub schema: Option<Schema>,
    /// A valid payload, as JSON.
    pub example: Option<Arc<str>>,
}

/// Selects one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The schema.
    Schema,
    /// The example.
    Example,
}

/// An unusable definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// Which of the two is unusable.
    pub part: Part,
    /// The file, if it is in one.
    pub file: Option<PathBuf>,
    /// The problem.
    pub message: String,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.file {
            Some(file) => write!(f, " (in {})", file.display()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DefinitionError {}

impl Definition {
    /// Reads both, each at most 1 MiB. Without an example, the first of the schema's `examples` is
    /// used.
    ///
    /// # Errors
    /// One cannot be read, is not a valid schema, or is an example that violates the schema.
    pub fn load(sources: Sources<'_>) -> Result<Definition, DefinitionError> {
        let schema = sources
            .schema
            .map(|source| read_schema(source).map_err(wrong(Part::Schema, source)))
            .transpose()?;
        let example = match sources.example {
            Some(source) => {
                let example = read_example(source, schema.as_ref());
                Some(example.map_err(wrong(Part::Example, source))?)
            }
            None => first_example(schema.as_ref()),
        };
        Ok(Definition { schema, example })
    }
}

fn wrong(part: Part, source: Source<'_>) -> impl FnOnce(String) -> DefinitionError {
    let file = source.file();
    move |message| DefinitionError {
        part,
        file,
        message,
    }
}

fn read_schema(source: Source<'_>) -> Result<Schema, String> {
    Schema::compile(&source.read()?).map_err(|error| error.to_string())
}

fn read_example(source: Source<'_>, schema: Option<&Schema>) -> Result<Arc<str>, String> {
    let text = source.read()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
    // The example must also pass the checks of every payload.
    Payload::new(Bytes::copy_from_slice(text.as_bytes()), "")
        .map_err(|error| error.description().to_owned())?;
    let violations = schema.map(|schema| schema.violations(text.as_bytes()));
    match violations.unwrap_or_default().first() {
        Some(violation) => Err(format!(
            "not valid by the type's schema: {}",
            violation.in_data()
        )),
        None => Ok(Arc::from(text)),
    }
}

fn first_example(schema: Option<&Schema>) -> Option<Arc<str>> {
    let first = schema?.examples().first()?;
    Some(Arc::from(first.to_string()))
}

fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("the file can't be read: {error}");
    // Reading a pipe would block the server.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(String::from("expected a plain file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    if u64::try_from(read.map_err(unreadable)?).is_ok_and(|size| size > LARGEST) {
        return Err(String::from("expected a file of at most 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| String::from("expected UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the texts to files, and loads them.
    fn load(schema: &str, example: Option<&str>) -> Result<Definition, DefinitionError> {
        let directory = tempfile::tempdir().expect("a directory");
        let files = ["schema.json", "example.json"].map(|name| directory.path().join(name));
        let [schema_file, example_file] = &files;
        fs::write(schema_file, schema).expect("write");
        if let Some(example) = example {
            fs::write(example_file, example).expect("write");
        }
        Definition::load(Sources {
            schema: Some(Source::File(schema_file)),
            example: example.map(|_| Source::File(example_file)),
        })
    }

    const SCHEMA: &str = r#"{"properties": {"n": {"type": "integer"}}, "examples": [{"n": 1}]}"#;

    #[test]
    fn example_is_own_file_or_first_of_schema() {
        let own = load(SCHEMA, Some("{\"n\": 2}\n")).expect("good");
        assert_eq!(own.example.as_deref(), Some("{\"n\": 2}"));
        let first = load(SCHEMA, None).expect("good");
        assert_eq!(first.example.as_deref(), Some("{\"n\":1}"));
        assert_eq!(first.schema.as_ref().map(Schema::text), Some(SCHEMA));
        assert_eq!(load("true", None).expect("good").example, None);
        let nothing = Definition::load(Sources::default()).expect("good");
        assert!(nothing.schema.is_none());
    }

    #[test]
    fn files_may_begin_with_a_byte_order_mark() {
        let marked = |text: &str| format!("\u{feff}{text}\r\n");
        let read = load(&marked(SCHEMA), Some(&marked("{\"n\": 2}"))).expect("good");
        assert_eq!(read.schema.as_ref().map(Schema::text), Some(SCHEMA));
        assert_eq!(read.example.as_deref(), Some("{\"n\": 2}"));
    }

    #[test]
    fn invalid_definition_names_part_and_file() {
        for (schema, example, part, start) in [
            (
                SCHEMA,
                Some(r#"{"n": "secret"}"#),
                Part::Example,
                "not valid by the type's schema: data/n: expected the type integer (in ",
            ),
            (
                SCHEMA,
                Some("{"),
                Part::Example,
                "expected valid JSON: line 1",
            ),
            (
                "{",
                None,
                Part::Schema,
                "expected valid JSON: line 1 column 1",
            ),
            (
                r#"{"type": "object", "examples": [{}, 5]}"#,
                None,
                Part::Schema,
                "its own example is not valid: examples/1: expected the type object",
            ),
        ] {
            let error = load(schema, example).expect_err("wrong");
            assert_eq!(error.part, part);
            let text = error.to_string();
            assert!(text.starts_with(start), "{text}");
            assert!(text.ends_with(".json)"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn definition_may_be_inline() {
        let load = |example| {
            Definition::load(Sources {
                schema: Some(Source::Inline(SCHEMA)),
                example: Some(Source::Inline(example)),
            })
        };
        let good = load(r#"{"n": 3}"#).expect("good");
        assert_eq!(good.example.as_deref(), Some(r#"{"n": 3}"#));
        let error = load(r#"{"n": true}"#).expect_err("wrong");
        assert_eq!(
            error.to_string(),
            "not valid by the type's schema: data/n: expected the type integer"
        );
        let big = format!("\"{}\"", "x".repeat(1 << 20));
        assert_eq!(
            load(&big).expect_err("big").message,
            "expected at most 1 MiB"
        );
    }

    #[test]
    fn only_regular_bounded_files_are_read() {
        let size = usize::try_from(LARGEST).expect("small");
        assert!(load(&format!("{{}}{}", " ".repeat(size - 2)), None).is_ok());
        let error = load(&format!("{{}}{}", " ".repeat(size - 1)), None).expect_err("big");
        assert_eq!(error.message, "expected a file of at most 1 MiB");
        let directory = tempfile::tempdir().expect("a directory");
        let example = Some(Source::File(directory.path()));
        let error = Definition::load(Sources {
            schema: None,
            example,
        })
        .expect_err("no file");
        assert_eq!(
            (error.part, error.message.as_str()),
            (Part::Example, "expected a plain file")
        );
    }
}
