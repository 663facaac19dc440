//! Random policies, as text: what is generated went through the same reader as an operator's.

use std::fmt::Write as _;

use bulkhead::policy::{Name, Policy};

use super::{Random, known};

/// Where networks can be seen: interface, tags.
pub(super) const PLACES: [(&str, u16, u16); 16] = [
    ("acc0", 0, 0),
    ("acc0", 101, 0),
    ("acc0", 7, 9),
    ("acc1", 0, 0),
    ("acc1", 101, 0),
    ("core0", 0, 0),
    ("core0", 100, 0),
    ("core0", 100, 5),
    ("core0", 101, 0),
    ("mix0", 0, 0),
    ("mix0", 200, 0),
    ("n3", 0, 0),
    ("n3", 7, 0),
    ("s1u", 0, 0),
    ("tun0", 0, 0),
    ("tun0", 7, 0),
];

/// Where a network is seen whose devices receive by what leaves, and where it may be seen too.
const LEAVING_PLACES: [(&str, u16, u16); 3] = [("wg0", 0, 0), ("acc1", 102, 0), ("tun0", 9, 0)];

const CLASSES: [&str; 3] = ["camera", "recorder", "charger"];

/// Ports as rules name them.
const PORTS: [&str; 26] = [
    "any",
    "tcp/443",
    "tcp/443",
    "tcp/8883-8884",
    "tcp/any",
    "tcp/1-1023",
    "tcp/22-23",
    "udp/53",
    "udp/any",
    "udp/5000-5010",
    "sctp/any",
    "udp/2100-2200",
    "icmp/echo",
    "icmp/echo",
    "tcp/554",
    "udp/5683-5684",
    "gre",
    "esp",
    "6in4",
    "ah",
    "ipip",
    "udp/4789",
    "udp/4780-4789",
    "udp/1701-1702",
    "etherip",
    "l2tp",
];

/// Prefixes as rules name them.
const PREFIXES: [&str; 19] = [
    "203.0.113.0/24",
    "203.0.113.10",
    "203.0.113.128/25",
    "198.51.100.0/24",
    "198.51.100.7/32",
    "0.0.0.0/0",
    "\"::/0\"",
    "\"2001:db8:cafe::/64\"",
    "\"2001:db8::/32\"",
    "\"2001:db8:cafe::10\"",
    "10.0.0.0/8",
    "203.0.112.0/23",
    "64.0.0.0/2",
    "\"2001:db8:cafe::10/126\"",
    "\"64:ff9b::/96\"",
    "\"64:ff9b:1:2::/96\"",
    "\"2002::/16\"",
    "\"2000::/4\"",
    "192.0.2.0/24",
];

/// Where visitors come from.
const VISITORS: [&str; 6] = [
    "203.0.113.10",
    "203.0.113.0/24",
    "198.51.100.7",
    "198.51.100.0/25",
    "\"2001:db8:cafe::10\"",
    "\"2001:db8:cafe::/64\"",
];

/// Hosts of a pool, behind its first two octets.
const HOSTS: [&str; 6] = ["0.17", "0.18", "0.19", "1.0", "127.255", "254.254"];

/// What rules may name behind devices.
const BEHIND: [&str; 9] = [
    "192.168.0.0/16",
    "192.168.0.0/16",
    "192.168.1.64/26",
    "192.168.2.20",
    "10.0.0.0/8",
    "172.20.0.0/16",
    "\"::/0\"",
    "\"2001:db8:50::/44\"",
    "\"2001:db8:51:7::/64\"",
];

struct Net {
    name: &'static str,
    v4: &'static str,
    v6: &'static str,
    places: Vec<(&'static str, u16, u16)>,
    /// TEIDs where tunnels end, if they tell the network.
    teids: Option<&'static str>,
}

/// Draws a policy set.
pub(super) fn draw(random: &mut Random) -> String {
    let mut text = "apiVersion: bulkhead/v1\n".to_owned();
    let networks = networks(random);
    let mut devices = Vec::new();
    for network in &networks {
        document(&mut text, &network_text(random, network));
        for host in random.some(&HOSTS, 2, 5) {
            let name = format!("{}-{}", network.name, host.replace('.', "-"));
            document(&mut text, &device_text(random, network, &name, host));
            devices.push(name);
        }
    }
    let segments: Vec<&str> = random.some(&CLASSES, 1, 3).into_iter().copied().collect();
    for class in &segments {
        document(&mut text, &segment_text(random, class));
    }
    let destinations: Vec<String> = (0..2 + random.below(3)).map(|n| format!("dest-{n}")).collect();
    for name in &destinations {
        document(&mut text, &destination_text(random, name));
    }
    let names = Names { devices, segments, destinations };
    for number in 0..2 + random.below(5) {
        document(&mut text, &policy_text(random, &names, number));
    }
    text
}

/// The same with devices that differ in nothing but what is known of them, rules that ask for that, and grants.
pub(super) fn crowd(random: &mut Random, text: &str, policy: &Policy) -> String {
    let mut text = text.trim_end().to_owned() + "\n";
    let mut names = Names::of(policy);
    for number in 1..=CROWD {
        let name = format!("twin-{number}");
        document(
            &mut text,
            &format!(
                "kind: Device\nmetadata: {{name: {name}, labels: {{crowd: \"1\"}}}}\nspec:\n  network: acme\n  \
                 addresses: [10.45.77.{number}]"
            ),
        );
        names.devices.push(name);
    }
    let mut rules =
        "kind: Policy\nmetadata: {name: crowd}\nspec:\n  subject: {matchLabels: {crowd: \"1\"}}\n  allow:\n"
            .to_owned();
    for number in 0..2 {
        let _ = write!(
            rules,
            "    - {{name: rule-{number}, to: {{cidrs: [203.0.113.{number}]}}, ports: [tcp/443]"
        );
        let schedule = schedule(random).map(|schedule| format!(", {schedule}")).unwrap_or_default();
        let _ = writeln!(rules, ", when: {{{}{schedule}}}}}", known::when(random));
    }
    document(&mut text, rules.trim_end());
    for number in 0..random.below(3) {
        document(&mut text, &grant_text(random, &names, number));
    }
    text
}

/// Devices of a crowd.
const CROWD: u32 = 8;

/// Draws some of the policies anew, for the same networks and devices.
pub(super) fn redraw(random: &mut Random, text: &str, policy: &Policy) -> String {
    let names = Names::of(policy);
    let mut redrawn = String::new();
    for (number, part) in text.split("---\n").enumerate() {
        let anew = part.contains("kind: Policy") && random.chance(25);
        let turned = part.contains("kind: Network") && random.chance(30);
        match (anew, turned) {
            (true, _) => document(&mut redrawn, &policy_text(random, &names, number)),
            (false, true) => document(&mut redrawn, turn(part).trim_end()),
            (false, false) => document(&mut redrawn, part.trim_end()),
        }
    }
    redrawn
}

/// Begins to enforce a network that was observed, or to observe one that was enforced.
fn turn(network: &str) -> String {
    match network.contains("mode: observe") {
        true => network.replace("mode: observe", "mode: enforce"),
        false => {
            let network = network.replace("  mode: enforce\n", "");
            network.replacen("  pools:", "  mode: observe\n  pools:", 1)
        }
    }
}

fn policy_text(random: &mut Random, names: &Names, number: usize) -> String {
    let spec = if random.chance(40) { between_text(random, names) } else { rules_text(random, names) };
    format!("kind: Policy\nmetadata: {{name: policy-{number}}}\nspec:\n{spec}")
}

/// Somebody from outside, for some time around that of the traffic.
fn grant_text(random: &mut Random, names: &Names, number: usize) -> String {
    let from = random.some(&VISITORS, 1, 3).into_iter().copied().collect::<Vec<_>>().join(", ");
    let mut to = format!("device: {}", random.pick(&names.devices));
    behind(random, &mut to, 40);
    let named: Vec<&str> = PORTS.into_iter().filter(|port| *port != "any").collect();
    let ports = random.some(&named, 1, 4).into_iter().copied().collect::<Vec<_>>().join(", ");
    let minutes = 22 * 60 + 30 + 5 * random.below(60);
    let (start, end) = (moment(minutes), moment(minutes + 5 + 5 * random.below(60)));
    format!(
        "kind: Grant\nmetadata: {{name: visit-{number}}}\nspec:\n  who: {{person: Berg}}\n  \
         from: {{cidrs: [{from}]}}\n  to: {{{to}}}\n  ports: [{ports}]\n  \
         window: {{start: \"{start}\", end: \"{end}\"}}"
    )
}

struct Names {
    devices: Vec<String>,
    segments: Vec<&'static str>,
    destinations: Vec<String>,
}

impl Names {
    fn of(policy: &Policy) -> Self {
        let plain = |name: &Name| name.to_string();
        let known = |class: &&str| policy.segments().contains_key(&*format!("{class}s"));
        Self {
            devices: policy.devices().keys().map(plain).collect(),
            segments: CLASSES.into_iter().filter(known).collect(),
            destinations: policy.destinations().keys().map(plain).collect(),
        }
    }
}

fn document(text: &mut String, document: &str) {
    if text.contains("kind") {
        *text += "---\n";
    }
    *text += document;
    *text += "\n";
}

/// Two or three networks; blue may use the same addresses as acme, and green's downlink is judged where it leaves.
fn networks(random: &mut Random) -> Vec<Net> {
    let shared = random.chance(50);
    let blue = if shared { ("10.45", "fd00:45") } else { ("10.46", "fd00:46") };
    let teids = [shared || random.chance(30), !shared && random.chance(30)];
    let acme = teids[0].then_some("0x1000-0x17ff, 0x1a00");
    let blue_teids = teids[1].then_some("8192-12287");
    let mut networks = vec![
        Net { name: "acme", v4: "10.45", v6: "fd00:45", places: Vec::new(), teids: acme },
        Net { name: "blue", v4: blue.0, v6: blue.1, places: Vec::new(), teids: blue_teids },
    ];
    let whole = |network: &Net| {
        let mut places = network.places.iter();
        places.any(|place| place.0.starts_with("acc")) && places.any(|place| place.0 == "core0")
    };
    while !networks.iter().all(whole) {
        networks.iter_mut().for_each(|network| network.places.clear());
        for place in PLACES {
            if random.chance(85) {
                let owner = random.below(networks.len());
                networks[owner].places.push(place);
                // Where tunnels end several networks may be seen; with the same pools only if TEIDs tell all.
                let both = place.0 == "n3" || place.0 == "s1u" && !shared;
                if both && random.chance(60) {
                    networks[1 - owner].places.push(place);
                }
            }
        }
    }
    if random.chance(45) {
        let places =
            LEAVING_PLACES.into_iter().filter(|place| place.0 == "wg0" || random.chance(60)).collect();
        networks.push(Net { name: "green", v4: "10.47", v6: "fd00:47", places, teids: None });
    }
    networks
}

fn network_text(random: &mut Random, network: &Net) -> String {
    let Net { name, v4, v6, places, teids } = network;
    let seen = places.iter().map(|place| match teids {
        Some(teids) if has_tunnels(place.0) => format!("{{{}, teids: [{teids}]}}", place_text(place)),
        _ => format!("{{{}}}", place_text(place)),
    });
    let seen: Vec<String> = seen.collect();
    // Inside the pool or outside of it, or both.
    let inside = format!("{v4}.255.0/24");
    let infrastructure = [inside.as_str(), "10.99.0.0/24", "\"2001:db8:99::/64\""];
    let infrastructure: Vec<&str> = random.some(&infrastructure, 0, 3).into_iter().copied().collect();
    let mut dns = vec!["10.99.0.53".to_owned()];
    if infrastructure.contains(&inside.as_str()) {
        dns.push(format!("{v4}.255.53"));
    }
    let mut text = format!(
        "kind: Network\nmetadata: {{name: {name}}}\nspec:\n  seenOn: [{}]\n  pools: [{v4}.0.0/16, \"{v6}::/32\"]\n",
        seen.join(", ")
    );
    let _ = writeln!(text, "  infrastructure: [{}]", infrastructure.join(", "));
    let _ = writeln!(text, "  services:\n    dns: [{}]", dns.join(", "));
    let _ = writeln!(
        text,
        "    broker: {{addresses: [10.99.0.88, \"2001:db8:99::88\"], ports: [tcp/8883, udp/5683-5684]}}"
    );
    never(random, &mut text);
    timeouts(random, &mut text);
    if random.chance(15) {
        text += "  fragments: drop\n";
    }
    mode(random, &mut text, &["mode: observe", "mode: observe", "mode: enforce", "", ""]);
    if random.chance(30) {
        text += "  ipOptions: pass\n";
    }
    // By what was drawn already, so that a seed's worlds stay what they were.
    if text.len().is_multiple_of(2) {
        text += "  forwarding: xdp\n";
    }
    text
}

/// A line of the spec, or none.
fn mode(random: &mut Random, text: &mut String, lines: &[&str]) {
    let line = random.pick(lines);
    if !line.is_empty() {
        let _ = writeln!(text, "  {line}");
    }
}

/// Around the times that pass between frames.
fn timeouts(random: &mut Random, text: &mut String) {
    const ALL: [&str; 12] = [
        "tcpHalfOpen: 30s",
        "tcpEstablished: 5m",
        "tcpEstablished: 2h",
        "tcpClosing: 1m",
        "tcpClosing: 2s",
        "udp: 10m",
        "udp: 1m",
        "udpUnanswered: 30s",
        "udpUnanswered: 4m",
        "icmp: 30s",
        "sctp: 1m",
        "portless: 5m",
    ];
    let most = if random.chance(40) { 4 } else { 0 };
    let chosen = random.some(&ALL, 0, most);
    let mut keys = std::collections::BTreeSet::new();
    let chosen: Vec<&str> =
        chosen.into_iter().copied().filter(|own| keys.insert(own.split(':').next())).collect();
    if !chosen.is_empty() {
        let _ = writeln!(text, "  timeouts: {{{}}}", chosen.join(", "));
    }
}

fn never(random: &mut Random, text: &mut String) {
    if random.chance(40) {
        let ports = random.some(
            &[
                "tcp/23",
                "tcp/445",
                "udp/5005",
                "icmp/echo",
                "tcp/8880-8883",
                "sctp/any",
                "gre",
                "udp/4000-5000",
            ],
            1,
            2,
        );
        let ports: Vec<&str> = ports.into_iter().copied().collect();
        let _ = writeln!(text, "  never: [{}]", ports.join(", "));
    }
}

/// True where GTP-U tunnels end.
pub(super) fn has_tunnels(interface: &str) -> bool {
    matches!(interface, "n3" | "s1u")
}

fn place_text((interface, vlan, inner): &(&str, u16, u16)) -> String {
    let mut text = format!("interface: {interface}");
    if *vlan > 0 {
        let _ = write!(text, ", vlan: {vlan}");
    }
    if *inner > 0 {
        let _ = write!(text, ", innerVlan: {inner}");
    }
    text
}

fn device_text(random: &mut Random, network: &Net, name: &str, host: &str) -> String {
    let Net { v4, v6, places, teids, .. } = network;
    let mut addresses = vec![format!("{v4}.{host}")];
    let subnet = host.rsplit('.').next().unwrap_or_default();
    match random.below(3) {
        0 => addresses.push(format!("\"{v6}:0:{subnet}::/64\"")),
        1 => addresses.push(format!("\"{v6}:0:{subnet}::1\"")),
        _ => {}
    }
    let index = HOSTS.iter().position(|known| *known == host).unwrap_or_default();
    addresses.extend(own_prefixes(random, network, index, subnet));
    let mut labels = vec![format!("class: {}", random.pick(&CLASSES))];
    if random.chance(80) {
        labels.push(format!("site: {}", random.pick(&["oslo", "bergen"])));
    }
    if random.chance(70) {
        labels.push(format!("firmware: \"{}\"", random.pick(&known::FIRMWARES)));
    }
    let mut text = format!(
        "kind: Device\nmetadata: {{name: {name}, labels: {{{}}}}}\nspec:\n  network: {}\n  addresses: [{}]\n",
        labels.join(", "),
        network.name,
        addresses.join(", ")
    );
    if random.chance(30) {
        text += "  imei: \"350000000000017\"\n";
    }
    let lans = lans(random, network, index, subnet);
    if !lans.is_empty() {
        let _ = writeln!(text, "  framedRoutes: [{}]", lans.join(", "));
    }
    if places.iter().any(|place| has_tunnels(place.0)) && random.chance(25) {
        let first = teids.map_or("0x5000", |teids| if teids.starts_with('8') { "8193" } else { "0x1a00" });
        let _ = writeln!(text, "  teid: {first}");
    } else if random.chance(40) {
        let access: Vec<_> = places.iter().filter(|place| !matches!(place.0, "core0" | "tun0")).collect();
        let place = random.pick(&access);
        let mut parts = vec![place_text(place)];
        if random.chance(30) {
            parts = vec![format!("interface: {}", place.0)];
        }
        if random.chance(50) {
            parts.push(format!("mac: \"02:00:00:00:00:{:02x}\"", 0x10 + random.below(2)));
        }
        let _ = writeln!(text, "  binding: {{{}}}", parts.join(", "));
    }
    text
}

/// Prefixes of lengths that no lookup of an address alone finds; nobody else has them.
fn own_prefixes(random: &mut Random, Net { v4, v6, .. }: &Net, index: usize, subnet: &str) -> Vec<String> {
    let all = [
        format!("{v4}.3.{}/28", 16 * index),
        format!("\"{v6}:{}000::/36\"", index + 1),
        format!("\"{v6}:0:{subnet}:8000::/65\""),
    ];
    let most = if random.chance(40) { 2 } else { 0 };
    random.some(&all, 0, most).into_iter().cloned().collect()
}

/// What lies behind a device: in the pool, outside of it, and one inside another.
fn lans(random: &mut Random, Net { v4, v6, .. }: &Net, index: usize, subnet: &str) -> Vec<String> {
    // Networks that share pools share LANs too; others may be told apart by nothing but addresses.
    let apart = match *v4 {
        "10.45" => 0,
        "10.46" => 8,
        _ => 16,
    };
    let lan = index + apart;
    let all = [
        format!("192.168.{lan}.0/24"),
        format!("192.168.{lan}.64/26"),
        format!("{v4}.200.{}/27", 32 * index),
        format!("172.20.{apart}.{}", index + 1),
        format!("\"2001:db8:5{lan:x}::/48\""),
        format!("\"2001:db8:5{lan:x}:7::/64\""),
        format!("\"2001:db8:6{lan:x}::1\""),
        format!("\"{v6}:0:{subnet}:4000::/66\""),
    ];
    let most = if random.chance(65) { 5 } else { 0 };
    random.some(&all, 0, most).into_iter().cloned().collect()
}

fn segment_text(random: &mut Random, class: &str) -> String {
    let mut text = format!(
        "kind: Segment\nmetadata: {{name: {class}s}}\nspec:\n  members: {{matchLabels: {{class: {class}}}}}\n"
    );
    never(random, &mut text);
    let canaries = ["canary: {matchLabels: {site: oslo}}", "canary: {share: 100%}", "canary: {share: 0%}"];
    mode(random, &mut text, &[["mode: enforce", "", "", ""].as_slice(), &canaries].concat());
    if random.chance(70) {
        let service = if random.chance(40) { "services: [broker], " } else { "" };
        let prefixes: Vec<&str> = random.some(&PREFIXES, 2, 6).into_iter().copied().collect();
        let ports: Vec<&str> = random.some(&PORTS, 2, 6).into_iter().copied().collect();
        let (prefixes, ports) = (prefixes.join(", "), ports.join(", "));
        let _ = writeln!(text, "  repair: {{to: {{{service}cidrs: [{prefixes}]}}, ports: [{ports}]}}");
    }
    limits(random, &mut text);
    text
}

/// So low that they are met, and such that a second divides by them.
fn limits(random: &mut Random, text: &mut String) {
    const ALL: [&str; 8] = [
        "packetsPerSecond: 1",
        "packetsPerSecond: 4",
        "rate: 1kbit",
        "rate: 4kbit",
        "newFlowsPerSecond: 1",
        "newFlowsPerSecond: 2",
        "flows: 2",
        "flows: 5",
    ];
    let [least, most] = if random.chance(50) { [1, 3] } else { [0, 0] };
    let chosen = random.some(&ALL, least, most);
    let mut keys = std::collections::BTreeSet::new();
    let chosen: Vec<&str> =
        chosen.into_iter().copied().filter(|own| keys.insert(own.split(':').next())).collect();
    if !chosen.is_empty() {
        let _ = writeln!(text, "  limits: {{{}}}", chosen.join(", "));
    }
}

fn destination_text(random: &mut Random, name: &str) -> String {
    let prefixes: Vec<&str> = random.some(&PREFIXES, 1, 3).into_iter().copied().collect();
    format!("kind: Destination\nmetadata: {{name: {name}}}\nspec: {{cidrs: [{}]}}\n", prefixes.join(", "))
}

fn subject(random: &mut Random, names: &Names) -> String {
    match random.below(4) {
        0 => format!("{{device: {}}}", random.pick(&names.devices)),
        1 => format!("{{matchLabels: {{site: {}}}}}", random.pick(&["oslo", "bergen"])),
        2 => format!("{{matchLabels: {{class: {}}}}}", random.pick(&CLASSES)),
        _ => format!("{{segment: {}s}}", random.pick(&names.segments)),
    }
}

fn rules_text(random: &mut Random, names: &Names) -> String {
    let mut text = format!("  subject: {}\n  allow:\n", subject(random, names));
    for number in 0..1 + random.below(3) {
        let inbound = random.chance(35);
        let mut remotes = Vec::new();
        let prefixes: Vec<&str> = random.some(&PREFIXES, 1, 2).into_iter().copied().collect();
        let destinations: Vec<&str> =
            random.some(&names.destinations, 0, 2).into_iter().map(String::as_str).collect();
        let services = !inbound && random.chance(40);
        if services {
            remotes.push(format!("services: [{}]", random.pick(&["dns", "broker", "dns, broker"])));
        }
        if !services || random.chance(50) {
            remotes.push(format!("cidrs: [{}]", prefixes.join(", ")));
        }
        if !destinations.is_empty() {
            remotes.push(format!("destinations: [{}]", destinations.join(", ")));
        }
        let plain = remotes.len() > usize::from(services);
        let way = if inbound { "inbound: true, from" } else { "to" };
        let _ = write!(text, "    - {{name: rule-{number}, {way}: {{{}}}", remotes.join(", "));
        behind(random, &mut text, if inbound { 55 } else { 0 });
        finish_rule(random, &mut text, plain);
    }
    text
}

fn between_text(random: &mut Random, names: &Names) -> String {
    let (initiator, responder) = (subject(random, names), subject(random, names));
    let same = if random.chance(55) { ", sameLabels: [site]" } else { "" };
    let mut text = format!("  between: {{initiator: {initiator}, responder: {responder}{same}}}\n  allow:\n");
    for number in 0..1 + random.below(2) {
        let _ = write!(text, "    - {{name: rule-{number}");
        behind(random, &mut text, 30);
        finish_rule(random, &mut text, true);
    }
    text
}

fn behind(random: &mut Random, text: &mut String, percent: usize) {
    if random.chance(percent) {
        let prefixes: Vec<&str> = random.some(&BEHIND, 1, 3).into_iter().copied().collect();
        let _ = write!(text, ", behind: [{}]", prefixes.join(", "));
    }
}

fn finish_rule(random: &mut Random, text: &mut String, ports: bool) {
    if ports {
        let ports: Vec<&str> = random.some(&PORTS, 1, 4).into_iter().copied().collect();
        let _ = write!(text, ", ports: [{}]", ports.join(", "));
    }
    if random.chance(30) {
        let _ = write!(text, ", idle: {}", random.pick(&["30s", "5m", "2h"]));
    }
    let schedule = schedule(random);
    let known = random.chance(20).then(|| known::when(random));
    let parts: Vec<String> = known.map(str::to_owned).into_iter().chain(schedule).collect();
    if !parts.is_empty() {
        let _ = write!(text, ", when: {{{}}}", parts.join(", "));
    }
    edges(random, text);
    *text += "}\n";
}

/// Hours around the time of the traffic; always at multiples of five minutes.
fn schedule(random: &mut Random) -> Option<String> {
    const SCHEDULES: [&str; 10] = [
        "between: \"22:00-06:00\", timezone: Europe/Oslo",
        "days: [fri], between: \"22:00-00:30\", timezone: Europe/Oslo",
        "days: [sat-sun], between: \"00:15-00:50\", timezone: Europe/Oslo",
        "days: [mon-fri], timezone: Europe/Oslo",
        "between: \"23:00-24:00\", timezone: Europe/Oslo",
        "between: \"18:00-17:45\", timezone: America/New_York",
        "days: [sat, mon-thu], between: \"04:20-04:50\", timezone: Asia/Kathmandu",
        "between: \"04:00-12:00\", timezone: Asia/Kathmandu, except: [\"2026-11-29\", \"2026-11-28\"]",
        "days: [fri], between: \"20:00-02:00\", timezone: UTC, except: [\"2026-11-26\"]",
        "days: [tue-wed], between: \"08:00-09:00\", timezone: Australia/Lord_Howe",
    ];
    if !random.chance(25) {
        return None;
    }
    let fixed = random.chance(40).then(|| (*random.pick(&SCHEDULES)).to_owned());
    let schedule = fixed.unwrap_or_else(|| {
        let (from, to) = (oslo(random, 0), oslo(random, 12));
        let free = random.chance(25).then(|| random.pick(&["2026-11-27", "2026-11-28"]));
        let except = free.map(|date| format!(", except: [\"{date}\"]")).unwrap_or_default();
        format!("between: \"{from}-{to}\", timezone: Europe/Oslo{except}")
    });
    Some(format!("schedule: {{{schedule}}}"))
}

/// A time of day in Oslo in the ten hours of the traffic, some steps of five minutes on.
fn oslo(random: &mut Random, after: usize) -> String {
    let minutes = 23 * 60 + 30 + 5 * (after + random.below(100));
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// Where a rule begins and ends, around the time of the traffic.
fn edges(random: &mut Random, text: &mut String) {
    for (edge, percent) in [("notBefore", 4), ("notAfter", 10)] {
        if random.chance(percent) {
            let at = moment(22 * 60 + 30 + 5 * random.below(80));
            let _ = write!(text, ", {edge}: \"{at}\"");
        }
    }
}

/// Minutes after the midnight before the traffic, in UTC.
fn moment(minutes: usize) -> String {
    let (day, hour, minute) = (27 + minutes / 1440, minutes / 60 % 24, minutes % 60);
    format!("2026-11-{day}T{hour:02}:{minute:02}:00Z")
}
