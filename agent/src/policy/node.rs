//! A document as a tree of values that know where they stand.
//!
//! Types come later: the tree keeps what was written and whether it was quoted, so that the
//! reader can tell a version from a number and say so.

use super::location::Span;

/// A single value and where it stands, whichever form of text it was written in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word<'d> {
    pub(crate) text: &'d str,
    pub(crate) span: Span,
}

/// One value of a document.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text; `plain` if it stood without quotes.
    Scalar { text: Box<str>, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order written, each key once.
    Mapping(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

impl Node {
    /// What this is, for "expected a list, found …".
    pub(crate) fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping of keys",
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| &*entry.key == key),
            Value::Null | Value::Scalar { .. } | Value::Sequence(_) => None,
        }
    }
}
