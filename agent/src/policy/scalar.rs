//! Which unquoted words YAML readers turn into something other than text.
//!
//! This reader never does, but the next tool that touches the file may: `2.10` becomes 2.1,
//! `NO` becomes false, `22:00` becomes 1320. So where text is meant such words must be quoted.

/// What some YAML reader makes of an unquoted word that is meant as text.
pub(crate) fn mangled(plain: &str) -> Option<&'static str> {
    let lower = plain.to_ascii_lowercase();
    if matches!(lower.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false") {
        return Some("a boolean");
    }
    if matches!(lower.as_str(), ".inf" | "-.inf" | "+.inf" | ".nan") || is_number(&lower) {
        return Some("a number");
    }
    if is_sexagesimal(&lower) {
        return Some("a number in base 60");
    }
    is_date(&lower).then_some("a date")
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let prefixed = ["0x", "0o", "0b"].iter().find_map(|p| digits.strip_prefix(p));
    if let Some(rest) = prefixed {
        return !rest.is_empty() && rest.chars().all(|c| c.is_ascii_hexdigit() || c == '_');
    }
    digits.replace('_', "").parse::<f64>().is_ok()
}

fn is_sexagesimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = digits.split(':');
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    digits.contains(':') && parts.all(number)
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && text[5..].starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().filter(|b| *b == b'-').count() >= 2
        && !text.bytes().any(|b| b.is_ascii_alphabetic() && b != b't' && b != b'z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_change_are_known() {
        for (word, what) in [
            ("NO", "a boolean"),
            ("off", "a boolean"),
            ("2.10", "a number"),
            ("007", "a number"),
            ("1e3", "a number"),
            ("1_000", "a number"),
            ("0x1f", "a number"),
            (".inf", "a number"),
            ("242017000000017", "a number"),
            ("22:00", "a number in base 60"),
            ("02:00:00:00:00:11", "a number in base 60"),
            ("2026-12-01", "a date"),
        ] {
            assert_eq!(mangled(word), Some(what), "{word}");
        }
    }

    #[test]
    fn words_that_stay_are_left_alone() {
        for word in
            ["2.4.1", "oslo-12", "10.45.0.17", "tcp/443", "fd00:45::/32", "nan", "-", "é-1", "2026-oslo-1"]
        {
            assert_eq!(mangled(word), None, "{word}");
        }
    }
}
