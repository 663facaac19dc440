//! A list that mostly has one item, which then lies where the list is held.

use std::ops::Deref;

/// A list; read it as a slice.
#[derive(Clone, Debug)]
pub enum Few<T> {
    /// One item.
    One(T),
    /// None, or several.
    Others(Vec<T>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Others(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Others(items) => items,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter().fuse();
        match (items.next(), items.next()) {
            (Some(only), None) => Self::One(only),
            (first, second) => Self::Others(first.into_iter().chain(second).chain(items).collect()),
        }
    }
}

impl<'l, T> IntoIterator for &'l Few<T> {
    type Item = &'l T;
    type IntoIter = std::slice::Iter<'l, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_it_was_made_of() {
        for count in 0..4 {
            let few: Few<u32> = (0..count).collect();
            assert!(few.iter().copied().eq(0..count));
            assert_eq!(matches!(few, Few::One(_)), count == 1);
        }
        assert!(Few::<u32>::default().is_empty());
    }
}
