//! A LAN behind a device of the lab: two hosts, and the device is their router.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};

use crate::command::ip;
use crate::netns::Lab;

/// What the device says in its policy: `framedRoutes: [192.168.50.0/24]`.
pub const LAN: &str = "192.168.50.0/24";
/// One host of the LAN.
pub const PLC: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 50, 20));
/// The one beside it.
pub const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 50, 21));
/// The namespace where both are.
pub const ROLE: &str = "stray-1";

/// Puts stray-1 behind charger-1: two hosts of its LAN, with charger-1 as their router.
///
/// # Errors
/// A link or route cannot be made.
pub fn put_behind(lab: &Lab) -> Result<()> {
    let device = lab.namespace("charger-1")?.name();
    let host = lab.namespace(ROLE)?.name();
    for (role, commands) in [
        (
            "charger-1",
            vec![
                format!("link add lan netns {device} type veth peer name lan netns {host}"),
                "addr add 192.168.50.1/24 dev lan".to_owned(),
                "link set lan up".to_owned(),
            ],
        ),
        (
            ROLE,
            ["addr add 192.168.50.20/24 dev lan", "addr add 192.168.50.21/24 dev lan", "link set lan up"]
                .into_iter()
                .chain(["route replace default via 192.168.50.1"])
                .map(str::to_owned)
                .collect(),
        ),
        ("ran", vec![format!("route add {LAN} via 10.45.0.11 dev ue0 onlink")]),
        ("core", vec![format!("route add {LAN} via 10.99.1.2")]),
    ] {
        let namespace = lab.namespace(role)?;
        commands.iter().try_for_each(|command| namespace.run(|| ip(command))?)?;
    }
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    lab.namespace("charger-1")?.run(|| std::fs::write(forwarding, "1"))?.context("forward packets")
}
