//! Text → trees. The only file that names the YAML library.
//!
//! The library's event stream is used, not its deserializer: events keep every position, an
//! error in one document leaves the next one readable, and nothing is interpreted behind our
//! back. The language is YAML without anchors, aliases, tags and directives, so no input grows
//! while it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{ErrorKind, StrInput, options};
use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span as Found};

use super::characters::{self, without_mark};
use super::diagnostic::Diagnostics;
use super::location::{Location, SourceFile, Span};
use super::node::{Entry, Node, Value};

/// Deepest nesting accepted; the language itself needs eight.
const DEPTH: usize = 32;
/// Most values in one document, which bounds the memory of its tree to about 25 MiB.
const VALUES: usize = 250_000;

/// What could be read of a text.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// The trees, empty documents left out.
    pub(crate) roots: Vec<Node>,
    /// True if a document was given up, so that names may be missing.
    pub(crate) lost: bool,
}

/// Reads every document of a text; a broken one costs its own errors and nothing else.
pub(crate) fn documents(source: &Arc<SourceFile>, problems: &mut Diagnostics) -> Documents {
    let before = problems.errors();
    characters::refuse(source, problems);
    if problems.errors() > before {
        return Documents { lost: true, ..Documents::default() };
    }
    let mut reading =
        Reading { source, problems, values: 0, stack: Vec::new(), roots: Vec::new(), lost: false };
    reading.run();
    let mut roots = reading.roots;
    roots.retain(|root| !matches!(root.value, Value::Null));
    Documents { roots, lost: reading.lost }
}

struct Reading<'a> {
    source: &'a Arc<SourceFile>,
    problems: &'a mut Diagnostics,
    values: usize,
    stack: Vec<Open>,
    roots: Vec<Node>,
    lost: bool,
}

/// A collection whose end has not been seen.
struct Open {
    span: Span,
    kind: Kind,
}

enum Kind {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<Node> },
}

type Events<'a> = Parser<'a, StrInput<'a>>;

impl Reading<'_> {
    fn run(&mut self) {
        let source = Arc::clone(self.source);
        let text = without_mark(source.text());
        let options = options! {
            disallow_directives: true,
            emit_unresolved_aliases: true,
            flow_nesting_limit: DEPTH,
            block_nesting_limit: DEPTH,
        };
        let mut events = Parser::new_from_str_with_options(text, options);
        while let Some(event) = events.next_event() {
            let readable = match event {
                Ok((event, found)) => self.take(event, found),
                Err(error) => self.refuse_syntax(&error),
            };
            if !readable && !self.abandon(&mut events) {
                return;
            }
        }
    }

    /// Gives up one document. False at the end of the text, or where reading on costs too much.
    fn abandon(&mut self, events: &mut Events<'_>) -> bool {
        self.stack.clear();
        if self.values > VALUES {
            return false;
        }
        self.values = 0;
        matches!(events.proceed_next_document(), Ok(true))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's list of events grows")]
    /// Takes one event. False if the document must be given up.
    fn take(&mut self, event: Event<'_>, found: Found) -> bool {
        let span = self.span(&found);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(span, &found, anchor > 0, tag.is_some());
                let node = scalar(&text, style, span);
                self.add(node)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_extras(span, &found, anchor > 0, tag.is_some());
                self.open(span, Kind::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_extras(span, &found, anchor > 0, tag.is_some());
                let entries = Vec::new();
                self.open(span, Kind::Mapping { entries, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse_extras(span, &found, true, false);
                self.lost = true;
                false
            }
            Event::DocumentEnd => {
                self.values = 0;
                true
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) => true,
            // Only comments and anchor names are left, and neither is asked for.
            _ => true,
        }
    }

    fn span(&self, found: &Found) -> Span {
        let skipped = self.source.text().len() - without_mark(self.source.text()).len();
        let byte = |marker: &Marker| marker.byte_offset().unwrap_or_default() + skipped;
        let (start, end) = (byte(&found.start), byte(&found.end));
        Span::new(start..end, found.start.line(), found.start.col() + 1)
    }

    fn open(&mut self, span: Span, kind: Kind) -> bool {
        if self.stack.len() >= DEPTH {
            let problem = format!("nested more than {DEPTH} levels deep");
            return self.give_up(span, &problem, "flatten it; no field needs that much");
        }
        self.stack.push(Open { span, kind });
        true
    }

    fn close(&mut self, end: Span) -> bool {
        let Some(open) = self.stack.pop() else {
            return true;
        };
        let span = Span { end: end.end.max(open.span.end), ..open.span };
        let value = match open.kind {
            Kind::Sequence(items) => Value::Sequence(items),
            Kind::Mapping { entries, .. } => Value::Mapping(self.unique(entries)),
        };
        self.add(Node { span, value })
    }

    fn add(&mut self, node: Node) -> bool {
        self.values += 1;
        if self.values > VALUES {
            let problem = format!("more than {VALUES} values in one document");
            return self.give_up(node.span, &problem, "split it into several documents");
        }
        let Some(open) = self.stack.last_mut() else {
            self.roots.push(node);
            return true;
        };
        match &mut open.kind {
            Kind::Sequence(items) => items.push(node),
            Kind::Mapping { entries, key } => match key.take() {
                None => *key = Some(node),
                Some(key) => match entry(key, node) {
                    Ok(entry) => entries.push(entry),
                    Err(span) => self.refuse(span, "a key must be one word", "quote it"),
                },
            },
        }
        true
    }

    /// Drops every key that was given before, and says where.
    fn unique(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut first: BTreeMap<&str, u32> = BTreeMap::new();
        let mut again = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if let Some(line) = first.get(&*entry.key) {
                again.push(index);
                let problem = format!("duplicate key `{}`, first on line {line}", entry.key);
                let at = Location::new(self.source, entry.key_span);
                self.problems.error(&at, problem, "keep one of them");
            } else {
                first.insert(&entry.key, entry.key_span.line);
            }
        }
        if again.is_empty() {
            return entries;
        }
        let kept = entries.into_iter().enumerate();
        kept.filter(|(index, _)| again.binary_search(index).is_err()).map(|(_, entry)| entry).collect()
    }

    /// Refuses what YAML offers beyond plain data.
    fn refuse_extras(&mut self, span: Span, found: &Found, anchor: bool, tag: bool) {
        if anchor {
            self.refuse(
                span,
                "anchors and aliases are not part of the policy language",
                "write the value out",
            );
        }
        if tag {
            let at = found.tag_span().map_or(span, |tag| self.span(&tag));
            self.refuse(at, "tags are not part of the policy language", "remove the tag");
        }
    }

    fn refuse_syntax(&mut self, error: &ScanError) -> bool {
        let marker = *error.marker();
        let span = self.span(&Found::new(marker, marker));
        let span = Span { end: span.end + 1, ..span };
        let kind = error.kind();
        if matches!(kind, ErrorKind::RecursionLimitExceeded) {
            let problem = format!("nested more than {DEPTH} levels deep");
            return self.give_up(span, &problem, "flatten it; no field needs that much");
        }
        if matches!(kind, ErrorKind::DirectiveDisallowed) {
            let problem = "directives are not part of the policy language";
            return self.give_up(span, problem, "remove the line");
        }
        let problem = format!("not readable as YAML: {kind}");
        self.give_up(span, &problem, advice(kind))
    }

    fn refuse(&mut self, span: Span, problem: &str, help: &str) {
        self.problems.error(&Location::new(self.source, span), problem, help);
    }

    /// Refuses the whole document: what follows in it cannot be trusted.
    fn give_up(&mut self, span: Span, problem: &str, help: &str) -> bool {
        self.refuse(span, problem, help);
        self.lost = true;
        false
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's list of errors grows")]
fn advice(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => "indent with spaces",
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => "close the quotes",
        ErrorKind::UnclosedFlowCollection { .. } => "close the bracket",
        _ => "look at the indentation, brackets and quotes here and on the line above",
    }
}

fn entry(key: Node, node: Node) -> Result<Entry, Span> {
    let key_span = key.span;
    match key.value {
        Value::Scalar { text, .. } => Ok(Entry { key: text, key_span, node }),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => Err(key_span),
    }
}

fn scalar(text: &str, style: ScalarStyle, span: Span) -> Node {
    let plain = style == ScalarStyle::Plain;
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
        text => Value::Scalar { text: text.into(), plain },
    };
    Node { span, value }
}
