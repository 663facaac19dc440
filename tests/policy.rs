//! Policy files → messages, word by word. No privilege needed.
//!
//! Each fixture says in its first line what is wrong with it; beside it stands what an operator
//! reads. `BLESS=1 cargo test -p tests --test policy` rewrites those texts for review.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead::policy::{self, Diagnostics, SourceFile};

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

fn load(path: &Path) -> Result<policy::Loaded, Diagnostics> {
    let agent = policy::load_agent(Path::new("fixtures/policies/agent.yaml")).unwrap();
    policy::load(&[path.to_owned()], Some(&agent))
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
                Ok(loaded) => assert!(loaded.warnings.is_empty(), "{}", loaded.warnings),
                Err(found) => panic!("{found}"),
            }
        }
    }
}

fn refused(text: impl Into<String>) -> Diagnostics {
    let started = std::time::Instant::now();
    let found = policy::parse(vec![SourceFile::new("hostile.yaml", text)], None).unwrap_err();
    // A debug build on a busy machine; the release build takes a tenth.
    assert!(started.elapsed().as_secs() < 5, "took {:?}", started.elapsed());
    found
}

#[test]
fn hostile_yaml_is_refused_in_bounded_time() {
    let bomb: String =
        (1..20).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    for (name, text) in [
        ("laughs", format!("a0: &a0 lol\n{bomb}")),
        ("nested flow", "[".repeat(100_000)),
        ("nested block", (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("nested dashes", "- ".repeat(100_000)),
        ("one long scalar", format!("a: {}", "x".repeat(4 << 20))),
        ("many values", format!("a: [{}]", "[],".repeat(1 << 20))),
        ("many unknown fields", (0..100_000).map(|n| format!("k{n}: 1\n")).collect()),
        ("many duplicate keys", "a: 1\n".repeat(200_000)),
        ("many documents", "---\n".repeat(400_000)),
        ("many wrong documents", "--- []\n".repeat(100_000)),
        ("one line", format!("{{{}}}", "a: b, ".repeat(100_000))),
    ] {
        let started = std::time::Instant::now();
        let found = refused(text);
        eprintln!("{name}: {:?}", started.elapsed());
        assert!(found.has_errors(), "{name}");
        assert!(found.iter().count() <= 1000, "{name}");
        assert!(found.render(false).len() < 1 << 20, "{name}");
    }
}

#[test]
fn messages_never_carry_control_characters() {
    for text in
        ["a: \u{1b}[2J", "kind: \"\\e[2J\"", "\u{202e}a: b", "\"\\e]0;x\\a\": 1", "a\rb: 1", "a: \u{0}"]
    {
        let shown = refused(text).render(false);
        let bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!shown.contains(bad), "{shown:?}");
    }
}

#[test]
fn every_problem_has_a_form_for_machines() {
    let text =
        "apiVersion: bulkhead/v1\nkind: Destination\nmetadata: {name: a}\nspec: {cidrs: [192.0.2.1/24]}\n";
    let found = serde_json::to_value(refused(text)).unwrap();
    let first = &found["items"][0];
    assert_eq!(first["severity"], "error");
    assert_eq!(first["file"], "hostile.yaml");
    assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(4), Some(16)));
    assert_eq!(first["path"], "spec.cidrs[0]");
    assert_eq!(first["problem"], "192.0.2.1/24 has host bits set");
}

#[test]
fn files_are_read_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let problem = |path: PathBuf| {
        let found = policy::load(&[path], None).unwrap_err();
        let first = found.iter().next().unwrap().problem.clone();
        (first, found.is_unreadable())
    };
    let (text, unreadable) = problem(folder.path().join("missing.yaml"));
    assert!(text.starts_with("cannot be read") && unreadable, "{text}");
    let (text, unreadable) = problem(folder.path().to_owned());
    assert!(text.contains("no *.yaml") && !unreadable, "{text}");
    assert!(problem(write("large.yaml", &vec![b'#'; (4 << 20) + 1])).0.contains("larger than 4 MiB"));
    assert!(problem(write("latin.yaml", b"a: 1\nb: \xe6\n")).0.contains("not UTF-8: line 2"));
    assert!(problem(write("empty.yaml", b"")).0.contains("has no documents"));
    assert!(problem(write("comment.yaml", b"# nothing\n---\n")).0.contains("has no documents"));
}

#[test]
fn a_byte_order_mark_and_crlf_do_not_move_columns() {
    let text = "\u{feff}apiVersion: bulkhead/v1\r\nkind: Nework\r\nspec: {}\r\n";
    let found = refused(text);
    let at: Vec<(u32, u32)> = found.iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(at, [(2, 7)]);
}

#[test]
fn a_folder_is_read_by_name_and_hidden_files_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let example = fs::read_to_string("../policies/default-deny.yaml").unwrap();
    fs::write(folder.path().join("b.yml"), &example).unwrap();
    fs::write(folder.path().join(".a.yaml"), "not: policy").unwrap();
    fs::write(folder.path().join("a.yaml~"), "not: policy").unwrap();
    fs::create_dir(folder.path().join("c.yaml")).unwrap();
    let loaded = policy::load(&[folder.path().to_owned()], None).unwrap();
    assert_eq!(loaded.policy.networks().len(), 1);
}

#[test]
fn a_large_fleet_is_read_in_reasonable_time() {
    let devices = 20_000;
    let mut text = fs::read_to_string("../policies/default-deny.yaml").unwrap();
    for n in 0..devices {
        let (high, low) = (n / 250, n % 250 + 1);
        text.push_str(&format!(
            "---\nkind: Device\nmetadata: {{name: d-{n}, labels: {{class: meter}}}}\nspec: {{network: acme, addresses: [10.45.{high}.{low}]}}\n"
        ));
    }
    let started = std::time::Instant::now();
    let loaded = policy::parse(vec![SourceFile::new("fleet.yaml", text)], None).unwrap();
    assert_eq!(loaded.policy.devices().len(), devices);
    assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
}
