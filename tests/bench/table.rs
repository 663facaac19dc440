//! Samples by row; minimum and median are shown, and the ratio to one of the rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::options::Size;

/// Nanoseconds a packet by row, in the order in which they were measured first.
#[derive(Debug)]
pub(crate) struct Table {
    title: &'static str,
    /// The row that others are compared with, at the same size or else at the only one it has.
    reference: &'static str,
    only: Vec<String>,
    order: Vec<Row>,
    samples: BTreeMap<Row, Vec<f64>>,
}

/// What and with how many devices.
type Row = (String, &'static str);

impl Table {
    pub(crate) const fn new(title: &'static str, reference: &'static str, only: Vec<String>) -> Self {
        Self { title, reference, only, order: Vec::new(), samples: BTreeMap::new() }
    }

    /// True if somebody wants to see this row; the reference always is.
    pub(crate) fn wants(&self, what: &str) -> bool {
        what == self.reference || self.only.is_empty() || self.only.iter().any(|word| what.contains(word))
    }

    /// Takes a sample of a row that is wanted.
    pub(crate) fn sample(
        &mut self,
        what: &str,
        size: Size,
        take: impl FnOnce() -> Result<f64>,
    ) -> Result<()> {
        if self.wants(what) {
            self.add(what, size, take()?);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, what: &str, size: Size, nanoseconds: f64) {
        let row = (what.to_owned(), size.name);
        if !self.samples.contains_key(&row) {
            self.order.push(row.clone());
        }
        self.samples.entry(row).or_default().push(nanoseconds);
    }

    /// The rows as text.
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "{}, ns a packet; ratio of medians to {}\n{:<34} {:>8} {:>9} {:>9} {:>8}\n",
            self.title, self.reference, "", "devices", "min", "median", "ratio"
        );
        for row in &self.order {
            let (minimum, median) = self.figures(row);
            let ratio = self.ratio(row).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(out, "{:<34} {:>8} {minimum:>9.1} {median:>9.1} {ratio:>8}", row.0, row.1);
        }
        out
    }

    /// One JSON object a row, a line each.
    pub(crate) fn json(&self) -> String {
        let mut out = String::new();
        for row in &self.order {
            let (minimum, median) = self.figures(row);
            let line = serde_json::json!({
                "table": self.title, "what": row.0, "devices": row.1, "min_ns": minimum, "median_ns": median,
                "samples": self.samples.get(row), "reference": self.reference, "ratio": self.ratio(row),
            });
            let _ = writeln!(out, "{line}");
        }
        out
    }

    fn ratio(&self, row: &Row) -> Option<f64> {
        let same = (self.reference.to_owned(), row.1);
        let reference = match self.samples.contains_key(&same) {
            true => &same,
            false => self.order.iter().find(|other| other.0 == self.reference)?,
        };
        Some(self.figures(row).1 / self.figures(reference).1)
    }

    /// Minimum and median.
    fn figures(&self, row: &Row) -> (f64, f64) {
        let mut samples = self.samples.get(row).cloned().unwrap_or_default();
        samples.sort_by(f64::total_cmp);
        let at = |index: usize| samples.get(index).copied().unwrap_or_default();
        (at(0), at(samples.len() / 2))
    }
}
