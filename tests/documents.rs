//! What the documents say is held against the program: reasons, API paths, maps, policies, names of tests, links.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead::api::types::path;
use bulkhead::datapath::{CANDIDATE_PINS, PINNED};
use bulkhead::policy::{self, Ids, SourceFile};
use bulkhead_common::verdict::{DropReason, Pass, Way};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn page(name: &str) -> String {
    let path = Path::new(ROOT).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

#[test]
fn every_reason_is_explained_with_what_to_do() {
    let page = page("agent/README.md");
    for reason in DropReason::ALL {
        let row = format!("| `{}` | {} | ", reason.as_str(), reason.meaning());
        let told = page.lines().find_map(|line| line.strip_prefix(&row));
        let advice = told.unwrap_or_else(|| panic!("agent/README.md has no row that begins with {row}"));
        assert!(advice.len() > " |".len(), "{} lacks what to do", reason.as_str());
    }
    for pass in Pass::ALL {
        let row = format!("| `{}` | {} |", pass.as_str(), pass.meaning());
        assert!(page.contains(&row), "agent/README.md lacks the row {row}");
    }
    for way in Way::ALL {
        let row = format!("| `{}` | {} |", way.as_str(), way.meaning());
        assert!(page.contains(&row), "agent/README.md lacks the row {row}");
    }
}

#[test]
fn every_path_of_the_api_is_told() {
    let page = page("agent/README.md");
    let paths = [
        path::STATUS,
        path::APPLY,
        path::ROLLBACK,
        path::CANDIDATE,
        path::CANDIDATE_DROP,
        path::PROMOTE,
        path::CONFIRM,
        path::RESUME,
        path::REVISIONS,
        path::OBJECTS,
        path::DEVICES,
        path::ACCEPTED,
        path::DROPS,
        path::FLOWS,
        path::FOLLOW,
    ];
    for path in paths {
        assert!(page.contains(&format!("`GET {path}")) || page.contains(&format!("`POST {path}")), "{path}");
    }
}

#[test]
fn every_pinned_map_is_told() {
    let page = page("common/README.md");
    for map in PINNED.into_iter().chain(CANDIDATE_PINS) {
        assert!(page.contains(&format!("\n| `{map}` | ")), "common/README.md has no row of {map}");
    }
}

#[test]
fn the_first_policy_of_the_readme_is_accepted_and_passes_its_tests() {
    let page = page("README.md");
    let agent = policy::parse_agent(blocks(&page, "yaml agent")).unwrap_or_else(|found| panic!("{found}"));
    let loaded = policy::parse(blocks(&page, "yaml"), Some(&agent)).unwrap_or_else(|found| panic!("{found}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let host = policy::assumed_host(&agent);
    let compiled = policy::compile(&loaded.policy, &agent, &host, &mut Ids::default()).unwrap();
    let failed = policy::run_tests(&loaded.policy, &agent, &host, &compiled);
    assert!(failed.is_empty(), "{failed}");
    let tests: usize = loaded.policy.policies().values().map(|rules| rules.tests.len()).sum();
    assert!(tests >= 2, "only {tests} tests");
}

/// The fenced blocks of a page that begin with `fence`.
fn blocks(page: &str, fence: &str) -> Vec<SourceFile> {
    let found = page.split("\n```").filter_map(|block| block.strip_prefix(fence)?.strip_prefix('\n'));
    found.enumerate().map(|(n, text)| SourceFile::new(format!("README.md block {n}"), text)).collect()
}

/// The promises name their tests as `target::function`.
#[test]
fn every_test_that_the_readme_names_exists() {
    let page = page("README.md");
    let sources = files("tests", "rs");
    let named: BTreeSet<&str> = code_spans(&page).filter(|span| is_test(span)).collect();
    assert!(named.len() >= 10, "the README names only {} tests", named.len());
    for name in named {
        let (target, function) = name.split_once("::").unwrap();
        let wanted = format!("#[test]\nfn {function}(");
        let found = sources.iter().filter(|file| belongs_to(file, target));
        assert!(
            found.into_iter().any(|file| fs::read_to_string(file).unwrap().contains(&wanted)),
            "there is no test {name}"
        );
    }
}

/// What stands between backticks.
fn code_spans(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn is_test(span: &str) -> bool {
    span.contains("::")
        && span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_:".contains(&b))
}

/// `tests/TARGET.rs`, or a module of it in `tests/TARGET/`.
fn belongs_to(file: &Path, target: &str) -> bool {
    let tests = Path::new(ROOT).join("tests");
    file == tests.join(format!("{target}.rs")) || file.starts_with(tests.join(target))
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut links = 0;
    for document in files("", "md") {
        let text = fs::read_to_string(&document).unwrap();
        // Outside code: every second piece between backticks, of fences too.
        let prose: String = text.split('`').step_by(2).collect();
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap();
            let linked = document.parent().unwrap().join(file);
            assert!(linked.exists(), "{}: the link {target} leads nowhere", document.display());
            links += 1;
        }
    }
    assert!(links > 5, "only {links} links were found");
}

/// Files with an extension below a folder of the workspace, without what builds leave behind.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
