//! Numbers that stay with a name from one compilation to the next.
//!
//! Flows in the kernel, events on their way and staged words all carry numbers, so a number keeps
//! its meaning for as long as anything may carry it. A name that goes and comes back finds its old
//! number; a number is given to another name only when there is no fresh one left and its name was
//! absent from the last two compilations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bulkhead_common::abi::map::{DEVICE_CAPACITY, NETWORK_CAPACITY, PROFILE_CAPACITY, RULE_CAPACITY};
use serde::{Deserialize, Serialize};

use crate::policy::name::Name;

/// The book of numbers; kept in the agent's state between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    compilation: u64,
    pub(super) networks: Book,
    pub(super) devices: Book,
    pub(super) profiles: Book,
    pub(super) rules: Book,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            compilation: 0,
            networks: Book::new(NETWORK_CAPACITY),
            devices: Book::new(DEVICE_CAPACITY),
            profiles: Book::new(PROFILE_CAPACITY),
            rules: Book::new(RULE_CAPACITY),
        }
    }
}

impl Ids {
    /// Opens a new compilation; names not asked for in it grow older.
    pub(super) fn begin(&mut self) {
        self.compilation += 1;
        for book in [&mut self.networks, &mut self.devices, &mut self.profiles, &mut self.rules] {
            book.begin(self.compilation);
        }
    }

    /// How many numbers rules have taken, that of no rule included.
    pub const fn rule_numbers(&self) -> u32 {
        self.rules.next
    }

    /// Bounds the numbers that index tables of a configured size: they must run out with the table and not
    /// after it, or a policy that changes often would meet its end though most of the table is free.
    pub(super) fn bound(&mut self, devices: u32, profiles: u32) {
        self.devices.bound(devices);
        self.profiles.bound(profiles);
    }
}

/// Numbers of one kind, from 1; 0 is nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(super) struct Book {
    capacity: u32,
    next: u32,
    names: BTreeMap<Arc<str>, Number>,
    compilation: u64,
    reusable: Option<VecDeque<Arc<str>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    number: u32,
    /// The last compilation that asked for it.
    used: u64,
}

/// There is no number left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Book {
    fn new(capacity: u32) -> Self {
        Self { capacity, next: 1, names: BTreeMap::new(), compilation: 0, reusable: None }
    }

    fn begin(&mut self, compilation: u64) {
        self.compilation = compilation;
        self.reusable = None;
    }

    /// Takes back the numbers that a smaller table has no row for.
    fn bound(&mut self, capacity: u32) {
        self.capacity = capacity.max(1);
        if self.next > self.capacity {
            self.next = self.capacity;
            self.names.retain(|_, known| known.number < self.next);
        }
    }

    /// The number of a name: its old one, a fresh one, or the longest unused.
    pub(super) fn number(&mut self, name: &str) -> Result<u32, Full> {
        if let Some(known) = self.names.get_mut(name) {
            known.used = self.compilation;
            return Ok(known.number);
        }
        let number = if self.next < self.capacity {
            self.next += 1;
            self.next - 1
        } else {
            self.reuse()?
        };
        self.names.insert(name.into(), Number { number, used: self.compilation });
        Ok(number)
    }

    /// The numbers of names that are in order: those that have one are found in one walk.
    pub(super) fn numbers<'n>(
        &mut self,
        names: impl Iterator<Item = &'n Name> + Clone,
    ) -> Vec<Result<u32, Full>> {
        let mut book = self.names.iter_mut().peekable();
        let old = names.clone().map(|name| {
            while book.next_if(|(known, _)| ***known < *name.as_str()).is_some() {}
            let (_, known) = book.next_if(|(known, _)| ***known == *name.as_str())?;
            known.used = self.compilation;
            Some(known.number)
        });
        let old: Vec<Option<u32>> = old.collect();
        let fresh = old.iter().filter(|number| number.is_none()).count();
        let numbered = names.zip(old);
        if fresh > (self.capacity - self.next) as usize {
            return numbered.map(|(name, old)| old.map_or_else(|| self.number(name.as_str()), Ok)).collect();
        }
        let mut added = Vec::with_capacity(fresh);
        let mut take = |name: &Name| {
            let number = self.next;
            self.next += 1;
            added.push((name.shared(), Number { number, used: self.compilation }));
            number
        };
        let numbers = numbered.map(|(name, old)| Ok(old.unwrap_or_else(|| take(name)))).collect();
        match self.names.is_empty() {
            true => self.names = added.into_iter().collect(),
            false => self.names.extend(added),
        }
        numbers
    }

    /// The number that a name has, if it has one.
    pub(super) fn known(&self, name: &str) -> Option<u32> {
        self.names.get(name).map(|known| known.number)
    }

    /// The number of a name between two compilations: its old one, or a fresh one. None is taken from another name.
    pub(super) fn given(&mut self, name: &Name) -> Option<u32> {
        let free = self.names.contains_key(name.as_str()) || self.next < self.capacity;
        if free { self.number(name.as_str()).ok() } else { None }
    }

    fn reuse(&mut self) -> Result<u32, Full> {
        if self.reusable.is_none() {
            self.reusable = Some(self.unused());
        }
        while let Some(name) = self.reusable.as_mut().and_then(VecDeque::pop_front) {
            // Asked for since the list was made: it is in use again.
            if self.names.get(&name).is_some_and(|known| known.used + 1 < self.compilation)
                && let Some(known) = self.names.remove(&name)
            {
                return Ok(known.number);
            }
        }
        Err(Full)
    }

    /// Names that neither this compilation nor the one before asked for, longest unused first.
    fn unused(&self) -> VecDeque<Arc<str>> {
        let mut old: Vec<(u64, &Arc<str>)> = self
            .names
            .iter()
            .filter(|(_, known)| known.used + 1 < self.compilation)
            .map(|(name, known)| (known.used, name))
            .collect();
        old.sort();
        old.into_iter().map(|(_, name)| Arc::clone(name)).collect()
    }
}

/// A book as it is written down.
#[derive(Serialize, Deserialize)]
struct Stored {
    capacity: u32,
    next: u32,
    names: BTreeMap<String, Number>,
}

impl From<Book> for Stored {
    fn from(book: Book) -> Self {
        let names = book.names.into_iter().map(|(name, number)| (name.to_string(), number));
        Self { capacity: book.capacity, next: book.next, names: names.collect() }
    }
}

impl TryFrom<Stored> for Book {
    type Error = String;

    /// Two names with one number would give a device another's verdict, so such a book is refused.
    fn try_from(stored: Stored) -> Result<Self, String> {
        let Stored { capacity, next, names } = stored;
        let numbers: BTreeSet<u32> = names.values().map(|known| known.number).collect();
        let in_range = numbers.iter().all(|number| (1..next).contains(number));
        if numbers.len() != names.len() || !in_range || next > capacity {
            return Err("the book of numbers contradicts itself".to_owned());
        }
        let names = names.into_iter().map(|(name, number)| (name.into(), number)).collect();
        Ok(Self { capacity, next, names, compilation: 0, reusable: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name that has a number.
    fn holders(book: &Book, number: u32) -> Vec<&str> {
        let held = book.names.iter().filter(|(_, known)| known.number == number);
        held.map(|(name, _)| &**name).collect()
    }

    #[test]
    fn a_number_stays_with_its_name() {
        let mut book = Book::new(100);
        book.begin(1);
        assert_eq!((book.number("a"), book.number("b")), (Ok(1), Ok(2)));
        book.begin(2);
        assert_eq!((book.number("c"), book.number("b")), (Ok(3), Ok(2)));
        book.begin(9);
        assert_eq!(book.number("a"), Ok(1));
    }

    #[test]
    fn a_number_is_reused_only_when_long_unused_and_nothing_else_is_left() {
        let mut book = Book::new(3);
        book.begin(1);
        assert_eq!((book.number("a"), book.number("b")), (Ok(1), Ok(2)));
        book.begin(2);
        assert_eq!(book.number("b"), Ok(2));
        assert_eq!(book.number("c"), Err(Full), "a was used by the compilation before");
        book.begin(3);
        assert_eq!((book.number("c"), holders(&book, 1)), (Ok(1), vec!["c"]));
        assert_eq!(book.number("a"), Err(Full));
    }

    #[test]
    fn many_at_once_are_numbered_as_one_after_the_other() {
        let names = |texts: &[&str]| texts.iter().filter_map(|text| Name::new(text)).collect::<Vec<_>>();
        let (mut one, mut all) = (Book::new(7), Book::new(7));
        for (compilation, texts) in (1..).zip([
            &["b", "d"][..],
            &["a", "b", "c", "e"],
            &["a", "f"],
            &["c", "g"],
            &["a", "c", "g", "h", "i"],
        ]) {
            one.begin(compilation);
            all.begin(compilation);
            let names = names(texts);
            let each: Vec<_> = names.iter().map(|name| one.number(name.as_str())).collect();
            assert_eq!(all.numbers(names.iter()), each, "{texts:?}");
            assert_eq!(all.names, one.names, "{texts:?}");
        }
    }

    #[test]
    fn numbers_run_out_with_a_small_table_and_not_behind_it() {
        let mut book = Book::new(100);
        for (compilation, name) in (1..).zip(["a", "b", "c", "d", "e", "f", "g"]) {
            book.begin(compilation);
            book.bound(4);
            assert!(book.number(name).is_ok_and(|number| number < 4), "{name}");
        }
        book.begin(8);
        book.bound(2);
        assert_eq!((book.names.len(), book.next), (1, 2), "a smaller table has fewer rows");
        book.begin(9);
        book.bound(100);
        assert_eq!(book.number("z"), Ok(2));
    }

    #[test]
    fn a_book_survives_storage_and_a_forged_one_does_not() {
        let mut ids = Ids::default();
        ids.begin();
        assert_eq!(ids.devices.number("charger-1"), Ok(1));
        assert_eq!(ids.devices.number("charger-2"), Ok(2));
        let text = serde_json::to_string(&ids).unwrap();
        let mut again: Ids = serde_json::from_str(&text).unwrap();
        again.begin();
        assert_eq!(again.devices.number("charger-2"), Ok(2));
        let forged = text.replace("\"number\":2", "\"number\":1");
        assert!(serde_json::from_str::<Ids>(&forged).is_err());
    }
}
