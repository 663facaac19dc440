//! Random policies as text: small worlds in which prefixes, ports and selectors keep colliding.

use std::fmt::Write as _;

/// A small generator (xorshift64*), so that a seed is all that a failure needs to name.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    pub(crate) fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn some(&mut self, of: &[&str]) -> String {
        let many = 1 + self.below(3);
        (0..many).map(|_| self.one_of(of)).collect::<Vec<_>>().join(", ")
    }
}

pub(crate) const REMOTES: [&str; 16] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.9",
    "203.0.113.255",
    "198.51.100.1",
    "10.0.0.5",
    "10.0.0.33",
    "10.1.0.1",
    "10.2.0.7",
    "127.0.0.1",
    "224.0.0.5",
    "2001:db8::1",
    "2001:db8:0:1::1",
    "2001:db8:ffff::9",
    "fd00:0:0:1::1",
    "fe80::1",
];
pub(crate) const PORTS: [&str; 10] = [
    "tcp/22",
    "tcp/80",
    "tcp/443",
    "tcp/444",
    "tcp/65535",
    "udp/53",
    "udp/123",
    "udp/443",
    "sctp/5",
    "icmp/echo",
];
const CIDRS: [&str; 16] = [
    "0.0.0.0/0",
    "\"::/0\"",
    "203.0.113.0/24",
    "203.0.113.0/30",
    "203.0.113.1",
    "203.0.113.2/31",
    "203.0.0.0/16",
    "198.51.100.0/24",
    "10.0.0.0/8",
    "10.1.0.0/24",
    "10.2.0.0/28",
    "\"2001:db8::/32\"",
    "\"2001:db8::/64\"",
    "\"2001:db8::1\"",
    "\"fd00::/16\"",
    "192.0.0.0/2",
];
const OPENINGS: [&str; 9] =
    ["any", "tcp/any", "tcp/443", "tcp/80-443", "tcp/1-100", "udp/53", "udp/any", "icmp/echo", "sctp/1-9"];

const NETWORKS: &str = r#"apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec:
  seenOn: [{interface: acc0}, {interface: core0}]
  pools: [10.0.0.0/26, "fd00::/48"]
  infrastructure: [10.0.0.32/28, 10.1.0.0/28]
  services: {dns: [10.1.0.1, 10.0.0.33], web: {addresses: [203.0.113.9], ports: [tcp/80]}}
  never: [tcp/22]
---
kind: Network
metadata: {name: blue}
spec:
  seenOn: [{interface: acc0, vlan: 7}, {interface: core0, vlan: 7}]
  pools: [10.0.0.0/26, "fd00::/48"]
  services: {dns: [198.51.100.1], web: {addresses: [203.0.113.9], ports: [tcp/80]}}
---
kind: Segment
metadata: {name: seg-a}
spec: {members: {matchLabels: {class: a}}, never: [udp/123]}
---
kind: Segment
metadata: {name: seg-b}
spec: {members: {matchLabels: {class: b}}}
"#;

/// One policy set.
pub(crate) fn policy(dice: &mut Dice) -> String {
    let mut text = NETWORKS.to_owned();
    for n in 0..6 {
        let (network, class, site) =
            (dice.one_of(&["acme", "blue"]), dice.one_of(&["a", "b", "c"]), dice.one_of(&["north", "south"]));
        let labels = match dice.below(3) {
            0 => format!("class: {class}"),
            _ => format!("class: {class}, site: {site}"),
        };
        write!(
            text,
            "---\nkind: Device\nmetadata: {{name: d{n}, labels: {{{labels}}}}}\nspec: {{network: {network}, addresses: [10.0.0.{}, \"fd00:0:0:{n}::/64\"]}}\n",
            n + 1
        )
        .unwrap();
    }
    for n in 0..3 {
        let cidrs = dice.some(&CIDRS);
        write!(text, "---\nkind: Destination\nmetadata: {{name: dest{n}}}\nspec: {{cidrs: [{cidrs}]}}\n")
            .unwrap();
    }
    text.push_str("---\nkind: Destination\nmetadata: {name: inside}\nspec: {cidrs: [10.1.0.0/29], reaches: infrastructure}\n");
    for n in 0..4 {
        let rules: String = (0..1 + dice.below(3)).map(|rule| outside(dice, rule)).collect();
        let subject = selector(dice);
        write!(
            text,
            "---\nkind: Policy\nmetadata: {{name: p{n}}}\nspec:\n  subject: {subject}\n  allow:\n{rules}"
        )
        .unwrap();
    }
    for n in 0..2 {
        let (from, to, ports) = (selector(dice), selector(dice), dice.some(&OPENINGS));
        let same = dice.one_of(&["", ", sameLabels: [site]"]);
        write!(
            text,
            "---\nkind: Policy\nmetadata: {{name: q{n}}}\nspec:\n  between: {{initiator: {from}, responder: {to}{same}}}\n  allow: [{{name: r0, ports: [{ports}]}}]\n"
        )
        .unwrap();
    }
    text
}

fn selector(dice: &mut Dice) -> &'static str {
    dice.one_of(&[
        "{segment: seg-a}",
        "{segment: seg-b}",
        "{device: d0}",
        "{device: d1}",
        "{matchLabels: {site: north}}",
        "{matchLabels: {class: a, site: south}}",
    ])
}

fn outside(dice: &mut Dice, rule: usize) -> String {
    let ports = dice.some(&OPENINGS);
    let remotes = match dice.below(5) {
        0 => return format!("    - {{name: r{rule}, to: {{services: [{}]}}}}\n", dice.some(&["dns", "web"])),
        1 => format!("cidrs: [{}]", dice.some(&CIDRS)),
        2 => format!("destinations: [{}], services: [web]", dice.some(&["dest0", "dest1", "inside"])),
        _ => format!("destinations: [{}]", dice.some(&["dest0", "dest1", "dest2", "inside"])),
    };
    match dice.below(4) == 0 && !remotes.contains("services") {
        true => format!("    - {{name: r{rule}, inbound: true, from: {{{remotes}}}, ports: [{ports}]}}\n"),
        false => format!("    - {{name: r{rule}, to: {{{remotes}}}, ports: [{ports}]}}\n"),
    }
}
