//! Compiled tables: shown in full, compared with a reading of the text, stable in their numbers.

use std::net::IpAddr;
use std::path::Path;

use bulkhead::policy::{self, Bench, Compiled, End, Ids, Name, Question, SourceFile};
use bulkhead::tables::{Host, HostInterface};

use super::{agent, compare_all, compile, dump, host, load, naive, random};

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
                .map(|(name, ifindex)| {
                    (name.to_owned(), HostInterface { ifindex, ..HostInterface::default() })
                })
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
    let devices: Vec<&policy::Device> = policy.devices().values().map(std::convert::AsRef::as_ref).collect();
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
