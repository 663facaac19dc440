//! Characters that no text of a policy may hold, whatever its form.

use std::sync::Arc;

use super::diagnostic::Diagnostics;
use super::excerpt::is_unprintable;
use super::location::{Location, SourceFile, Span};

/// The text without the byte-order mark some editors write; it is no part of it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Refuses the first character that no policy needs and that hides or reorders what a reviewer sees.
pub(crate) fn refuse(source: &Arc<SourceFile>, problems: &mut Diagnostics) {
    let text = source.text();
    let skipped = text.len() - without_mark(text).len();
    let Some((at, c)) = hidden(text, skipped) else { return };
    let before = &text[skipped..at];
    let line_start = before.rfind('\n').map_or(skipped, |end| skipped + end + 1);
    let span = Span::new(
        at..at + c.len_utf8(),
        before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        text[line_start..at].chars().count() + 1,
    );
    let problem = format!("character {} is not allowed in a policy", c.escape_default());
    let help = "remove it; control and direction characters hide what a file says";
    problems.error(&Location::new(source, span), problem, help);
}

fn hidden(text: &str, skipped: usize) -> Option<(usize, char)> {
    // Nearly every text is plain, and a million devices are fifty million characters.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    let first = skipped + text.as_bytes()[skipped..].iter().position(|byte| !plain(byte))?;
    text[first..].char_indices().map(|(at, c)| (first + at, c)).find(|(at, c)| {
        let lone_return = *c == '\r' && !text[*at..].starts_with("\r\n");
        lone_return || (is_unprintable(*c) && !matches!(c, '\n' | '\r' | '\t'))
    })
}
