//! Bounded CEL: the Common Expression Language with a step budget.
//!
//! Rules come from the configuration and filters from clients, so each expression is checked once,
//! at compile time. Comprehensions cannot nest. List literals contain no event data. Regular
//! expressions are literals, compiled in advance. All names are known, and an expression that
//! cannot be a bool is refused. The `cel` crate parses the source. The evaluation is our own,
//! because it must count steps: each takes about the same time, and is deducted from the budget
//! before it is done. A runtime error means "no match".

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

/// A variable that an expression may use.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// True if it can be large. A large variable may be iterated, but not used once per element.
    pub large: bool,
}

impl Name {
    /// A small variable.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Name {
            name,
            kind,
            large: false,
        }
    }

    /// A variable that can be large.
    #[must_use]
    pub const fn large(name: &'static str, kind: Kind) -> Self {
        Name {
            name,
            kind,
            large: true,
        }
    }
}

/// The values of an expression's variables.
pub trait Variables {
    /// The value of this variable.
    fn resolve(&self, name: &str) -> Option<Value<'_>>;
}

/// A checked boolean expression.
pub struct Expression {
    source: Arc<str>,
    root: Node,
    bytes: usize,
}

/// Why an evaluation gave no result. It names keys and types, never values, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

/// Why an evaluation gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It failed, for instance on a missing key, or its result is not a bool. This means "no".
    Fault(Fault),
    /// The step budget is exhausted. The result is unknown.
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
    /// Compiles a source of at most [`MAX_SOURCE`] bytes that uses only these variables.
    ///
    /// # Errors
    /// `invalid_argument` with the reason: too long, not CEL, an unknown name (the known ones are
    /// listed), more work than allowed, or not a condition.
    pub fn compile(source: &str, names: &[Name]) -> Result<Expression> {
        Expression::compile_within(source, names, usize::MAX)
    }

    /// Like [`Expression::compile`], with at most this many bytes of regular expressions.
    ///
    /// # Errors
    /// The same, and `resource_exhausted` if they exceed the bytes.
    pub fn compile_within(source: &str, names: &[Name], most: usize) -> Result<Expression> {
        if source.len() > MAX_SOURCE {
            return Err(Error::invalid(
                "expected an expression of at most 1024 bytes",
            ));
        }
        // The parser takes quadratic time in the length of a chain.
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

    /// True if it uses this variable.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| {
            found |= matches!(node, Node::Variable(used, _) if **used == *name);
        });
        found
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    /// The expression fails, for instance on a missing key, or its result is not a bool. Both mean
    /// "no". As in CEL, `||` and `&&` ignore a failure that does not decide the result. Also fails
    /// if the steps are exhausted.
    pub fn evaluate(&self, variables: &dyn Variables, steps: &Steps) -> Result<bool, Stop> {
        Evaluation { variables, steps }.truth(&self.root, None)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// The parser's settings.
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
