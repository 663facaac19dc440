//! Where a value stands in the text that an operator wrote.
//!
//! Everything in the model carries a [`Location`], so that a message about a rule can name the
//! file and the line long after the text was parsed.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// One text to be read as policy: a file, or what came in by standard input or the API.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct SourceFile {
    name: String,
    /// Shared: parts of a large text are read side by side, each with a file of its own to count its places in.
    text: Arc<String>,
    versioned: bool,
}

impl SourceFile {
    /// Names a text. The name is what messages show; it is not opened.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: Arc::new(text.into()), versioned: false }
    }

    /// Names a text that is put together from accepted documents. Their language version was checked when they were
    /// accepted, and it may have stood in a document that is not part of the text any more.
    pub fn accepted(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { versioned: true, ..Self::new(name, text) }
    }

    /// True if no document of the text has to say its version.
    pub(crate) fn is_versioned(&self) -> bool {
        self.versioned
    }

    /// True if it is a table of devices; everything else is YAML.
    pub(crate) fn is_inventory(&self) -> bool {
        is_inventory(Path::new(&self.name))
    }

    /// The name shown in messages: the path as the operator gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line around a byte offset without its line break, and the offset where it begins.
    pub(crate) fn line_at(&self, offset: usize) -> (usize, &str) {
        let offset = self.floor_char_boundary(offset.min(self.text.len()));
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let rest = &self.text[start..];
        let line = rest.split('\n').next().unwrap_or(rest);
        (start, line.strip_suffix('\r').unwrap_or(line))
    }

    fn floor_char_boundary(&self, mut offset: usize) -> usize {
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// True of the paths of files that hold a table of devices.
pub(crate) fn is_inventory(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv"))
}

/// A stretch of one text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span {
    /// Offset of the first byte.
    pub(crate) start: u32,
    /// Offset past the last byte.
    pub(crate) end: u32,
    /// Line of the first byte; 0 stands for "the file as a whole".
    pub(crate) line: u32,
    /// Column of the first character.
    pub(crate) column: u32,
}

impl Span {
    /// A stretch of bytes that begins in a line and column. What is beyond 4 GiB is counted as the last.
    pub(crate) fn new(bytes: Range<usize>, line: usize, column: usize) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            start: number(bytes.start),
            end: number(bytes.end),
            line: number(line),
            column: number(column),
        }
    }
}

/// A stretch of text together with the file that holds it.
#[derive(Clone)]
pub struct Location {
    source: Arc<SourceFile>,
    span: Span,
}

impl Location {
    pub(crate) fn new(source: &Arc<SourceFile>, span: Span) -> Self {
        Self { source: Arc::clone(source), span }
    }

    /// The file's name, as the operator gave it.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The line, counted from 1.
    pub fn line(&self) -> u32 {
        self.span.line
    }

    /// The column in characters, counted from 1.
    pub fn column(&self) -> u32 {
        self.span.column
    }

    pub(crate) fn source(&self) -> &Arc<SourceFile> {
        &self.source
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }
}

impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        self.span == other.span && Arc::ptr_eq(&self.source.text, &other.source.text)
    }
}

impl Eq for Location {}

impl fmt::Display for Location {
    /// Writes `file:line`, short enough for the middle of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file(), self.line())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file(), self.line(), self.column())
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where the operator wrote it.
    pub at: Location,
}

impl<T> Located<T> {
    pub(crate) fn new(value: T, at: Location) -> Self {
        Self { value, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_without_its_line_break() {
        let source = SourceFile::new("a.yaml", "one\r\ntwo\nthree");
        assert_eq!(source.line_at(0), (0, "one"));
        assert_eq!(source.line_at(5), (5, "two"));
        assert_eq!(source.line_at(8), (5, "two"));
        assert_eq!(source.line_at(999), (9, "three"));
    }

    #[test]
    fn an_offset_inside_a_character_is_no_panic() {
        let source = SourceFile::new("a.yaml", "æ");
        assert_eq!(source.line_at(1), (0, "æ"));
    }
}
