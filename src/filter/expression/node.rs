//! The compact form of a compiled expression.

use std::sync::Arc;

use super::patterns::Pattern;
use super::values::Kind;

/// A node of an expression.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Literal),
    /// One of the caller's variables.
    Variable(Box<str>, Kind),
    /// The current element of the enclosing comprehension.
    Item,
    Type(Kind),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    Compare(Comparison, Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>),
    Search(Search, Box<[Node; 2]>),
    Matches(Box<Node>, Arc<Pattern>),
    Size(Box<Node>),
    TypeOf(Box<Node>),
    Convert(Kind, Box<Node>),
    /// A comprehension over the first operand.
    Each(Box<Node>, Box<Each>),
}

/// A constant.
#[derive(Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Substring search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    Anywhere,
    Start,
    End,
}

/// The kind of a comprehension.
#[derive(Debug)]
pub(super) enum Each {
    Exists(Node),
    All(Node),
    ExistsOne(Node),
    /// `filter`: the list of elements for which the condition holds.
    Filter(Node),
    /// `map` with a condition: the list of results for the elements for which the condition holds.
    Map(Option<Node>, Node),
}

impl Node {
    /// The type of its value, if it is known without evaluation.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Node::Literal(literal) => match literal {
                Literal::Null => Kind::Null,
                Literal::Bool(_) => Kind::Bool,
                Literal::Int(_) => Kind::Int,
                Literal::Uint(_) => Kind::Uint,
                Literal::Double(_) => Kind::Double,
                Literal::Text(_) => Kind::Text,
                Literal::Bytes(_) => Kind::Bytes,
            },
            Node::Variable(_, kind) | Node::Convert(kind, _) => *kind,
            Node::Item | Node::Select(..) | Node::Index(_) => Kind::Any,
            Node::Type(_) | Node::TypeOf(_) => Kind::Type,
            Node::Has(..)
            | Node::Not(_)
            | Node::And(_)
            | Node::Or(_)
            | Node::Compare(..)
            | Node::In(_)
            | Node::Search(..)
            | Node::Matches(..) => Kind::Bool,
            Node::Negate(of) => of.kind(),
            Node::Conditional(parts) => {
                let [_, yes, no] = &**parts;
                if yes.kind() == no.kind() {
                    yes.kind()
                } else {
                    Kind::Any
                }
            }
            // Both operands have one type, or the evaluation fails.
            Node::Arithmetic(_, sides) => match sides.each_ref().map(Node::kind) {
                [Kind::Any, Kind::Any] => Kind::Any,
                [Kind::Any, known] | [known, _] => known,
            },
            Node::List(_) => Kind::List,
            Node::Map(_) => Kind::Map,
            Node::Size(_) => Kind::Int,
            Node::Each(_, each) => match **each {
                Each::Exists(_) | Each::All(_) | Each::ExistsOne(_) => Kind::Bool,
                Each::Filter(_) | Each::Map(..) => Kind::List,
            },
        }
    }

    /// The heap memory that it owns, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let mut bytes = 0;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "few kinds of nodes hold more than nodes"
        )]
        self.visit(&mut |node| {
            bytes += size_of::<Node>()
                + match node {
                    Node::Literal(Literal::Text(text)) => text.len(),
                    Node::Literal(Literal::Bytes(bytes)) => bytes.len(),
                    Node::Variable(name, _) | Node::Select(_, name) | Node::Has(_, name) => {
                        name.len()
                    }
                    Node::Matches(_, pattern) => pattern.bytes(),
                    Node::Each(..) => size_of::<Each>(),
                    _ => 0,
                };
        });
        bytes
    }

    /// Visits this node and all of its descendants.
    pub(super) fn visit(&self, look: &mut impl FnMut(&Node)) {
        look(self);
        match self {
            Node::Literal(_) | Node::Variable(..) | Node::Item | Node::Type(_) => {}
            Node::Select(of, _)
            | Node::Has(of, _)
            | Node::Not(of)
            | Node::Negate(of)
            | Node::Size(of)
            | Node::TypeOf(of)
            | Node::Convert(_, of)
            | Node::Matches(of, _) => of.visit(look),
            Node::Index(nodes)
            | Node::And(nodes)
            | Node::Or(nodes)
            | Node::Compare(_, nodes)
            | Node::Arithmetic(_, nodes)
            | Node::In(nodes)
            | Node::Search(_, nodes) => nodes.iter().for_each(|node| node.visit(look)),
            Node::Conditional(nodes) => nodes.iter().for_each(|node| node.visit(look)),
            Node::List(nodes) => nodes.iter().for_each(|node| node.visit(look)),
            Node::Map(entries) => {
                for (key, value) in entries {
                    key.visit(look);
                    value.visit(look);
                }
            }
            Node::Each(over, each) => {
                over.visit(look);
                match &**each {
                    Each::Exists(node)
                    | Each::All(node)
                    | Each::ExistsOne(node)
                    | Each::Filter(node)
                    | Each::Map(None, node) => node.visit(look),
                    Each::Map(Some(condition), node) => {
                        condition.visit(look);
                        node.visit(look);
                    }
                }
            }
        }
    }
}
