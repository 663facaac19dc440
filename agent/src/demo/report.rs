//! The table at the end: what was expected, what was observed, and whether they differ.

use std::io::Write;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde::Serialize;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) case: String,
    /// What came of it before the agent was started; empty where that says nothing.
    pub(crate) without: String,
    /// What had to come of it.
    pub(crate) expected: String,
    /// What came of it.
    pub(crate) observed: String,
    /// True if they agree.
    pub(crate) holds: bool,
}

impl Row {
    /// Makes a row about something that only exists under Bulkhead.
    pub(crate) fn new(case: &str, expected: &str, observed: &str, holds: bool) -> Self {
        let [case, expected, observed] = [case, expected, observed].map(str::to_owned);
        Self { case, without: String::new(), expected, observed, holds }
    }
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A story and a table.
    #[default]
    Text,
    /// One object a line, and no story.
    Json,
}

/// Prints the rows and says whether all hold.
pub(crate) fn print(rows: &[Row], output: Output, out: &mut dyn Write) -> Result<bool> {
    match output {
        Output::Text => writeln!(out, "\n{}\n{}", table(rows), summary(rows))?,
        Output::Json => {
            rows.iter().try_for_each(|row| anyhow::Ok(writeln!(out, "{}", serde_json::to_string(row)?)?))?
        }
    }
    Ok(rows.iter().all(|row| row.holds))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "case", "without", "expected", "observed"]);
    for row in rows {
        let mark = if row.holds { "ok" } else { "DIFFERS" };
        table.add_row([mark, &row.case, &row.without, &row.expected, &row.observed]);
    }
    table
}

fn summary(rows: &[Row]) -> String {
    let differ = rows.iter().filter(|row| !row.holds).count();
    match differ {
        0 => format!(
            "All {} cases came out as expected (\"without\": before Bulkhead was started).",
            rows.len()
        ),
        _ => format!("{differ} of {} cases DIFFER from what was expected.", rows.len()),
    }
}
