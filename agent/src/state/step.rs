//! What leads from one policy and its numbers to another, as it is written down.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::objects::Objects;
use crate::api::types::{Object, Origin};
use crate::policy::{Ids, Renumbered};

/// A policy with the numbers that its names were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    pub(super) objects: Objects,
    pub(super) ids: Ids,
}

/// What differs between two of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Step<T> {
    /// Objects that were not there before, or not as they are.
    objects: Objects,
    /// Kinds and names of those that are no more.
    gone: Vec<(T, T)>,
    ids: Renumbered<T>,
}

/// A step on its way to disk.
pub(super) type Written<'c> = Step<&'c str>;
/// A step from there.
pub(super) type Read = Step<String>;

impl<'c> Written<'c> {
    /// What leads from `before` to `after`. Costs what the two do not share.
    pub(super) fn between(before: &'c Content, after: &'c Content) -> Self {
        let [_, objects] = before.objects.apart_in_all(&after.objects);
        let gone = before.objects.differing(&after.objects).filter_map(|pair| match pair {
            (Some(object), None) => Some((object.kind.as_str(), object.name.as_str())),
            (_, Some(_)) | (None, None) => None,
        });
        Self { objects, gone: gone.collect(), ids: after.ids.since(&before.ids) }
    }

    /// How much differs.
    pub(super) fn len(&self) -> usize {
        self.objects.len() + self.gone.len() + self.ids.len()
    }
}

impl Read {
    /// Where it leads from there.
    pub(super) fn after(self, before: &Content) -> Content {
        let gone: Objects = self.gone.into_iter().map(nothing_of).collect();
        let objects = before.objects.but(&gone).below(&self.objects);
        Content { objects, ids: before.ids.clone().after(self.ids) }
    }
}

/// An object that stands for its name.
fn nothing_of((kind, name): (String, String)) -> Arc<Object> {
    let (kind, file, text) = (kind.into(), "".into(), String::new());
    Arc::new(Object { kind, name, file, line: 0, text, origin: Origin::default() })
}
