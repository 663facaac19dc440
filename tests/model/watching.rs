//! Where nobody judges: who is told that device to device goes past this host, and what an interface lets by that only
//! looks on.

use bulkhead::policy::lateral_gaps;
use bulkhead::tables::Image;
use bulkhead_common::verdict::{Pass, Verdict};
use tests::frame::{Frame, eth};
use tests::generate::{Random, World, seed};
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
