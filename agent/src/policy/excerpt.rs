//! The line that a message shows: cut to a bearable length, safe to print.

use serde::{Deserialize, Serialize};

use super::location::{SourceFile, Span};

/// The offending line and which part of it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The text, control characters escaped.
    pub text: String,
    /// First byte of `text` that is underlined.
    pub start: usize,
    /// Byte past the last underlined one.
    pub end: usize,
}

impl Excerpt {
    /// Longest line that is shown whole, in bytes.
    const WHOLE: usize = 160;
    /// Characters shown before the underlined part of a long line, and after it.
    const MARGIN: usize = 60;
    /// Characters underlined at most.
    const UNDERLINED: usize = 60;

    pub(crate) fn cut(source: &SourceFile, span: Span) -> Self {
        let (begin, line) = source.line_at(span.start as usize);
        // A span may begin or end inside a character; then all of the character is meant.
        let from = line.floor_char_boundary((span.start as usize).saturating_sub(begin));
        let to = line.ceil_char_boundary((span.end as usize).saturating_sub(begin)).max(from);
        let (before, meant, after) = (&line[..from], &line[from..to], &line[to..]);
        if line.len() <= Self::WHOLE {
            return Self::join(None, [before, meant, after], None);
        }
        let underlined: String = meant.chars().take(Self::UNDERLINED).collect();
        let after = &line[from + underlined.len()..];
        let tail: String = after.chars().take(Self::MARGIN).collect();
        let head: Vec<char> = before.chars().rev().take(Self::MARGIN).collect();
        let head: String = head.into_iter().rev().collect();
        Self::join(
            (head.len() < before.len()).then_some("…"),
            [&head, &underlined, &tail],
            (tail.len() < after.len()).then_some("…"),
        )
    }

    fn join(head: Option<&str>, [before, meant, after]: [&str; 3], tail: Option<&str>) -> Self {
        let mut text = head.unwrap_or_default().to_owned();
        text.push_str(&escape(before));
        let start = text.len();
        text.push_str(&escape(meant));
        let end = text.len();
        text.push_str(&escape(after));
        text.push_str(tail.unwrap_or_default());
        Self { text, start, end }
    }
}

/// Writes control and direction-changing characters as escapes: a policy file must not be able
/// to drive the terminal of whoever reads the message. A tab becomes one space.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if is_unprintable(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// True of characters that steer a terminal or reorder text instead of showing a sign.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_cannot_be_driven_by_a_message() {
        assert_eq!(escape("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escape("\u{202e}x"), "\\u{202e}x");
        assert_eq!(escape("café\tx"), "café x");
    }

    #[test]
    fn a_span_that_cuts_a_character_means_all_of_it() {
        let source = SourceFile::new("a.yaml", "ab€cd");
        for (start, end) in [(2, 3), (3, 4), (2, 5), (4, 4)] {
            let cut = Excerpt::cut(&source, Span { start, end, line: 1, column: 3 });
            assert_eq!(&cut.text[cut.start..cut.end], "€", "{start}..{end}");
        }
        let behind = Excerpt::cut(&source, Span { start: 90, end: 99, line: 1, column: 3 });
        assert_eq!((behind.start, behind.end), (7, 7));
    }

    #[test]
    fn a_long_line_is_cut_around_what_is_meant() {
        let text = format!("{}BAD{}", "x".repeat(500), "y".repeat(500));
        let source = SourceFile::new("a.yaml", text);
        let span = Span { start: 500, end: 503, line: 1, column: 501 };
        let cut = Excerpt::cut(&source, span);
        assert_eq!(&cut.text[cut.start..cut.end], "BAD");
        assert!(cut.text.chars().count() < 130, "{}", cut.text);
    }
}
