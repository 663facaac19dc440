//! Paths → texts: files, folders and standard input, within bounds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostics;
use super::location::{SourceFile, is_inventory};

/// Largest single file of YAML. Policy is written by people; a bigger file is a mistake or an attack.
pub const FILE_BYTES: usize = 4 << 20;
/// Largest single table of devices, which a program exports.
pub const INVENTORY_BYTES: usize = 256 << 20;
/// Most text in one policy set, enough for about two million devices.
pub const TOTAL_BYTES: usize = 512 << 20;
/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// Reads files, folders (one level, `*.yaml`, `*.yml` and `*.csv`, by name, hidden ones skipped) and `-`.
///
/// # Errors
/// Every file that is missing, too large, or no text; nothing is returned if any is.
pub fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut texts = Vec::new();
    let mut total = 0;
    let paths: Vec<PathBuf> = paths.iter().flat_map(|path| expand(path, &mut problems)).collect();
    for path in paths {
        let Some(text) = text(&path, &mut problems) else {
            continue;
        };
        total += text.text().len();
        if total > TOTAL_BYTES {
            let problem = format!("more than {} MiB of policy", TOTAL_BYTES >> 20);
            problems.unreadable(&name(&path), problem, "remove what does not belong here");
            break;
        }
        texts.push(text);
    }
    match problems.has_errors() {
        true => Err(problems.finish()),
        false => Ok(texts),
    }
}

fn name(path: &Path) -> String {
    match path == Path::new(STANDARD_INPUT) {
        true => "<stdin>".to_owned(),
        false => path.display().to_string(),
    }
}

fn expand(path: &Path, problems: &mut Diagnostics) -> Vec<PathBuf> {
    if path == Path::new(STANDARD_INPUT) || !path.is_dir() {
        return vec![path.to_owned()];
    }
    match entries(path) {
        Ok(files) if files.is_empty() => {
            let problem = "the folder has no *.yaml, *.yml or *.csv file".to_owned();
            let help = "write at least one network (see policies/default-deny.yaml)";
            problems.push(super::Diagnostic::of_file(&name(path), problem, help));
            Vec::new()
        }
        Ok(files) => files,
        Err(error) => {
            problems.unreadable(
                &name(path),
                format!("cannot list the folder: {error}"),
                "check its owner and mode",
            );
            Vec::new()
        }
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if (yaml || is_inventory(&path)) && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn text(path: &Path, problems: &mut Diagnostics) -> Option<SourceFile> {
    let name = name(path);
    let most = if is_inventory(path) { INVENTORY_BYTES } else { FILE_BYTES };
    let bytes = match bytes(path, most) {
        Ok(bytes) => bytes,
        Err(error) => {
            problems.unreadable(
                &name,
                format!("cannot be read: {error}"),
                "check the path, its owner and mode",
            );
            return None;
        }
    };
    let (problem, help) = match bytes {
        None => (format!("larger than {} MiB", most >> 20), "split it into several files".to_owned()),
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return Some(SourceFile::new(super::excerpt::escape(&name), text)),
            Err(error) => not_text(&error),
        },
    };
    problems.push(super::Diagnostic::of_file(&name, problem, help));
    None
}

fn not_text(error: &std::string::FromUtf8Error) -> (String, String) {
    let valid = error.utf8_error().valid_up_to();
    let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
    (format!("not UTF-8: line {line} has a byte that is no text"), "save the file as UTF-8".to_owned())
}

/// Reads a file whole; None if it is over the limit. Devices and pipes must not block for ever,
/// so only regular files and standard input are read.
fn bytes(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    if path == Path::new(STANDARD_INPUT) {
        return limited(io::stdin().lock(), most);
    }
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    limited(File::open(path)?, most)
}

fn limited(input: impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    input.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}
