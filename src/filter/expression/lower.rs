//! Lowers the parser's tree to the form that is evaluated.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use super::node::{Arithmetic, Comparison, Each, Literal, Node, Search};
use super::patterns::Pattern;
use super::values::Kind;
use super::{Error, Name, Result};

/// Lowers a checked tree. Its regular expressions are compiled one by one, within this many bytes
/// in total.
pub(super) fn lower(root: IdedExpr, known: &[Name], most: usize) -> Result<Node> {
    let mut lowering = Lowering {
        known,
        item: None,
        left: most,
    };
    lowering.node(root)
}

/// The type with this name, as in `type(data.n) == int`.
pub(super) fn named_type(name: &str) -> Option<Kind> {
    Kind::NAMED.into_iter().find(|kind| kind.name() == name)
}

struct Lowering<'a> {
    known: &'a [Name],
    /// The variable of the enclosing comprehension.
    item: Option<String>,
    /// The bytes left for regular expressions.
    left: usize,
}

impl Lowering<'_> {
    fn node(&mut self, node: IdedExpr) -> Result<Node> {
        match node.expr {
            Expr::Literal(literal) => Ok(Node::Literal(constant(literal))),
            Expr::Ident(name) => self.identifier(&name),
            Expr::Select(select) => {
                let (of, name) = (Box::new(self.node(*select.operand)?), select.field.into());
                Ok(if select.test {
                    Node::Has(of, name)
                } else {
                    Node::Select(of, name)
                })
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(made) => self.comprehension(*made),
            Expr::List(list) => {
                if !list.optional_indices.is_empty() {
                    return Err(unsupported());
                }
                let elements = list.elements.into_iter().map(|e| self.node(e));
                Ok(Node::List(elements.collect::<Result<_>>()?))
            }
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in map.entries {
                    let EntryExpr::MapEntry(entry) = entry.expr else {
                        return Err(unsupported());
                    };
                    if entry.optional {
                        return Err(unsupported());
                    }
                    entries.push((self.node(entry.key)?, self.node(entry.value)?));
                }
                Ok(Node::Map(entries.into()))
            }
            Expr::Struct(_) | Expr::Unspecified => Err(unsupported()),
        }
    }

    fn identifier(&self, name: &str) -> Result<Node> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if self.item.as_deref() == Some(name) {
            return Ok(Node::Item);
        }
        if let Some(known) = self.known.iter().find(|known| known.name == name) {
            return Ok(Node::Variable(name.into(), known.kind));
        }
        named_type(name).map(Node::Type).ok_or_else(unsupported)
    }

    fn call(&mut self, call: CallExpr) -> Result<Node> {
        let CallExpr {
            func_name: name,
            target,
            args,
        } = call;
        let is_member = target.is_some();
        if name == "matches" {
            return self.matches(target.map(|target| *target), args);
        }
        let operands = target.into_iter().map(|target| *target).chain(args);
        let mut operands = operands
            .map(|operand| self.node(operand))
            .collect::<Result<Vec<Node>>>()?
            .into_iter();
        let shape = (
            operands.next(),
            operands.next(),
            operands.next(),
            operands.next(),
        );
        let made = match shape {
            (Some(of), None, None, None) => one(&name, is_member, of),
            (Some(left), Some(right), None, None) => two(&name, is_member, left, right),
            (Some(condition), Some(yes), Some(no), None) if name == "_?_:_" => {
                Some(Node::Conditional(Box::new([condition, yes, no])))
            }
            _ => None,
        };
        made.ok_or_else(|| {
            Error::invalid(format!(
                "unknown function, or wrong number of arguments: {name}"
            ))
        })
    }

    fn matches(&mut self, target: Option<IdedExpr>, args: Vec<IdedExpr>) -> Result<Node> {
        let mut operands = target.into_iter().chain(args);
        let (Some(subject), Some(pattern), None) =
            (operands.next(), operands.next(), operands.next())
        else {
            return Err(Error::invalid(
                "expected text.matches(\"regular expression\")",
            ));
        };
        let Expr::Literal(LiteralValue::String(source)) = &pattern.expr else {
            return Err(Error::invalid(
                "expected the regular expression of matches as a literal",
            ));
        };
        let pattern = Pattern::get(source.inner())?;
        self.left = self.left.checked_sub(pattern.bytes()).ok_or_else(|| {
            Error::exhausted("the regular expressions take too much memory when compiled")
        })?;
        Ok(Node::Matches(Box::new(self.node(subject)?), pattern))
    }

    /// Each CEL macro expands to a comprehension of a distinct shape, by which it is recognized.
    fn comprehension(&mut self, made: ComprehensionExpr) -> Result<Node> {
        let over = Box::new(self.node(made.iter_range)?);
        if made.iter_var2.is_some() || self.item.is_some() {
            return Err(unsupported());
        }
        self.item = Some(made.iter_var);
        let each = self.step(made.loop_step, &made.accu_var, None);
        self.item = None;
        Ok(Node::Each(over, Box::new(each?)))
    }

    /// `@result && body`, `@result || body`, `@result + [body]`, `@result + 1`, and the last two
    /// under a condition.
    fn step(&mut self, step: IdedExpr, result: &str, condition: Option<Node>) -> Result<Each> {
        let Expr::Call(call) = step.expr else {
            return Err(unsupported());
        };
        let is_result = |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if name == result);
        let name = call.func_name;
        let mut args = call.args.into_iter();
        let (Some(first), Some(second), third) = (args.next(), args.next(), args.next()) else {
            return Err(unsupported());
        };
        match (name.as_str(), third) {
            ("_?_:_", Some(third)) if is_result(&third) && condition.is_none() => {
                let condition = self.node(first)?;
                self.step(second, result, Some(condition))
            }
            ("_||_", None) if is_result(&first) && condition.is_none() => {
                Ok(Each::Exists(self.node(second)?))
            }
            ("_&&_", None) if is_result(&first) && condition.is_none() => {
                Ok(Each::All(self.node(second)?))
            }
            ("_+_", None) if is_result(&first) => match (second.expr, condition) {
                (Expr::List(list), condition) => {
                    let mut elements = list.elements.into_iter();
                    let (Some(element), None) = (elements.next(), elements.next()) else {
                        return Err(unsupported());
                    };
                    match (self.node(element)?, condition) {
                        (Node::Item, Some(condition)) => Ok(Each::Filter(condition)),
                        (element, condition) => Ok(Each::Map(condition, element)),
                    }
                }
                (Expr::Literal(LiteralValue::Int(_)), Some(condition)) => {
                    Ok(Each::ExistsOne(condition))
                }
                _ => Err(unsupported()),
            },
            _ => Err(unsupported()),
        }
    }
}

/// A call with one operand.
fn one(name: &str, is_member: bool, of: Node) -> Option<Node> {
    let of = Box::new(of);
    Some(match (name, is_member) {
        ("!_", false) => Node::Not(of),
        ("-_", false) => Node::Negate(of),
        ("size", _) => Node::Size(of),
        ("type", false) => Node::TypeOf(of),
        ("bool", false) => Node::Convert(Kind::Bool, of),
        ("int", false) => Node::Convert(Kind::Int, of),
        ("uint", false) => Node::Convert(Kind::Uint, of),
        ("double", false) => Node::Convert(Kind::Double, of),
        ("string", false) => Node::Convert(Kind::Text, of),
        ("bytes", false) => Node::Convert(Kind::Bytes, of),
        _ => return None,
    })
}

/// A call with two operands.
fn two(name: &str, is_member: bool, left: Node, right: Node) -> Option<Node> {
    let sides = Box::new([left, right]);
    if is_member {
        let search = match name {
            "contains" => Search::Anywhere,
            "startsWith" => Search::Start,
            "endsWith" => Search::End,
            _ => return None,
        };
        return Some(Node::Search(search, sides));
    }
    Some(match name {
        "_&&_" => Node::And(sides),
        "_||_" => Node::Or(sides),
        "_==_" => Node::Compare(Comparison::Equal, sides),
        "_!=_" => Node::Compare(Comparison::NotEqual, sides),
        "_<_" => Node::Compare(Comparison::Less, sides),
        "_<=_" => Node::Compare(Comparison::LessOrEqual, sides),
        "_>_" => Node::Compare(Comparison::Greater, sides),
        "_>=_" => Node::Compare(Comparison::GreaterOrEqual, sides),
        "_+_" => Node::Arithmetic(Arithmetic::Add, sides),
        "_-_" => Node::Arithmetic(Arithmetic::Subtract, sides),
        "_*_" => Node::Arithmetic(Arithmetic::Multiply, sides),
        "_/_" => Node::Arithmetic(Arithmetic::Divide, sides),
        "_%_" => Node::Arithmetic(Arithmetic::Remainder, sides),
        "_[_]" => Node::Index(sides),
        "@in" => Node::In(sides),
        _ => return None,
    })
}

fn constant(literal: LiteralValue) -> Literal {
    match literal {
        LiteralValue::Boolean(value) => Literal::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Literal::Bytes(value.inner().into()),
        LiteralValue::Double(value) => Literal::Double(*value.inner()),
        LiteralValue::Int(value) => Literal::Int(*value.inner()),
        LiteralValue::Null => Literal::Null,
        LiteralValue::String(value) => Literal::Text(value.inner().into()),
        LiteralValue::UInt(value) => Literal::Uint(*value.inner()),
    }
}

fn unsupported() -> Error {
    Error::invalid("not valid CEL")
}
