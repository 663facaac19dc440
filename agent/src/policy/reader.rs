//! Trees → typed values, every problem of a document at once.
//!
//! A field reader returns `None` after it said why; its caller goes on with the next field.
//! [`Fields`] remembers which keys were asked for, so unknown ones are refused by exactly the
//! list that the code reads.

use std::sync::Arc;

use super::diagnostic::Diagnostics;
use super::location::{Located, Location, SourceFile, Span};
use super::name::{self, Name, nearest};
use super::node::{Entry, Node, Value, Word};
use super::scalar;

/// Longest text of a single value.
pub(crate) const LONGEST: usize = 4096;

/// Reads values of one file and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    source: &'a Arc<SourceFile>,
    problems: &'a mut Diagnostics,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Arc<SourceFile>, problems: &'a mut Diagnostics) -> Self {
        Self { source, problems }
    }

    pub(crate) fn at(&self, span: Span) -> Location {
        Location::new(self.source, span)
    }

    /// Refuses a place; returns `None` so that a reader can end with it.
    pub(crate) fn refuse<T>(
        &mut self,
        span: Span,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        let at = self.at(span);
        self.problems.error(&at, problem, help);
        None
    }

    /// Refuses a place for a reason that says behind a colon what to do.
    pub(crate) fn refuse_parted<T>(&mut self, span: Span, why: &str) -> Option<T> {
        match why.split_once(": ") {
            Some((problem, help)) => self.refuse(span, problem, help),
            None => self.refuse(span, why, "correct it"),
        }
    }

    /// "nearest is …" if one is close, else the whole list.
    pub(crate) fn suggestion(&self, wanted: &str, known: &[&str]) -> String {
        let near = nearest(wanted, known.iter().copied().filter(|_| !self.problems.is_full()));
        match near {
            Some(near) => format!("nearest is `{near}`"),
            None => format!("use {}", listed(known)),
        }
    }

    /// A text: quoted, or a bare word that no YAML reader changes.
    pub(crate) fn text<'d>(&mut self, node: &'d Node, what: &str) -> Option<&'d str> {
        let (text, plain) = self.scalar(node, what)?;
        match scalar::mangled(text).filter(|_| plain) {
            Some(read_as) => self.refuse(
                node.span,
                format!("`{text}` without quotes is {read_as} to YAML, and {what} is text"),
                format!("quote it: \"{text}\""),
            ),
            None => Some(text),
        }
    }

    /// A text as it stands, for values whose own syntax decides (addresses, ports).
    pub(crate) fn word<'d>(&mut self, node: &'d Node, what: &str) -> Option<&'d str> {
        self.scalar(node, what).map(|(text, _)| text)
    }

    fn scalar<'d>(&mut self, node: &'d Node, what: &str) -> Option<(&'d str, bool)> {
        match &node.value {
            Value::Scalar { text, .. } if text.len() > LONGEST => {
                self.refuse(node.span, format!("{what} is longer than {LONGEST} bytes"), "shorten it")
            }
            Value::Scalar { text, plain } => Some((text, *plain)),
            Value::Null => self.refuse(
                node.span,
                format!("expected {what}, found nothing"),
                "write one, or remove the entry",
            ),
            Value::Sequence(_) | Value::Mapping(_) => self.refuse(
                node.span,
                format!("expected {what}, found {}", node.what()),
                "write a single value; one with `:` or brackets in it needs quotes",
            ),
        }
    }

    /// A whole number in bounds, written in decimal without quotes.
    pub(crate) fn number(&mut self, node: &Node, what: &str, low: u32, high: u32) -> Option<u32> {
        let (text, plain) = self.scalar(node, what)?;
        if !plain {
            let help = format!("write a number from {low} to {high}, without quotes");
            return self.refuse(node.span, format!("{what} must be a number, found `{text}`"), help);
        }
        self.number_of(Word { text, span: node.span }, what, low, high)
    }

    pub(crate) fn number_of(&mut self, word: Word<'_>, what: &str, low: u32, high: u32) -> Option<u32> {
        let Word { text, span } = word;
        let help = || format!("write a number from {low} to {high}, without quotes");
        let canonical = text == "0" || !text.starts_with('0');
        let number = text.parse::<u32>().ok().filter(|_| canonical);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match number.filter(|_| digits) {
            Some(number) if (low..=high).contains(&number) => Some(number),
            Some(number) => self.refuse(span, format!("{what} {number} is out of range"), help()),
            None if digits && canonical => {
                self.refuse(span, format!("{what} {text} is out of range"), help())
            }
            None => self.refuse(span, format!("{what} must be a number, found `{text}`"), help()),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match self.scalar(node, what)? {
            ("true", true) => Some(true),
            ("false", true) => Some(false),
            (text, _) => self.refuse(
                node.span,
                format!("{what} must be true or false, found `{text}`"),
                "write true or false, without quotes",
            ),
        }
    }

    /// One word of a fixed list.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.word(node, what)?;
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*chosen);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = self.suggestion(text, &words);
        self.refuse(node.span, format!("unknown {what} `{text}`"), help)
    }

    /// A name, see [`Name`].
    pub(crate) fn name(&mut self, node: &Node, what: &str) -> Option<Located<Name>> {
        let text = self.text(node, what)?;
        self.name_of(Word { text, span: node.span })
    }

    pub(crate) fn name_of(&mut self, Word { text, span }: Word<'_>) -> Option<Located<Name>> {
        match Name::new(text) {
            Some(name) => Some(Located::new(name, self.at(span))),
            None => self.refuse(span, format!("{text:?} is not a valid name"), name::RULE),
        }
    }

    /// The items of a list.
    pub(crate) fn list<'d>(&mut self, node: &'d Node, what: &str) -> Option<&'d [Node]> {
        match &node.value {
            Value::Sequence(items) => Some(items),
            Value::Null | Value::Scalar { .. } | Value::Mapping(_) => self.refuse(
                node.span,
                format!("{what} must be a list, found {}", node.what()),
                "write it as [a, b]",
            ),
        }
    }

    /// Every item of a list that can be read; the rest is reported.
    pub(crate) fn each<T>(
        &mut self,
        node: &Node,
        what: &str,
        mut item: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.list(node, what)?;
        Some(items.iter().filter_map(|node| item(self, node)).collect())
    }

    /// Like [`Self::each`], but an empty list is refused.
    pub(crate) fn some<T>(
        &mut self,
        node: &Node,
        what: &str,
        item: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.list(node, what)?.is_empty() {
            return self.refuse(node.span, format!("{what} is empty"), "name at least one");
        }
        self.each(node, what, item)
    }

    /// The keys of a mapping.
    pub(crate) fn entries<'d>(&mut self, node: &'d Node, what: &str) -> Option<&'d [Entry]> {
        match &node.value {
            Value::Mapping(entries) => Some(entries),
            Value::Null | Value::Scalar { .. } | Value::Sequence(_) => self.refuse(
                node.span,
                format!("{what} must be a mapping, found {}", node.what()),
                "write it as {key: value}",
            ),
        }
    }

    /// A mapping whose keys are read one by one.
    pub(crate) fn fields<'d>(&mut self, node: &'d Node, what: &'static str) -> Option<Fields<'d>> {
        let entries = self.entries(node, what)?;
        Some(Fields { what, span: node.span, entries, known: Vec::new(), later: Vec::new() })
    }
}

fn listed(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [only] => format!("`{only}`"),
        [head @ .., last] => format!("`{}` or `{last}`", head.join("`, `")),
    }
}

/// The keys of one mapping while it is read.
pub(crate) struct Fields<'d> {
    what: &'static str,
    span: Span,
    entries: &'d [Entry],
    known: Vec<&'static str>,
    later: Vec<&'static str>,
}

impl<'d> Fields<'d> {
    /// What the mapping is, for messages.
    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    /// How many keys were written.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the mapping stands.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// The value of a key that may be absent; a key without a value is refused.
    pub(crate) fn optional(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<&'d Node> {
        let entry = self.entry(key)?;
        match entry.node.value {
            Value::Null => reader.refuse(
                entry.key_span,
                format!("`{key}` has no value"),
                "give it one, or remove the key",
            ),
            Value::Scalar { .. } | Value::Sequence(_) | Value::Mapping(_) => Some(&entry.node),
        }
    }

    /// The value of a key that must be there.
    pub(crate) fn required(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<&'d Node> {
        if self.entry(key).is_none() {
            let problem = format!("{} has no `{key}`", self.what);
            return reader.refuse(self.opening(), problem, format!("add `{key}:`"));
        }
        self.optional(reader, key)
    }

    /// True if the key was written.
    pub(crate) fn has(&mut self, key: &'static str) -> bool {
        self.entry(key).is_some()
    }

    /// Where a key stands, if it was written.
    pub(crate) fn key_span(&mut self, key: &'static str) -> Option<Span> {
        self.entry(key).map(|entry| entry.key_span)
    }

    /// Refuses fields of the language that this version cannot enforce yet.
    pub(crate) fn later(&mut self, reader: &mut Reader<'_>, keys: &[&'static str]) {
        for key in keys {
            if let Some(entry) = self.entries.iter().find(|entry| &*entry.key == *key) {
                not_yet::<()>(reader, entry.key_span, &format!("`{key}`"));
            }
        }
        // Not among `known`: a mistyped key must not be told to become one of these.
        self.later.extend_from_slice(keys);
    }

    fn entry(&mut self, key: &'static str) -> Option<&'d Entry> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|entry| &*entry.key == key)
    }

    /// The first line of the mapping: what is missing has no place of its own.
    fn opening(&self) -> Span {
        self.entries.first().map_or(self.span, |entry| entry.key_span)
    }

    /// Refuses every key that nobody asked for.
    pub(crate) fn finish(self, reader: &mut Reader<'_>) {
        for entry in self.entries {
            let key = &*entry.key;
            if !self.known.contains(&key) && !self.later.contains(&key) {
                let problem = format!("unknown field `{key}` in {}", self.what);
                let help = reader.suggestion(key, &self.known);
                reader.refuse::<()>(entry.key_span, problem, help);
            }
        }
    }
}

/// Refuses something that is part of the design and not of this version.
pub(crate) fn not_yet<T>(reader: &mut Reader<'_>, span: Span, what: &str) -> Option<T> {
    reader.refuse(span, format!("{what} is not yet supported"), "remove it")
}
