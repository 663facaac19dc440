//! The second guard as the engine keeps it: closed before a change, opened behind it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::engine::Engine;
use crate::guard::{Found, Guard, Layer, Pools, TABLE, Wanted, plan};
use crate::netlink::{Link, Protocol, Socket, links};
use crate::policy::{Policy, device_ranges};
use crate::tables::Host;

/// What the engine remembers of the guard.
#[derive(Debug, Default)]
pub(super) struct SecondGuard {
    /// Where the policy in force says that devices are.
    pub(super) pools: Option<Pools>,
    /// What was written last.
    written: Option<Wanted>,
    /// Why it is not as it should be.
    pub(super) problem: Option<String>,
    /// How often somebody else's change was put right, and when last.
    pub(super) repairs: u64,
    pub(super) repaired: Option<Timestamp>,
}

impl Engine {
    /// Closes the pools of a policy that is about to come into force, and every interface that has no link of ours.
    ///
    /// What is closed already stays closed, whatever the new policy says: the packets of a pool that goes are
    /// judged by the old policy until it has gone.
    pub(super) fn shut(&mut self, coming: Option<&Policy>, host: &Host) {
        if !self.agent.second_guard {
            return;
        }
        let shut = self.try_to_shut(coming, host);
        self.note(shut);
    }

    fn try_to_shut(&mut self, coming: Option<&Policy>, host: &Host) -> Result<()> {
        let (guard, found) = self.observe_guard()?;
        let written = self.second_guard.written.as_ref().map(|written| &written.pools);
        let known = found.as_ref().map(|found| &found.pools).or(written).cloned().unwrap_or_default();
        let pools = known.with(&coming.map(pools_of).unwrap_or_default());
        if pools.is_empty() {
            return Ok(());
        }
        // By the pins: at its start an agent holds none of its links yet.
        let pinned = self.kernel.as_ref().map(|kernel| kernel.datapath().attachments()).transpose()?;
        let pinned =
            pinned.unwrap_or_default().into_iter().filter(|a| !a.defunct).map(|a| a.ifindex).collect();
        let judged = self.judged(host, &pinned)?;
        let held = found.as_ref().map(|found| &found.held & &judged).unwrap_or_default();
        self.write(
            &guard,
            found.as_ref(),
            Wanted { pools, held, local_output: self.agent.local_output, layer: Layer::Routed },
        )
    }

    /// Lets through what XDP judges, frees what is a pool no more, and puts right what somebody else changed.
    pub(super) fn settle(&mut self, host: &Host) {
        let settled = if self.agent.second_guard { self.try_to_settle(host) } else { self.let_go() };
        self.note(settled);
    }

    fn try_to_settle(&mut self, host: &Host) -> Result<()> {
        let (guard, found) = self.observe_guard()?;
        let pools = match (&self.second_guard.pools, &found) {
            (Some(pools), _) => pools.clone(),
            // Without a policy, what was closed stays closed.
            (None, Some(found)) => found.pools.clone(),
            (None, None) => return Ok(()),
        };
        let attached = self.attached(host);
        let held = self.judged(host, &attached)?;
        let wanted = Wanted { pools, held, local_output: self.agent.local_output, layer: Layer::Routed };
        self.write(&guard, found.as_ref(), wanted)
    }

    /// Looks at the table, and notes if it is not as it was left.
    fn observe_guard(&mut self) -> Result<(Guard, Option<Found>)> {
        let guard = Guard::open()?;
        let found = guard.observe(Layer::Routed)?;
        let changed = |written: &Wanted| !plan(found.as_ref(), written).is_empty();
        // What could not be put right is told as that.
        if self.second_guard.problem.is_none() && self.second_guard.written.as_ref().is_some_and(changed) {
            self.second_guard.repairs += 1;
            self.second_guard.repaired = Some(Timestamp::now());
            tracing::error!("somebody changed the nftables table inet {TABLE}: it is put right");
        }
        Ok((guard, found))
    }

    fn write(&mut self, guard: &Guard, found: Option<&Found>, wanted: Wanted) -> Result<()> {
        guard.make(found, &wanted)?;
        let links = links(&Socket::open(Protocol::Route)?).context("list the interfaces")?;
        let switched = guard.observe(Layer::Switched)?;
        // A kernel that knows no such tables is no fault where there is no bridge.
        if switched.is_some() || links.iter().any(|link| link.kind == "bridge") {
            guard.make(switched.as_ref(), &Wanted { layer: Layer::Switched, ..wanted.clone() })?;
        }
        self.second_guard.written = Some(wanted);
        Ok(())
    }

    /// Nothing is in force, or the settings say that there is to be no guard.
    pub(super) fn let_go(&mut self) -> Result<()> {
        // A kernel without nftables has nothing to let go of.
        if Guard::open().is_ok_and(|guard| guard.remove().unwrap_or_default()) {
            tracing::warn!("the second guard was removed: interfaces that are not listed are not closed");
        }
        self.second_guard.written = None;
        Ok(())
    }

    /// Configured interfaces on which this agent's program runs.
    fn attached(&self, host: &Host) -> BTreeSet<u32> {
        let Some(kernel) = &self.kernel else { return BTreeSet::new() };
        let datapath = kernel.datapath();
        self.configured(host).filter(|ifindex| datapath.is_attached(*ifindex)).collect()
    }

    fn configured<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = u32> + 'a {
        let names = self.agent.interfaces.iter().map(|interface| &interface.name.value);
        names.filter_map(|name| host.interfaces.get(name)).map(|found| found.ifindex)
    }

    /// Interfaces whose packets XDP judges: the configured ones among `linked`, and VLANs on them.
    fn judged(&self, host: &Host, linked: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
        let configured: BTreeSet<u32> = self.configured(host).collect();
        let socket = Socket::open(Protocol::Route)?;
        Ok(with_vlans(&configured & linked, &links(&socket).context("list the interfaces")?))
    }

    /// Tells only what was not told before.
    fn note(&mut self, result: Result<()>) {
        let problem = result.err().map(|error| {
            format!(
                "the second guard is missing, so interfaces that are not listed are open: {error:#}; if it is to be \
                 so, write secondGuard: off in agent.yaml"
            )
        });
        if let Some(problem) =
            problem.as_ref().filter(|problem| self.second_guard.problem.as_ref() != Some(problem))
        {
            tracing::error!("{problem}");
        }
        self.second_guard.problem = problem;
    }
}

/// What is to be closed for a policy.
pub(super) fn pools_of(policy: &Policy) -> Pools {
    Pools::new(&device_ranges(policy))
}

/// A VLAN's packets enter by its parent, where XDP saw them with their tag: in a VLAN where no network is seen it
/// drops what is a device's.
pub(super) fn with_vlans(mut held: BTreeSet<u32>, links: &[Link]) -> BTreeSet<u32> {
    // A VLAN on a VLAN comes later than its parent, but is not listed in that order for sure.
    for _ in 0..2 {
        let vlans = links.iter().filter(|link| link.kind == "vlan" && held.contains(&link.parent));
        let vlans: Vec<u32> = vlans.map(|link| link.ifindex).collect();
        held.extend(vlans);
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ifindex: u32, name: &str, kind: &str, parent: u32) -> Link {
        Link { ifindex, name: name.into(), kind: kind.into(), parent, is_up: true, ..Link::default() }
    }

    #[test]
    fn vlans_of_a_guarded_interface_are_let_through_and_what_is_only_named_so_is_not() {
        let links = [
            link(9, "customer", "vlan", 8),
            link(8, "n6.100", "vlan", 3),
            link(7, "n6.200", "veth", 3),
            link(6, "eth1.100", "vlan", 4),
            link(5, "macvlan0", "macvlan", 3),
        ];
        assert_eq!(with_vlans(BTreeSet::from([3]), &links), BTreeSet::from([3, 8, 9]));
    }
}
