//! Text → rows of cells that know where they stand, by RFC 4180.
//!
//! Two things are left out of the RFC: a cell holds no line break, because nothing about a device
//! has one and a quote that nobody closed would swallow the rest of the file; and spaces around a
//! cell without quotes are no part of it. Rows are lines, so each stands by itself: it can be kept,
//! compared and put back without the others. A library would give values without their places.

use std::borrow::Cow;

use super::characters::without_mark;
use super::location::Span;

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'t> {
    /// The line without its end.
    pub(crate) text: &'t str,
    /// Its number, counted from 1.
    pub(crate) line: usize,
    /// Where in the whole text it starts.
    start: usize,
}

/// One value of a row, without its quotes.
#[derive(Clone, Debug)]
pub(crate) struct Cell<'t> {
    pub(crate) text: Cow<'t, str>,
    pub(crate) span: Span,
}

/// Why a line is no row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flaw {
    /// The line ends inside quotes.
    Open,
    /// Something follows the closing quote, or a quote stands inside a value that has none around it.
    Stray,
    /// There are more cells than a table may have columns.
    Long,
}

/// Most cells of a row.
pub(crate) const MOST_CELLS: usize = 256;

/// The lines of a text that are not empty.
pub(crate) fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    let rest = without_mark(text);
    Lines { text: rest, line: 1, start: text.len() - rest.len() }.rows()
}

/// Lines that follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'t> {
    text: &'t str,
    /// The number of the first.
    line: usize,
    /// Where in the whole text it starts.
    start: usize,
}

impl<'t> Lines<'t> {
    /// Those behind a row of a text.
    pub(crate) fn behind(row: Row<'t>, whole: &'t str) -> Self {
        let first = Self { text: &whole[row.start..], line: row.line, start: row.start };
        first.after(row.text.len())
    }

    /// Those that are not empty.
    pub(crate) fn rows(self) -> impl Iterator<Item = Row<'t>> {
        let mut start = self.start;
        let lines = self.text.split_inclusive('\n').zip(self.line..).map(move |(line, number)| {
            let row = Row { text: line.trim_end_matches(['\n', '\r']), line: number, start };
            start += line.len();
            row
        });
        lines.filter(|row| !row.text.trim_ascii().is_empty())
    }

    /// The same lines in so many parts at most, about equally long.
    pub(crate) fn parts(self, most: usize) -> Vec<Self> {
        let mut parts = Vec::with_capacity(most);
        let mut rest = self;
        for left in (2..=most).rev() {
            let next = rest.after(rest.text.len() / left);
            parts.push(Self { text: &rest.text[..next.start - rest.start], ..rest });
            rest = next;
        }
        parts.push(rest);
        parts.retain(|part| !part.text.is_empty());
        parts
    }

    /// Those behind the line that a byte stands on.
    fn after(self, at: usize) -> Self {
        let bytes = self.text.as_bytes();
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| at + end + 1);
        let ended = bytes[..end].iter().filter(|byte| **byte == b'\n').count();
        Self { text: &self.text[end..], line: self.line + ended, start: self.start + end }
    }
}

impl<'t> Row<'t> {
    /// Appends its cells; in a line that is no row, those before the flaw.
    pub(crate) fn cells(self, cells: &mut Vec<Cell<'t>>) -> Result<(), (Flaw, Span)> {
        let mut line = Line::of(self);
        let mut at = 0;
        for _ in 0..MOST_CELLS {
            let (cell, end) = line.cell(at)?;
            cells.push(cell);
            if end >= self.text.len() {
                return Ok(());
            }
            at = end + 1;
        }
        Err((Flaw::Long, line.span(at, at)))
    }

    /// The text of one of its cells; nothing if there is none, or no row up to there.
    pub(crate) fn nth(self, number: usize) -> Option<Cow<'t, str>> {
        let mut line = Line::of(self);
        let (mut cell, mut end) = line.cell(0).ok()?;
        for _ in 0..number {
            (cell, end) = line.cell(Some(end + 1).filter(|at| *at <= self.text.len())?).ok()?;
        }
        Some(cell.text)
    }

    /// The whole row.
    pub(crate) fn whole(self) -> Span {
        Line::of(self).span(0, self.text.len())
    }
}

/// A row while its cells are taken from left to right.
struct Line<'t> {
    row: Row<'t>,
    /// True if every character is one byte: then there are none to be counted.
    plain: bool,
    /// A byte, and the column that it stands in: characters are counted once.
    seen: usize,
    column: usize,
}

impl<'t> Line<'t> {
    fn of(row: Row<'t>) -> Self {
        Self { row, plain: row.text.is_ascii(), seen: 0, column: 1 }
    }

    /// The cell that starts at a byte, and where the comma behind it stands.
    fn cell(&mut self, at: usize) -> Result<(Cell<'t>, usize), (Flaw, Span)> {
        let line = self.row.text;
        let rest = &line[at..];
        let begin = at + (rest.len() - rest.trim_ascii_start().len());
        if line.as_bytes().get(begin) == Some(&b'"') {
            return self.quoted(begin);
        }
        let end = rest.bytes().position(|byte| matches!(byte, b',' | b'"'));
        let end = end.map_or(line.len(), |end| at + end);
        if line.as_bytes().get(end) == Some(&b'"') {
            return Err((Flaw::Stray, self.span(end, end + 1)));
        }
        let text = line[at..end].trim_ascii();
        // Of an empty cell the place is where something should stand.
        let begin = if text.is_empty() { at } else { begin };
        Ok((Cell { text: Cow::Borrowed(text), span: self.span(begin, begin + text.len()) }, end))
    }

    fn quoted(&mut self, begin: usize) -> Result<(Cell<'t>, usize), (Flaw, Span)> {
        let line = self.row.text;
        let inside = &line[begin + 1..];
        let Some(length) = closing(inside) else {
            return Err((Flaw::Open, self.span(begin, begin + 1)));
        };
        let close = begin + 1 + length;
        let rest = &line[close + 1..];
        let end = comma(rest).map_or(line.len(), |comma| close + 1 + comma);
        if !line[close + 1..end].trim_ascii().is_empty() {
            return Err((Flaw::Stray, self.span(close, close + 1)));
        }
        let text = match inside[..length].contains('"') {
            true => Cow::Owned(inside[..length].replace("\"\"", "\"")),
            false => Cow::Borrowed(&inside[..length]),
        };
        Ok((Cell { text, span: self.span(begin, close + 1) }, end))
    }

    fn span(&mut self, from: usize, to: usize) -> Span {
        // Every character has one byte that continues no other.
        let starts = |bytes: &[u8]| bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        self.column += match self.plain {
            true => from - self.seen,
            false => starts(&self.row.text.as_bytes()[self.seen..from]),
        };
        self.seen = from;
        let start = self.row.start;
        Span::new(start + from..start + to.max(from + 1), self.row.line, self.column)
    }
}

fn comma(text: &str) -> Option<usize> {
    text.bytes().position(|byte| byte == b',')
}

/// Where the quote stands that ends a quoted value; two side by side stand for one in it.
fn closing(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == b'"')?;
        match bytes.get(at + 1) {
            Some(b'"') => at += 2,
            Some(_) | None => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(line: &str) -> Result<Vec<(String, u32)>, (Flaw, u32)> {
        let mut cells = Vec::new();
        let row = Row { text: line, line: 1, start: 0 };
        row.cells(&mut cells).map_err(|(flaw, span)| (flaw, span.column))?;
        Ok(cells.into_iter().map(|cell| (cell.text.into_owned(), cell.span.column)).collect())
    }

    fn good(line: &str, expected: &[(&str, u32)]) {
        let expected = expected.iter().map(|(text, column)| ((*text).to_owned(), *column)).collect();
        assert_eq!(cells(line), Ok(expected), "{line}");
    }

    #[test]
    fn cells_are_divided_by_commas_that_are_not_quoted() {
        good("a,b", &[("a", 1), ("b", 3)]);
        good(" a , b ", &[("a", 2), ("b", 6)]);
        good(r#""a,b",c"#, &[("a,b", 1), ("c", 7)]);
        good(r#""say ""hi""", "" "#, &[("say \"hi\"", 1), ("", 15)]);
        good(r#"" a ""#, &[(" a ", 1)]);
        good("æ,b", &[("æ", 1), ("b", 3)]);
        good(",,", &[("", 1), ("", 2), ("", 3)]);
    }

    #[test]
    fn a_line_that_is_no_row_says_where() {
        assert_eq!(cells(r#"a,"b"#), Err((Flaw::Open, 3)));
        assert_eq!(cells(r#""a"b,c"#), Err((Flaw::Stray, 3)));
        assert_eq!(cells(r#"a,b"c"#), Err((Flaw::Stray, 4)));
        assert_eq!(cells(r#"""""#), Err((Flaw::Open, 1)));
        assert_eq!(cells(&",".repeat(MOST_CELLS - 1)).map(|cells| cells.len()), Ok(MOST_CELLS));
        assert_eq!(cells(&",".repeat(MOST_CELLS)), Err((Flaw::Long, MOST_CELLS as u32 + 1)));
    }

    #[test]
    fn rows_are_lines_with_something_on_them() {
        let found: Vec<_> =
            rows("\u{feff}a,b\r\n\r\n  \nc,d").map(|row| (row.text, row.line, row.start)).collect();
        assert_eq!(found, [("a,b", 1, 3), ("c,d", 4, 13)]);
    }

    #[test]
    fn parts_have_the_rows_of_the_whole() {
        let texts =
            ["h\n", "h", "h\na", "h\r\na\r\n\r\nbb\nccc\n", "\u{feff}\n\nh\n\n\næ,ø\n\nb,c\nd", "h\n\n\n\n"];
        for text in texts {
            let told = |row: Row<'_>| (row.text.to_owned(), row.line, row.start);
            let mut whole = rows(text);
            let behind = Lines::behind(whole.next().unwrap(), text);
            let whole: Vec<_> = whole.map(told).collect();
            for most in 1..6 {
                let parts = behind.parts(most);
                assert!(parts.len() <= most, "{text:?}");
                let found: Vec<_> = parts.iter().flat_map(|part| part.rows()).map(told).collect();
                assert_eq!(found, whole, "{text:?} in {most}");
            }
        }
        assert_eq!(Lines::behind(rows("h\na\nb\nc\nd").next().unwrap(), "h\na\nb\nc\nd").parts(2).len(), 2);
    }
}
