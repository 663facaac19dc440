//! A thousand flips between two policies under load: what both allow is never lost, what both deny never seen.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead::tables::Tables;
use bulkhead_common::abi::RuleId;
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::verdict::{DropReason, Verdict};
use tests::netns::{Client, Load, Match, Witness};
use tests::small;

use crate::core::{Core, DEVICE, LINKS, OPEN};

const FLIPS: u32 = 1_000;
/// The device whose every packet is denied, on a link of its own: camera-1.
const DENIED: u8 = 31;
/// As fast as a thread goes that gives way to others.
const NO_PAUSE: Duration = Duration::ZERO;
/// What hosts send by themselves, load or not.
const NOISE: DropReason = DropReason::Multicast;

/// Two policies that differ in every rule set: the numbers of rules, and what else they open.
fn policies(core: &Core) -> Result<[Tables; 2]> {
    let places = LINKS.map(|(name, roles)| core.ifindex(name).map(|ifindex| (ifindex, roles)));
    let places: Vec<(u32, u8)> = places.into_iter().collect::<Result<_>>()?;
    let of = |rule: u32, elsewhere: u16| {
        let mut tables = small::tables(&places, &[(DEVICE, OPEN), (DENIED, elsewhere)]);
        for rules in tables.profiles.values_mut() {
            let mut changed = (**rules).clone();
            changed
                .outbound
                .iter_mut()
                .flat_map(|remote| &mut remote.ports)
                .for_each(|p| p.rule = RuleId(rule));
            *rules = changed.into();
        }
        tables
    };
    Ok([of(1, 6_000), of(2, 7_000)])
}

#[test]
fn a_thousand_flips_lose_nothing_that_both_policies_allow_and_pass_nothing_that_both_deny() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let servers = core.servers()?;
    let policies = policies(&core)?;
    core.apply(&policies[0])?;
    let before = [core.counters("acc0")?, core.counters("acc1")?];
    let lab = std::sync::Arc::clone(&core.lab);
    let forbidden = Match { source: Some(small::address(DENIED)), destination: Some(small::REMOTE) };
    let denied = Witness::open(lab.namespace("dn")?, "n6", forbidden)?;
    let load = |role: &str, port: u16| -> Result<Load> {
        let client = Client::new(lab.namespace(role)?);
        Load::start(&client, SocketAddr::new(small::REMOTE, port), NO_PAUSE)
    };
    let loads = [load("charger-1", OPEN)?, load("charger-1", OPEN)?, load("camera-1", OPEN)?];
    for flip in 0..FLIPS {
        core.apply(&policies[1 - flip as usize % 2])?;
    }
    let sent: u64 = loads.map(Load::stop).iter().sum();
    let after = [core.counters("acc0")?, core.counters("acc1")?];
    println!("{FLIPS} flips, {sent} packets");
    let dropped = |link: usize, reason: DropReason| {
        let of = |counters: &[Counters; 2]| counters[link].of(Verdict::Drop(reason)).packets;
        of(&after) - of(&before)
    };
    for reason in DropReason::ALL.iter().copied().filter(|reason| *reason != NOISE) {
        ensure!(dropped(0, reason) == 0, "{} of what is allowed: {}", dropped(0, reason), reason.as_str());
    }
    let answered = servers.received(SocketAddr::new(small::REMOTE, OPEN)).datagrams;
    let refused = dropped(1, DropReason::NoRule);
    ensure!(answered > u64::from(FLIPS) && refused > u64::from(FLIPS), "no load: {answered}, {refused}");
    ensure!(denied.seen()? == 0, "{} packets arrived that both policies deny", denied.seen()?);
    Ok(())
}
