//! Bounded CEL: the Common Expression Language, held to what is linear in its input.
//!
//! Rules come from the configuration and filters from clients, so an expression is checked once,
//! when it is compiled, and can then neither run long nor build large values: no comprehension
//! stands in another, list literals hold no data, regular expressions are literals that were
//! compiled beforehand, and every name is known. Whatever goes wrong at run time means "no".

mod bounds;
mod values;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::{CelBool, DYN_TYPE, STRING_TYPE};
use cel::{Context, Env, ExecutionError};

pub use cel::common::value::{CowVal, Val};
pub use cel::context::VariableResolver as Variables;
pub use values::{json, json_null, map, text, texts};

use crate::error::{Error, Result};
use values::Pattern;

/// The name of the function that stands for `matches` once its pattern is compiled. No source
/// text can spell it.
const MATCHES: &str = "@matches";

/// The longest source, in bytes.
pub const MAX_SOURCE: usize = 1024;

/// A checked expression that answers yes or no.
pub struct Expression {
    source: Arc<str>,
    root: IdedExpr,
    patterns: Vec<Pattern>,
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

impl Expression {
    /// Compiles a source of at most [`MAX_SOURCE`] bytes that uses only these variables.
    ///
    /// # Errors
    /// `invalid_argument` with the reason: too long, not CEL, an unknown name (the known ones are
    /// listed), or more work than is allowed.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Expression> {
        Expression::compile_over(source, variables, &[])
    }

    /// As [`Expression::compile`], where some of the variables can be large: those may be gone
    /// through, but not be used again for each element.
    ///
    /// # Errors
    /// As for [`Expression::compile`].
    pub fn compile_over(source: &str, variables: &[&str], large: &[&str]) -> Result<Expression> {
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
        let patterns = bounds::check(&mut root, variables, large)?;
        Ok(Expression {
            source: Arc::from(source),
            root,
            patterns,
        })
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Answers for these variables.
    ///
    /// # Errors
    /// Where the expression fails, for instance on a missing key, or is not a bool: both mean
    /// "no". As CEL has it, `||` and `&&` hide a failure that doesn't decide the answer.
    pub fn evaluate(&self, variables: &dyn Variables) -> Result<bool, Fault> {
        let scope = Scope {
            variables,
            patterns: &self.patterns,
        };
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(&scope);
        // The library has panics for trees that its parser should never build.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let value = cel::Value::resolve_val(&self.root, &context).map_err(|e| fault(&e))?;
            match value.downcast_ref::<CelBool>() {
                Some(answer) => Ok(*answer.inner()),
                None => Err(Fault(format!(
                    "gave a {}, not a bool",
                    value.get_type().name()
                ))),
            }
        }));
        answer.unwrap_or_else(|_| Err(Fault(String::from("the evaluation panicked"))))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// The standard functions, shared by all evaluations.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib().with_optional_support(false);
    let declared = environment.add_overload(
        MATCHES,
        "matches_compiled",
        vec![STRING_TYPE, DYN_TYPE],
        values::matches,
    );
    debug_assert!(declared.is_ok(), "the name can't be taken");
    Arc::new(environment)
});

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

/// What an evaluation sees: the caller's variables and the expression's compiled patterns.
struct Scope<'a> {
    variables: &'a dyn Variables,
    patterns: &'a [Pattern],
}

impl Variables for Scope<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match name.strip_prefix(Pattern::PREFIX) {
            Some(index) => {
                let pattern = self.patterns.get(index.parse::<usize>().ok()?)?;
                Some(CowVal::Borrowed(pattern))
            }
            None => self.variables.resolve(name),
        }
    }
}

/// Tells a failure without the values in it, which may be claims or an event's data.
fn fault(error: &ExecutionError) -> Fault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not exhaustive")]
    let text = match error {
        ExecutionError::NoSuchKey(_)
        | ExecutionError::NoSuchOverload(_)
        | ExecutionError::UndeclaredReference(_)
        | ExecutionError::UnexpectedType { .. } => error.to_string(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            String::from("division by zero")
        }
        ExecutionError::Overflow(..) => String::from("a number is too large"),
        ExecutionError::IndexOutOfBounds(_) => String::from("an index is out of bounds"),
        ExecutionError::FunctionError { function, .. } => format!("{function} failed"),
        _ => String::from("the values do not fit the operators"),
    };
    Fault(text)
}

#[cfg(test)]
mod tests;
