//! The files that define an event type: its schema and an example.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Schema;
use crate::event::Payload;

/// The largest file, in bytes: 1 MiB.
const LARGEST: u64 = 1 << 20;

/// What the files say.
#[derive(Debug, Clone, Default)]
pub struct Definition {
    /// What the payload looks like.
    pub schema: Option<Schema>,
    /// A payload that is valid, as JSON.
    pub example: Option<Arc<str>>,
}

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The schema.
    Schema,
    /// The example.
    Example,
}

/// A file that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// Which of the two.
    pub part: Part,
    /// Where it is.
    pub file: PathBuf,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (in {})", self.message, self.file.display())
    }
}

impl std::error::Error for DefinitionError {}

impl Definition {
    /// Reads the files, each at most 1 MiB. Without an example of its own, the first of the
    /// schema's `examples` is taken.
    ///
    /// # Errors
    /// A file can't be read, is no valid schema, or holds an example that the schema refuses.
    pub fn load(
        schema: Option<&Path>,
        example: Option<&Path>,
    ) -> Result<Definition, DefinitionError> {
        let schema = schema
            .map(|file| read_schema(file).map_err(wrong(Part::Schema, file)))
            .transpose()?;
        let example = match example {
            Some(file) => {
                let example = read_example(file, schema.as_ref());
                Some(example.map_err(wrong(Part::Example, file))?)
            }
            None => first_example(schema.as_ref()),
        };
        Ok(Definition { schema, example })
    }
}

fn wrong(part: Part, file: &Path) -> impl FnOnce(String) -> DefinitionError {
    let file = file.to_owned();
    move |message| DefinitionError {
        part,
        file,
        message,
    }
}

fn read_schema(file: &Path) -> Result<Schema, String> {
    Schema::compile(&read(file)?).map_err(|error| error.to_string())
}

fn read_example(file: &Path, schema: Option<&Schema>) -> Result<Arc<str>, String> {
    let text = read(file)?;
    let text = text.trim();
    // Held to what every payload is held to, too.
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
    let unread = |error: std::io::Error| format!("the file can't be read: {error}");
    // A pipe would keep the server waiting.
    if !fs::metadata(path).map_err(unread)?.is_file() {
        return Err(String::from("expected a plain file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    if u64::try_from(read.map_err(unread)?).is_ok_and(|size| size > LARGEST) {
        return Err(String::from("expected a file of at most 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| String::from("expected UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the texts, and loads them.
    fn load(schema: &str, example: Option<&str>) -> Result<Definition, DefinitionError> {
        let directory = tempfile::tempdir().expect("a directory");
        let files = ["schema.json", "example.json"].map(|name| directory.path().join(name));
        let [schema_file, example_file] = &files;
        fs::write(schema_file, schema).expect("write");
        if let Some(example) = example {
            fs::write(example_file, example).expect("write");
        }
        Definition::load(Some(schema_file), example.map(|_| example_file.as_path()))
    }

    const SCHEMA: &str = r#"{"properties": {"n": {"type": "integer"}}, "examples": [{"n": 1}]}"#;

    #[test]
    fn the_example_is_its_own_file_or_the_first_of_the_schema() {
        let own = load(SCHEMA, Some("{\"n\": 2}\n")).expect("good");
        assert_eq!(own.example.as_deref(), Some("{\"n\": 2}"));
        let first = load(SCHEMA, None).expect("good");
        assert_eq!(first.example.as_deref(), Some("{\"n\":1}"));
        assert_eq!(first.schema.as_ref().map(Schema::text), Some(SCHEMA));
        assert_eq!(load("true", None).expect("good").example, None);
        assert!(Definition::load(None, None).expect("good").schema.is_none());
    }

    #[test]
    fn what_is_wrong_names_the_part_and_the_file() {
        for (schema, example, part, says) in [
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
            ("{", None, Part::Schema, "not valid JSON: line 1 column 1"),
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
            assert!(text.starts_with(says), "{text}");
            assert!(text.ends_with(".json)"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn only_plain_files_of_bounded_size_are_read() {
        let size = usize::try_from(LARGEST).expect("small");
        assert!(load(&format!("{{}}{}", " ".repeat(size - 2)), None).is_ok());
        let error = load(&format!("{{}}{}", " ".repeat(size - 1)), None).expect_err("big");
        assert_eq!(error.message, "expected a file of at most 1 MiB");
        let directory = tempfile::tempdir().expect("a directory");
        let error = Definition::load(None, Some(directory.path())).expect_err("no file");
        assert_eq!(
            (error.part, error.message.as_str()),
            (Part::Example, "expected a plain file")
        );
    }
}
