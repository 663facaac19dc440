//! Texts that nobody means well, and sizes that nobody writes by hand.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead::policy::{self, Diagnostics, SourceFile};
use bulkhead::tables::Host;

use super::compile;

/// Processor time of this thread: other tests on a busy machine do not count.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn refused(text: impl Into<String>) -> Diagnostics {
    refused_as("hostile.yaml", text)
}

fn refused_as(name: &str, text: impl Into<String>) -> Diagnostics {
    let started = processor_time();
    let found = policy::parse(vec![SourceFile::new(name, text)], None).unwrap_err();
    let taken = processor_time() - started;
    // A debug build; an optimised one takes a tenth.
    assert!(taken < Duration::from_secs(5), "took {taken:?}");
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
        let found = refused(text);
        assert!(found.has_errors(), "{name}");
        assert!(found.iter().count() <= 1000, "{name}");
        assert!(found.render(false).len() < 1 << 20, "{name}");
    }
}

#[test]
fn hostile_tables_are_refused_in_bounded_time() {
    let header = "name,network,addresses\n";
    for (name, text) in [
        ("many columns", "labels.a,".repeat(400_000)),
        ("many unknown columns", (0..100_000).map(|n| format!("k{n},")).collect()),
        ("many labels", (0..100_000).map(|n| format!("labels.k{n},")).collect()),
        ("many quotes", format!("{header}{}", "\"".repeat(4 << 20))),
        ("many open quotes", format!("{header}{}", "\"\n".repeat(1 << 20))),
        ("many commas", format!("{header}{}", ",".repeat(4 << 20))),
        ("many wrong rows", format!("{header}{}", "a,b,c\n".repeat(200_000))),
        ("many short rows", format!("{header}{}", "a\n".repeat(200_000))),
        ("one device many times", format!("{header}{}", "a,b,10.0.0.1\n".repeat(100_000))),
        ("one long value", format!("{header}a,b,{}", "1".repeat(4 << 20))),
        ("many addresses", format!("{header}a,b,{}", "10.0.0.1 ".repeat(400_000))),
        ("many lines", "\n".repeat(4 << 20)),
    ] {
        let found = refused_as("hostile.csv", text);
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
        let table = refused_as("hostile.csv", text).render(false);
        let shown = refused(text).render(false) + &table;
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

/// `FLEET=100000` measures a larger one.
#[test]
fn a_large_fleet_is_read_in_reasonable_time() {
    let devices = std::env::var("FLEET").map_or(10_000, |text| text.parse().unwrap());
    let network =
        fs::read_to_string("../policies/default-deny.yaml").unwrap().replace("10.45.0.0/16", "10.0.0.0/8");
    let text = |n: usize| {
        let (high, middle, low) = (n >> 16, (n >> 8) & 0xff, n & 0xff);
        format!(
            "---\nkind: Device\nmetadata: {{name: d-{n}, labels: {{class: meter, site: \"{}\"}}}}\nspec: {{network: acme, addresses: [10.{high}.{middle}.{low}], profiles: [{{imsi: \"{:015}\"}}]}}\n",
            n % 500,
            n + 1
        )
    };
    let rules = "---\nkind: Policy\nmetadata: {name: base}\nspec:\n  subject: {matchLabels: {class: meter}}\n  allow: [{name: a, to: {cidrs: [203.0.113.0/24]}, ports: [tcp/443]}]\n---\nkind: Policy\nmetadata: {name: mesh}\nspec:\n  between: {initiator: {matchLabels: {class: meter}}, responder: {matchLabels: {class: meter}}, sameLabels: [site]}\n  allow: [{name: a, ports: [udp/5000]}]\n";
    let fleet: Vec<String> = (0..devices).map(text).collect();
    let mut files: Vec<SourceFile> = fleet
        .chunks(20_000)
        .enumerate()
        .map(|(n, chunk)| {
            SourceFile::new(
                format!("{n}.yaml"),
                format!("apiVersion: bulkhead/v1\n{}", chunk.concat().trim_start_matches("---\n")),
            )
        })
        .collect();
    files.push(SourceFile::new("base.yaml", network + rules));
    let started = processor_time();
    let loaded = policy::parse(files, None).unwrap();
    let parsed = processor_time() - started;
    assert_eq!(loaded.policy.devices().len(), devices);
    let compiled = compile(&loaded, &Host::default()).unwrap();
    assert_eq!(
        (compiled.tables.addresses.len(), compiled.tables.profiles.len()),
        (devices, 500.min(devices))
    );
    let taken = processor_time() - started;
    eprintln!("{devices} devices: parsed in {parsed:?}, compiled in {:?}", taken - parsed);
    assert!(taken < Duration::from_secs(5) + Duration::from_micros(300) * devices as u32, "took {taken:?}");
}
