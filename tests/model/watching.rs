//! Where nobody judges: who is told that device to device goes past this host, and what an interface lets by that only
//! looks on.

use bulkhead::policy::lateral_gaps;
use bulkhead::tables::Image;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use jiff::{SignedDuration, Timestamp};
use tests::frame::{Frame, eth};
use tests::generate::{Random, SLEPT, STARTED, World, seed};
use tests::oracle::{Flaw, Oracle};

/// Worlds with a packet core of which this or that was said, or nothing.
const WORLDS: usize = 60;

#[test]
fn networks_whose_devices_may_be_switched_unseen_are_named() {
    let mut random = Random::new(seed(41));
    let (mut told, mut noticed) = (0, 0);
    for _ in 0..WORLDS {
        let world = World::draw(&mut random);
        let World { policy, agent, host, .. } = &world;
        let gaps = lateral_gaps(policy, agent, host).into_iter();
        let gaps: Vec<_> = gaps.map(|gap| (gap.network.to_string(), gap.interface)).collect();
        assert_eq!(gaps, Oracle::new(policy, agent, host).unseen(), "{agent:?}\n{}", world.text);
        let deaf = Oracle::new(policy, agent, host).with_flaw(Flaw::ForgetsHairpin).unseen();
        noticed += usize::from(deaf != gaps);
        told += gaps.len();
    }
    eprintln!("told {told} times; who does not listen was noticed {noticed} times");
    assert!(told > 0 && noticed > 0, "nothing was compared");
}

const POLICY: &str = r"
apiVersion: bulkhead/v1
kind: Network
metadata: {name: acme}
spec: {seenOn: [{interface: n3}, {interface: tun0}, {interface: tun0, vlan: 7}, {interface: core0}], pools: [10.45.0.0/16]}
---
kind: Device
metadata: {name: a}
spec: {network: acme, addresses: [10.45.0.17]}
";

const TUN0: u32 = 61;
const ACC0: u32 = 11;
const SECOND: u64 = 1_000_000_000;

/// On a VLAN that shows no network nobody can say whose devices speak, and a witness is no reason to cut it off.
#[test]
fn a_witness_lets_by_what_no_network_is_named_for_and_rings_only_where_one_is() {
    let image = Image::new(&World::written(POLICY).compiled.tables);
    let device = |frame: Frame| frame.ip([10, 45, 0, 17], [203, 0, 113, 10]).udp(1, 2).build();
    let rings = Verdict::Pass(Pass::WitnessAlarm);
    let looks = Verdict::Pass(Pass::Witness);
    for (frame, wanted) in [
        (device(eth()), rings),
        (device(eth().vlan(7)), rings),
        (device(eth().vlan(8)), looks),
        (device(eth().service_vlan(7).vlan(9)), looks),
        (device(eth().vlan(7).vlan(8).vlan(9)), looks),
        (eth().vlan(8).ether_type(0x88f7).payload(&[0; 46]).build(), looks),
        (eth().vlan(8).payload(&[0x45]).build(), looks),
        (vec![0; 9], looks),
    ] {
        assert_eq!(image.judge(&frame, TUN0).0, wanted, "{frame:02x?}");
    }
}

/// A rule that ends a hundred seconds after the world's clock has started.
fn ends_at_100() -> String {
    let end = STARTED.parse::<Timestamp>().expect("a moment") + SignedDuration::from_secs(100);
    format!(
        r#"
apiVersion: bulkhead/v1
kind: Network
metadata: {{name: acme}}
spec: {{seenOn: [{{interface: acc0}}, {{interface: tun0}}, {{interface: core0}}], pools: [10.45.0.0/16]}}
---
kind: Device
metadata: {{name: a}}
spec: {{network: acme, addresses: [10.45.0.17], binding: {{interface: acc0}}}}
---
kind: Policy
metadata: {{name: p}}
spec:
  subject: {{device: a}}
  allow:
    - {{name: visit, to: {{cidrs: [203.0.113.10]}}, ports: [udp/2], notAfter: "{end}"}}
"#
    )
}

/// What was let through just before a window's end comes by just after it.
#[test]
fn a_witness_rings_of_nothing_that_was_on_its_way_when_a_window_ended() {
    let frame = eth().ip([10, 45, 0, 17], [203, 0, 113, 10]).udp(1, 2).build();
    let rings = Verdict::Pass(Pass::WitnessAlarm);
    let looks = Verdict::Pass(Pass::Witness);
    for swept in [false, true] {
        let image = Image::new(&World::written(&ends_at_100()).compiled.tables);
        let seen = |now: u64, ifindex: u32| {
            image.set_now(now, now + SLEPT);
            if swept {
                image.sweep_flows();
            }
            image.judge(&frame, ifindex).0
        };
        assert_eq!(seen(100 * SECOND - 2_000_000, ACC0), Verdict::Pass(Pass::Opened));
        assert_eq!(seen(100 * SECOND - 1_000_000, TUN0), looks);
        assert_eq!(seen(100 * SECOND + 5_000_000, TUN0), looks, "it was on its way; swept: {swept}");
        assert_eq!(seen(100 * SECOND + 6_000_000, ACC0), Verdict::Drop(DropReason::ConditionTime));
        assert_eq!(seen(102 * SECOND, TUN0), rings, "nothing is on its way for so long; swept: {swept}");
    }
}
