//! Runs of free rows in a flat table.

use std::collections::BTreeMap;

use bulkhead_common::abi::Span;

/// Free rows, as disjoint runs by their first row.
#[derive(Clone, Debug)]
pub(super) struct Free {
    runs: BTreeMap<u32, u32>,
}

impl Free {
    /// All rows from `first` on that no span of `used` covers.
    pub(super) fn new(first: u32, rows: u32, used: impl IntoIterator<Item = Span>) -> Self {
        let mut used: Vec<Span> = used.into_iter().filter(|span| span.len > 0).collect();
        used.sort_unstable();
        let mut runs = BTreeMap::new();
        let mut next = first;
        for span in used {
            if span.start > next {
                runs.insert(next, span.start - next);
            }
            next = next.max(span.start.saturating_add(span.len));
        }
        if rows > next {
            runs.insert(next, rows - next);
        }
        Self { runs }
    }

    /// Takes `len` rows that lie side by side, or none.
    pub(super) fn take(&mut self, len: u32) -> Option<Span> {
        if len == 0 {
            return Some(Span { start: 0, len: 0 });
        }
        let (&start, &run) = self.runs.iter().find(|(_, run)| **run >= len)?;
        self.runs.remove(&start);
        if run > len {
            self.runs.insert(start + len, run - len);
        }
        Some(Span { start, len })
    }

    /// How many rows are free.
    pub(super) fn len(&self) -> u64 {
        self.runs.values().map(|run| u64::from(*run)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_gaps_between_what_is_used() {
        let used = [Span { start: 4, len: 2 }, Span { start: 1, len: 2 }, Span { start: 9, len: 0 }];
        let mut free = Free::new(1, 8, used);
        assert_eq!(free.len(), 3);
        assert_eq!(free.take(2), Some(Span { start: 6, len: 2 }));
        assert_eq!(free.take(2), None);
        assert_eq!(free.take(1), Some(Span { start: 3, len: 1 }));
        assert_eq!(free.take(1), None);
        assert_eq!(free.take(0), Some(Span { start: 0, len: 0 }));
    }
}
