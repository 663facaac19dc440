//! Interfaces of the host → where packets may enter and leave past the stack; pure.

use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::abi::{Leg, SubinterfaceKey};
use bulkhead_common::wire::ethernet;

use super::View;
use crate::datapath::Legs;
use crate::netlink::Link;

/// Queues that keep the order of packets and nothing else: what goes past them is not missed.
const PLAIN_QUEUES: [&str; 8] =
    ["noqueue", "mq", "pfifo", "pfifo_fast", "pfifo_head_drop", "fq", "fq_codel", "noop"];

/// Every leg, as an entry where its frames are judged in the driver, as an exit where its driver sends them.
pub(super) fn all(view: &View<'_>) -> Legs {
    let mut legs = Legs::new();
    for link in view.links.values() {
        let Some(leg) = leg(link, view).filter(|_| shaper(link, view).is_none()) else { continue };
        // A program of a VLAN interface's own sees only what the stack takes there.
        let is_last = leg.port == link.ifindex || !link.has_xdp;
        if is_last && view.judged.contains(&leg.port) && view.drivers.redirecting.contains(&leg.port) {
            let [outer, inner] = leg.tags.map(|tag| tag as u16);
            legs.insert(SubinterfaceKey::entry(leg.port, outer, inner), leg);
        }
        if view.drivers.sending.contains(&leg.port) && fits(link, &leg, view) {
            legs.insert(SubinterfaceKey::exit(leg.ifindex), leg);
        }
    }
    legs
}

/// True of a key that stands for what leaves.
pub(super) const fn is_exit(key: &SubinterfaceKey) -> bool {
    key.ifindex() & EGRESS != 0
}

/// Interfaces that are judged and yet not on the fast way, with the reason.
pub(super) fn left_out(view: &View<'_>) -> Vec<String> {
    let judged = view.judged.iter().filter_map(|ifindex| view.links.get(ifindex));
    let long = view.links.values().filter(|link| leg(link, view).is_some_and(|leg| !fits(link, &leg, view)));
    let long = long.map(|Link { name, .. }| {
        format!(
            "packets as long as the MTU of {name} are with its VLAN tags too long for XDP, so what leaves by it goes \
             through the stack: raise the MTU of what is below it by 4"
        )
    });
    judged.flat_map(|link| reasons(link, view)).chain(long).collect()
}

fn reasons(link: &Link, view: &View<'_>) -> Vec<String> {
    let name = &link.name;
    if link.master != 0 {
        return vec![format!(
            "{name} belongs to a bridge, bond or VRF, so nothing there is forwarded by XDP"
        )];
    }
    if let Some(kind) = shaper(link, view) {
        return vec![format!("{name} has traffic control ({kind}), so nothing there is forwarded by XDP")];
    }
    let mut reasons = Vec::new();
    if !view.drivers.redirecting.contains(&link.ifindex) {
        reasons.push(format!(
            "the driver of {name} lets no program send frames on, so what enters by it goes through the stack"
        ));
    }
    if !view.drivers.sending.contains(&link.ifindex) {
        let advice = match link.kind.as_str() {
            "veth" => {
                "switch GRO on at its other end (`ethtool -K PEER gro on`), or attach an XDP program there"
            }
            _ => "its driver cannot",
        };
        reasons.push(format!(
            "{name} takes no frames from XDP, so what leaves by it goes through the stack: {advice}"
        ));
    }
    reasons
}

/// The leg that an interface is, if it is Ethernet with up to two VLAN tags, and belongs to nothing else.
fn leg(link: &Link, view: &View<'_>) -> Option<Leg> {
    let parent = |of: &Link| view.links.get(&of.parent).filter(|link| link.master == 0);
    // A VLAN interface that is down takes nothing, and the routing table does not look at where packets enter.
    let mac = link.mac.filter(|_| link.master == 0 && link.is_up)?;
    let plain = Leg { ifindex: link.ifindex, port: link.ifindex, tags: [0; 2], mac, _pad: [0; 2] };
    if link.kind != "vlan" {
        return Some(plain);
    }
    let (own, below) = (tag(link)?, parent(link)?);
    if below.kind != "vlan" {
        return Some(Leg { port: below.ifindex, tags: [own, 0], ..plain });
    }
    let port = parent(below).filter(|port| port.kind != "vlan")?;
    Some(Leg { port: port.ifindex, tags: [tag(below)?, own], ..plain })
}

/// The tag that a VLAN interface puts before its frames; nothing if it differs from frame to frame.
fn tag(link: &Link) -> Option<u32> {
    let vlan = link.vlan.filter(|vlan| vlan.number != 0 && !vlan.has_priorities)?;
    Some(u32::from(vlan.ether_type) << 16 | u32::from(vlan.number))
}

/// True if the kernel lets XDP send the longest packet of an interface with its tags: it leaves room for one beyond the
/// MTU of what sends (`xdp_ok_fwd_dev`), where the stack asks for none.
fn fits(link: &Link, leg: &Leg, view: &View<'_>) -> bool {
    let port = view.links.get(&leg.port);
    let tags = leg.depth() * ethernet::VLAN_LEN;
    port.is_some_and(|port| {
        u64::from(link.mtu) + u64::from(tags) <= u64::from(port.mtu) + u64::from(ethernet::VLAN_LEN)
    })
}

/// What at an interface, at one below or at a member of a bond does more with packets than send them in their order.
fn shaper<'a>(link: &Link, view: &'a View<'_>) -> Option<&'a str> {
    let kinds = view.queues.get(&link.ifindex).map(Vec::as_slice).unwrap_or_default();
    let own = kinds.iter().map(String::as_str).find(|kind| !PLAIN_QUEUES.contains(kind));
    let below = || view.links.get(&link.parent).filter(|_| link.kind == "vlan");
    let member = || {
        let mut all =
            view.links.values().filter(|member| link.kind == "bond" && member.master == link.ifindex);
        all.find_map(|member| shaper(member, view))
    };
    own.or_else(|| shaper(below()?, view)).or_else(member)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::netlink::{Drivers, Vlan};

    fn link(ifindex: u32, name: &str) -> Link {
        let mac = Some([2, 0, 0, 0, 0, ifindex as u8]);
        Link { ifindex, name: name.to_owned(), mac, mtu: 1500, is_up: true, ..Link::default() }
    }

    fn vlan(ifindex: u32, parent: u32, ether_type: u16, number: u16) -> Link {
        let vlan = Some(Vlan { ether_type, number, has_priorities: false });
        Link { kind: "vlan".to_owned(), parent, vlan, mtu: 1496, ..link(ifindex, &format!("v{number}")) }
    }

    struct Host {
        links: BTreeMap<u32, Link>,
        queues: BTreeMap<u32, Vec<String>>,
        drivers: Drivers,
        judged: BTreeSet<u32>,
    }

    impl Host {
        fn of(links: Vec<Link>) -> Self {
            let all: BTreeSet<u32> = [2, 3].into();
            let drivers = Drivers { redirecting: all.clone(), sending: all.clone() };
            let links = links.into_iter().map(|link| (link.ifindex, link)).collect();
            Self { links, queues: BTreeMap::new(), drivers, judged: all }
        }

        fn view(&self) -> View<'_> {
            let Self { links, queues, drivers, judged } = self;
            View { links, queues, drivers, judged }
        }

        fn legs(&self) -> Legs {
            all(&self.view())
        }
    }

    #[test]
    fn an_interface_enters_and_leaves_by_itself() {
        let legs = Host::of(vec![link(2, "n3")]).legs();
        let leg = Leg { ifindex: 2, port: 2, tags: [0; 2], mac: [2, 0, 0, 0, 0, 2], _pad: [0; 2] };
        let expected = [(SubinterfaceKey::entry(2, 0, 0), leg), (SubinterfaceKey::exit(2), leg)];
        assert_eq!(legs, expected.into());
    }

    #[test]
    fn a_vlan_leaves_with_its_tags_by_what_is_below() {
        let host = Host::of(vec![link(2, "n6"), vlan(4, 2, 0x88a8, 100), vlan(5, 4, 0x8100, 7)]);
        let legs = host.legs();
        let one = legs[&SubinterfaceKey::exit(4)];
        assert_eq!((one.ifindex, one.port, one.tags), (4, 2, [0x88a8_0064, 0]));
        let two = legs[&SubinterfaceKey::entry(2, 100, 7)];
        assert_eq!((two.ifindex, two.port, two.tags), (5, 2, [0x88a8_0064, 0x8100_0007]));
        assert_eq!(legs.len(), 6);
    }

    #[test]
    fn what_is_not_judged_is_no_entry_and_what_cannot_send_no_exit() {
        let mut host = Host::of(vec![link(2, "n3"), link(3, "n6"), vlan(4, 3, 0x8100, 9)]);
        host.judged = [3].into();
        host.drivers.sending = [2].into();
        let keys: Vec<SubinterfaceKey> = host.legs().into_keys().collect();
        let expected =
            [SubinterfaceKey::entry(3, 0, 0), SubinterfaceKey::entry(3, 9, 0), SubinterfaceKey::exit(2)];
        assert_eq!(keys, expected);
        assert!(left_out(&host.view()).iter().any(|note| note.starts_with("n6 takes no frames from XDP")));
        host.drivers.redirecting.clear();
        let keys: Vec<SubinterfaceKey> = host.legs().into_keys().collect();
        assert_eq!(keys, [SubinterfaceKey::exit(2)]);
        assert!(
            left_out(&host.view()).iter().any(|note| note.starts_with("the driver of n6 lets no program"))
        );
    }

    #[test]
    fn members_tunnels_and_what_is_shaped_go_through_the_stack() {
        let member = Link { master: 9, ..link(2, "p0") };
        let tunnel = Link { mac: None, ..link(3, "tun") };
        assert!(Host::of(vec![member.clone(), tunnel]).legs().is_empty());
        assert!(Host::of(vec![member, vlan(4, 2, 0x8100, 9)]).legs().is_empty(), "a VLAN of a member");
        let mut host = Host::of(vec![link(2, "n6"), vlan(4, 2, 0x8100, 9)]);
        host.queues = [(2, vec!["mq".to_owned(), "fq_codel".to_owned()])].into();
        assert_eq!(host.legs().len(), 4);
        for kind in ["clsact", "htb", "ingress", "netem"] {
            host.queues = [(2, vec!["noqueue".to_owned(), kind.to_owned()])].into();
            assert!(host.legs().is_empty(), "{kind}");
            assert!(left_out(&host.view())[0].contains(kind));
        }
    }

    #[test]
    fn what_is_down_is_nothing_and_what_gets_too_long_no_exit() {
        let below = Link { is_up: false, ..vlan(4, 2, 0x88a8, 100) };
        let long = Link { mtu: 1500, ..vlan(5, 4, 0x8100, 7) };
        let host = Host::of(vec![link(2, "n6"), below, long]);
        let keys: Vec<SubinterfaceKey> = host.legs().into_keys().collect();
        let expected =
            [SubinterfaceKey::entry(2, 0, 0), SubinterfaceKey::entry(2, 100, 7), SubinterfaceKey::exit(2)];
        assert_eq!(keys, expected);
        assert!(left_out(&host.view())[0].starts_with("packets as long as the MTU of v7"));
    }

    #[test]
    fn what_is_done_at_members_of_a_bond_and_by_programs_of_vlans_is_not_missed() {
        let bond = Link { kind: "bond".to_owned(), ..link(2, "bond0") };
        let mut host = Host::of(vec![bond, Link { master: 2, ..link(5, "p0") }]);
        assert_eq!(host.legs().len(), 2);
        host.queues = [(5, vec!["htb".to_owned()])].into();
        assert!(host.legs().is_empty());
        let watched = Link { has_xdp: true, ..vlan(4, 2, 0x8100, 9) };
        let legs = Host::of(vec![Link { has_xdp: true, ..link(2, "n6") }, watched]).legs();
        assert!(!legs.contains_key(&SubinterfaceKey::entry(2, 9, 0)) && legs.len() == 3);
    }

    #[test]
    fn a_vlan_of_many_priorities_or_three_tags_goes_through_the_stack() {
        let mut mapped = vlan(4, 2, 0x8100, 9);
        mapped.vlan = mapped.vlan.map(|vlan| Vlan { has_priorities: true, ..vlan });
        let deep = [vlan(5, 2, 0x8100, 1), vlan(6, 5, 0x8100, 2), vlan(7, 6, 0x8100, 3)];
        let legs = Host::of([vec![link(2, "n6"), mapped], deep.to_vec()].concat()).legs();
        let found: BTreeSet<u32> = legs.values().map(|leg| leg.ifindex).collect();
        assert_eq!(found, [2, 5, 6].into());
    }
}
