//! Policy files → messages, word by word. No privilege needed.
//!
//! Each fixture says in its first line what is wrong with it; beside it stands what an operator
//! reads. `BLESS=1 cargo test -p tests --test policy` rewrites those texts for review.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead::policy::{self, AgentConfig, Compiled, Diagnostics, Ids, Loaded, SourceFile};
use bulkhead::tables::{Host, HostInterface};

#[path = "policy/compiled.rs"]
mod compiled;
#[path = "policy/dump.rs"]
mod dump;
#[path = "policy/few.rs"]
mod few;
#[path = "policy/hostile.rs"]
mod hostile;
#[path = "policy/inventory.rs"]
mod inventory;
#[path = "policy/naive.rs"]
mod naive;
#[path = "policy/random.rs"]
mod random;
#[path = "policy/schema.rs"]
mod schema;

/// Fixtures of one folder: files and folders, by name.
fn fixtures(folder: &str) -> Vec<PathBuf> {
    let root = Path::new("fixtures/policies").join(folder);
    let mut found: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none_or(|end| end != "txt"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no fixtures in {}", root.display());
    found
}

/// Compares with the text beside a fixture.
fn golden(fixture: &Path, got: &str) -> Option<String> {
    let expected = fixture.with_extension("txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&expected, got).unwrap();
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    (wanted != got).then(|| format!("{}\n--- expected\n{wanted}--- got\n{got}", fixture.display()))
}

fn compare_all(folder: &str, read: impl Fn(&Path) -> Result<String, String>) {
    let differences: Vec<String> = fixtures(folder)
        .iter()
        .filter_map(|fixture| match read(fixture) {
            Ok(text) => golden(fixture, &text),
            Err(why) => Some(format!("{}: {why}", fixture.display())),
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn agent() -> AgentConfig {
    policy::load_agent(Path::new("fixtures/policies/agent.yaml")).unwrap()
}

fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    policy::load(&[path.to_owned()], Some(&agent()))
}

/// A host with the interfaces of the fixtures' agent and addresses on both links.
fn host() -> Host {
    let interface = |ifindex, addresses: &[&str]| HostInterface {
        ifindex,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..HostInterface::default()
    };
    let interfaces = [
        ("acc0", interface(3, &["10.45.0.254/16", "fe80::1/64"])),
        ("acc0.101", interface(5, &["192.0.2.1/24"])),
        ("core0", interface(4, &["192.0.2.65/26"])),
        ("lo", interface(1, &["127.0.0.1/8"])),
    ];
    Host { interfaces: interfaces.into_iter().map(|(name, found)| (name.to_owned(), found)).collect() }
}

fn compile(loaded: &Loaded, host: &Host) -> Result<Compiled, Diagnostics> {
    policy::compile(&loaded.policy, &agent(), host, &mut Ids::default())
}

#[test]
fn what_is_refused_is_explained() {
    compare_all("refused", |fixture| match load(fixture) {
        Ok(_) => Err("was accepted".to_owned()),
        Err(found) => Ok(found.render(false)),
    });
}

#[test]
fn what_is_accepted_may_draw_a_warning() {
    compare_all("accepted", |fixture| match load(fixture) {
        Ok(loaded) => Ok(loaded.warnings.render(false)),
        Err(found) => Err(found.render(false)),
    });
}

#[test]
fn what_an_agent_may_not_be_is_explained() {
    compare_all("agent", |fixture| match policy::load_agent(fixture) {
        Ok(_) => Err("was accepted".to_owned()),
        Err(found) => Ok(found.render(false)),
    });
}

#[test]
fn shipped_examples_are_accepted_without_a_word() {
    for entry in fs::read_dir("../policies").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            match load(&path) {
                Ok(loaded) => passes_its_own_tests(&loaded),
                Err(found) => panic!("{found}"),
            }
        }
    }
}

fn passes_its_own_tests(loaded: &Loaded) {
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let agent = agent();
    for host in [Host::default(), host()] {
        let compiled = compile(loaded, &host).unwrap_or_else(|found| panic!("{found}"));
        let failed = policy::run_tests(&loaded.policy, &agent, &host, &compiled);
        assert!(failed.is_empty(), "{failed}");
    }
}

#[test]
fn the_demo_is_accepted_and_passes_its_own_tests() {
    let agent = policy::load_agent(Path::new("../policies/demo/host/agent.yaml")).unwrap();
    let loaded = policy::load(&[PathBuf::from("../policies/demo")], Some(&agent)).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let host = policy::assumed_host(&agent);
    let compiled = policy::compile(&loaded.policy, &agent, &host, &mut Ids::default()).unwrap();
    assert!(compiled.notes.is_empty(), "{}", compiled.notes);
    let failed = policy::run_tests(&loaded.policy, &agent, &host, &compiled);
    assert!(failed.is_empty(), "{failed}");
    let tests = loaded.policy.policies().values().map(|rules| rules.tests.len()).sum::<usize>();
    assert!(tests > 10, "only {tests} tests");
}

/// The fenced blocks of a page that begin with `fence`.
fn blocks<'a>(page: &'a str, fence: &'a str) -> Vec<SourceFile> {
    let found = page.split("\n```").filter_map(move |block| block.strip_prefix(fence)?.strip_prefix('\n'));
    found.enumerate().map(|(n, text)| SourceFile::new(format!("README.md block {n}"), text)).collect()
}

#[test]
fn the_readme_shows_what_works() {
    let page = fs::read_to_string("../policies/README.md").unwrap();
    let agent = policy::parse_agent(blocks(&page, "yaml agent")).unwrap_or_else(|found| panic!("{found}"));
    let mut files = blocks(&page, "yaml");
    let tables = blocks(&page, "csv");
    assert_eq!(tables.len(), 1);
    files.extend(tables.iter().map(|table| SourceFile::new(format!("{}.csv", table.name()), table.text())));
    assert!(files.len() >= 6, "only {} blocks", files.len());
    let loaded = policy::parse(files, Some(&agent)).unwrap_or_else(|found| panic!("{found}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let host = policy::assumed_host(&agent);
    let compiled = policy::compile(&loaded.policy, &agent, &host, &mut Ids::default()).unwrap();
    let failed = policy::run_tests(&loaded.policy, &agent, &host, &compiled);
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn a_policy_can_be_judged_without_a_host() {
    let loaded = policy::load(&[PathBuf::from("../policies/segmentation.yaml")], None).unwrap();
    let agent = policy::assumed_agent(&loaded.policy);
    let host = policy::assumed_host(&agent);
    let compiled = policy::compile(&loaded.policy, &agent, &host, &mut Ids::default()).unwrap();
    let failed = policy::run_tests(&loaded.policy, &agent, &host, &compiled);
    assert!(failed.is_empty(), "{failed}");
}
