//! A change of a few devices: what is taken up of it alone is what the whole policy comes to, and what the whole policy
//! would not have is left to it.

use std::collections::BTreeMap;

use bulkhead::policy::{
    self, AgentConfig, Amendment, Compiled, Device, Ids, Name, Policy, SourceFile, Timeline, compile_at,
    run_tests,
};
use bulkhead::reconcile::Capacity;
use bulkhead::tables::{Host, HostInterface, Touched};
use tests::generate::{Random, seed, volume};
use tests::memory::Kernel;

/// Documents of devices, by name.
type Devices = BTreeMap<String, String>;

/// Policies that look at a device by all that they can, and tests that name one, and an address.
const GROUND: &str = "\
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec:
  seenOn: [{interface: acc0}, {interface: n6}]
  pools: [10.45.0.0/16, \"fd00:45::/32\"]
  infrastructure: [10.45.9.0/24]
  mode: observe
---
kind: Network
metadata: {name: other}
spec: {seenOn: [{interface: acc1}], pools: [10.46.0.0/24], never: [tcp/23]}
---
kind: Segment
metadata: {name: meters}
spec: {members: {matchLabels: {class: meter}}}
---
kind: Segment
metadata: {name: pumps}
spec: {members: {matchLabels: {class: pump}}, mode: enforce}
---
kind: Segment
metadata: {name: big}
spec: {members: {matchLabels: {size: big}}}
---
kind: Policy
metadata: {name: metering}
spec:
  subject: {segment: meters}
  allow:
    - {name: read, to: {cidrs: [203.0.113.0/28]}, ports: [tcp/443], when: {labels: {firmware: {atLeast: \"2.4\"}}}}
    - {name: shell, to: {cidrs: [203.0.113.0/28]}, ports: [tcp/23]}
---
kind: Policy
metadata: {name: north}
spec:
  subject: {matchLabels: {site: oslo}}
  allow: [{name: ntp, to: {cidrs: [203.0.113.9]}, ports: [udp/123]}]
---
kind: Policy
metadata: {name: recording}
spec:
  between: {initiator: {matchLabels: {role: recorder}}, responder: {segment: pumps}, sameLabels: [site]}
  allow: [{name: rtsp, ports: [tcp/554]}]
---
kind: Policy
metadata: {name: one}
spec:
  subject: {device: d-0}
  allow: [{name: own, to: {cidrs: [198.51.100.7]}, ports: [tcp/22]}]
---
kind: Policy
metadata: {name: pumping}
spec:
  between: {initiator: {segment: meters}, responder: {segment: pumps}, sameLabels: [site]}
  allow: [{name: modbus, ports: [tcp/502]}]
  tests:
    - {device: d-0, opens: 198.51.100.7, port: tcp/22, expect: allow}
    - {device: d-0, opens: 10.45.0.3, port: tcp/502, expect: deny}
";

const AGENT: &str = "\
apiVersion: bulkhead/v1
kind: Agent
spec:
  interfaces:
    - {name: acc0, roles: [access], transit: drop}
    - {name: acc1, roles: [access], transit: drop}
    - {name: n6, roles: [core], transit: pass}
  tables: {devices: 64, addresses: 64}
";

const CAPACITY: Capacity = Capacity {
    addresses: 128,
    device_rows: 256,
    profiles: 512,
    rule_sets: 512,
    ranges: 4096,
    peers: 4096,
    ports: 4096,
    windows: 8,
};

/// A device whose values are taken from few, so that they collide.
fn device(random: &mut Random, name: &str) -> String {
    let network = *random.pick(&["acme", "acme", "acme", "acme", "other"]);
    let network = if random.chance(2) { "nowhere" } else { network };
    let own = if network == "other" { 46 } else { 45 };
    let third = if random.chance(3) { 9 } else { 0 };
    let mut addresses = vec![format!("10.{own}.{third}.{}", random.below(60))];
    if random.chance(33) {
        let length = if random.chance(8) { 128 } else { 64 };
        addresses.push(format!("\"fd00:45:0:{:x}::/{length}\"", random.below(40)));
    }
    let class = random.pick(&["meter", "meter", "pump", "other"]);
    let mut labels = vec![format!("class: {class}, firmware: \"2.{}\"", 3 + random.below(2))];
    if random.chance(90) {
        labels.push(format!("site: {}", random.pick(&["oslo", "bergen"])));
    }
    if random.chance(3) {
        labels.push("role: recorder".to_owned());
    }
    if random.chance(4) {
        labels.push("size: big".to_owned());
    }
    let mut more = Vec::new();
    if random.chance(50) {
        more.push(format!("profiles: [{{imsi: \"2420100000000{:02}\"}}]", random.below(80)));
    }
    if random.chance(8) {
        let interface = random.pick(&["acc0", "acc1"]);
        more.push(format!("binding: {{interface: {interface}}}"));
    }
    if random.chance(4) {
        more.push(format!("framedRoutes: [192.168.{}.0/24]", random.below(4)));
    }
    let more: String = more.iter().map(|field| format!(", {field}")).collect();
    format!(
        "kind: Device\nmetadata: {{name: {name}, labels: {{{}}}}}\nspec: {{network: {network}, addresses: [{}]{more}}}\n",
        labels.join(", "),
        addresses.join(", ")
    )
}

fn file(devices: &Devices) -> Vec<SourceFile> {
    let documents: Vec<&str> = devices.values().map(String::as_str).collect();
    vec![SourceFile::accepted("devices.yaml", documents.join("---\n"))]
}

/// Where policy is compiled.
struct Site {
    agent: AgentConfig,
    host: Host,
}

/// A policy in force.
#[derive(Clone)]
struct Whole {
    policy: Policy,
    compiled: Compiled,
    ids: Ids,
    /// Warnings and notes, and tests that fail.
    said: Vec<String>,
}

impl Site {
    fn new() -> Self {
        let agent = policy::parse_agent(vec![SourceFile::new("agent.yaml", AGENT)]).unwrap();
        let mut host = Host::default();
        for (name, ifindex) in [("acc0", 3), ("acc1", 4), ("n6", 5)] {
            let addresses = vec![format!("10.45.0.5{ifindex}/32").parse().unwrap()];
            host.interfaces
                .insert(name.to_owned(), HostInterface { ifindex, addresses, ..HostInterface::default() });
        }
        Self { agent, host }
    }

    fn whole(&self, devices: &Devices, ids: &Ids) -> Option<Whole> {
        let ground = SourceFile::new("ground.yaml", GROUND);
        let files = std::iter::once(ground).chain(file(devices)).collect();
        let loaded = policy::parse(files, Some(&self.agent)).ok()?;
        let mut ids = ids.clone();
        let compiled =
            compile_at(&loaded.policy, &self.agent, &self.host, &mut ids, &Timeline::Unknown).ok()?;
        let failed = run_tests(&loaded.policy, &self.agent, &self.host, &compiled);
        let all = loaded.warnings.iter().chain(compiled.notes.iter()).chain(failed.iter());
        let said = all.map(ToString::to_string).collect();
        Some(Whole { policy: loaded.policy, compiled, ids, said })
    }

    fn amended(&self, before: &Whole, changed: &Devices, gone: Vec<Name>) -> Option<(Whole, Touched)> {
        let files = if changed.is_empty() { Vec::new() } else { file(changed) };
        let amendment = Amendment::read(files, gone)?;
        let Whole { policy, mut compiled, mut ids, said } = before.clone();
        let after = policy.amended(&compiled, &amendment)?;
        let on = (&self.agent, &self.host);
        let touched = compiled.amend((&policy, &after), &mut ids, &amendment.names(), on)?;
        Some((Whole { policy: after, compiled, ids, said }, touched))
    }
}

impl Whole {
    /// All that can be told of it but where devices are written.
    fn told(&self) -> String {
        let Self { policy, compiled, said, .. } = self;
        let devices = policy.devices().values().map(|device| {
            let addresses: Vec<String> = device.prefixes().map(|prefix| prefix.value.to_string()).collect();
            let Device { name, network, segment, labels, profiles, binding, .. } = &**device;
            let bound = binding.as_ref().and_then(|binding| binding.interface.clone());
            format!(
                "{name} {} {segment:?} {labels:?} {addresses:?} {} {bound:?}",
                network.value,
                profiles.len()
            )
        });
        let devices: Vec<String> = devices.collect();
        let names = (&compiled.catalogue.devices, &compiled.catalogue.profiles, &compiled.catalogue.rules);
        format!("{devices:#?}\n{:#?}\n{names:#?}\n{said:#?}", compiled.tables)
    }
}

/// Nothing is left to be written then, and what is known of the tables is what they hold.
fn apply_touched(kernel: &mut Kernel, compiled: &Compiled, touched: &Touched) {
    kernel.apply_touched(&compiled.tables, touched);
    assert!(kernel.reconciler.holds(&compiled.tables));
    let [known, found] = kernel.states();
    assert_eq!(found, known);
}

#[test]
fn what_is_taken_up_of_a_few_devices_is_what_the_whole_comes_to() {
    let seed = seed(11);
    let mut random = Random::new(seed);
    let site = Site::new();
    let (mut taken, mut left, mut refused) = (0, 0, 0);
    let mut start = Devices::new();
    for _ in 0..400 {
        let name = format!("d-{}", start.len().min(44));
        let mut with = start.clone();
        with.insert(name.clone(), device(&mut random, &name));
        if site.whole(&with, &Ids::default()).is_some() {
            start = with;
        }
    }
    let (mut devices, mut whole) = (start.clone(), site.whole(&start, &Ids::default()).unwrap());
    let mut kernel = Kernel::holding(&whole.compiled.tables, CAPACITY);
    for turn in 0..volume(400) {
        let mut changed = Devices::new();
        let mut gone = Vec::new();
        for _ in 0..=random.below(2) {
            let name = format!("d-{}", random.below(50));
            match random.chance(25) {
                true if devices.contains_key(&name) && !changed.contains_key(&name) => gone.push(name),
                true => {}
                false if gone.contains(&name) => {}
                false => drop(changed.insert(name.clone(), device(&mut random, &name))),
            }
        }
        let mut after = devices.clone();
        gone.iter().for_each(|name| drop(after.remove(name)));
        after.extend(changed.clone());
        let names = gone.iter().map(|name| Name::new(name).unwrap()).collect();
        let amended = site.amended(&whole, &changed, names);
        let ids = amended.as_ref().map_or(&whole.ids, |(amended, _)| &amended.ids);
        match (site.whole(&after, ids), amended) {
            (Some(next), Some((amended, touched))) => {
                assert_eq!(amended.told(), next.told(), "seed {seed}, turn {turn}: {changed:?} {gone:?}");
                apply_touched(&mut kernel, &amended.compiled, &touched);
                (devices, whole) = (after, amended);
                taken += 1;
            }
            (Some(next), None) => {
                kernel.apply(&next.compiled.tables);
                (devices, whole) = (after, next);
                left += 1;
            }
            (None, None) => refused += 1,
            (None, Some(_)) => {
                panic!("seed {seed}, turn {turn}: it is wrong, and was taken up: {changed:?} {gone:?}")
            }
        }
    }
    println!("seed {seed}: {taken} were taken up, {left} left to the whole, {refused} refused by it");
    assert!(taken > 40 && left > 40 && refused > 40, "{taken} {left} {refused}");
}

/// Numbers of devices that went are given to those that come, whichever way they went.
#[test]
fn devices_that_come_and_go_one_by_one_never_run_out_of_numbers() {
    let site = Site::new();
    let named = |number: usize| {
        // No test names one of these.
        let address = if number == 0 { 0 } else { 10 + number % 30 };
        let spec = format!(
            "labels: {{class: meter, site: bergen, firmware: \"2.4\"}}}}\nspec: {{network: acme, addresses: [10.45.0.{address}]}}"
        );
        (format!("d-{number}"), format!("kind: Device\nmetadata: {{name: d-{number}, {spec}\n"))
    };
    let mut devices: Devices = (0..12).map(named).collect();
    let mut whole = site.whole(&devices, &Ids::default()).unwrap();
    let mut taken = 0;
    for number in 12..400 {
        // d-0 stays: a policy and tests name it.
        let gone = format!("d-{}", number - 11);
        devices.remove(&gone);
        let amended = site.amended(&whole, &Devices::new(), vec![Name::new(&gone).unwrap()]);
        whole =
            amended.map(|(amended, _)| amended).unwrap_or_else(|| site.whole(&devices, &whole.ids).unwrap());
        let (name, document) = named(number);
        devices.insert(name.clone(), document.clone());
        let amended = site.amended(&whole, &[(name, document)].into(), Vec::new());
        taken += u32::from(amended.is_some());
        let next = amended.map(|(amended, _)| amended).or_else(|| site.whole(&devices, &whole.ids));
        whole = next.unwrap_or_else(|| panic!("there is no number left for the {number}th of 12 devices"));
    }
    assert!(taken > 300, "{taken} were taken up alone");
}
