//! One JSON object a line (NDJSON); the fields are those of [`Record`].

use std::io::{self, Write};

use crate::telemetry::Record;

/// Writes one record and the end of its line.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    out.write_all(&line(record)?)
}

/// One record as bytes, with the end of its line.
///
/// # Errors
/// None that a record can cause: its keys are strings.
pub fn line(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::EventKind;

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let time = "2026-12-01T03:12:04.1Z".parse().unwrap();
        let record = Record { device: Some("a\nb\u{1b}[31m".into()), ..Record::new(time, EventKind::Drop) };
        let line = line(&record).unwrap();
        assert_eq!(line.iter().filter(|byte| byte.is_ascii_control()).count(), 1);
        assert!(line.ends_with(b"}\n"));
        assert_eq!(serde_json::from_slice::<Record>(&line).unwrap(), record);
    }
}
