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

/// Bytes that are looked at together.
const BLOCK: usize = 1024;

fn hidden(text: &str, skipped: usize) -> Option<(usize, char)> {
    // Nearly every text is plain, and a million devices are fifty million characters.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    // Blocks are looked through to their ends, which takes many bytes at a time.
    let all_plain = |block: &&[u8]| block.iter().fold(true, |all, byte| all & plain(byte));
    let plain_blocks = text.as_bytes()[skipped..].chunks(BLOCK).take_while(all_plain);
    let known = skipped + plain_blocks.map(<[u8]>::len).sum::<usize>();
    let first = known + text.as_bytes()[known..].iter().position(|byte| !plain(byte))?;
    text[first..].char_indices().map(|(at, c)| (first + at, c)).find(|(at, c)| {
        let lone_return = *c == '\r' && !text[*at..].starts_with("\r\n");
        lone_return || (is_unprintable(*c) && !matches!(c, '\n' | '\r' | '\t'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_found_wherever_it_stands() {
        for before in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let text = "a".repeat(before);
            assert_eq!(hidden(&format!("{text}\u{202e}b"), 0), Some((before, '\u{202e}')));
            assert_eq!(hidden(&format!("{text}æ\r\n\t\r"), 0), Some((before + 5, '\r')));
            assert_eq!(hidden(&format!("{text}æ\n"), 0), None);
            assert_eq!(hidden(&text, 0), None);
        }
        assert_eq!(hidden("\u{feff}a\u{feff}", 3), Some((4, '\u{feff}')), "a mark is none but in front");
    }
}
