//! Static bounds on the cost of an expression, checked on its tree at compile time.

use std::mem::take;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr};

use super::lower::named_type;
use super::{Error, Name, Result};

/// The deepest nesting, in brackets and in the tree.
pub(super) const MAX_DEPTH: u16 = 32;
/// The most operators, brackets and other punctuation in a source.
pub(super) const MAX_PUNCTUATION: usize = 256;
/// The most nodes of a tree, after macro expansion.
const MAX_NODES: usize = 512;
/// The most additions: each may copy its operands.
const MAX_ADDITIONS: usize = 4;
/// The most comprehensions.
const MAX_COMPREHENSIONS: usize = 4;

/// The functions that may be called by name. Operators have names that are not identifiers.
const FUNCTIONS: [&str; 12] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "type",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
];

/// Checks a tree.
pub(super) fn check(root: &mut IdedExpr, known: &[Name]) -> Result<()> {
    let mut walk = Walk {
        known,
        loop_variable: None,
        nodes: 0,
        additions: 0,
        comprehensions: 0,
    };
    walk.node(root, 0)
}

struct Walk<'a> {
    known: &'a [Name],
    /// The variable of the enclosing comprehension.
    loop_variable: Option<String>,
    nodes: usize,
    additions: usize,
    comprehensions: usize,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut IdedExpr, depth: u16) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(Error::invalid("the expression is too complex"));
        }
        match &mut node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.identifier(name),
            Expr::Select(select) => self.node(&mut select.operand, depth + 1),
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::List(list) => list
                .elements
                .iter_mut()
                .try_for_each(|e| self.element(e, depth)),
            Expr::Map(map) => map
                .entries
                .iter_mut()
                .try_for_each(|e| self.entry(e, depth)),
            Expr::Struct(made) => Err(Error::invalid(format!("unknown type: {}", made.type_name))),
            Expr::Unspecified => Err(Error::invalid("not valid CEL")),
        }
    }

    fn identifier(&self, name: &str) -> Result<()> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if self.loop_variable.as_deref() == Some(name) || named_type(name).is_some() {
            return Ok(());
        }
        let Some(known) = self.known.iter().find(|known| known.name == name) else {
            let mut known: Vec<&str> = self.known.iter().map(|known| known.name).collect();
            known.sort_unstable();
            let known = known.join(", ");
            return Err(Error::invalid(format!(
                "unknown name: {name}; known are {known}"
            )));
        };
        if self.loop_variable.is_some() && known.large {
            return Err(Error::invalid(format!(
                "{name} can't be used for each element of a list"
            )));
        }
        Ok(())
    }

    fn call(&mut self, call: &mut CallExpr, depth: u16) -> Result<()> {
        let is_name = call
            .func_name
            .starts_with(|c: char| c.is_ascii_alphabetic());
        if is_name && !FUNCTIONS.contains(&call.func_name.as_str()) {
            let name = &call.func_name;
            return Err(Error::invalid(format!(
                "unknown function, or wrong number of arguments: {name}"
            )));
        }
        if call.func_name == "_+_" {
            self.additions += 1;
            if self.additions > MAX_ADDITIONS {
                return Err(Error::invalid("expected at most 4 additions"));
            }
        }
        if let Some(target) = &mut call.target {
            self.node(target, depth + 1)?;
        }
        call.args
            .iter_mut()
            .try_for_each(|argument| self.node(argument, depth + 1))
    }

    fn comprehension(&mut self, made: &mut ComprehensionExpr, depth: u16) -> Result<()> {
        self.comprehensions += 1;
        if self.loop_variable.is_some() || has_comprehension(&made.iter_range) {
            return Err(Error::invalid("expected no comprehension inside another"));
        }
        if self.comprehensions > MAX_COMPREHENSIONS {
            return Err(Error::invalid("expected at most 4 comprehensions"));
        }
        self.node(&mut made.iter_range, depth + 1)?;
        self.loop_variable = Some(made.iter_var.clone());
        let body = self.body(made, depth + 1);
        self.loop_variable = None;
        body
    }

    /// The macros generate the body, so it contains their accumulator.
    fn body(&mut self, made: &mut ComprehensionExpr, depth: u16) -> Result<()> {
        let mut step = take(&mut made.loop_step);
        let checked = self.step(&mut step, &made.accu_var, depth);
        made.loop_step = step;
        checked
    }

    /// Extracts the user's part of a step such as `@result && (…)` or `@result + [(…)]`.
    fn step(&mut self, node: &mut IdedExpr, accumulator: &str, depth: u16) -> Result<()> {
        if is_accumulator(node, accumulator) {
            return Ok(());
        }
        let Expr::Call(call) = &mut node.expr else {
            return self.node(node, depth);
        };
        if !call.args.iter().any(|a| is_accumulator(a, accumulator)) {
            return self.node(node, depth);
        }
        for argument in &mut call.args {
            if let Expr::List(list) = &mut argument.expr {
                // The list with which a macro appends to its result. It is not a literal of the
                // user.
                list.elements
                    .iter_mut()
                    .try_for_each(|e| self.node(e, depth + 1))?;
            } else {
                self.step(argument, accumulator, depth + 1)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut IdedEntryExpr, depth: u16) -> Result<()> {
        match &mut entry.expr {
            EntryExpr::MapEntry(entry) => {
                self.element(&mut entry.key, depth)?;
                self.element(&mut entry.value, depth)
            }
            EntryExpr::StructField(field) => self.element(&mut field.value, depth),
        }
    }

    /// Literals copy their elements, so only constants and small variables are allowed.
    fn element(&mut self, element: &mut IdedExpr, depth: u16) -> Result<()> {
        let small = match &element.expr {
            Expr::Literal(_) | Expr::List(_) | Expr::Map(_) => true,
            Expr::Ident(name) => {
                let large = |known: &&Name| known.large && known.name == name.as_str();
                !self.known.iter().any(|known| large(&known))
                    && self.loop_variable.as_ref() != Some(name)
            }
            // A negative number.
            Expr::Call(call) => {
                call.func_name == "-_"
                    && call.args.iter().all(|a| matches!(a.expr, Expr::Literal(_)))
            }
            Expr::Select(_) | Expr::Comprehension(_) | Expr::Struct(_) | Expr::Unspecified => false,
        };
        if !small {
            return Err(Error::invalid(
                "expected only constants in a list or map literal",
            ));
        }
        self.node(element, depth + 1)
    }
}

fn is_accumulator(node: &IdedExpr, accumulator: &str) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == accumulator)
}

/// True if the range of a comprehension is itself the result of one.
fn has_comprehension(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Comprehension(_) => true,
        Expr::Select(select) => has_comprehension(&select.operand),
        Expr::Call(call) => {
            call.target.iter().any(|t| has_comprehension(t))
                || call.args.iter().any(has_comprehension)
        }
        Expr::List(_)
        | Expr::Map(_)
        | Expr::Struct(_)
        | Expr::Literal(_)
        | Expr::Ident(_)
        | Expr::Unspecified => false,
    }
}
