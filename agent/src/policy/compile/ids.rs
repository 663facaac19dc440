//! Numbers that stay with a name from one compilation to the next.
//!
//! Flows in the kernel, events on their way and staged words all carry numbers, so a number keeps
//! its meaning for as long as anything may carry it. A name that goes and comes back finds its old
//! number; a number is given to another name only when there is no fresh one left and its name was
//! absent from the last two compilations.
//!
//! A name that stays is not touched by a compilation: what differs between two books is what came, went or came back,
//! however many names there are.

use std::collections::VecDeque;

use bulkhead_common::abi::map::{DEVICE_CAPACITY, NETWORK_CAPACITY, PROFILE_CAPACITY, RULE_CAPACITY};
use serde::{Deserialize, Serialize};

use crate::layered::Layered;
use crate::policy::name::Name;
use crate::text::Text;

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
    /// Opens a new compilation.
    pub(super) fn begin(&mut self) {
        self.compilation += 1;
        let compilation = self.compilation;
        self.books().into_iter().for_each(|book| book.begin(compilation));
    }

    /// Closes a compilation: names that it did not ask for are absent from it.
    pub(super) fn end(&mut self) {
        self.books().into_iter().for_each(Book::end);
    }

    /// The number of a device between two compilations: none that the last one asked for of another, nor the one before.
    pub(super) fn give_device(&mut self, name: &Name) -> Option<u32> {
        self.devices.given(name, self.compilation).ok()
    }

    /// Notes that a device is gone, between two compilations.
    pub(super) fn leave_device(&mut self, name: &Name) {
        self.devices.leave(name, self.compilation);
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

    /// What leads from an earlier book to this one, to be written down. Costs what differs if they
    /// [share](Self::shares) what they are built of, and a walk through both otherwise.
    pub(crate) fn since<'i>(&'i self, before: &'i Self) -> Renumbered<&'i str> {
        Renumbered {
            compilation: self.compilation,
            networks: self.networks.since(&before.networks),
            devices: self.devices.since(&before.devices),
            profiles: self.profiles.since(&before.profiles),
            rules: self.rules.since(&before.rules),
        }
    }

    /// A compilation of these devices alone, in their order.
    #[cfg(test)]
    pub(crate) fn compile_devices(&mut self, names: &[Name]) {
        self.begin();
        self.devices.numbers(names.iter());
        self.end();
    }

    /// How many names have a number.
    pub(crate) fn len(&self) -> usize {
        self.all().iter().map(|book| book.names.len()).sum()
    }

    /// True if this book grew out of the other one, or both out of one, and not much differs.
    pub(crate) fn shares(&self, other: &Self) -> bool {
        self.all().iter().zip(other.all()).all(|(book, other)| book.names.shares(&other.names))
    }

    /// The book that what was written down leads to.
    pub(crate) fn after(mut self, written: Renumbered<String>) -> Self {
        let Renumbered { compilation, networks, devices, profiles, rules } = written;
        self.compilation = compilation;
        for (book, entries) in self.books().into_iter().zip([networks, devices, profiles, rules]) {
            book.renumber(entries);
        }
        self
    }

    /// True unless two names have one number, which would give a device another's verdict.
    pub(crate) fn is_sound(&self) -> bool {
        self.all().iter().all(|book| book.is_sound())
    }

    const fn all(&self) -> [&Book; 4] {
        [&self.networks, &self.devices, &self.profiles, &self.rules]
    }

    const fn books(&mut self) -> [&mut Book; 4] {
        [&mut self.networks, &mut self.devices, &mut self.profiles, &mut self.rules]
    }
}

/// The books of what a policy names itself.
pub(super) struct Books<'i> {
    pub(super) networks: &'i mut Book,
    pub(super) devices: &'i mut Book,
    pub(super) rules: &'i mut Book,
}

/// Numbers of one kind, from 1; 0 is nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Entries<String>", into = "Entries<String>")]
pub(super) struct Book {
    capacity: u32,
    next: u32,
    names: Layered<Text, Number>,
    /// How many of them are absent.
    absent: usize,
    asking: Asking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    number: u32,
    /// The first compilation that did not ask for it, of those since one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absent: Option<u64>,
}

/// A compilation that asks for numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asking {
    compilation: u64,
    asked: Numbers,
    reusable: Option<VecDeque<Text>>,
}

/// There is no number left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Book {
    fn new(capacity: u32) -> Self {
        Self { capacity, next: 1, names: Layered::default(), absent: 0, asking: Asking::default() }
    }

    fn begin(&mut self, compilation: u64) {
        self.asking = Asking { compilation, ..Asking::default() };
    }

    fn end(&mut self) {
        let Asking { compilation, asked, .. } = std::mem::take(&mut self.asking);
        if asked.count == self.names.len() - self.absent {
            return;
        }
        let gone = |(_, known): &(&Text, &Number)| known.absent.is_none() && !asked.contains(known.number);
        let gone: Vec<_> =
            self.names.iter().filter(gone).map(|(name, known)| (name.clone(), *known)).collect();
        self.absent += gone.len();
        self.names.extend(
            gone.into_iter().map(|(name, known)| (name, Number { absent: Some(compilation), ..known })),
        );
    }

    /// Takes back the numbers that a smaller table has no row for.
    fn bound(&mut self, capacity: u32) {
        self.capacity = capacity.max(1);
        if self.next > self.capacity {
            self.next = self.capacity;
            let over: Vec<_> = self
                .names
                .iter()
                .filter(|(_, known)| known.number >= self.next)
                .map(|(name, _)| name.clone())
                .collect();
            over.iter().for_each(|name| self.forget(name));
        }
    }

    fn forget(&mut self, name: &Text) {
        self.absent -= usize::from(self.names.get(name).is_some_and(|known| known.absent.is_some()));
        self.names.remove(name);
    }

    /// The number of a name: its old one, a fresh one, or the longest unused.
    pub(super) fn number(&mut self, name: &str) -> Result<u32, Full> {
        if let Some(known) = self.names.get(name).copied() {
            self.ask(known, name);
            return Ok(known.number);
        }
        let number = if self.next < self.capacity {
            self.next += 1;
            self.next - 1
        } else {
            self.reuse()?
        };
        self.asking.asked.insert(number);
        self.names.insert(name.into(), Number { number, absent: None });
        Ok(number)
    }

    /// A name that has a number is asked for.
    fn ask(&mut self, known: Number, name: &str) {
        self.asking.asked.insert(known.number);
        if known.absent.is_some() {
            self.absent -= 1;
            self.names.insert(name.into(), Number { absent: None, ..known });
        }
    }

    /// The numbers of names that are in order: those that have one are found in one walk.
    pub(super) fn numbers<'n>(
        &mut self,
        names: impl Iterator<Item = &'n Name> + Clone,
    ) -> Vec<Result<u32, Full>> {
        let mut book = self.names.iter().peekable();
        // Nobody's stands for none yet.
        let mut numbers = Vec::with_capacity(names.size_hint().0);
        let mut returned = Vec::new();
        for name in names.clone() {
            while book.next_if(|(known, _)| *known < name.text()).is_some() {}
            let known = book.next_if(|(known, _)| *known == name.text()).map(|(_, known)| *known);
            numbers.push(known.map_or(0, |known| known.number));
            let known = known.filter(|known| known.absent.is_some());
            returned.extend(known.map(|known| (name.text().clone(), Number { absent: None, ..known })));
        }
        numbers.iter().filter(|number| **number != 0).for_each(|number| self.asking.asked.insert(*number));
        self.absent -= returned.len();
        self.names.extend(returned);
        let fresh = numbers.iter().filter(|number| **number == 0).count();
        if fresh > (self.capacity - self.next) as usize {
            let number = |(name, number): (&Name, u32)| match number {
                0 => self.number(name.as_str()),
                known => Ok(known),
            };
            return names.zip(numbers).map(number).collect();
        }
        let mut added = Vec::with_capacity(fresh);
        for (name, number) in names.zip(&mut numbers).filter(|(_, number)| **number == 0) {
            *number = self.next;
            self.next += 1;
            self.asking.asked.insert(*number);
            added.push((name.text().clone(), Number { number: *number, absent: None }));
        }
        self.names.extend(added);
        numbers.into_iter().map(Ok).collect()
    }

    /// The number that a name has, if it has one.
    pub(super) fn known(&self, name: &str) -> Option<u32> {
        self.names.get(name).map(|known| known.number)
    }

    /// The number of a name behind a compilation, and before the next one.
    fn given(&mut self, name: &Name, compilation: u64) -> Result<u32, Full> {
        self.begin(compilation);
        let number = self.number(name.as_str());
        // It asks for nothing else, and takes nobody for absent.
        self.asking = Asking::default();
        number
    }

    /// Notes that a name is gone since a compilation that had it: the next one may give its number away, as if the one
    /// in between had not asked for it.
    fn leave(&mut self, name: &Name, compilation: u64) {
        let known = self.names.get(name.as_str()).copied().filter(|known| known.absent.is_none());
        if let Some(known) = known {
            self.absent += 1;
            self.names.insert(name.text().clone(), Number { absent: Some(compilation), ..known });
        }
    }

    fn reuse(&mut self) -> Result<u32, Full> {
        if self.asking.reusable.is_none() {
            self.asking.reusable = Some(self.unused());
        }
        while let Some(name) = self.asking.reusable.as_mut().and_then(VecDeque::pop_front) {
            // Asked for since the list was made: it is in use again.
            if let Some(known) = self.names.get(&name).copied()
                && self.is_unused(&known)
            {
                self.forget(&name);
                return Ok(known.number);
            }
        }
        Err(Full)
    }

    /// Names that neither this compilation nor the one before asked for, longest unused first.
    fn unused(&self) -> VecDeque<Text> {
        let unused = self.names.iter().filter(|(_, known)| self.is_unused(known));
        let mut old: Vec<_> = unused.map(|(name, known)| (known.absent, name)).collect();
        old.sort();
        old.into_iter().map(|(_, name)| name.clone()).collect()
    }

    fn is_unused(&self, known: &Number) -> bool {
        known.absent.is_some_and(|since| since < self.asking.compilation)
    }

    fn since<'b>(&'b self, before: &'b Self) -> Entries<&'b str> {
        let differ = before.names.differences(&self.names).into_iter();
        let names = differ.map(|(name, _, after)| (name.as_str(), after.copied())).collect();
        Entries { capacity: self.capacity, next: self.next, names }
    }

    fn renumber(&mut self, entries: Entries<String>) {
        (self.capacity, self.next) = (entries.capacity, entries.next);
        self.names.set_all(entries.names.iter().map(|(name, number)| (name.as_str().into(), *number)));
        self.absent = self.names.values().filter(|known| known.absent.is_some()).count();
    }

    fn is_sound(&self) -> bool {
        let mut taken = Numbers::default();
        let in_range = |known: &&Number| (1..self.next).contains(&known.number);
        self.names.values().filter(in_range).for_each(|known| taken.insert(known.number));
        taken.count == self.names.len() && self.next <= self.capacity
    }
}

/// What leads from one book to another, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Renumbered<T> {
    compilation: u64,
    networks: Entries<T>,
    devices: Entries<T>,
    profiles: Entries<T>,
    rules: Entries<T>,
}

impl<T> Renumbered<T> {
    /// How many names differ.
    pub(crate) const fn len(&self) -> usize {
        let Self { networks, devices, profiles, rules, .. } = self;
        networks.names.len() + devices.names.len() + profiles.names.len() + rules.names.len()
    }
}

/// Names of one kind that differ, each with its number, if it has one any more.
#[derive(Debug, Serialize, Deserialize)]
struct Entries<T> {
    capacity: u32,
    next: u32,
    names: Vec<(T, Option<Number>)>,
}

impl From<Book> for Entries<String> {
    fn from(book: Book) -> Self {
        let names =
            book.names.iter().map(|(name, number)| (name.as_str().to_owned(), Some(*number))).collect();
        Self { capacity: book.capacity, next: book.next, names }
    }
}

impl TryFrom<Entries<String>> for Book {
    type Error = String;

    fn try_from(entries: Entries<String>) -> Result<Self, String> {
        let mut book = Self::new(entries.capacity);
        book.renumber(entries);
        match book.is_sound() {
            true => Ok(book),
            false => Err("the book of numbers contradicts itself".to_owned()),
        }
    }
}

/// A set of numbers, in a bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Numbers {
    words: Vec<u64>,
    count: usize,
}

impl Numbers {
    fn insert(&mut self, number: u32) {
        let (word, bit) = Self::place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    fn contains(&self, number: u32) -> bool {
        let (word, bit) = Self::place(number);
        self.words.get(word).is_some_and(|found| found & bit != 0)
    }

    const fn place(number: u32) -> (usize, u64) {
        ((number / u64::BITS) as usize, 1 << (number % u64::BITS))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    impl Book {
        /// Ends the compilation before, if there was one.
        fn next_compilation(&mut self, compilation: u64) {
            if self.asking.compilation > 0 {
                self.end();
            }
            self.begin(compilation);
        }
    }

    /// Every name that has a number.
    fn holders(book: &Book, number: u32) -> Vec<&str> {
        let held = book.names.iter().filter(|(_, known)| known.number == number);
        held.map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn a_number_stays_with_its_name() {
        let mut book = Book::new(100);
        book.begin(1);
        assert_eq!((book.number("a"), book.number("b")), (Ok(1), Ok(2)));
        book.next_compilation(2);
        assert_eq!((book.number("c"), book.number("b")), (Ok(3), Ok(2)));
        book.next_compilation(9);
        assert_eq!(book.number("a"), Ok(1));
    }

    #[test]
    fn a_number_is_reused_only_when_long_unused_and_nothing_else_is_left() {
        let mut book = Book::new(3);
        book.begin(1);
        assert_eq!((book.number("a"), book.number("b")), (Ok(1), Ok(2)));
        book.next_compilation(2);
        assert_eq!(book.number("b"), Ok(2));
        assert_eq!(book.number("c"), Err(Full), "a was used by the compilation before");
        book.next_compilation(3);
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
            one.next_compilation(compilation);
            all.next_compilation(compilation);
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
            book.next_compilation(compilation);
            book.bound(4);
            assert!(book.number(name).is_ok_and(|number| number < 4), "{name}");
        }
        book.next_compilation(8);
        book.bound(2);
        assert_eq!((book.names.len(), book.next), (1, 2), "a smaller table has fewer rows");
        book.next_compilation(9);
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
        again.end();
        again.begin();
        assert_eq!(again.devices.number("charger-2"), Ok(2));
        let forged = text.replace("\"number\":2", "\"number\":1");
        assert!(serde_json::from_str::<Ids>(&forged).is_err());
    }
    #[test]
    fn what_stays_is_not_touched_and_what_differs_leads_there() {
        let mut random = 3_u64;
        let mut below = |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % limit
        };
        let mut ids = Ids::default();
        ids.devices.capacity = 40;
        for turn in 0..300 {
            let before = ids.clone();
            ids.begin();
            let wanted: BTreeSet<String> = (0..20).map(|_| format!("d{}", below(60))).collect();
            let names: Vec<Name> = wanted.iter().filter_map(|name| Name::new(name)).collect();
            ids.devices.numbers(names.iter());
            names.iter().step_by(2).for_each(|name| drop(ids.rules.number(name.as_str())));
            ids.end();
            assert!(ids.is_sound() && (ids.shares(&before) || turn == 0), "turn {turn}");
            let written = serde_json::to_vec(&ids.since(&before)).unwrap();
            let after = before.after(serde_json::from_slice(&written).unwrap());
            assert_eq!(after, ids, "turn {turn}");
            let again = ids.clone();
            ids.begin();
            ids.devices.numbers(names.iter());
            names.iter().step_by(2).for_each(|name| drop(ids.rules.number(name.as_str())));
            ids.end();
            assert_eq!(ids.since(&again).len(), 0, "the same names were asked for");
        }
    }
}
