//! What the accepted state is made of, beside what is in its own file: parts that are written once, each with a copy.
//!
//! The first holds a whole policy, one more what changed since; what changed lately is in the accepted file. So an apply
//! writes what it changes and not what there is, and everything is written anew when as much has changed. A part bears
//! its checksum in its name: it is there before a state needs it, and goes when none does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::file;
use super::step::{Content, Read, Written};
use crate::processors;

/// Folder below the state directory.
const FOLDER: &str = "parts";
/// How a copy ends.
const COPY: &str = "copy";
/// How one ends that is not whole yet.
const BESIDE: &str = "new";
/// So many differences lie in the accepted file.
pub(super) const FEW: usize = 128;
/// So many in the second part of a small policy.
const SOME: usize = 1024;
/// And of a large one, one for so many objects.
const SHARE: usize = 64;

/// Which part it is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Link {
    /// The revision that it was written with.
    revision: u64,
    checksum: String,
}

/// A part that is written, and what it leads to.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) link: Link,
    pub(super) content: Content,
}

/// The folder of parts.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    folder: PathBuf,
}

/// What there is before the first part.
static NOTHING: LazyLock<Content> = LazyLock::new(Content::default);

/// What some parts lead to.
pub(super) fn top(parts: &[Arc<Part>]) -> &Content {
    parts.last().map_or(&NOTHING, |part| &part.content)
}

/// Which parts they are.
pub(super) fn links(parts: &[Arc<Part>]) -> Vec<Link> {
    parts.iter().map(|part| part.link.clone()).collect()
}

impl Parts {
    /// The parts of a state directory; nothing is touched.
    pub(super) fn at(state: &Path) -> Self {
        Self { folder: state.join(FOLDER) }
    }

    /// Makes the folder.
    pub(super) fn create(&self) -> Result<()> {
        file::create_folder(&self.folder)
    }

    /// The parts below what is accepted next: those that there are while few things differ from them. Else one more
    /// over the first; and a new first if that would grow too large, or if nobody knows what differs without a look at
    /// everything.
    pub(super) fn below(
        &self,
        mut parts: Vec<Arc<Part>>,
        revision: u64,
        next: &Content,
    ) -> Result<Vec<Arc<Part>>> {
        if is_near(top(&parts), next, FEW) {
            return Ok(parts);
        }
        parts.truncate(1);
        if !parts.first().is_some_and(|first| is_near(&first.content, next, share_of(next))) {
            parts.clear();
        }
        let link = self.write(revision, &Written::between(top(&parts), next))?;
        parts.push(Arc::new(Part { link, content: next.clone() }));
        Ok(parts)
    }

    /// Writes and syncs a part and its copy.
    fn write(&self, revision: u64, step: &Written<'_>) -> Result<Link> {
        let (bytes, checksum) = file::seal(file::PART, step).context("write down a part of the state")?;
        let link = Link { revision, checksum };
        let placed = processors::each(self.paths(&link), |path| place(&path, &bytes));
        placed.into_iter().collect::<Result<()>>()?;
        file::sync_folder(&self.folder)?;
        Ok(link)
    }

    /// Reads a part, or its copy if that is damaged.
    ///
    /// # Errors
    /// Both are.
    pub(super) fn read(&self, link: &Link) -> Result<Read> {
        let [part, copy] = self.paths(link);
        read(&part, link).or_else(|error| {
            read(&copy, link).map_err(|other| anyhow!("{error:#}, and of its copy: {other:#}"))
        })
    }

    /// Reads a part; whichever of it and its copy is damaged is moved aside, and the other written in its place.
    pub(super) fn read_and_mend(&self, link: &Link) -> Result<Read> {
        let [part, copy] = self.paths(link);
        let (step, damaged) = match read(&part, link) {
            Ok(step) => (step, read::<IgnoredAny>(&copy, link).err().map(|error| (&copy, &part, error))),
            Err(error) => (self.read(link)?, Some((&part, &copy, error))),
        };
        if let Some((path, other, error)) = damaged {
            tracing::error!("{error:#}; there are two of it, and the other one is used");
            if let Err(error) = mend(path, other).and_then(|()| file::sync_folder(&self.folder)) {
                tracing::error!("the other one could not take its place: {error:#}");
            }
        }
        Ok(step)
    }

    /// What is wrong with a part and its copy.
    pub(super) fn problems(&self, link: &Link) -> Vec<String> {
        let wrong = |path: &PathBuf| read::<IgnoredAny>(path, link).err();
        self.paths(link).iter().filter_map(wrong).map(|error| format!("{error:#}")).collect()
    }

    /// True if there may be parts that are not among these.
    pub(super) fn has_others_than(&self, parts: &[Arc<Part>]) -> bool {
        let names = self.names(&links(parts));
        self.list().is_ok_and(|found| found.iter().any(|path| !names.contains(path)))
    }

    /// Removes all parts but these; those that were moved aside stay.
    pub(super) fn sweep(&self, wanted: &[Link]) -> Result<()> {
        let names = self.names(wanted);
        for path in self.list()?.iter().filter(|path| !names.contains(*path)) {
            fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<PathBuf>> {
        let act = || format!("list {}", self.folder.display());
        let found = fs::read_dir(&self.folder).with_context(act)?;
        let paths = found.map(|file| file.map(|file| file.path())).collect::<Result<Vec<_>, _>>();
        let is_aside = |path: &PathBuf| {
            path.extension().is_some_and(|end| end.to_string_lossy().starts_with(file::DAMAGED))
        };
        Ok(paths.with_context(act)?.into_iter().filter(|path| !is_aside(path)).collect())
    }

    fn names(&self, links: &[Link]) -> BTreeSet<PathBuf> {
        links.iter().flat_map(|link| self.paths(link)).collect()
    }

    /// Where a part and its copy are.
    pub(super) fn paths(&self, link: &Link) -> [PathBuf; 2] {
        let part = self.folder.join(format!("{}-{}", link.revision, link.checksum));
        let copy = part.with_extension(COPY);
        [part, copy]
    }
}

/// True if little differs, and that is known without a look at everything.
fn is_near(before: &Content, next: &Content, most: usize) -> bool {
    let known = next.ids.shares(&before.ids) || next.ids.len() <= most;
    known && Written::between(before, next).len() <= most
}

fn share_of(content: &Content) -> usize {
    SOME.max(content.objects.len() / SHARE)
}

fn read<T: DeserializeOwned>(path: &Path, link: &Link) -> Result<T> {
    let Some(bytes) = file::read(path)? else { bail!("{} is missing", path.display()) };
    let (content, checksum) = file::parse(path, file::PART, &bytes)?;
    ensure!(checksum == link.checksum, "{} is damaged: it is another part than it was", path.display());
    Ok(content)
}

fn mend(part: &Path, copy: &Path) -> Result<()> {
    if part.exists() {
        file::move_aside(part)?;
    }
    let bytes = file::read(copy)?.unwrap_or_default();
    place(part, &bytes)
}

/// Writes a file beside its place first: the same part may be there and needed.
fn place(path: &Path, bytes: &[u8]) -> Result<()> {
    // Not in place of the extension: a part and its copy are written at the same time.
    let beside = path.with_added_extension(BESIDE);
    file::put(&beside, bytes)?;
    fs::rename(&beside, path).with_context(|| format!("replace {}", path.display()))
}
