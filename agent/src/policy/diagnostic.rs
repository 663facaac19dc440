//! What is wrong with a policy, where, and what to do about it.
//!
//! A [`Diagnostic`] carries the line it complains about, so it can be shown by a process that
//! never saw the file: the agent sends it, the command line draws it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::excerpt::{Excerpt, escape};
use super::location::{Location, SourceFile, Span};
use super::{path, render};

/// How many problems are kept; the rest are counted. A hostile 4 MiB file could otherwise grow
/// half a million of them.
const KEPT: usize = 1000;
/// How many of those may be warnings and notes, so that they never crowd out an error.
const QUIET: usize = 200;

/// What a diagnostic means for the apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is applied.
    Error,
    /// It is applied, and is probably not what was meant.
    Warning,
    /// It is applied; the operator should know.
    Note,
}

impl Severity {
    /// The word in front of a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One problem at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What it means for the apply.
    pub severity: Severity,
    /// The file as the operator named it; empty where no file is to blame.
    pub file: String,
    /// Line, counted from 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Place in the document, like `spec.allow[1].to.destinations[0]`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
    /// The line's text; cut where it is very long.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub excerpt: Option<Excerpt>,
    #[serde(skip)]
    pub(crate) origin: Option<Location>,
}

impl Diagnostic {
    /// Names a problem at a place.
    pub fn new(
        severity: Severity,
        at: &Location,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let span = at.span();
        Self {
            severity,
            file: at.file().to_owned(),
            line: span.line,
            column: span.column,
            path: None,
            problem: escape(&problem.into()),
            help: escape(&help.into()),
            excerpt: (span.line > 0).then(|| Excerpt::cut(at.source(), span)),
            origin: Some(at.clone()),
        }
    }

    /// Names a problem of a file as a whole, or of no file when the name is empty.
    pub fn of_file(file: &str, problem: impl Into<String>, help: impl Into<String>) -> Self {
        let source = Arc::new(SourceFile::new(escape(file), ""));
        let at = Location::new(&source, Span::default());
        Self { origin: None, ..Self::new(Severity::Error, &at, problem, help) }
    }
}

impl fmt::Display for Diagnostic {
    /// Writes one line: `error ev.yaml:14:31 unknown destination "ocp"; nearest is "ocpp"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.severity.as_str())?;
        match (self.file.is_empty(), self.line) {
            (true, _) => {}
            (false, 0) => write!(f, "{} ", self.file)?,
            (false, line) => write!(f, "{}:{line}:{} ", self.file, self.column)?,
        }
        write!(f, "{}; {}", self.problem, self.help)
    }
}

/// Every problem found, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    /// Problems found beyond those that are kept.
    omitted: usize,
    errors: usize,
    unreadable: bool,
}

impl Diagnostics {
    /// Adds one problem; beyond a thousand (warnings and notes: two hundred) they are only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let room = match diagnostic.severity {
            Severity::Error => {
                self.errors += 1;
                KEPT
            }
            Severity::Warning | Severity::Note => QUIET,
        };
        if self.items.len() < room {
            self.items.push(diagnostic);
        } else {
            self.omitted += 1;
        }
    }

    /// Adds an error at a place.
    pub fn error(&mut self, at: &Location, problem: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            self.errors += 1;
            self.omitted += 1;
            return;
        }
        self.push(Diagnostic::new(Severity::Error, at, problem, help));
    }

    /// True if further problems are only counted, so that no work need go into describing them.
    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= KEPT
    }

    /// True if further warnings and notes are only counted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.items.len() >= QUIET
    }

    /// Adds a warning at a place.
    pub fn warn(&mut self, at: &Location, problem: impl Into<String>, help: impl Into<String>) {
        self.push(Diagnostic::new(Severity::Warning, at, problem, help));
    }

    /// Adds a note at a place.
    pub fn note(&mut self, at: &Location, problem: impl Into<String>, help: impl Into<String>) {
        self.push(Diagnostic::new(Severity::Note, at, problem, help));
    }

    pub(crate) fn unreadable(&mut self, file: &str, problem: String, help: &str) {
        self.unreadable = true;
        self.push(Diagnostic::of_file(file, problem, help));
    }

    /// Takes over everything another stage found.
    pub fn append(&mut self, other: Self) {
        self.omitted += other.omitted;
        self.unreadable |= other.unreadable;
        let warnings_beyond = other.errors;
        let before = self.errors;
        for item in other.items {
            self.push(item);
        }
        self.errors = self.errors.max(before + warnings_beyond);
    }

    /// True if anything forbids the apply.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are, those not kept included.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// True if a file could not be read at all, which is exit code 2 rather than 1.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// True if there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The problems in the order of file and line.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }

    /// How many problems were found beyond those that [`Self::iter`] gives.
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Draws every problem with its line and a caret, as compilers do.
    pub fn render(&self, colour: bool) -> String {
        render::report(self, colour)
    }

    /// Sorts by file and place and works out each problem's path in its document.
    pub(crate) fn finish(mut self) -> Self {
        path::fill(&mut self.items);
        self.items.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.file.clone(), d.line, d.column, d.severity);
            key(a).cmp(&key(b))
        });
        for item in &mut self.items {
            item.origin = None;
        }
        self.items.dedup();
        self
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_beyond_the_cap_are_counted() {
        let mut found = Diagnostics::default();
        for _ in 0..KEPT + 5 {
            found.push(Diagnostic::of_file("a", "p", "h"));
        }
        assert_eq!((found.iter().count(), found.omitted(), found.errors()), (KEPT, 5, KEPT + 5));
    }
}
