//! Objects as they are written down: what one has in common with the one before it is not said again.
//!
//! ```text
//! [{"kind":"Device","file":"devices.csv","origin":"cli","objects":[
//!   ["meter-1",2,0,"name,network,addresses\nmeter-1,grid,192.0.2.1\n"],
//!   ["meter-2",3,29,"2,grid,192.0.2.2\n"]]}]
//! ```
//!
//! Of each its name, its line, how many bytes of its text are those of the text before, and the rest of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::objects::Objects;
use crate::api::types::{Object, Origin};
use crate::telemetry::Label;

/// Objects that follow each other and have the same kind, file and origin.
#[derive(Serialize, Deserialize)]
struct Group<T, O> {
    kind: T,
    file: T,
    origin: Origin,
    objects: O,
}

/// One of a group.
type Packed<T> = (T, u32, usize, T);

/// Objects from disk.
#[derive(Deserialize)]
pub(super) struct Found(Vec<Group<String, Vec<Packed<String>>>>);

impl Serialize for Objects {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let objects = as_written(self.all());
        let groups = objects.chunk_by(|a, b| (&a.kind, &a.file, a.origin) == (&b.kind, &b.file, b.origin));
        to.collect_seq(groups.filter_map(|objects| {
            let Object { kind, file, origin, .. } = objects.first()?;
            Some(Group { kind: kind.as_str(), file, origin: *origin, objects: Packing(objects) })
        }))
    }
}

/// In the order of their lines: each is much like the one before, and mostly lies behind it in memory.
fn as_written<'o>(objects: impl Iterator<Item = &'o Arc<Object>>) -> Vec<&'o Object> {
    let mut files = BTreeMap::new();
    let mut placed: Vec<(usize, u32, &Object)> = Vec::new();
    for object in objects {
        let next = files.len();
        let file = *files.entry((&object.kind, &object.file, object.origin)).or_insert(next);
        placed.push((file, object.line, object));
    }
    placed.sort_unstable_by_key(|(file, line, _)| (*file, *line));
    placed.into_iter().map(|(_, _, object)| object).collect()
}

/// The objects of a group on their way to disk.
struct Packing<'o>(&'o [&'o Object]);

impl Serialize for Packing<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut before = "";
        to.collect_seq(self.0.iter().map(|Object { name, line, text, .. }| -> Packed<&str> {
            let same = in_common(before, text);
            before = text;
            (name, *line, same, &text[same..])
        }))
    }
}

/// How many bytes two texts begin with that are the same, in whole characters.
fn in_common(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=same).rev().find(|at| b.is_char_boundary(*at)).unwrap_or_default()
}

impl TryFrom<Found> for Objects {
    type Error = String;

    fn try_from(Found(groups): Found) -> Result<Self, String> {
        let mut objects = Vec::new();
        for Group { kind, file, origin, objects: packed } in groups {
            let (mut text, kind, file) = (String::new(), Label::from(kind), Label::from(file));
            for (name, line, same, rest) in packed {
                if !text.is_char_boundary(same) {
                    return Err(format!("the text before {name} has no {same} bytes in common with it"));
                }
                text.truncate(same);
                text.push_str(&rest);
                let (kind, file, text) = (kind.clone(), file.clone(), text.clone());
                objects.push(Arc::new(Object { kind, name, file, line, text, origin }));
            }
        }
        Ok(objects.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(file: &str, line: u32, text: &str) -> Arc<Object> {
        let (kind, file) = (Label::from("Device"), Label::from(file));
        let (name, text) = (format!("d{line}"), text.to_owned());
        Arc::new(Object { kind, name, file, line, text, origin: Origin::Cli })
    }

    #[test]
    fn what_is_the_same_is_written_once_and_comes_back() {
        let rows = [
            object("a.csv", 2, "name,network\nd2,grid\n"),
            object("a.csv", 3, "name,network\nd3,grid\n"),
            object("a.csv", 10, "name,network\nd10,grid\n"),
            // Characters that begin with the same byte.
            object("b.yaml", 11, "name: æ\n"),
            object("b.yaml", 12, "name: å\n"),
        ];
        let objects: Objects = rows.into_iter().collect();
        let written = serde_json::to_string(&objects).unwrap();
        assert_eq!(written.matches("network").count(), 1, "{written}");
        assert!(written.contains(r#"["d3",3,14,"3,grid\n"],["d10",10,14,"10,grid\n"]"#), "{written}");
        assert!(written.contains(r#"["d12",12,6,"å\n"]"#), "{written}");
        assert_eq!(serde_json::from_str::<Objects>(&written).unwrap(), objects);
    }

    #[test]
    fn what_leans_on_bytes_that_are_not_there_is_refused() {
        for same in [4, 7] {
            let text = format!(
                r#"[{{"kind":"Device","file":"a","origin":"cli","objects":[["a",1,0,"æææ"],["b",2,{same},"x"]]}}]"#
            );
            let found = serde_json::from_str::<Objects>(&text);
            assert_eq!(found.is_ok(), same == 4, "{same}");
        }
    }
}
