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
pub(super) fn remedy(basis: &Basis, reason: DropReason, scene: &Scene<'_>) -> String {
    use DropReason as Reason;
    match reason {
        Reason::UnknownDevice => stranger(basis, scene),
        Reason::UnknownPeer => match scene.destination.and_then(|to| Some((to, pool(basis, to)?))) {
            Some((address, network)) => called(address, network),
            None => stranger(basis, scene),
        },
        Reason::SpoofedSource => spoofed(basis, scene),
        Reason::SpoofedNeighbour => format!("{}; {}", expected(basis, scene), suspect(scene)),
        Reason::UnknownVlan => unknown_vlan(basis, scene),
        Reason::TransitDenied => transit(basis, scene),
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
        Reason::FragmentUnsupported => {
            "fragments are not supported yet: lower the MTU on the device or at the sender".to_owned()
        }
        Reason::IcmpError => {
            "ICMP errors are not supported yet: where path MTU matters, lower the MTU".to_owned()
        }
        Reason::UnsupportedEthertype
        | Reason::UnsupportedVlanDepth
        | Reason::UnsupportedExtension
        | Reason::UnsupportedProtocol
        | Reason::UnsupportedIcmp => {
            format!("no policy can allow it; find out what sends it{}", sender(scene))
        }
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
        Reason::NoRule
        | Reason::Never
        | Reason::SegmentDenied
        | Reason::Unsolicited
        | Reason::FlowTableFull => {
            "it could not be judged again: ask with --from, --to and --port".to_owned()
        }
    }
}

fn sender(scene: &Scene<'_>) -> String {
    scene.mac.as_ref().map(|mac| format!(" (MAC {mac} on {})", scene.place)).unwrap_or_default()
}

/// An address of a pool that no device has.
fn stranger(basis: &Basis, scene: &Scene<'_>) -> String {
    let in_pool = |address: IpAddr| pool(basis, address).map(|network| (address, network));
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
fn spoofed(basis: &Basis, scene: &Scene<'_>) -> String {
    let known = |address: Option<IpAddr>| address.and_then(|address| pool(basis, address));
    if let (Some(network), false) = (known(scene.source), plays(basis, &scene.interface, Role::Access)) {
        return format!(
            "{} belongs to a device, and devices of {} enter by {}, not by {}: somebody on that side uses its address, \
             or traffic is routed in a loop",
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
    interfaces.any(|known| known.name.value == interface && known.roles.contains(&role))
}

/// Where a network's frames enter from one side.
fn sides(basis: &Basis, network: &Network, role: Role) -> String {
    let seen = network.seen_on.iter().map(|seen| &seen.value);
    list(seen.filter(|seen| plays(basis, &seen.interface, role)))
}
