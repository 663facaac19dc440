//! The accepted policy, object by object: applies merge by kind and name, not by file.
//!
//! Copies share what is the same, so that a change costs what it changes and not what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::buckets::{Buckets, Pair, Same, Whole};
use super::digest::{hex, sum_of};
use super::packed;
use crate::api::types::{Changes, NamedText, Object, Origin};
use crate::policy::{self, SourceFile};
use crate::telemetry::Label;

/// Objects by kind and name.
#[derive(Clone, Default, Deserialize)]
#[serde(try_from = "packed::Found")]
pub struct Objects(BTreeMap<String, Buckets>);

/// A policy with a change in it, and what changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Merged {
    /// All objects.
    pub objects: Objects,
    /// What differs from before.
    pub changes: Changes,
}

impl Objects {
    /// Takes the objects of texts that were already found valid.
    pub fn of(files: &[NamedText], origin: Origin) -> Self {
        files.iter().flat_map(|file| split(file, origin)).collect()
    }

    /// All objects, by kind and name; they are sorted for it.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.0.values().flat_map(|kind| by_name(kind.iter().map(|object| &**object), |object| &object.name))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Buckets::len).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object of a kind and name.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Arc<Object>> {
        self.0.get(kind)?.get(name)
    }

    /// All objects of a kind, in no order that means anything.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.0.get(kind).into_iter().flat_map(Buckets::iter)
    }

    /// Those that are wanted.
    pub fn filtered(&self, wanted: impl Fn(&Object) -> bool) -> Self {
        self.all().filter(|object| wanted(object)).cloned().collect()
    }

    /// All objects, in no order that means anything.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.0.values().flat_map(Buckets::iter)
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.0.iter().map(|(kind, objects)| (kind.clone(), objects.len())).collect()
    }

    /// These objects with others over them; with `prune`, without those of that origin that the others do not name.
    ///
    /// Whoever writes what is in force already does not become its owner.
    pub fn merged(&self, others: &Self, prune: Option<Origin>) -> Merged {
        let whole = Whole { here: prune.is_none(), there: true };
        let objects = self.joined(others, whole, |pair| match pair {
            (Some(here), None) => (prune != Some(here.origin)).then(|| Arc::clone(here)),
            (Some(here), Some(there)) if same(here, there) => Some(owned(here, there)),
            (_, there) => there.cloned(),
        });
        let changes = self.changes_to(&objects);
        Merged { objects, changes }
    }

    /// The policy of `target` beside everything here that is no policy: going back reopens no grant that
    /// ended and lifts no quarantine.
    pub fn restored(&self, target: &Self) -> Merged {
        let policy = |kind: &String| RESTORED.contains(&kind.as_str());
        let kept = self.0.iter().filter(|(kind, _)| !policy(kind));
        let back = target.0.iter().filter(|(kind, _)| policy(kind));
        let objects = Self(kept.chain(back).map(|(kind, objects)| (kind.clone(), objects.clone())).collect());
        let changes = self.changes_to(&objects);
        Merged { objects, changes }
    }

    /// These objects but for those that the others name.
    pub fn but(&self, others: &Self) -> Self {
        let whole = Whole { here: true, there: false };
        self.joined(others, whole, |(here, there)| here.filter(|_| there.is_none()).cloned())
    }

    /// These objects with others over them, whoever owned them before.
    pub fn below(&self, others: &Self) -> Self {
        let whole = Whole { here: true, there: true };
        self.joined(others, whole, |(here, there)| there.or(here).cloned())
    }

    /// How many objects are not of an origin.
    pub fn of_others(&self, origin: Origin) -> usize {
        self.all().filter(|object| object.origin != origin).count()
    }

    /// What differs between here and there, also in where it was written, by kind and name. Costs what is not shared.
    pub fn differences<'o>(&'o self, other: &'o Self) -> Vec<Pair<'o>> {
        let kinds = self.kinds_with(other).into_iter();
        let kinds = kinds.map(|kind| self.kind(kind).differences(other.kind(kind)));
        kinds
            .flat_map(|pairs| by_name(pairs, |(here, there)| here.or(*there).map_or("", |o| &o.name)))
            .collect()
    }

    /// The same in no order that means anything.
    pub fn differing<'o>(&'o self, other: &'o Self) -> impl Iterator<Item = Pair<'o>> {
        let kinds = self.kinds_with(other).into_iter();
        kinds.flat_map(|kind| self.kind(kind).differences(other.kind(kind)))
    }

    /// What is here and not there, or says another there, and what is there instead: what leads from here to `after`, and
    /// back.
    pub fn apart(&self, after: &Self) -> [Self; 2] {
        self.apart_by(after, same)
    }

    /// As [`Self::apart`], also where nothing but the place or the owner differs.
    pub(super) fn apart_in_all(&self, after: &Self) -> [Self; 2] {
        self.apart_by(after, Object::eq)
    }

    fn apart_by(&self, after: &Self, same: Same) -> [Self; 2] {
        let mut apart = [Self::default(), Self::default()];
        for kind in self.kinds_with(after) {
            let sides = self.kind(kind).apart(after.kind(kind), same);
            for (objects, side) in apart.iter_mut().zip(sides).filter(|(_, side)| side.len() > 0) {
                objects.0.insert(kind.clone(), side);
            }
        }
        apart
    }

    /// How many names there are here and there.
    pub(super) fn in_both(&self, others: &Self) -> usize {
        self.all().filter(|object| others.get(&object.kind, &object.name).is_some()).count()
    }

    /// What the policy says, as a checksum; where it was written is left out.
    ///
    /// SHA-256 over each kind, in the order of their names, and what its 1024 buckets say: SHA-256 over those that are
    /// not empty, each with its number, and of a bucket over name and text of each object, in the order of their names.
    /// FNV-1a of its name tells an object's bucket. Each part stands behind its length in eight octets.
    pub fn digest(&self) -> String {
        let kinds: Vec<_> = self.0.iter().map(|(kind, objects)| (kind, objects.digest())).collect();
        hex(&sum_of(kinds.iter().flat_map(|(kind, digest)| [kind.as_bytes(), digest])))
    }

    /// How many buckets of a kind two policies have in common.
    #[cfg(test)]
    pub(super) fn in_common(&self, other: &Self, kind: &str) -> usize {
        self.kind(kind).in_common(other.kind(kind))
    }

    /// What `pick` makes of each object that is here or there; see [`Buckets::joined`].
    fn joined(&self, others: &Self, whole: Whole, pick: impl Fn(Pair<'_>) -> Option<Arc<Object>>) -> Self {
        let kinds = self.kinds_with(others).into_iter();
        let joined = kinds.map(|kind| match whole.here && !others.0.contains_key(kind) {
            true => (kind.clone(), self.kind(kind).clone()),
            false => (kind.clone(), self.kind(kind).joined(others.kind(kind), whole, &pick)),
        });
        Self(joined.filter(|(_, objects)| objects.len() > 0).collect())
    }

    fn kind(&self, kind: &str) -> &Buckets {
        self.0.get(kind).unwrap_or_else(Buckets::none)
    }

    fn kinds_with<'o>(&'o self, others: &'o Self) -> BTreeSet<&'o String> {
        self.0.keys().chain(others.0.keys()).collect()
    }

    /// The files again: each object on the lines where it was written.
    ///
    /// Objects of one file that were applied at different times may claim the same lines; then the
    /// file appears twice under its name.
    pub fn files(&self) -> Vec<SourceFile> {
        let mut by_place: Vec<&Object> = self.iter().collect();
        by_place.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        let mut files: Vec<Assembled<'_>> = Vec::new();
        for object in by_place {
            match files.iter_mut().rev().find(|file| file.fits(object)) {
                Some(file) => file.push(object),
                None => files.push(Assembled::starting(object)),
            }
        }
        files.into_iter().map(|file| SourceFile::accepted(file.name, file.text)).collect()
    }

    fn changes_to(&self, after: &Self) -> Changes {
        let mut changes = Changes::default();
        for kind in self.kinds_with(after) {
            let [mut added, mut changed, mut removed] = [const { Vec::new() }; 3];
            for pair in self.kind(kind).differences(after.kind(kind)).filter(says_another) {
                match pair {
                    (None, Some(after)) => added.push(after.name.as_str()),
                    (Some(_), Some(after)) => changed.push(after.name.as_str()),
                    (Some(before), None) => removed.push(before.name.as_str()),
                    (None, None) => {}
                }
            }
            changes.name(&kind.to_lowercase(), [added, changed, removed]);
        }
        changes
    }
}

/// Kinds that going back restores; whatever else there is keeps its own course.
const RESTORED: [&str; 5] = ["Network", "Segment", "Device", "Destination", "Policy"];

/// True if two objects of one kind and name say the same.
fn same(a: &Object, b: &Object) -> bool {
    a.text.trim_end() == b.text.trim_end()
}

/// What has names that no two share, in their order.
fn by_name<'n, T>(all: impl Iterator<Item = T>, name: impl Fn(&T) -> &'n str) -> impl Iterator<Item = T> {
    // Names lie side by side for it: a million objects do not.
    let mut named: Vec<(&str, T)> = all.map(|one| (name(&one), one)).collect();
    named.sort_unstable_by_key(|(name, _)| *name);
    named.into_iter().map(|(_, one)| one)
}

/// True if more than the place differs.
fn says_another(pair: &Pair<'_>) -> bool {
    !matches!(pair, (Some(before), Some(after)) if same(before, after))
}

/// An object that is written anew as it was: it is where it was written last, and its owner's.
fn owned(here: &Arc<Object>, there: &Arc<Object>) -> Arc<Object> {
    let owned = Object { origin: here.origin, ..Object::clone(there) };
    if **here == owned { Arc::clone(here) } else { Arc::new(owned) }
}

impl FromIterator<Arc<Object>> for Objects {
    fn from_iter<I: IntoIterator<Item = Arc<Object>>>(objects: I) -> Self {
        let mut kinds: BTreeMap<String, Vec<Arc<Object>>> = BTreeMap::new();
        for object in objects {
            match kinds.get_mut(object.kind.as_str()) {
                Some(kind) => kind.push(object),
                None => drop(kinds.insert(object.kind.to_string(), vec![object])),
            }
        }
        Self(kinds.into_iter().map(|(kind, objects)| (kind, Buckets::of(objects))).collect())
    }
}

impl PartialEq for Objects {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.differing(other).next().is_none()
    }
}

impl Eq for Objects {}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A file that is put together again.
struct Assembled<'o> {
    name: &'o str,
    /// The first line of a table of devices, which each of its objects has too.
    header: Option<&'o str>,
    text: String,
    /// Line that the next character is on, counted from 1.
    line: u32,
}

impl<'o> Assembled<'o> {
    fn starting(object: &'o Object) -> Self {
        let header = policy::inventory_row(&object.file, &object.text).map(|(header, _)| header);
        let mut file = Self { name: &object.file, header, text: String::new(), line: 1 };
        if let Some(header) = header {
            file.add(header);
            file.add("\n");
        }
        file.push(object);
        file
    }

    /// One line is taken by the marker between documents. Rows lie side by side, below columns that are the same.
    fn fits(&self, object: &Object) -> bool {
        let row = policy::inventory_row(&object.file, &object.text);
        let free = self.line < object.line || (row.is_some() && self.line == object.line);
        object.file == self.name && free && self.header == row.map(|(header, _)| header)
    }

    fn push(&mut self, object: &Object) {
        let Some((_, row)) = policy::inventory_row(&object.file, &object.text) else {
            return self.push_document(object);
        };
        while self.line < object.line {
            self.add("\n");
        }
        self.add(row);
    }

    fn push_document(&mut self, object: &Object) {
        while self.line + 1 < object.line {
            self.add("\n");
        }
        if self.line < object.line {
            self.add("---\n");
        }
        self.add(&object.text);
        if !object.text.ends_with('\n') {
            self.add("\n");
        }
    }

    fn add(&mut self, text: &str) {
        self.line += u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
        self.text.push_str(text);
    }
}

/// Splits a valid text into its documents, or into the rows of a table.
fn split(file: &NamedText, origin: Origin) -> Vec<Arc<Object>> {
    let (kind, place) = (Label::from(DEVICE), Label::from(&file.name));
    let device = |policy::InventoryRow { name, line, text }| {
        let (kind, file) = (kind.clone(), place.clone());
        Arc::new(Object { kind, name, file, line, text, origin })
    };
    let documents =
        || documents(file).into_iter().map(|object| Arc::new(Object { origin, ..object })).collect();
    policy::inventory_rows(&file.name, &file.text, device).unwrap_or_else(documents)
}

/// What a row of a table is.
const DEVICE: &str = "Device";

/// Splits a valid YAML text.
///
/// A line that starts with `---` at its first column is a document marker wherever it stands (YAML
/// 1.2 section 9.1.2), so no YAML has to be understood to find them.
fn documents(file: &NamedText) -> Vec<Object> {
    let mut objects = Vec::new();
    let (mut text, mut start) = (String::new(), 1);
    let lines = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text).split_inclusive('\n').zip(1..);
    for (line, number) in lines {
        let marker = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        let Some(rest) = marker else {
            text.push_str(line);
            continue;
        };
        objects.extend(object(file, std::mem::take(&mut text), start));
        // Content may stand on the marker's own line.
        let inline = !rest.trim().is_empty() && !rest.trim_start().starts_with('#');
        start = if inline { number } else { number + 1 };
        text.push_str(if inline { rest.trim_start() } else { "" });
    }
    objects.extend(object(file, text, start));
    objects
}

fn object(file: &NamedText, text: String, line: u32) -> Option<Object> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    // An empty document has no head; anything else was found valid before.
    let head: Head = serde_yaml::from_str(&text).ok()?;
    let (kind, name, file) = (head.kind.into(), head.metadata.name, Label::from(&file.name));
    Some(Object { kind, name, file, line, text, origin: Origin::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(kind: &str, name: &str, spec: &str) -> String {
        format!("apiVersion: bulkhead/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    }

    fn file(name: &str, text: impl Into<String>) -> NamedText {
        NamedText { name: name.to_owned(), text: text.into() }
    }

    fn objects(files: &[NamedText]) -> Objects {
        Objects::of(files, Origin::Cli)
    }

    #[test]
    fn a_file_comes_back_with_every_line_where_it_was() {
        let text = format!(
            "# first\n\n{}---\n# second\n{}\n--- # third\n{}",
            document("A", "a", "1"),
            document("B", "b", "2"),
            document("C", "c", "|\n  text")
        );
        let files = objects(&[file("x.yaml", text.clone())]).files();
        assert_eq!(files.len(), 1);
        let (was, is): (Vec<&str>, Vec<&str>) = (text.lines().collect(), files[0].text().lines().collect());
        for (number, line) in
            was.iter().enumerate().filter(|(_, line)| line.contains("kind") || line.contains("spec"))
        {
            assert_eq!(is.get(number), Some(line), "line {}", number + 1);
        }
    }

    #[test]
    fn a_document_may_lean_on_a_version_that_is_replaced() {
        let network =
            "kind: Network\nmetadata: {name: net}\nspec: {seenOn: [{interface: a}], pools: [10.0.0.0/8]}\n";
        let segment = "kind: Segment\nmetadata: {name: seg}\nspec: {members: {matchLabels: {a: b}}}\n";
        let before = objects(&[file("x.yaml", format!("apiVersion: bulkhead/v1\n{network}---\n{segment}"))]);
        let change = objects(&[file("y.yaml", format!("apiVersion: bulkhead/v1\n{network}"))]);
        let files = before.merged(&change, None).objects.files();
        crate::policy::parse(files, None).unwrap();
    }

    #[test]
    fn a_table_comes_back_row_by_row() {
        let text =
            "\u{feff}name,network,addresses\r\na,net,10.0.0.1\r\n\r\n\"b\",net,10.0.0.2\r\n c ,net,10.0.0.3";
        let objects = objects(&[file("x.csv", text)]);
        let told: Vec<_> =
            objects.iter().map(|o| (o.kind.as_str(), o.name.as_str(), o.line, o.text.as_str())).collect();
        assert_eq!(told[1], ("Device", "b", 4, "name,network,addresses\n\"b\",net,10.0.0.2\n"));
        assert_eq!(told[2].1, "c");
        let files = objects.files();
        let expected = "name,network,addresses\na,net,10.0.0.1\n\n\"b\",net,10.0.0.2\n c ,net,10.0.0.3\n";
        assert_eq!(files.iter().map(SourceFile::text).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn rows_below_other_columns_are_another_file() {
        let before = objects(&[file("x.csv", "name,network,addresses\na,net,10.0.0.1\n")]);
        let change = objects(&[file("x.csv", "network,name,addresses\nnet,b,10.0.0.2\n")]);
        let merged = before.merged(&change, None).objects;
        let files = merged.files();
        let texts: Vec<&str> = files.iter().map(SourceFile::text).collect();
        assert_eq!(
            texts,
            ["name,network,addresses\na,net,10.0.0.1\n", "network,name,addresses\nnet,b,10.0.0.2\n"]
        );
        assert_eq!(before.merged(&change, Some(Origin::Cli)).changes.removed, ["device/a"]);
    }

    #[test]
    fn an_apply_merges_and_a_pruning_apply_replaces() {
        let before = objects(&[file("x.yaml", document("A", "a", "1") + "---\n" + &document("B", "b", "1"))]);
        let change = objects(&[file("y.yaml", document("B", "b", "2") + "---\n" + &document("C", "c", "1"))]);
        let merged = before.merged(&change, None);
        assert_eq!(merged.objects.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            (merged.changes.added, merged.changes.changed),
            (vec!["c/c".to_owned()], vec!["b/b".to_owned()])
        );
        assert!(merged.changes.removed.is_empty());
        let pruned = before.merged(&change, Some(Origin::Cli));
        assert_eq!(pruned.changes.removed, ["a/a"]);
        assert!(before.merged(&before, None).changes.is_empty());
    }

    #[test]
    fn objects_that_claim_the_same_lines_keep_their_lines() {
        let before = objects(&[file("x.yaml", document("A", "a", "1"))]);
        let change = objects(&[file("x.yaml", document("B", "b", "1"))]);
        let files = before.merged(&change, None).objects.files();
        assert_eq!(files.len(), 2);
        assert!(files.iter().all(|file| file.name() == "x.yaml" && file.text().starts_with("apiVersion")));
    }

    #[test]
    fn a_source_prunes_only_its_own_and_owns_what_it_changed() {
        let mine = objects(&[file("x.yaml", document("A", "a", "1") + "---\n" + &document("B", "b", "1"))]);
        let folder = Objects::of(
            &[file("y.yaml", document("B", "b", "1") + "---\n" + &document("C", "c", "1"))],
            Origin::Folder,
        );
        let both = mine.merged(&folder, Some(Origin::Folder)).objects;
        let owners =
            |objects: &Objects| objects.iter().map(|o| (o.name.clone(), o.origin)).collect::<Vec<_>>();
        let owned = |name: &str, origin| (name.to_owned(), origin);
        assert_eq!(
            owners(&both),
            [owned("a", Origin::Cli), owned("b", Origin::Cli), owned("c", Origin::Folder)],
            "the same words change no owner"
        );
        let nothing = Objects::default();
        assert_eq!(both.merged(&nothing, Some(Origin::Folder)).changes.removed, ["c/c"]);
        assert_eq!(both.merged(&nothing, Some(Origin::Cli)).changes.removed, ["a/a", "b/b"]);
        let changed = Objects::of(&[file("y.yaml", document("B", "b", "2"))], Origin::Folder);
        assert_eq!(owners(&both.merged(&changed, None).objects)[1], owned("b", Origin::Folder));
    }

    #[test]
    fn changes_lead_both_ways() {
        let before = objects(&[file("x.yaml", document("A", "a", "1") + "---\n" + &document("B", "b", "1"))]);
        let after = objects(&[file("y.yaml", document("B", "b", "2") + "---\n" + &document("C", "c", "1"))]);
        let [was, is] = before.apart(&after);
        let labels = |objects: &Objects| objects.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (labels(&was), labels(&is)),
            (vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned(), "c".to_owned()])
        );
        let back = after.but(&is).below(&was);
        assert_eq!((&back, back.digest()), (&before, before.digest()));
        assert_ne!(after.digest(), before.digest());
        assert!(before.apart(&before).iter().all(Objects::is_empty));
    }

    #[test]
    fn more_than_anybody_reads_is_counted() {
        let object = |number: usize| Object {
            kind: "Device".into(),
            name: format!("d{number:05}"),
            file: "x.yaml".into(),
            line: 1,
            text: String::new(),
            origin: Origin::Cli,
        };
        let all = |count: usize| -> Objects { (0..count).map(|number| Arc::new(object(number))).collect() };
        let changes = all(3).merged(&all(crate::api::types::NAMED + 5), None).changes;
        assert_eq!(changes.counts(), [crate::api::types::NAMED + 2, 0, 0]);
        assert_eq!(changes.added.len(), crate::api::types::NAMED);
        assert_eq!([&changes.added[0], &changes.added[9_999]], ["device/d00003", "device/d10002"]);
        let gone = all(2).merged(&Objects::default(), Some(Origin::Cli)).changes;
        assert_eq!((gone.counts(), gone.more), ([0, 0, 2], [0; 3]));
    }

    #[test]
    fn going_back_restores_policy_and_nothing_else() {
        let rules = |port: &str| document("Policy", "ev", port);
        let then = objects(&[file("x.yaml", rules("1") + "---\n" + &document("Grant", "visit", "open"))]);
        let now = objects(&[file("x.yaml", rules("2") + "---\n" + &document("Quarantine", "pump", "on"))]);
        let restored = now.restored(&then);
        let kinds: Vec<&str> = restored.objects.iter().map(|object| object.kind.as_str()).collect();
        assert_eq!(kinds, ["Policy", "Quarantine"], "the grant stays ended, the quarantine stays");
        assert_eq!(restored.changes.changed, ["policy/ev"]);
    }
}
