//! Random changes, one after the other: in memory, on disk and in a plain model they come to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::parts::{FEW, Part};
use super::{Draft, Found, Objects, State, Store, verify};
use crate::api::types::{Object, Origin};
use crate::policy::Name;

type Model = BTreeMap<(String, String), Object>;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len() as u64) as usize]
    }

    /// Mostly few, and sometimes so many that a part is written.
    fn objects(&mut self) -> Vec<Object> {
        let count = *self.of(&[1, 1, 2, 3, 5, 200, 700]);
        (0..count).map(|_| self.object()).collect()
    }

    fn object(&mut self) -> Object {
        let kind = (*self.of(&["Device", "Device", "Device", "Policy", "Grant"])).to_owned();
        let (name, file) = (format!("n{}", self.below(2_000)), format!("f{}", self.below(2)));
        let end = *self.of(&["", "\n"]);
        let text = format!("{kind} {name} {}{end}", self.below(3));
        let origin = *self.of(&[Origin::Cli, Origin::Folder]);
        let (kind, file) = (kind.into(), file.into());
        Object { kind, name, file, line: self.below(3) as u32, text, origin }
    }
}

fn key(object: &Object) -> (String, String) {
    (object.kind.to_string(), object.name.clone())
}

fn says(object: &Object) -> &str {
    object.text.trim_end()
}

/// What an apply is to do, in other words than those of [`Objects::merged`].
fn merge(model: &Model, change: &Model, prune: Option<Origin>) -> Model {
    let mut merged = model.clone();
    merged.retain(|key, object| change.contains_key(key) || prune != Some(object.origin));
    for (key, object) in change {
        let before = model.get(key).filter(|before| says(before) == says(object));
        let origin = before.map_or(object.origin, |before| before.origin);
        merged.insert(key.clone(), Object { origin, ..object.clone() });
    }
    merged
}

fn objects(model: &Model) -> Objects {
    model.values().cloned().map(Arc::new).collect()
}

/// Names of all devices, in order.
fn devices(objects: &Objects) -> Vec<Name> {
    let names: BTreeSet<Name> =
        objects.of_kind("Device").filter_map(|device| Name::new(&device.name)).collect();
    names.into_iter().collect()
}

/// A store with what was accepted in it, and what that is.
struct Site {
    folder: tempfile::TempDir,
    store: Option<Store>,
    state: State,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(Store::open(folder.path()).unwrap());
        Self { folder, store, state: State::default() }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn parts(&self) -> Vec<Arc<Part>> {
        self.store().made_of().clone()
    }

    /// The next state, with these objects.
    fn next(&self, objects: Objects) -> (State, Draft) {
        let mut next = State { objects, ..self.state.clone() };
        next.revision.number = self.store().next_number(self.state.revision.number).unwrap();
        next.ids.compile_devices(&devices(&next.objects));
        next.published(u32::try_from(next.revision.number).unwrap());
        let [before, after] = self.state.objects.apart(&next.objects);
        let from = self.state.revision.number;
        (next, Draft { from, before, after, keep: 10, ..Draft::default() })
    }

    fn accept(&mut self, objects: Objects) {
        let (mut next, draft) = self.next(objects);
        self.store().stage(&mut next, draft).unwrap().commit().unwrap();
        self.state = next;
    }

    fn restart(&mut self) -> Found {
        drop(self.store.take());
        self.store = Some(Store::open(self.folder.path()).unwrap());
        self.store().load().unwrap()
    }

    /// What the next agent finds is what this one had.
    fn holds(&mut self) {
        let Found::Accepted(found, None) = self.restart() else { panic!("it is lost") };
        assert_eq!(*found, self.state);
        assert_eq!(super::peek(self.folder.path()).unwrap().as_ref(), Some(&self.state));
        assert_eq!(verify(self.folder.path(), &[]).unwrap().problems, [""; 0]);
        self.state = *found;
    }

    fn problems(&self) -> String {
        verify(self.folder.path(), &[]).unwrap().problems.join("\n")
    }
}

/// Every file below a folder, with its size.
fn sizes(folder: &Path) -> BTreeMap<String, u64> {
    let files = ["", "parts", "revisions"].map(|below| fs::read_dir(folder.join(below)).unwrap());
    let files = files.into_iter().flatten().map(Result::unwrap).filter(|file| file.path().is_file());
    files.map(|file| (file.path().display().to_string(), file.metadata().unwrap().len())).collect()
}

#[test]
fn whatever_is_merged_memory_and_disk_hold_what_a_plain_model_does() {
    let (mut site, mut random) = (Site::new(), Random(5));
    let (mut model, mut models, mut seen) = (Model::new(), BTreeMap::new(), BTreeSet::new());
    for turn in 0..80 {
        let change = random.objects();
        // Of one name in one change the last counts.
        let change: Model = change.into_iter().map(|object| (key(&object), object)).collect();
        let prune = [None, None, None, None, None, Some(Origin::Folder)][random.below(6) as usize];
        let merged = site.state.objects.merged(&objects(&change), prune);
        let expected = merge(&model, &change, prune);
        let differ =
            |(key, object): &(&_, &Object)| model.get(*key).is_none_or(|before| says(before) != says(object));
        let given = expected.iter().filter(differ).count();
        assert_eq!(merged.objects, objects(&expected), "turn {turn}");
        assert_eq!(merged.changes.added.len() + merged.changes.changed.len(), given, "turn {turn}");
        let removed = model.keys().filter(|key| !expected.contains_key(*key)).count();
        assert_eq!(merged.changes.removed.len(), removed, "turn {turn}");
        match random.below(8) {
            0 => {
                let (mut next, draft) = site.next(merged.objects);
                site.store().stage(&mut next, draft).unwrap().discard();
            }
            1 if !models.is_empty() => {
                let kept: Vec<u64> = site.store().journal().numbers().unwrap();
                let to = *random.of(&kept);
                let back = site.store().journal().objects_at(to, &site.state).unwrap();
                let told = |objects: &Objects| {
                    objects.iter().map(|o| (key(o), says(o).to_owned())).collect::<Vec<_>>()
                };
                assert_eq!(told(&back), told(&objects(&models[&to])), "back from turn {turn} to r{to}");
                model = back.iter().map(|object| (key(object), object.clone())).collect();
                site.accept(back);
                models.insert(site.state.revision.number, model.clone());
            }
            2 if !models.is_empty() => {
                site.state.folder_held = !site.state.folder_held;
                // Known anew without a revision: written down with the next note.
                site.state.ids.compile_devices(&devices(&merged.objects));
                site.store().amend(&site.state).unwrap();
            }
            _ => {
                model = expected;
                site.accept(merged.objects);
                models.insert(site.state.revision.number, model.clone());
            }
        }
        seen.insert(site.parts().len());
        if random.below(4) == 0 && !models.is_empty() {
            site.holds();
        }
        let digest = objects(&model).digest();
        assert_eq!(
            (site.state.objects.digest(), site.state.objects.len()),
            (digest, model.len()),
            "turn {turn}"
        );
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2]), "every shape was come by");
}

#[test]
fn one_change_of_many_objects_writes_and_copies_little() {
    let mut site = Site::new();
    let device = |number: u32, text: &str| Object {
        kind: "Device".into(),
        name: format!("meter-{number}"),
        file: "meters.csv".into(),
        line: number,
        text: format!("name,network,addresses\nmeter-{number},grid,{text}\n"),
        origin: Origin::Cli,
    };
    site.accept((0..20_000).map(|number| Arc::new(device(number, "10.0.0.1"))).collect());
    let Found::Accepted(found, None) = site.restart() else { panic!("it is lost") };
    site.state = *found;
    for number in [7, 19_000, 20_000] {
        let change: Objects = [Arc::new(device(number, "10.0.0.2"))].into_iter().collect();
        let merged = site.state.objects.merged(&change, None);
        assert_eq!(merged.objects.in_common(&site.state.objects, "Device"), super::buckets::BUCKETS - 1);
        let before = sizes(site.folder.path());
        let (mut next, draft) = site.next(merged.objects);
        let staged = site.store().stage(&mut next, draft).unwrap();
        let written: u64 = sizes(site.folder.path())
            .into_iter()
            .filter(|(path, size)| before.get(path) != Some(size))
            .map(|(_, size)| size)
            .sum();
        assert!((1..64 * 1024).contains(&written), "{written} bytes for meter-{number}");
        staged.commit().unwrap();
        site.state = next;
    }
    site.holds();
}

/// So many devices that each change of all of them is a part of its own.
fn all(text: u64) -> Objects {
    let device = |number: usize| Object {
        kind: "Device".into(),
        name: format!("n{number}"),
        file: "x.yaml".into(),
        line: 1,
        text: text.to_string(),
        origin: Origin::Cli,
    };
    (0..=FEW).map(|number| Arc::new(device(number))).collect()
}

#[test]
fn one_damaged_part_costs_nothing_and_is_told() {
    let mut site = Site::new();
    (1..=3).for_each(|text| site.accept(all(text)));
    let parts = site.parts();
    assert_eq!(parts.len(), 2);
    for part in parts {
        let [path, copy] = site.store().parts.paths(&part.link);
        let whole = fs::read(&path).unwrap();
        let flipped = |at: usize| {
            whole.iter().enumerate().map(|(i, byte)| byte ^ u8::from(i == at)).collect::<Vec<u8>>()
        };
        for at in (0..whole.len()).step_by(2_003).chain([whole.len() - 1]) {
            for damaged in [&whole[..at], &flipped(at)] {
                fs::write(&path, damaged).unwrap();
                assert!(site.problems().contains(&path.display().to_string()), "byte {at}");
                site.holds();
                fs::write(&copy, damaged).unwrap();
                assert!(site.problems().contains(&copy.display().to_string()), "byte {at} of the copy");
                site.holds();
                assert_eq!(fs::read(&copy).unwrap(), whole, "byte {at}: it is made anew");
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(site.problems().contains("is missing"));
        site.holds();
        fs::remove_file(&copy).unwrap();
        site.holds();
        assert_eq!(site.problems(), "", "both are there again");
    }
}

#[test]
fn a_part_that_is_lost_with_its_copy_is_a_loss_of_what_was_made_of_it() {
    let mut site = Site::new();
    site.accept(all(1));
    site.accept(all(2));
    let parts = site.parts();
    for path in site.store().parts.paths(&parts[1].link) {
        fs::write(path, "nonsense").unwrap();
    }
    let Found::Accepted(found, Some(why)) = site.restart() else { panic!("the one before is whole") };
    assert_eq!((found.revision.number, found.objects), (1, all(1)));
    assert!(why.contains("and of its copy"), "{why}");
    site.state = State { revision: found.revision.clone(), ..site.state.clone() };
    for path in site.store().parts.paths(&parts[0].link) {
        fs::remove_file(path).unwrap();
    }
    assert!(matches!(site.restart(), Found::Lost(why) if why.contains("is missing")));
}

#[test]
fn an_interruption_anywhere_leaves_the_parts_of_what_counts() {
    let renames = ["previous", "accepted", "once", "revisions/4"];
    for done in 0..=renames.len() {
        let mut site = Site::new();
        (1..=3).for_each(|text| site.accept(all(text)));
        let (mut next, draft) = site.next(all(4));
        let _ = site.store().stage(&mut next, draft).unwrap();
        for name in &renames[..done] {
            let path = |name: &str| site.folder.path().join(name);
            fs::rename(path(&format!("{name}.new")), path(name)).unwrap();
        }
        if done >= 2 {
            site.state = next;
        }
        site.holds();
        // What was not committed is gone, and nothing of what is needed.
        site.accept(all(5));
        site.holds();
        site.accept(all(6));
        assert_eq!(fs::read_dir(site.folder.path().join("parts")).unwrap().count(), 6, "{done}");
        fs::write(site.folder.path().join("accepted"), "nonsense").unwrap();
        let Found::Accepted(found, Some(_)) = site.restart() else {
            panic!("{done}: the one before is lost")
        };
        assert_eq!(found.objects, all(5), "{done}");
    }
}

#[test]
fn what_cannot_be_written_leaves_everything_as_it_was() {
    let mut site = Site::new();
    (1..=2).for_each(|text| site.accept(all(text)));
    let path = |name: &str| site.folder.path().join(name);
    // What is written last is in the way, or the first.
    for name in ["once.new", "parts"] {
        let (aside, before) = (path("aside"), sizes(site.folder.path()));
        match name {
            "parts" => fs::rename(path(name), &aside).and_then(|()| fs::write(path(name), "")).unwrap(),
            _ => fs::create_dir(path(name)).unwrap(),
        }
        let (mut next, draft) = site.next(all(3));
        let refused = format!("{:#}", site.store().stage(&mut next, draft).unwrap_err());
        match name {
            "parts" => fs::remove_file(path(name)).and_then(|()| fs::rename(&aside, path(name))).unwrap(),
            _ => fs::remove_dir(path(name)).unwrap(),
        }
        assert_eq!(sizes(site.folder.path()), before, "{refused}");
    }
    site.holds();
}

#[test]
fn what_another_version_wrote_is_called_that() {
    let mut site = Site::new();
    site.accept(all(1));
    fs::write(site.folder.path().join("accepted"), format!("bulkhead-state-1 {}\n{{}}", "0".repeat(64)))
        .unwrap();
    assert!(
        site.problems()
            .ends_with("written by another version (bulkhead-state-1, this one reads bulkhead-state-3)")
    );
    assert!(
        matches!(site.restart(), Found::Lost(why) if why.contains("another version") && !why.contains("is damaged"))
    );
}
