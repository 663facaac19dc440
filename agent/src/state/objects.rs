//! The accepted policy, object by object: applies merge by kind and name, not by file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::types::{Changes, NamedText, Object};
use crate::policy::SourceFile;

/// Objects by kind and name.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Object>", into = "Vec<Object>")]
pub struct Objects(BTreeMap<(String, String), Object>);

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
    pub fn of(files: &[NamedText]) -> Self {
        files.iter().flat_map(split).collect::<Vec<_>>().into()
    }

    /// All objects, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.0.values()
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.0.keys().fold(BTreeMap::new(), |mut counts, (kind, _)| {
            *counts.entry(kind.clone()).or_default() += 1;
            counts
        })
    }

    /// These objects with others over them; with `prune`, without those that the others do not name.
    pub fn merged(&self, others: &Self, prune: bool) -> Merged {
        let mut objects = if prune { BTreeMap::new() } else { self.0.clone() };
        objects.extend(others.0.clone());
        let objects = Self(objects);
        let changes = self.changes_to(&objects);
        Merged { objects, changes }
    }

    /// The files again: each object on the lines where it was written.
    ///
    /// Objects of one file that were applied at different times may claim the same lines; then the
    /// file appears twice under its name.
    pub fn files(&self) -> Vec<SourceFile> {
        let mut by_place: Vec<&Object> = self.0.values().collect();
        by_place.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        let mut files: Vec<Assembled> = Vec::new();
        for object in by_place {
            match files.iter_mut().rev().find(|file| file.fits(object)) {
                Some(file) => file.push(object),
                None => files.push(Assembled::starting(object)),
            }
        }
        files.into_iter().map(|file| SourceFile::accepted(file.name, file.text)).collect()
    }

    fn changes_to(&self, after: &Self) -> Changes {
        let label = |(kind, name): &(String, String)| format!("{}/{name}", kind.to_lowercase());
        let mut changes = Changes::default();
        for (key, object) in &after.0 {
            match self.0.get(key) {
                None => changes.added.push(label(key)),
                Some(before) if before.text.trim_end() != object.text.trim_end() => {
                    changes.changed.push(label(key))
                }
                Some(_) => {}
            }
        }
        changes.removed = self.0.keys().filter(|key| !after.0.contains_key(*key)).map(label).collect();
        changes
    }
}

impl From<Vec<Object>> for Objects {
    fn from(objects: Vec<Object>) -> Self {
        Self(objects.into_iter().map(|object| ((object.kind.clone(), object.name.clone()), object)).collect())
    }
}

impl From<Objects> for Vec<Object> {
    fn from(objects: Objects) -> Self {
        objects.0.into_values().collect()
    }
}

/// A file that is put together again.
struct Assembled {
    name: String,
    text: String,
    /// Line that the next character is on, counted from 1.
    line: u32,
}

impl Assembled {
    fn starting(object: &Object) -> Self {
        let mut file = Self { name: object.file.clone(), text: String::new(), line: 1 };
        file.push(object);
        file
    }

    /// One line is taken by the marker between documents.
    fn fits(&self, object: &Object) -> bool {
        self.name == object.file && self.line < object.line
    }

    fn push(&mut self, object: &Object) {
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

/// Splits a valid text into its documents.
///
/// A line that starts with `---` at its first column is a document marker wherever it stands (YAML
/// 1.2 section 9.1.2), so no YAML has to be understood to find them.
fn split(file: &NamedText) -> Vec<Object> {
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
    Some(Object { kind: head.kind, name: head.metadata.name, file: file.name.clone(), line, text })
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

    #[test]
    fn a_file_comes_back_with_every_line_where_it_was() {
        let text = format!(
            "# first\n\n{}---\n# second\n{}\n--- # third\n{}",
            document("A", "a", "1"),
            document("B", "b", "2"),
            document("C", "c", "|\n  text")
        );
        let files = Objects::of(&[file("x.yaml", text.clone())]).files();
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
        let before =
            Objects::of(&[file("x.yaml", format!("apiVersion: bulkhead/v1\n{network}---\n{segment}"))]);
        let change = Objects::of(&[file("y.yaml", format!("apiVersion: bulkhead/v1\n{network}"))]);
        let files = before.merged(&change, false).objects.files();
        crate::policy::parse(files, None).unwrap();
    }

    #[test]
    fn an_apply_merges_and_a_pruning_apply_replaces() {
        let before =
            Objects::of(&[file("x.yaml", document("A", "a", "1") + "---\n" + &document("B", "b", "1"))]);
        let change =
            Objects::of(&[file("y.yaml", document("B", "b", "2") + "---\n" + &document("C", "c", "1"))]);
        let merged = before.merged(&change, false);
        assert_eq!(merged.objects.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            (merged.changes.added, merged.changes.changed),
            (vec!["c/c".to_owned()], vec!["b/b".to_owned()])
        );
        assert!(merged.changes.removed.is_empty());
        let pruned = before.merged(&change, true);
        assert_eq!(pruned.changes.removed, ["a/a"]);
        assert!(before.merged(&before, false).changes.is_empty());
    }

    #[test]
    fn objects_that_claim_the_same_lines_keep_their_lines() {
        let before = Objects::of(&[file("x.yaml", document("A", "a", "1"))]);
        let change = Objects::of(&[file("x.yaml", document("B", "b", "1"))]);
        let files = before.merged(&change, false).objects.files();
        assert_eq!(files.len(), 2);
        assert!(files.iter().all(|file| file.name() == "x.yaml" && file.text().starts_with("apiVersion")));
    }
}
