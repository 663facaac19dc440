//! Policy files → messages, word by word. No privilege needed.
//!
//! Each fixture says in its first line what is wrong with it; beside it stands what an operator
//! reads. `BLESS=1 cargo test -p tests --test policy` rewrites those texts for review.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use std::net::IpAddr;

use bulkhead::policy::{
    self, AgentConfig, Bench, Compiled, Diagnostics, End, Ids, Loaded, Name, Question, SourceFile,
};
use bulkhead::tables::{Host, HostInterface};

#[path = "policy/dump.rs"]
mod dump;
#[path = "policy/naive.rs"]
mod naive;
#[path = "policy/random.rs"]
mod random;

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
    let files = blocks(&page, "yaml");
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

#[test]
fn what_is_compiled_is_shown_in_full() {
    compare_all("compiled", |fixture| {
        let loaded = load(fixture).map_err(|found| found.render(false))?;
        let (host, agent) = (host(), agent());
        Ok(match compile(&loaded, &host) {
            Err(found) => found.render(false),
            Ok(compiled) => {
                let failed = policy::run_tests(&loaded.policy, &agent, &host, &compiled);
                format!("{}{}{}", compiled.notes.render(false), failed.render(false), dump::tables(&compiled))
            }
        })
    });
}

#[test]
fn compiled_policies_allow_what_the_text_says_and_nothing_else() {
    let mut judged = (0, 0, 0);
    for seed in 0..400 {
        let mut dice = random::Dice::new(seed);
        let text = random::policy(&mut dice);
        let loaded = policy::parse(vec![SourceFile::new("random.yaml", &*text)], None)
            .unwrap_or_else(|found| panic!("seed {seed}\n{text}\n{found}"));
        let agent = agent();
        let host = Host {
            interfaces: [("acc0", 3), ("core0", 4)]
                .map(|(name, ifindex)| (name.to_owned(), HostInterface { ifindex, addresses: Vec::new() }))
                .into(),
        };
        let Ok(compiled) = policy::compile(&loaded.policy, &agent, &host, &mut Ids::default()) else {
            judged.2 += 1;
            continue;
        };
        let bench = Bench::new(&loaded.policy, &agent, &host, &compiled);
        for _ in 0..150 {
            let (question, expected) = ask(&mut dice, &loaded.policy);
            let Ok(answer) = bench.ask(&question) else { continue };
            let rule = answer.rule().map(|rule| compiled.catalogue.rules[&rule].to_string());
            assert_eq!(rule, expected, "seed {seed} {question:?} {:?}\n{text}", answer.verdict);
            assert_eq!(rule.is_some(), answer.verdict.passes());
            let near = answer.nearest().is_some_and(|near| near.address && near.port);
            assert!(near || rule.is_none(), "seed {seed} {question:?} {:?}", answer.considered);
            judged = (judged.0 + usize::from(rule.is_some()), judged.1 + 1, judged.2);
        }
    }
    // Both outcomes must be common, or the comparison says nothing.
    assert!(judged.0 > 3_000 && judged.1 - judged.0 > 30_000 && judged.2 < 200, "{judged:?}");
}

/// A question and what the policy's text answers to it.
fn ask(dice: &mut random::Dice, policy: &policy::Policy) -> (Question, Option<String>) {
    let devices: Vec<&policy::Device> = policy.devices().values().collect();
    let device = devices[dice.below(devices.len())];
    let port: policy::Port = dice.one_of(&random::PORTS).parse().unwrap();
    let remote: IpAddr = dice.one_of(&random::REMOTES).parse().unwrap();
    let end = |device: &policy::Device| End::Device(Name::new(device.name.as_str()).unwrap());
    let holds = |device: &&&policy::Device, address: IpAddr| {
        device.addresses.iter().any(|a| a.value.contains(&address))
    };
    match dice.below(4) {
        0 => {
            let other = devices[dice.below(devices.len())];
            let question = Question { from: end(device), to: end(other), port };
            (question, naive::between(policy, device, other, port))
        }
        1 => {
            let question = Question { from: End::Address(remote), to: end(device), port };
            (question, naive::outside(policy, device, remote, port, true))
        }
        _ => {
            let question = Question { from: end(device), to: End::Address(remote), port };
            let near = devices.iter().filter(|other| other.network.value == device.network.value);
            let expected = match near.clone().find(|other| holds(other, remote)) {
                Some(other) => naive::between(policy, device, other, port),
                None => naive::outside(policy, device, remote, port, false),
            };
            (question, expected)
        }
    }
}

#[test]
fn a_device_bound_to_a_missing_interface_can_enter_nowhere() {
    let loaded = load(Path::new("../policies/device-allowlist.yaml")).unwrap();
    let mut host = host();
    host.interfaces.remove("acc0");
    let compiled = compile(&loaded, &host).unwrap();
    let rows: Vec<u32> = compiled.tables.devices.values().map(|row| row.ifindex).collect();
    assert_eq!(rows, [u32::MAX]);
    assert!(compiled.notes.render(false).contains("there is no interface acc0 on this host"));
    let failed = policy::run_tests(&loaded.policy, &agent(), &host, &compiled);
    assert!(failed.is_empty(), "a missing interface must not fail tests: {failed}");
}

#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let loaded = load(Path::new("../policies/segmentation.yaml")).unwrap();
    let mut agent = agent();
    agent.tables.devices = 3;
    agent.tables.ports = 2;
    let mut ids = Ids::default();
    let found = policy::compile(&loaded.policy, &agent, &host(), &mut ids).unwrap_err();
    let problems: Vec<&str> = found.iter().map(|d| d.problem.as_str()).collect();
    assert!(problems.contains(&"the policy needs 3 devices, and the table holds 2"), "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("port ranges, and the table holds 2")), "{problems:?}");
    assert_eq!(ids, Ids::default(), "a refused policy takes no numbers");
}

#[test]
fn numbers_stay_and_order_does_not_matter() {
    let mut ids = Ids::default();
    let (agent, host) = (agent(), host());
    let one = load(Path::new("../policies/segmentation.yaml")).unwrap();
    let two = load(Path::new("../policies/device-allowlist.yaml")).unwrap();
    let first = policy::compile(&one.policy, &agent, &host, &mut ids).unwrap();
    let other = policy::compile(&two.policy, &agent, &host, &mut ids).unwrap();
    let again = policy::compile(&one.policy, &agent, &host, &mut ids).unwrap();
    assert_eq!(first.tables, again.tables);
    let device = |compiled: &Compiled| compiled.tables.devices.keys().copied().collect::<Vec<_>>();
    assert!(device(&first).iter().all(|id| !device(&other).contains(id)));
    let text = serde_json::to_string(&ids).unwrap();
    let mut stored: Ids = serde_json::from_str(&text).unwrap();
    let restarted = policy::compile(&one.policy, &agent, &host, &mut stored).unwrap();
    assert_eq!(first.tables, restarted.tables);
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
        let found = refused(text);
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
    let started = std::time::Instant::now();
    let loaded = policy::parse(files, None).unwrap();
    let parsed = started.elapsed();
    assert_eq!(loaded.policy.devices().len(), devices);
    let compiled = compile(&loaded, &Host::default()).unwrap();
    assert_eq!(
        (compiled.tables.addresses.len(), compiled.tables.profiles.len()),
        (devices, 500.min(devices))
    );
    eprintln!("{devices} devices: parsed in {parsed:?}, compiled in {:?}", started.elapsed() - parsed);
    assert!(
        started.elapsed().as_micros() < 10_000_000 + devices as u128 * 500,
        "took {:?}",
        started.elapsed()
    );
}
