//! Many label selectors at once, without trying each on every device.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::model::{Labels, carries};

/// Selectors indexed by one of their labels.
#[derive(Debug)]
pub(crate) struct Selectors<'a, T> {
    by_label: BTreeMap<(&'a str, &'a str), Vec<(&'a Labels, T)>>,
}

/// What was found out about each set of labels, which many devices share.
#[derive(Debug)]
pub(crate) struct Remembered<T>(HashMap<*const Labels, (Arc<Labels>, T)>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Remembered<T> {
    /// What is remembered of a set, or what there is to find out. While it is remembered the set stays where it is.
    pub(crate) fn of(&mut self, labels: &Arc<Labels>, find: impl FnOnce() -> T) -> &T {
        let entry = self.0.entry(Arc::as_ptr(labels));
        &entry.or_insert_with(|| (Arc::clone(labels), find())).1
    }
}

impl<'a, T> FromIterator<(&'a Labels, T)> for Selectors<'a, T> {
    fn from_iter<I: IntoIterator<Item = (&'a Labels, T)>>(selectors: I) -> Self {
        let mut by_label: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (labels, item) in selectors {
            if let Some((key, value)) = labels.first_key_value() {
                let label = (key.as_str(), value.as_str());
                by_label.entry(label).or_default().push((labels, item));
            }
        }
        Self { by_label }
    }
}

impl<T: Copy + Ord> Selectors<'_, T> {
    /// True if there are none, so that no labels match.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_label.is_empty()
    }

    /// Everything whose selector the labels satisfy, in order.
    pub(crate) fn matching(&self, labels: &Labels) -> Vec<T> {
        let mut found: Vec<T> = labels
            .iter()
            .filter_map(|(key, value)| self.by_label.get(&(key.as_str(), value.as_str())))
            .flatten()
            .filter(|(wanted, _)| carries(labels, wanted))
            .map(|(_, item)| *item)
            .collect();
        found.sort();
        found
    }
}
