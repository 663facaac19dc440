//! Samples by row; minimum and median are shown, and the ratio to one of the rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::options::Size;

/// Nanoseconds by row, in the order in which they were measured first.
#[derive(Debug)]
pub(crate) struct Table {
    title: &'static str,
    /// What the nanoseconds are for.
    each: &'static str,
    /// The row that others are compared with, at the same size or else at the only one it has.
    reference: &'static str,
    only: Vec<String>,
    order: Vec<Row>,
    samples: BTreeMap<Row, Vec<f64>>,
}

/// What most tables are about.
pub(crate) const A_PACKET: &str = "a packet";

/// What and with how many devices.
type Row = (String, Size);

impl Table {
    pub(crate) const fn new(
        title: &'static str,
        each: &'static str,
        reference: &'static str,
        only: Vec<String>,
    ) -> Self {
        Self { title, each, reference, only, order: Vec::new(), samples: BTreeMap::new() }
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
        let row = (what.to_owned(), size);
        if !self.samples.contains_key(&row) {
            self.order.push(row.clone());
        }
        self.samples.entry(row).or_default().push(nanoseconds);
    }

    /// The rows as text.
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "{}, ns {}; ratio of medians to {}\n{:<34} {:>8} {:>12} {:>12} {:>8}\n",
            self.title, self.each, self.reference, "", "devices", "min", "median", "ratio"
        );
        for row in &self.order {
            let (minimum, median) = self.figures(row);
            let ratio = self.ratio(row).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ =
                writeln!(out, "{:<34} {:>8} {minimum:>12.1} {median:>12.1} {ratio:>8}", row.0, row.1.name);
        }
        out
    }

    /// One JSON object a row, a line each.
    pub(crate) fn json(&self) -> String {
        let mut out = String::new();
        for row in &self.order {
            let (minimum, median) = self.figures(row);
            let line = serde_json::json!({
                "table": self.title, "what": row.0, "devices": row.1.name, "min_ns": minimum, "median_ns": median,
                "samples": self.samples.get(row), "reference": self.reference, "ratio": self.ratio(row),
            });
            let _ = writeln!(out, "{line}");
        }
        out
    }

    /// The median of each row, in the order in which they were measured first.
    pub(crate) fn medians(&self) -> impl Iterator<Item = (&str, Size, f64)> {
        self.order.iter().map(|row| (row.0.as_str(), row.1, self.figures(row).1))
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
