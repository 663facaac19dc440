//! VLAN interfaces at the other end: a tag that its driver hands over beside the frame is not there for XDP.

use anyhow::{Result, ensure};
use bulkhead::datapath::{Hook, keep_vlan_tags};
use bulkhead::tables::{Place, Tables};
use bulkhead_common::abi::NetworkId;
use bulkhead_common::abi::value::ROLE_ACCESS;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use nix::net::if_::if_nametoindex;
use tests::command::run;
use tests::frame::eth;
use tests::merged::packet_socket;
use tests::small;

use super::host::{DEVICE, Guarded, OPEN};

const OPENED: Verdict = Verdict::Pass(Pass::Opened);
const NO_NETWORK: Verdict = Verdict::Drop(DropReason::UnknownVlan);

/// The network is seen under these tags, and not without.
fn tables(ifindex: u32, outer_vlan: u16, inner_vlan: u16) -> Tables {
    let mut tables = small::tables(&[(ifindex, ROLE_ACCESS)], &[(DEVICE, OPEN)]);
    if let Some(facts) = tables.subinterfaces.get_mut(&Place { ifindex, ..Place::default() }) {
        let tagged = facts.clone();
        facts.network = NetworkId::NONE;
        tables.subinterfaces.insert(Place { ifindex, outer_vlan, inner_vlan }, tagged);
    }
    tables
}

fn asks() -> Vec<u8> {
    eth().ip(small::address(DEVICE), small::REMOTE).udp(40_000, OPEN).build()
}

/// Guards `tag0` as the agent does, for a network under these tags, and brings the other end's interfaces up.
fn guarded(outer: u16, inner: u16, others: &[&str]) -> Result<Option<Guarded>> {
    let Some(mut host) = Guarded::start("link add tag1 type veth peer name tag0")? else { return Ok(None) };
    for made in others {
        if let Err(error) = run(&format!("ip link add {made}")) {
            tests::kernel::privilege::skip(&format!("{error:#}"));
            return Ok(None);
        }
    }
    let switched = keep_vlan_tags("tag0")?;
    ensure!(switched == ["rxvlan", "rx-vlan-stag-hw-parse"], "the driver took no tags off: {switched:?}");
    let features = run("ethtool -k tag0")?;
    for feature in ["rx-vlan-offload", "rx-vlan-stag-hw-parse"] {
        ensure!(features.contains(&format!("{feature}: off")), "tags are taken off still: {features}");
    }
    host.hook("tag0", Hook::NATIVE)?;
    host.apply(&tables(if_nametoindex("tag0")?, outer, inner))?;
    run("ip link set tag0 up")?;
    run("ip link set tag1 up")?;
    Ok(Some(host))
}

#[test]
fn tags_of_a_vlan_interface_are_read_once_the_other_end_leaves_them_in_the_frame() -> Result<()> {
    let made = ["link tag1 name tag1.7 type vlan id 7"];
    let Some(host) = guarded(7, 0, &made)? else { return Ok(()) };
    run("ip link set tag1.7 up")?;
    let far = packet_socket("tag1.7")?;
    // What the other end's driver keeps back nobody here can see.
    host.sent("tag0", &asks(), &far, NO_NETWORK)?;
    run("ethtool -K tag1 txvlan off")?;
    host.sent("tag0", &asks(), &far, OPENED).map(drop)
}

#[test]
fn a_provider_s_outer_tag_is_read_once_the_other_end_leaves_it_too() -> Result<()> {
    let made = [
        "link tag1 name tag1.100 type vlan protocol 802.1ad id 100",
        "link tag1.100 name tag1.100.7 type vlan id 7",
    ];
    let Some(host) = guarded(100, 7, &made)? else { return Ok(()) };
    run("ip link set tag1.100 up")?;
    run("ip link set tag1.100.7 up")?;
    let far = packet_socket("tag1.100.7")?;
    run("ethtool -K tag1 txvlan off")?;
    // The outer tag has a setting of its own; without it the inner one stands alone.
    host.sent("tag0", &asks(), &far, NO_NETWORK)?;
    run("ethtool -K tag1 tx-vlan-stag-hw-insert off")?;
    host.sent("tag0", &asks(), &far, OPENED).map(drop)
}
