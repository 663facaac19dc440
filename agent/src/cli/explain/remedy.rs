//! What was expected, and what to do, where no rule is the reason for a drop.

use std::net::IpAddr;

use bulkhead_common::verdict::DropReason;

use super::question::pool;
use crate::cli::basis::Basis;
use crate::cli::words::{binding, list, prefixes};
use crate::policy::{Device, Network, Role};

/// What is known of a dropped packet, whether it could be judged again or not.
pub(super) struct Scene<'a> {
    /// The network that is seen where it entered.
    pub(super) network: Option<&'a Network>,
    /// The device it is about.
    pub(super) device: Option<&'a Device>,
    /// Its source address.
    pub(super) source: Option<IpAddr>,
    /// Its destination address.
    pub(super) destination: Option<IpAddr>,
    /// Where it entered.
    pub(super) interface: String,
    /// The same with its VLANs.
    pub(super) place: String,
    /// Its source MAC address, unless it was never on a wire.
    pub(super) mac: Option<String>,
}

/// What to do, in one or two sentences.
pub(super) fn remedy<'a>(basis: &'a Basis, reason: DropReason, scene: &Scene<'a>) -> String {
    use DropReason as Reason;
    match reason {
        Reason::UnknownDevice => stranger(basis, scene),
        Reason::UnknownPeer => match scene.destination.and_then(|to| Some((to, owner(basis, scene, to)?))) {
            Some((address, network)) => called(address, network),
            None => stranger(basis, scene),
        },
        Reason::SpoofedSource => spoofed(basis, scene),
        Reason::SpoofedNeighbour => format!("{}; {}", expected(basis, scene), suspect(scene)),
        Reason::UnknownVlan => unknown_vlan(basis, scene),
        Reason::TransitDenied => transit(basis, scene),
        Reason::RateLimited => limited(basis, scene, &["packetsPerSecond", "rate"]),
        Reason::FlowRateLimited => limited(basis, scene, &["newFlowsPerSecond"]),
        Reason::FlowQuota => limited(basis, scene, &["flows"]),
        Reason::NeighbourOffLink => format!(
            "it asks for an address that is not on the link of {}: check prefix length and gateway of the sender{}",
            scene.place,
            sender(scene)
        ),
        Reason::NeighbourRole => format!(
            "devices must not announce routers: find out what sends it{}; no policy allows it",
            sender(scene)
        ),
        Reason::MartianSource | Reason::MartianDestination => {
            format!("no host may have that address: look at the sender's configuration{}", sender(scene))
        }
        Reason::Multicast | Reason::Broadcast => {
            "devices reach single hosts only; harmless unless something on the device waits for an answer"
                .to_owned()
        }
        Reason::Dhcp => {
            "the packet core gives the addresses: turn the DHCP client off on the device".to_owned()
        }
        Reason::FragmentDenied => {
            "the network has `fragments: drop`: lower the MTU of the sender, or write `fragments: track`".to_owned()
        }
        Reason::FragmentEarly
        | Reason::FragmentOverlap
        | Reason::FragmentRepeated
        | Reason::FragmentTiny
        | Reason::FragmentRewrite
        | Reason::MalformedFragment => format!(
            "fragments pass in order and without overlap only: now and then one is lost or overtaken, many of these \
             are an attack or a path that reorders; lower the MTU of the sender{}",
            sender(scene)
        ),
        Reason::FragmentQuota => {
            "too many large datagrams at once, or their ends get lost: lower the MTU of the sender".to_owned()
        }
        Reason::IpOptions => format!(
            "ordinary hosts send no options; if these are meant, write `ipOptions: pass` in the network{}",
            sender(scene)
        ),
        Reason::IcmpErrorUnrelated => {
            "the flow that it reports about had ended, or never was: mostly late or forged, and harmless".to_owned()
        }
        Reason::IcmpErrorRate => {
            "find out why so many packets of the device cannot be delivered: `bulkhead flows` shows where they go"
                .to_owned()
        }
        Reason::UnsupportedEthertype
        | Reason::UnsupportedVlanDepth
        | Reason::UnsupportedExtension
        | Reason::UnsupportedProtocol
        | Reason::UnsupportedIcmp => {
            format!("no policy can allow it; find out what sends it{}", sender(scene))
        }
        Reason::SpoofedTunnel => {
            "the address was heard through another tunnel: find out which SIM has it now; after a new session give the \
             device its new `teid`, or wait for `idle` of the interface's `gtpu`"
                .to_owned()
        }
        Reason::UnknownTunnel => {
            "no network there has this TEID or this address: compare `teids` and `pools` with the session in the core"
                .to_owned()
        }
        Reason::GtpuPeer => format!(
            "if the sender is a base station or gateway of yours, add it to `gtpu.peers` of {}",
            scene.interface
        ),
        Reason::GtpuOuterFragment => {
            "raise the MTU of the path between base station and core, or lower that of the devices".to_owned()
        }
        Reason::GtpuNested | Reason::ControlProtocol => format!(
            "no policy can allow it: a device has no business with the core's own protocols; find out what it runs{}",
            sender(scene)
        ),
        Reason::GtpuMalformed
        | Reason::GtpuVersion
        | Reason::GtpuPrime
        | Reason::GtpuMessage
        | Reason::GtpuExtension
        | Reason::GtpuTeidZero
        | Reason::GtpuInner => format!(
            "capture it on {} and look at the peer that sends it: it is not GTP-U as TS 29.281 has it",
            scene.interface
        ),
        Reason::MalformedEthernet
        | Reason::MalformedArp
        | Reason::MalformedIpv4
        | Reason::MalformedIpv6
        | Reason::MalformedTcp
        | Reason::MalformedUdp
        | Reason::MalformedSctp
        | Reason::MalformedIcmp
        | Reason::MalformedNeighbour => format!(
            "the packet breaks its protocol, so no policy can allow it: capture it on {} and look at its sender{}",
            scene.interface,
            sender(scene)
        ),
        Reason::InternalInterface | Reason::InternalTable => {
            "this must never happen: see `bulkhead status`, restart the agent, and report it".to_owned()
        }
        Reason::Quarantined => quarantined(basis, scene),
        Reason::ConditionPosture | Reason::ConditionPlace => match scene.device {
            Some(device) => format!("`bulkhead device get {}` says what is known of it, and which rules that closes", device.name),
            None => "`bulkhead device get` says what is known of a device, and which rules that closes".to_owned(),
        },
        Reason::NoRule
        | Reason::Never
        | Reason::SegmentDenied
        | Reason::Unsolicited
        | Reason::FlowTableFull
        | Reason::ConditionTime => {
            "it could not be judged again: ask with --from, --to and --port".to_owned()
        }
    }
}

/// Who put it there and why; for a drop of earlier it may be out again.
fn quarantined(basis: &Basis, scene: &Scene<'_>) -> String {
    let device = scene.device.map(|device| &device.name);
    let mut all = basis.quarantine.iter();
    // The one at the other end may be it.
    match all.find(|report| Some(&report.device) == device).or(basis.quarantine.first()) {
        Some(report) => format!(
            "{}; when it is clean: bulkhead release {}",
            crate::cli::quarantine::sentence(report),
            report.device
        ),
        None => "nobody is in quarantine any more".to_owned(),
    }
}

/// Which limits of the device's segment it may be, and where they stand.
fn limited(basis: &Basis, scene: &Scene<'_>, names: &[&str]) -> String {
    let segment = scene.device.and_then(|device| device.segment.as_ref());
    let Some(segment) = segment.and_then(|name| basis.policy.segments().get(name)) else {
        return NO_LIMIT.to_owned();
    };
    let meant = segment.limits.written().filter(|(name, _)| names.contains(name));
    let limits: Vec<String> = meant.map(|(name, limit)| format!("{name}: {limit}")).collect();
    if limits.is_empty() {
        return NO_LIMIT.to_owned();
    }
    let at = segment.limits.at.as_ref().unwrap_or(&segment.at);
    format!(
        "segment {} allows each device, each way, {} ({at}): raise it if the device needs more, or find out what it does",
        segment.name,
        limits.join(", ")
    )
}

const NO_LIMIT: &str = "the device's segment has no such limit any more";

fn sender(scene: &Scene<'_>) -> String {
    scene.mac.as_ref().map(|mac| format!(" (MAC {mac} on {})", scene.place)).unwrap_or_default()
}

/// The network in whose pools an address lies: that of the place where the packet entered, or any.
fn owner<'a>(basis: &'a Basis, scene: &Scene<'a>, address: IpAddr) -> Option<&'a Network> {
    let holds = |network: &&Network| network.pools.iter().any(|pool| pool.value.contains(&address));
    scene.network.filter(holds).or_else(|| pool(basis, address))
}

/// An address of a pool that no device has.
fn stranger<'a>(basis: &'a Basis, scene: &Scene<'a>) -> String {
    let in_pool = |address: IpAddr| owner(basis, scene, address).map(|network| (address, network));
    if let Some((address, network)) = scene.source.and_then(in_pool) {
        return format!(
            "{address} is of network {} and no Device has it: find out whose SIM it is{}; if it is yours, add a Device \
             with this address",
            network.name,
            sender(scene)
        );
    }
    match scene.destination.and_then(in_pool) {
        Some((address, network)) => called(address, network),
        None => "no Device has the address: if it should be known, add one".to_owned(),
    }
}

fn called(address: IpAddr, network: &Network) -> String {
    format!(
        "nobody is at {address}: no Device of network {} has it; check the address, or add the Device",
        network.name
    )
}

/// Four cases: a known device elsewhere, a pool address from the core, an outside address behind
/// access, traffic for a device on an interface that is no core.
fn spoofed<'a>(basis: &'a Basis, scene: &Scene<'a>) -> String {
    let known = |address: Option<IpAddr>| address.and_then(|address| owner(basis, scene, address));
    if let (Some(network), false) = (known(scene.source), plays(basis, &scene.interface, Role::Access)) {
        return format!(
            "{} is of network {}, and its devices enter by {}, not by {}: somebody on that side uses the address, or \
             traffic is routed in a loop",
            text(scene.source),
            network.name,
            sides(basis, network, Role::Access),
            scene.place
        );
    }
    if scene.device.is_some() && known(scene.source).is_some() {
        return format!("{}; {}", expected(basis, scene), suspect(scene));
    }
    if let (Some(network), false) = (known(scene.destination), plays(basis, &scene.interface, Role::Core)) {
        return format!(
            "{} is no device, and others reach devices of {} by {}, not by {}",
            text(scene.source),
            network.name,
            sides(basis, network, Role::Core),
            scene.place
        );
    }
    let pools = scene.network.map(|n| format!(" ({}: {})", n.name, prefixes(&n.pools))).unwrap_or_default();
    format!(
        "behind {} only devices may send, and {} lies in no pool seen there{pools}: a LAN behind the SIM that is not \
         translated, or a forged source{}",
        scene.place,
        text(scene.source),
        sender(scene)
    )
}

fn text(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "the source".to_owned(), |address| address.to_string())
}

/// Where a device's frames must enter.
fn expected(basis: &Basis, scene: &Scene<'_>) -> String {
    let Some(device) = scene.device else {
        return format!("the address is not its sender's{}", sender(scene));
    };
    let (place, at) = match &device.binding {
        Some(bound) => (binding(bound), &bound.at),
        None => {
            let network = basis.policy.networks().get(&device.network.value);
            (network.map(|network| sides(basis, network, Role::Access)).unwrap_or_default(), &device.at)
        }
    };
    let came = scene.mac.as_ref().map(|mac| format!(", MAC {mac}")).unwrap_or_default();
    format!("{} must enter by {place} ({at}); this came in by {}{came}", device.name, scene.place)
}

fn suspect(scene: &Scene<'_>) -> String {
    let name = scene.device.map_or_else(|| "the device".to_owned(), |device| device.name.to_string());
    format!("if {name} moved, change its binding; if not, something else uses its address")
}

fn unknown_vlan(basis: &Basis, scene: &Scene<'_>) -> String {
    let networks = basis.policy.networks().values();
    let seen = networks.flat_map(|network| {
        let here = network.seen_on.iter().filter(|seen| seen.value.interface == scene.interface);
        here.map(|seen| format!("{} on {}", network.name, seen.value))
    });
    let seen = list(seen);
    let seen = if seen.is_empty() {
        "no network is seen there at all".to_owned()
    } else {
        format!("seen there: {seen}")
    };
    format!(
        "no network is seen on {}; {seen}. If the tag is right, add it to `seenOn` of the network; else correct the \
         switch port{}",
        scene.place,
        sender(scene)
    )
}

fn transit(basis: &Basis, scene: &Scene<'_>) -> String {
    let mut interfaces = basis.agent.interfaces.iter();
    let at = interfaces.find(|interface| interface.name.value == scene.interface);
    let at = at.map(|interface| format!(" ({})", interface.name.at)).unwrap_or_default();
    format!(
        "neither end is a device, and {} has `transit: drop`{at}: set `transit: pass` there if this host is to carry \
         such traffic",
        scene.interface
    )
}

fn plays(basis: &Basis, interface: &str, role: Role) -> bool {
    let mut interfaces = basis.agent.interfaces.iter();
    interfaces.any(|known| known.name.value == interface && known.point(role, 0).is_some())
}

/// Where a network's frames enter from one side.
fn sides(basis: &Basis, network: &Network, role: Role) -> String {
    let seen = network.seen_on.iter().map(|seen| &seen.value);
    list(seen.filter(|seen| plays(basis, &seen.interface, role)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::settings::Settings;
    use crate::policy::Name;

    fn basis() -> Basis {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/demo");
        let settings = Settings { config: Some(demo.join("host/agent.yaml")), socket: None };
        Basis::written(&[demo], &settings).unwrap()
    }

    /// From `source` to `destination` on `interface`, about `device` where one has the source.
    fn told(
        reason: DropReason,
        [source, destination]: [&str; 2],
        interface: &str,
        device: Option<&str>,
    ) -> String {
        let basis = basis();
        let device = device.and_then(|name| basis.policy.devices().get(&Name::new(name)?));
        let scene = Scene {
            network: basis.policy.networks().values().next(),
            device: device.map(|device| &**device),
            source: source.parse().ok(),
            destination: destination.parse().ok(),
            interface: interface.to_owned(),
            place: format!("{interface} vlan 7"),
            mac: None,
        };
        remedy(&basis, reason, &scene)
    }

    #[test]
    fn a_spoofed_source_is_told_in_its_own_terms() {
        let spoofed = |ends, interface, device| told(DropReason::SpoofedSource, ends, interface, device);
        let moved = spoofed(["10.45.0.11", "203.0.113.10"], "acc1", Some("charger-1"));
        assert!(moved.starts_with("charger-1 must enter by acc0 ("), "{moved}");
        let from_core = spoofed(["10.45.0.11", "10.45.0.12"], "n6", Some("charger-1"));
        assert!(
            from_core.contains(
                "10.45.0.11 is of network fleet, and its devices enter by acc0, acc1, not by n6 vlan 7"
            ),
            "{from_core}"
        );
        let from_access = spoofed(["192.0.2.1", "10.45.0.11"], "acc0", Some("charger-1"));
        assert!(from_access.contains("others reach devices of fleet by n6, not by acc0"), "{from_access}");
        let lan = spoofed(["192.168.1.2", "203.0.113.10"], "acc0", None);
        assert!(lan.contains("192.168.1.2 lies in no pool seen there (fleet: 10.45.0.0/16,"), "{lan}");
    }

    #[test]
    fn a_place_without_a_network_names_those_that_are_seen() {
        let vlan = told(DropReason::UnknownVlan, ["10.45.0.11", "203.0.113.10"], "acc0", None);
        assert!(vlan.contains("no network is seen on acc0 vlan 7; seen there: fleet on acc0."), "{vlan}");
        let transit = told(DropReason::TransitDenied, ["192.0.2.1", "203.0.113.10"], "acc0", None);
        assert!(
            transit.contains("acc0 has `transit: drop` (") && transit.contains("agent.yaml:8)"),
            "{transit}"
        );
    }

    #[test]
    fn every_reason_has_something_to_do() {
        for reason in DropReason::ALL {
            let told = told(*reason, ["10.45.0.99", "10.45.0.98"], "acc0", None);
            assert!(told.len() > 20 && !told.contains("  "), "{reason:?}: {told}");
        }
    }
}
