//! Bounded CEL: the Common Expression Language, held to a budget of steps.
//!
//! Rules come from the configuration and filters from clients, so an expression is checked once,
//! when it is compiled: no comprehension stands in another, list literals hold no data, regular
//! expressions are literals that were compiled beforehand, every name is known, and what can't be
//! a bool is refused. The `cel` crate reads the text; the evaluation is our own, because it has to
//! count what it does: each step takes about the same time, and none is done that was not taken
//! from the budget first. Whatever goes wrong at run time means "no".

mod bounds;
mod evaluate;
mod lower;
mod node;
mod operators;
mod patterns;
mod steps;
mod values;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::Env;
use cel::common::ast::IdedExpr;

pub use steps::Steps;
pub use values::{Kind, List, Map, Record, Shared, Value, json, record, text, texts};

use crate::error::{Error, Result};
use evaluate::Evaluation;
use node::Node;

/// The longest source, in bytes.
pub const MAX_SOURCE: usize = 1024;

/// A name that an expression may use.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// The name.
    pub name: &'static str,
    /// What it stands for.
    pub kind: Kind,
    /// True where it can be large: it may be gone through, but not be used again for each element.
    pub large: bool,
}

impl Name {
    /// A name for something small.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Name {
            name,
            kind,
            large: false,
        }
    }

    /// A name for something that can be large.
    #[must_use]
    pub const fn large(name: &'static str, kind: Kind) -> Self {
        Name {
            name,
            kind,
            large: true,
        }
    }
}

/// What the names of an expression stand for.
pub trait Variables {
    /// The value with this name.
    fn resolve(&self, name: &str) -> Option<Value<'_>>;
}

/// A checked expression that answers yes or no.
pub struct Expression {
    source: Arc<str>,
    root: Node,
    bytes: usize,
}

/// Why an expression gave no answer. It names keys and types, never values, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

/// Why an evaluation ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It failed, for instance on a missing key, or gave no bool: that means "no".
    Fault(Fault),
    /// The budget of steps is used up: the answer is not known.
    Steps,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Fault(fault) => fault.fmt(f),
            Stop::Steps => f.write_str("it took too many steps"),
        }
    }
}

impl std::error::Error for Stop {}

impl Expression {
    /// Compiles a source of at most [`MAX_SOURCE`] bytes that uses only these names.
    ///
    /// # Errors
    /// `invalid_argument` with the reason: too long, not CEL, an unknown name (the known ones are
    /// listed), more work than is allowed, or something that is no condition.
    pub fn compile(source: &str, names: &[Name]) -> Result<Expression> {
        Expression::compile_within(source, names, usize::MAX)
    }

    /// As [`Expression::compile`], with at most so many bytes for its regular expressions.
    ///
    /// # Errors
    /// The same, and `resource_exhausted` where they take more.
    pub fn compile_within(source: &str, names: &[Name], most: usize) -> Result<Expression> {
        if source.len() > MAX_SOURCE {
            return Err(Error::invalid(
                "expected an expression of at most 1024 bytes",
            ));
        }
        // The parser's time grows with the square of a chain's length.
        if source.bytes().filter(u8::is_ascii_punctuation).count() > bounds::MAX_PUNCTUATION {
            return Err(Error::invalid("the expression is too complex"));
        }
        let mut root = parse(source)?;
        bounds::check(&mut root, names)?;
        let root = lower::lower(root, names, most)?;
        let kind = root.kind();
        if !matches!(kind, Kind::Bool | Kind::Any) {
            let kind = kind.name();
            return Err(Error::invalid(format!(
                "expected a condition, which is true or false, not a {kind}"
            )));
        }
        let bytes = size_of::<Expression>() + source.len() + root.bytes();
        Ok(Expression {
            source: Arc::from(source),
            root,
            bytes,
        })
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The memory that it holds, in bytes, its regular expressions included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if it uses this name.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| {
            found |= matches!(node, Node::Variable(used, _) if **used == *name);
        });
        found
    }

    /// Answers for these variables.
    ///
    /// # Errors
    /// Where the expression fails, for instance on a missing key, or is not a bool: both mean
    /// "no". As CEL has it, `||` and `&&` hide a failure that doesn't decide the answer. And where
    /// the steps do not suffice.
    pub fn evaluate(&self, variables: &dyn Variables, steps: &Steps) -> Result<bool, Stop> {
        Evaluation { variables, steps }.truth(&self.root, None)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// What is parsed with.
static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

fn parse(source: &str) -> Result<IdedExpr> {
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        ENVIRONMENT
            .parser()
            .max_recursion_depth(bounds::MAX_DEPTH)
            .parse(source)
    }));
    match parsed {
        Ok(Ok(root)) => Ok(root),
        Ok(Err(errors)) => Err(match errors.errors.first() {
            Some(first) => {
                let (line, column) = first.pos;
                let message = first.msg.lines().next().unwrap_or_default();
                Error::invalid(format!(
                    "not valid CEL: line {line} column {column}: {message}"
                ))
            }
            None => Error::invalid("not valid CEL"),
        }),
        Err(_) => Err(Error::invalid("not valid CEL")),
    }
}

#[cfg(test)]
mod tests;
