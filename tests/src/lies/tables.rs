//! Tables that a wrong compiler could have made.
#![expect(clippy::wildcard_enum_match_arm, reason = "a lie touches one thing and leaves the rest")]

use std::sync::Arc;

use bulkhead::tables::{Callable, Remote, Rules, Tables};
use bulkhead_common::abi::key::{EGRESS, VLAN_OTHER};
use bulkhead_common::abi::value::{
    DEVICE_MAC_BOUND, DEVICE_OBSERVES, NETWORK_OBSERVES, PORT_CLOSED_BY_PLACE, PORT_CLOSED_BY_POSTURE,
    PORT_OPEN, QUARANTINE_OPEN_END, ROLE_ACCESS, ROLE_CORE, ROLE_HOST_PASSES, ROLE_WITNESS,
    SCOPE_INFRASTRUCTURE, SCOPE_POOL, TRANSIT_DROP, TRANSIT_PASS,
};
use bulkhead_common::abi::{Addr, Limits, NetworkId, PortRange, Timeouts, Window};

/// What the compiler gets wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TableLie {
    /// Port ranges end one too early.
    PortsEndEarly,
    /// Port ranges begin one too early.
    PortsBeginEarly,
    /// Remote ranges end one too late.
    RangesEndLate,
    /// There is no never list.
    NoNever,
    /// There is no inbound rule.
    NoInbound,
    /// Inbound rules work outwards.
    InboundIsOutbound,
    /// No device is bound to a place.
    NoBinding,
    /// Bound places do not include the MAC address.
    NoMac,
    /// Infrastructure is pool.
    NoInfrastructure,
    /// Access and core change sides.
    RolesSwapped,
    /// Transit is passed where it should be dropped, and the other way round.
    TransitSwapped,
    /// Every rule lets its flows live for two hours.
    IdleForgotten,
    /// The first rule is blamed for everything.
    RulesMixedUp,
    /// Places are found without their inner tag.
    NoInnerTag,
    /// The host does not know the pools of its networks.
    NoHostPools,
    /// What lies behind a device is the device's own.
    NothingBehind,
    /// Devices have no prefixes but those that addresses lead to by themselves.
    NoPrefixes,
    /// No prefix lies in a /64.
    NothingNested,
    /// Prefixes are one bit shorter than they are.
    WrongPrefix,
    /// No rule opens anything behind a device.
    NoBehind,
    /// Whoever may call a device may call everything behind it.
    OpenBehindPeers,
    /// No network has timeouts of its own.
    NoTimeouts,
    /// Nobody is in quarantine.
    NoQuarantine,
    /// Quarantines do not end.
    EndlessQuarantine,
    /// In quarantine all is left that was allowed before.
    RepairIsOutbound,
    /// What a condition closes is open.
    ClosedIsOpen,
    /// What a condition closes is not there.
    ClosedIsGone,
    /// Every condition is about posture.
    PlaceIsPosture,
    /// Nothing that is known gets too old.
    NothingAges,
    /// What is known is too old from the beginning.
    AllIsAged,
    /// No device is limited.
    NoLimits,
    /// Bits per second are taken for bytes per second.
    RateInBytes,
    /// Of each limit of packets and flows one more may come at once.
    OneMore,
    /// Every device is only observed.
    ObservedDevices,
    /// No device is.
    EnforcedDevices,
    /// Networks are observed whose devices are not, and the other way round.
    WrongNetworks,
    /// Where others have judged it is judged again.
    NoWitness,
    /// What leaves is judged nowhere.
    NothingLeaves,
    /// The host may send where it may not, and the other way round.
    OwnSwapped,
    /// No port has windows.
    NoWindows,
    /// Windows close ten minutes late.
    WindowsCloseLate,
    /// Windows open ten minutes early.
    WindowsOpenEarly,
    /// Flows live on behind the end of their window.
    FlowsOutliveWindows,
    /// Flows end with their window although another rule goes on to allow them; seldom met by random frames, so not
    /// in `ALL` but in `model/handover.rs`.
    NoHandover,
    /// All ports share the first windows.
    OneCalendar,
}

impl TableLie {
    /// All of them.
    pub const ALL: [Self; 44] = [
        Self::PortsEndEarly,
        Self::PortsBeginEarly,
        Self::RangesEndLate,
        Self::NoNever,
        Self::NoInbound,
        Self::InboundIsOutbound,
        Self::NoBinding,
        Self::NoMac,
        Self::NoInfrastructure,
        Self::RolesSwapped,
        Self::TransitSwapped,
        Self::IdleForgotten,
        Self::RulesMixedUp,
        Self::NoInnerTag,
        Self::NoHostPools,
        Self::NothingBehind,
        Self::NoPrefixes,
        Self::NothingNested,
        Self::WrongPrefix,
        Self::NoBehind,
        Self::OpenBehindPeers,
        Self::NoTimeouts,
        Self::NoQuarantine,
        Self::EndlessQuarantine,
        Self::RepairIsOutbound,
        Self::ClosedIsOpen,
        Self::ClosedIsGone,
        Self::PlaceIsPosture,
        Self::NothingAges,
        Self::AllIsAged,
        Self::NoLimits,
        Self::RateInBytes,
        Self::OneMore,
        Self::ObservedDevices,
        Self::EnforcedDevices,
        Self::WrongNetworks,
        Self::NoWitness,
        Self::NothingLeaves,
        Self::OwnSwapped,
        Self::NoWindows,
        Self::WindowsCloseLate,
        Self::WindowsOpenEarly,
        Self::FlowsOutliveWindows,
        Self::OneCalendar,
    ];

    /// The tables with this mistake in them.
    pub fn told(self, tables: &Tables) -> Tables {
        let mut tables = tables.clone();
        tables.profiles.values_mut().for_each(|rules| *rules = Arc::new(self.in_rules(rules)));
        self.in_devices(&mut tables);
        self.in_places(&mut tables);
        tables
    }

    fn in_devices(self, tables: &mut Tables) {
        match self {
            Self::NothingBehind => tables.addresses.values_mut().for_each(|owner| owner.behind = false),
            Self::NothingNested => tables.addresses.values_mut().for_each(|owner| owner.nested = false),
            Self::NoTimeouts => {
                tables.networks.values_mut().for_each(|facts| facts.timeouts = Timeouts::DEFAULT);
            }
            Self::WrongNetworks => {
                tables.networks.values_mut().for_each(|facts| facts.flags ^= NETWORK_OBSERVES);
            }
            Self::NoPrefixes => tables.networks.values_mut().for_each(|facts| facts.prefixes.clear()),
            Self::WrongPrefix => {
                let prefixes = tables.networks.values_mut().flat_map(|facts| &mut facts.prefixes);
                prefixes.for_each(|range| range.scope -= 1);
            }
            _ => {}
        }
        for device in tables.devices.values_mut() {
            match self {
                Self::NoQuarantine => device.quarantine = 0,
                Self::EndlessQuarantine if device.quarantine != 0 => device.quarantine = QUARANTINE_OPEN_END,
                Self::NoBinding => {
                    (device.ifindex, device.outer_vlan, device.inner_vlan) = (0, VLAN_OTHER, VLAN_OTHER);
                }
                Self::NothingAges => device.aged_at = 0,
                Self::AllIsAged if device.aged_at != 0 => device.aged_at = 1,
                Self::NoMac => device.flags &= !DEVICE_MAC_BOUND,
                Self::ObservedDevices => device.flags |= DEVICE_OBSERVES,
                Self::EnforcedDevices => device.flags &= !DEVICE_OBSERVES,
                _ => {}
            }
        }
    }

    fn in_places(self, tables: &mut Tables) {
        if self == Self::NoHostPools {
            let host = tables.networks.entry(NetworkId::NONE).or_default();
            host.scopes.retain(|range| range.scope != SCOPE_POOL);
        }
        if self == Self::NoInfrastructure {
            let ranges = tables.networks.values_mut().flat_map(|facts| &mut facts.scopes);
            ranges
                .filter(|range| range.scope == SCOPE_INFRASTRUCTURE)
                .for_each(|range| range.scope = SCOPE_POOL);
        }
        if self == Self::NoInnerTag {
            let places = std::mem::take(&mut tables.subinterfaces);
            let cut = places.into_iter().map(|(mut place, facts)| {
                place.inner_vlan = if place.inner_vlan == VLAN_OTHER { VLAN_OTHER } else { 0 };
                (place, facts)
            });
            tables.subinterfaces = cut.collect();
        }
        if self == Self::NothingLeaves {
            tables.subinterfaces.retain(|place, _| place.ifindex & EGRESS == 0);
        }
        for (place, facts) in &mut tables.subinterfaces {
            match self {
                Self::NoWitness if facts.roles == ROLE_WITNESS => facts.roles = ROLE_ACCESS,
                Self::OwnSwapped if place.ifindex & EGRESS != 0 => facts.roles ^= ROLE_HOST_PASSES,
                Self::RolesSwapped if facts.roles == ROLE_ACCESS => facts.roles = ROLE_CORE,
                Self::RolesSwapped if facts.roles == ROLE_CORE => facts.roles = ROLE_ACCESS,
                Self::TransitSwapped if facts.transit == TRANSIT_PASS => facts.transit = TRANSIT_DROP,
                Self::TransitSwapped if facts.transit == TRANSIT_DROP => facts.transit = TRANSIT_PASS,
                _ => {}
            }
        }
    }

    fn in_rules(self, rules: &Rules) -> Rules {
        let mut rules = rules.clone();
        match self {
            Self::NoNever => rules.never.clear(),
            Self::RepairIsOutbound => rules.repair.clone_from(&rules.outbound),
            Self::NoLimits => rules.limits = Limits::default(),
            Self::RateInBytes => rules.limits.byte_cost /= 8,
            Self::OneMore => {
                rules.limits.packet_ns = one_more(rules.limits.packet_ns);
                rules.limits.flow_ns = one_more(rules.limits.flow_ns);
            }
            Self::NoInbound => rules.inbound.clear(),
            Self::InboundIsOutbound => rules.outbound.clone_from(&rules.inbound),
            Self::NoBehind => rules.behind.clear(),
            Self::OpenBehindPeers => {
                let whole = |peer: &Callable| Remote {
                    first: Addr::UNSPECIFIED_V6,
                    last: Addr::from_bits(u128::MAX),
                    ports: peer.ports.clone(),
                };
                rules.peers.iter_mut().for_each(|peer| peer.behind = vec![whole(peer)]);
            }
            _ => {}
        }
        rules.windows.iter_mut().for_each(|window| self.in_window(window));
        let behind = rules.behind.iter_mut().flat_map(|local| &mut local.callers);
        for remote in rules.outbound.iter_mut().chain(&mut rules.inbound).chain(behind) {
            if self == Self::RangesEndLate {
                remote.last = Addr::from_bits(remote.last.to_bits() + 1);
            }
            self.in_ports(&mut remote.ports);
        }
        rules.peers.iter_mut().for_each(|peer| self.in_ports(&mut peer.ports));
        rules
    }

    fn in_window(self, window: &mut Window) {
        const TEN_MINUTES: u64 = 600_000_000_000;
        match self {
            Self::WindowsCloseLate => window.close = window.close.saturating_add(TEN_MINUTES),
            Self::WindowsOpenEarly => window.open = window.open.saturating_sub(TEN_MINUTES),
            Self::FlowsOutliveWindows => window.until = u64::MAX,
            Self::NoHandover => window.until = window.close,
            _ => {}
        }
    }

    fn in_ports(self, ports: &mut Vec<PortRange>) {
        if self == Self::ClosedIsGone {
            ports.retain(|port| port.closed_by().is_none());
        }
        ports.iter_mut().for_each(|port| self.in_port(port));
    }

    fn in_port(self, port: &mut PortRange) {
        match self {
            Self::PortsEndEarly if port.first < port.last => port.last -= 1,
            Self::PortsBeginEarly => port.first = port.first.saturating_sub(1),
            Self::IdleForgotten => port.idle = 7200,
            Self::RulesMixedUp => port.rule.0 = 1,
            Self::ClosedIsOpen if port.closed_by().is_some() => port.closed = PORT_OPEN,
            Self::PlaceIsPosture if port.closed == PORT_CLOSED_BY_PLACE => {
                port.closed = PORT_CLOSED_BY_POSTURE
            }
            Self::NoWindows => port.windows.len = 0,
            Self::OneCalendar => port.windows.start = 0,
            _ => {}
        }
    }
}

/// What each costs if one more may come in a second.
fn one_more(cost_ns: u32) -> u32 {
    const SECOND_NS: u32 = 1_000_000_000;
    SECOND_NS.checked_div(cost_ns).map_or(0, |count| SECOND_NS / (count + 1))
}
