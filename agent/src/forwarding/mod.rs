//! Which interfaces packets may enter and leave by past the kernel's stack, and what would be gone round.
//!
//! `forwarding: xdp` is asked for by a network, but what it goes round is the host's: nftables, address translation,
//! IPsec, traffic control, routes by mark. Where anything of that is there, nothing is forwarded by XDP and the agent
//! says what stands in the way. It looks again every few seconds; an agent that is dead does not.

mod legs;
mod obstacles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};

use crate::datapath::Legs;
use crate::netlink::{Drivers, Link, Protocol, Socket, drivers, links, queues};

/// What the host offers and what stands in the way, as it is now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Survey {
    /// Where packets may enter and leave; none if anything stands in the way.
    pub legs: Legs,
    /// Interfaces by which they enter, by name.
    pub enters: Vec<String>,
    /// Interfaces by which they leave, by name.
    pub leaves: Vec<String>,
    /// What would be gone round, and what to do about it.
    pub obstacles: Vec<String>,
    /// What works otherwise than somebody may expect.
    pub notes: Vec<String>,
}

impl Survey {
    /// Looks at this thread's network namespace; `judged` are the interfaces on which this agent's program runs in the driver.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn take(judged: &BTreeSet<u32>) -> Result<Self> {
        let socket = Socket::open(Protocol::Route)?;
        let links = links(&socket).context("list the interfaces")?;
        let links: BTreeMap<u32, Link> = links.into_iter().map(|link| (link.ifindex, link)).collect();
        let queues = queues(&socket).context("list the queues of traffic control")?;
        let drivers =
            drivers(&Socket::open(Protocol::Generic)?).context("ask drivers what they do with XDP")?;
        let mut obstacles = obstacles::found(&socket)?;
        if drivers.is_none() {
            obstacles.push(
                "this kernel does not say which interfaces take frames from XDP: that takes Linux 6.3"
                    .to_owned(),
            );
        }
        obstacles.extend(half_open_to_ipv6(links.values()));
        let drivers = drivers.unwrap_or_default();
        Ok(Self::of(&View { links: &links, queues: &queues, drivers: &drivers, judged }, obstacles))
    }

    fn of(view: &View<'_>, obstacles: Vec<String>) -> Self {
        if !obstacles.is_empty() {
            return Self { obstacles, ..Self::default() };
        }
        let legs = legs::all(view);
        let along = |leaving: bool| {
            let wanted = legs.iter().filter(move |(key, _)| legs::is_exit(key) == leaving);
            wanted.filter_map(|(_, leg)| view.links.get(&leg.ifindex))
        };
        let names = |leaving: bool| {
            let mut names: Vec<String> = along(leaving).map(|link| link.name.clone()).collect();
            names.sort();
            names
        };
        let (enters, leaves) = (names(false), names(true));
        let notes = along(false).flat_map(notes_of).chain(legs::left_out(view)).collect();
        Self { legs, enters, leaves, obstacles, notes }
    }
}

/// What legs are made of.
struct View<'a> {
    links: &'a BTreeMap<u32, Link>,
    queues: &'a BTreeMap<u32, Vec<String>>,
    drivers: &'a Drivers,
    /// Interfaces on which this agent's program runs in the driver.
    judged: &'a BTreeSet<u32>,
}

/// The stack forwards IPv6 only if the host as a whole does, while XDP's look at routes asks the interface alone.
fn half_open_to_ipv6<'a>(mut links: impl Iterator<Item = &'a Link>) -> Option<String> {
    if setting("ipv6", "all", "forwarding") != Some(0) {
        return None;
    }
    let is_open = |name: &str| {
        setting("ipv6", name, "forwarding") == Some(1) && setting("ipv6", name, "force_forwarding") != Some(1)
    };
    let open = links.find(|link| is_open(&link.name))?;
    Some(format!(
        "this host forwards no IPv6 (sysctl net/ipv6/conf/all/forwarding), although {name} does \
         (net/ipv6/conf/{name}/forwarding)",
        name = open.name
    ))
}

/// What is to be known of an interface by which packets enter.
fn notes_of(link: &Link) -> Vec<String> {
    let name = &link.name;
    let mut notes = Vec::new();
    for family in ["ipv4", "ipv6"] {
        if setting(family, name, "forwarding") == Some(0) {
            notes.push(format!(
                "{name} does not forward {family} (sysctl net/{family}/conf/{name}/forwarding), so no {family} packet \
                 that enters there is forwarded by XDP"
            ));
        }
    }
    // The kernel takes the greater one; 2 only asks whether there is any route.
    if ["all", name].iter().filter_map(|interface| setting("ipv4", interface, "rp_filter")).max() == Some(1) {
        notes.push(format!(
            "the strict reverse path filter of {name} (sysctl rp_filter) sees no packet that is forwarded by XDP"
        ));
    }
    if setting("ipv6", name, "disable_ipv6") == Some(1) {
        notes.push(format!(
            "{name} takes no IPv6 (sysctl disable_ipv6), but packets of live flows that are forwarded by XDP pass there"
        ));
    }
    if link.kind == "veth" {
        notes.push(format!(
            "{name} is a veth, whose other end leaves checksums to a stack that packets do not see: switch that off \
             there (`ethtool -K PEER tx off`), or their receivers drop them"
        ));
    }
    notes
}

/// A number of `/proc/sys/net`; nothing if there is none.
fn setting(family: &str, interface: &str, name: &str) -> Option<i64> {
    let path = format!("/proc/sys/net/{family}/conf/{interface}/{name}");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
