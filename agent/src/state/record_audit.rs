//! Is the record of grants whole? Every line against its checksum, the one before, and what is known of the newest.
//!
//! As with revisions, only an anchor outside shows that the end was not cut off together with what is kept of it here,
//! or all of it written anew.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::anchor::{Anchor, Chain};
use super::digest::digest;
use super::file;
use super::link::{Line, Link};
use super::log::rotated;
use super::record::{FORMAT, HEAD, RECORD, is_full, whole_lines};
use super::verified::Verified;

/// Verifies the record of grants of a state directory.
///
/// # Errors
/// A file cannot be read.
pub fn verify_grants(folder: &Path, anchors: &[Anchor]) -> Result<Verified> {
    let path = folder.join(RECORD);
    let aside = file::read(&rotated(&path))?.unwrap_or_default();
    let record = file::read(&path)?.unwrap_or_default();
    let mut audit = Audit {
        last: None,
        bare: Vec::new(),
        older: Vec::new(),
        gave_way: is_full(&aside),
        hashes: BTreeMap::new(),
        found: Verified::nothing(Chain::Grants),
    };
    audit.lines("grants.log.1", &aside);
    audit.lines("grants.log", whole_lines(&record));
    audit.head(folder);
    // A part of a line that nobody was told of is what an agent leaves that dies while it writes.
    audit.found.hold(anchors, &audit.hashes);
    Ok(audit.found)
}

/// What is known while the lines are read.
struct Audit {
    /// The line before.
    last: Option<Link>,
    /// Lines before the chain, of this file.
    bare: Vec<u8>,
    /// The same, of the file before.
    older: Vec<u8>,
    /// What came before may have been put aside once more, and then it is gone by right.
    gave_way: bool,
    hashes: BTreeMap<u64, String>,
    found: Verified,
}

impl Audit {
    fn lines(&mut self, file: &str, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.older = std::mem::take(&mut self.bare);
        for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let place = format!("{file} line {}", at + 1);
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            match Line::of(text) {
                Line::Bare if self.last.is_none() => self.bare.extend_from_slice(line),
                Line::Bare => self.found.wrong(format!("{place} is no entry of the chain")),
                Line::Linked { link, previous } => self.entry(&place, link, Some(&previous)),
                Line::Damaged => {
                    self.found.wrong(format!("{place} is damaged: its checksum does not fit"));
                    Line::claimed(text).into_iter().for_each(|link| self.entry(&place, link, None));
                }
            }
        }
    }

    /// A line that says what it is; of a damaged one nobody believes what it follows.
    fn entry(&mut self, place: &str, link: Link, previous: Option<&str>) {
        let number = link.number;
        self.found.entries += 1;
        match self.last.take() {
            None => self.begins(number, previous),
            Some(last) if number <= last.number => self.found.wrong(format!(
                "{place} says that it is g{number}, behind g{}: entries were reordered",
                last.number
            )),
            Some(last) => {
                self.found.missing(last.number + 1..number);
                let follows = previous.is_none_or(|previous| previous == last.hash);
                if number == last.number + 1 && !follows {
                    self.found.wrong(format!(
                        "g{number} does not follow g{}: one of them was exchanged",
                        last.number
                    ));
                }
            }
        }
        let first = self.found.range.map_or(number, |(first, _)| first.min(number));
        let newest = self.found.range.map_or(number, |(_, last)| last.max(number));
        self.found.range = Some((first, newest));
        if previous.is_some() {
            self.hashes.insert(number, link.hash.clone());
        }
        self.last = Some(link);
    }

    /// The first line of the chain that is there.
    fn begins(&mut self, number: u64, previous: Option<&str>) {
        let (bare, older) = (std::mem::take(&mut self.bare), std::mem::take(&mut self.older));
        if number > 1 {
            if !bare.is_empty() || !older.is_empty() || !self.gave_way {
                self.found.missing(1..number);
            }
            return;
        }
        // It seals the lines of its file; those of the file before if it is the first of a new one.
        let (sealed, open) = if bare.is_empty() { (older, bare) } else { (bare, older) };
        self.found.unsealed = lines_of(&open);
        let seal = if sealed.is_empty() { String::new() } else { digest(&sealed) };
        if previous.is_some_and(|previous| previous != seal) {
            self.found.wrong("what was written before g1 is not what it was".to_owned());
        }
    }

    /// What is kept of the newest line.
    fn head(&mut self, folder: &Path) {
        self.found.unsealed += lines_of(&self.older) + lines_of(&self.bare);
        let newest = self.found.range.map_or(0, |(_, last)| last);
        self.found.head = self.hashes.get(&newest).map(|hash| Anchor {
            chain: Chain::Grants,
            number: newest,
            hash: hash.clone(),
        });
        let path = folder.join(HEAD);
        let (number, hash) = match file::load::<Link>(&path, FORMAT) {
            Ok(Some((Link { number, hash }, _))) => (number, hash),
            // The agent died before it kept the first.
            Ok(None) if newest <= 1 => return,
            Ok(None) => return self.found.wrong(format!("{} is missing", path.display())),
            Err(error) => return self.found.wrong(format!("{error:#}")),
        };
        if newest < number {
            let newest = match newest {
                0 => "there is none any more".to_owned(),
                newest => format!("the newest entry is g{newest}"),
            };
            self.found.wrong(format!("g{number} was written, and {newest}: the end is cut off"));
        } else if self.hashes.get(&number).is_some_and(|found| *found != hash) {
            self.found.wrong(format!("g{number} is not the entry that was written"));
        } else if newest > number + 1 {
            self.found.wrong(format!("g{number} was the newest, and the record goes on to g{newest}"));
        }
    }
}

fn lines_of(bytes: &[u8]) -> usize {
    bytes.split_inclusive(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::json;

    use super::super::log::RECORD_BYTES;
    use super::super::{Store, anchors_in};
    use super::*;

    struct Site {
        folder: tempfile::TempDir,
    }

    impl Site {
        /// A record of some entries, and the anchor of the newest.
        fn new(entries: u64) -> (Self, Vec<Anchor>) {
            let site = Self { folder: tempfile::tempdir().unwrap() };
            let newest = site.record(entries);
            (site, newest)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// What the next agent does.
        fn record(&self, entries: u64) -> Vec<Anchor> {
            let store = Store::open(self.folder.path()).unwrap();
            let record = |n| store.record_grant(&json!({"act": "asked", "n": n})).unwrap();
            (0..entries).fold(Vec::new(), |_, n| vec![record(n)])
        }

        fn verify(&self, anchors: &[Anchor]) -> Verified {
            verify_grants(self.folder.path(), anchors).unwrap()
        }

        fn told(&self, anchors: &[Anchor]) -> String {
            self.verify(anchors).problems.join("\n")
        }

        fn lines(&self) -> Vec<String> {
            let text = fs::read_to_string(self.path(RECORD)).unwrap();
            text.lines().map(|line| format!("{line}\n")).collect()
        }
    }

    #[test]
    fn a_whole_record_is_whole_and_vouched_for() {
        let (site, anchors) = Site::new(5);
        let found = site.verify(&anchors);
        assert_eq!((found.problems, found.entries, found.range), (vec![], 5, Some((1, 5))));
        assert_eq!((found.vouched, found.head.as_ref(), found.unsealed), (Some(5), anchors.first(), 0));
        assert_eq!(anchors_in(&anchors[0].to_string()), anchors);
        let empty = Site::new(0).0;
        assert_eq!(empty.verify(&[]), Verified::nothing(Chain::Grants));
        assert!(empty.told(&anchors).contains("g5 was anchored, and no entry on grants is kept"));
        site.record(2);
        let found = site.verify(&anchors);
        assert_eq!((found.problems, found.range, found.vouched), (vec![], Some((1, 7)), Some(5)));
    }

    #[test]
    fn one_flipped_byte_anywhere_is_noticed() {
        let (site, anchors) = Site::new(4);
        for name in [RECORD, HEAD] {
            let whole = fs::read(site.path(name)).unwrap();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(site.path(name), &flipped).unwrap();
                assert!(!site.told(&[]).is_empty(), "byte {at} of {name}");
            }
            fs::write(site.path(name), &whole).unwrap();
        }
        assert_eq!(site.told(&anchors), "");
    }

    #[test]
    fn a_missing_line_is_noticed_wherever_it_was() {
        let (site, _) = Site::new(5);
        let lines = site.lines();
        for (at, wanted) in [(0, "g1 is missing"), (2, "g3 is missing"), (4, "the end is cut off")] {
            let mut rest = lines.clone();
            rest.remove(at);
            fs::write(site.path(RECORD), rest.concat()).unwrap();
            assert!(site.told(&[]).contains(wanted), "{at}: {}", site.told(&[]));
        }
        fs::remove_file(site.path(RECORD)).unwrap();
        assert!(site.told(&[]).contains("g5 was written, and there is none any more"));
        // Whoever goes on does not hide it.
        site.record(1);
        let told = site.told(&[]);
        assert!(told.contains("g1 is missing") && told.contains("g5 is missing"), "{told}");
    }

    #[test]
    fn exchanged_lines_are_noticed() {
        let (site, _) = Site::new(5);
        let mut lines = site.lines();
        lines.swap(1, 2);
        fs::write(site.path(RECORD), lines.concat()).unwrap();
        assert!(site.told(&[]).contains("entries were reordered"), "{}", site.told(&[]));
        // A line of another record, which has the same number and follows the same line.
        let ((site, _), (other, _)) = (Site::new(6), Site::new(5));
        let store = Store::open(other.folder.path()).unwrap();
        store.record_grant(&json!({"act": "something else"})).unwrap();
        let mut lines = site.lines();
        lines[5] = other.lines()[5].clone();
        fs::write(site.path(RECORD), lines.concat()).unwrap();
        assert!(site.told(&[]).contains("g6 is not the entry that was written"), "{}", site.told(&[]));
    }

    #[test]
    fn a_record_that_was_cut_off_or_written_anew_with_its_head_needs_the_anchor() {
        let (site, anchors) = Site::new(5);
        let (cut, _) = Site::new(4);
        assert_eq!(cut.told(&[]), "");
        assert!(
            cut.told(&anchors).contains("g5 was anchored, and the newest entry is g4: the end is cut off")
        );
        let anew = Site { folder: tempfile::tempdir().unwrap() };
        let store = Store::open(anew.folder.path()).unwrap();
        (0..5).for_each(|_| drop(store.record_grant(&json!({"act": "somebody else's"})).unwrap()));
        assert_eq!(anew.told(&[]), "");
        assert_eq!(anew.told(&anchors), "g5 is not what was anchored");
        assert_eq!(site.told(&anchors), "");
        // What revisions are known by is not held against it.
        let revision = Anchor { chain: Chain::Revisions, number: 9, ..anchors[0].clone() };
        assert_eq!(
            (site.told(std::slice::from_ref(&revision)), site.verify(&[revision]).anchors),
            (String::new(), 0)
        );
    }

    #[test]
    fn an_agent_that_dies_at_any_byte_of_a_line_leaves_a_record_that_is_whole() {
        let (site, _) = Site::new(2);
        let head = fs::read(site.path(HEAD)).unwrap();
        let before = fs::read(site.path(RECORD)).unwrap();
        site.record(1);
        let after = fs::read(site.path(RECORD)).unwrap();
        for written in before.len()..=after.len() {
            fs::write(site.path(RECORD), &after[..written]).unwrap();
            fs::write(site.path(HEAD), &head).unwrap();
            assert_eq!(site.told(&[]), "", "{written} bytes");
            site.record(1);
            let newest = if written == after.len() { 4 } else { 3 };
            let found = site.verify(&[]);
            assert_eq!((found.problems, found.range), (vec![], Some((1, newest))), "{written} bytes");
        }
    }

    #[test]
    fn what_an_older_version_wrote_is_sealed_by_the_first_entry() {
        let older = "{\"act\":\"asked\"}\n{\"act\":\"ended\"}\n";
        for aside in [false, true] {
            let site = Site { folder: tempfile::tempdir().unwrap() };
            let (name, long) =
                if aside { ("grants.log.1", older.repeat(4)) } else { (RECORD, older.to_owned()) };
            fs::write(site.path(name), &long).unwrap();
            let found = site.verify(&[]);
            assert_eq!((found.problems, found.entries), (vec![], 0));
            assert_eq!(found.unsealed, long.lines().count(), "nothing vouches for them");
            let anchors = site.record(3);
            let found = site.verify(&anchors);
            assert_eq!((found.problems, found.unsealed, found.vouched), (vec![], 0, Some(3)));
            let whole = fs::read(site.path(name)).unwrap();
            for at in 0..long.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(site.path(name), &flipped).unwrap();
                assert!(!site.told(&[]).is_empty(), "byte {at} of {name}");
            }
            fs::write(site.path(name), &whole[older.len() / 2..]).unwrap();
            assert!(site.told(&[]).contains("what was written before g1 is not what it was"));
        }
    }

    #[test]
    fn the_chain_goes_on_where_a_long_record_gives_way() {
        let (site, _) = Site::new(2);
        let store = Store::open(site.folder.path()).unwrap();
        let long = json!({"act": "x".repeat(RECORD_BYTES as usize / 2)});
        (0..2).for_each(|_| drop(store.record_grant(&long).unwrap()));
        let fifth = store.record_grant(&json!({"act": "asked"})).unwrap();
        assert_eq!(site.lines().len(), 1, "the others gave way");
        let found = site.verify(&[fifth]);
        assert_eq!((found.problems, found.range, found.vouched), (vec![], Some((1, 5)), Some(5)));
        // What is put aside once more is gone by right, and only then.
        (0..3).for_each(|_| drop(store.record_grant(&long).unwrap()));
        let found = site.verify(&[]);
        assert_eq!((found.problems, found.range), (vec![], Some((5, 8))));
        let aside = fs::read_to_string(site.path("grants.log.1")).unwrap();
        fs::write(site.path("grants.log.1"), aside.lines().next().unwrap().to_owned() + "\n").unwrap();
        assert!(site.told(&[]).contains("g1 is missing"), "{}", site.told(&[]));
        fs::remove_file(site.path("grants.log.1")).unwrap();
        assert!(site.told(&[]).contains("g7 is missing"), "{}", site.told(&[]));
    }
}
