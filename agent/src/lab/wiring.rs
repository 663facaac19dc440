//! Topology → the `ip` commands and kernel settings that make it; pure but for the two functions that act.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Namespace;
use super::topology::{Access, DNS, Device, FORBIDDEN, OUTSIDER, SCADA, SERVER, Topology};

/// Set before any interface exists, so that each one is born with them.
///
/// Forwarding and no reverse-path filter: the lab must deliver what a spoofer sends, or a test proves the kernel's
/// filter and not ours. No redirects: they would teach a device the short way to its neighbour.
const SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    // ICMP echo from datagram sockets, which root may not open either without this.
    ("ipv4/ping_group_range", "0 2147483647"),
];

const FORWARDING: &[(&str, &str)] = &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// The tables of `ran` that send whatever a device emits to the core, even what is for its neighbour.
const fn table(access: Access) -> u32 {
    match access {
        Access::Acc0 => 100,
        Access::Acc1 => 101,
    }
}

/// Marks a line for `ip -6`: a rule that names no address does not say of which family it is.
const V6: &str = "-6 ";

/// Third octet and group of the link net between `ran` and `core`: 10.99.N.0/30 and fd00:99:N::/64.
const fn link_net(access: Access) -> u8 {
    match access {
        Access::Acc0 => 1,
        Access::Acc1 => 2,
    }
}

/// Lists the `ip` lines that create every link, for the namespaces named `PREFIX-ROLE`.
pub(crate) fn links(topology: &Topology, prefix: &str) -> Vec<String> {
    let pair = |a: &str, a_ns: &str, b: &str, b_ns: &str| {
        format!("link add {a} netns {prefix}-{a_ns} type veth peer name {b} netns {prefix}-{b_ns}")
    };
    let mut lines = vec![
        pair("acc0", "ran", "acc0", "core"),
        pair("acc1", "ran", "acc1", "core"),
        pair("n6", "core", "n6", "dn"),
        pair("out", "dn", "out", "outside"),
    ];
    let devices = topology.devices.iter().enumerate();
    lines.extend(devices.map(|(i, device)| pair(&format!("ue{i}"), "ran", "radio", &device.name)));
    lines
}

/// Lists the `ip` lines that give the namespace of `role` its addresses and routes.
pub(crate) fn configuration(topology: &Topology, role: &str) -> Vec<String> {
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(match (role, topology.device(role)) {
        (_, Some(device)) => of_device(device),
        ("ran", None) => of_ran(topology),
        ("core", None) => of_core(topology),
        ("dn", None) => of_dn(),
        _ => of_outside(),
    });
    lines
}

fn of_device(device: &Device) -> Vec<String> {
    let (v4, v6) = (device.address.v4, device.address.v6);
    let [.., site, host] = v4.octets();
    vec![
        format!("link set radio address 02:00:00:00:{site:02x}:{host:02x} up"),
        format!("addr add {v4}/32 dev radio"),
        format!("addr add {v6}/64 dev radio nodad"),
        format!("route add default via 169.254.1.1 dev radio onlink src {v4}"),
        "route add default via fe80::1 dev radio".to_owned(),
    ]
}

fn of_ran(topology: &Topology) -> Vec<String> {
    let mut lines: Vec<String> = [Access::Acc0, Access::Acc1].into_iter().flat_map(ran_uplink).collect();
    for (i, device) in topology.devices.iter().enumerate() {
        let (v4, v6, table) = (device.address.v4, device.address.v6, table(device.access));
        lines.extend([
            format!("link set ue{i} up"),
            format!("addr add 169.254.1.1/32 dev ue{i}"),
            format!("addr add fe80::1/64 dev ue{i} nodad"),
            format!("route add {v4}/32 dev ue{i}"),
            format!("route add {} dev ue{i}", prefix_of(v6)),
            format!("rule add iif ue{i} lookup {table} priority 1000"),
            format!("{V6}rule add iif ue{i} lookup {table} priority 1000"),
        ]);
    }
    lines
}

fn ran_uplink(access: Access) -> Vec<String> {
    let (interface, net, table) = (access.interface(), link_net(access), table(access));
    vec![
        format!("link set {interface} up"),
        format!("addr add 10.99.{net}.2/30 dev {interface}"),
        format!("addr add fd00:99:{net}::2/64 dev {interface} nodad"),
        format!("route add default via 10.99.{net}.1 dev {interface} table {table}"),
        format!("route add default via fd00:99:{net}::1 dev {interface} table {table}"),
    ]
}

fn of_core(topology: &Topology) -> Vec<String> {
    let mut lines = Vec::new();
    for (interface, net) in [("acc0", 1), ("acc1", 2), ("n6", 3)] {
        lines.push(format!("link set {interface} up"));
        lines.push(format!("addr add 10.99.{net}.1/30 dev {interface}"));
        lines.push(format!("addr add fd00:99:{net}::1/64 dev {interface} nodad"));
    }
    lines.extend(["10.45.0.0/16", "fd00:45::/32"].map(|pool| format!("route add blackhole {pool}")));
    lines.extend(defaults("10.99.3.2", "fd00:99:3::2"));
    for device in &topology.devices {
        let net = link_net(device.access);
        lines.push(format!("route add {}/32 via 10.99.{net}.2", device.address.v4));
        lines.push(format!("route add {} via fd00:99:{net}::2", prefix_of(device.address.v6)));
    }
    lines
}

fn of_dn() -> Vec<String> {
    let hosts = [SERVER, FORBIDDEN, SCADA, DNS];
    let mut lines: Vec<String> = hosts
        .iter()
        .flat_map(|host| host.both())
        .map(|address| format!("addr add {address} dev lo"))
        .collect();
    lines.extend(
        ["link set n6 up", "addr add 10.99.3.2/30 dev n6", "addr add fd00:99:3::2/64 dev n6 nodad"]
            .map(str::to_owned),
    );
    lines.extend(
        ["link set out up", "addr add 192.0.2.1/24 dev out", "addr add 2001:db8:66::1/64 dev out nodad"]
            .map(str::to_owned),
    );
    lines.extend(defaults("10.99.3.1", "fd00:99:3::1"));
    lines
}

fn of_outside() -> Vec<String> {
    let mut lines = vec![
        "link set out up".to_owned(),
        format!("addr add {}/24 dev out", OUTSIDER.v4),
        format!("addr add {}/64 dev out nodad", OUTSIDER.v6),
    ];
    lines.extend(defaults("192.0.2.1", "2001:db8:66::1"));
    lines
}

fn defaults(v4: &str, v6: &str) -> [String; 2] {
    [format!("route add default via {v4}"), format!("route add default via {v6}")]
}

fn prefix_of(v6: std::net::Ipv6Addr) -> String {
    let [a, b, c, d, ..] = v6.segments();
    format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
}

/// Writes the kernel settings of `role` into the namespace of the calling thread.
pub(crate) fn write_sysctls(role: &str) -> Result<()> {
    let router = matches!(role, "ran" | "core" | "dn");
    let forwarding = if router { FORWARDING } else { &[] };
    for (key, value) in SYSCTLS.iter().chain(forwarding) {
        let path = format!("/proc/sys/net/{key}");
        std::fs::write(&path, value).with_context(|| format!("write {value} to {path}"))?;
    }
    Ok(())
}

/// Runs `lines` through `ip -batch`, inside `namespace` where one is given.
pub(crate) fn ip_batch(namespace: Option<&Namespace>, lines: &[String]) -> Result<()> {
    let (v6, any): (Vec<&str>, Vec<&str>) =
        lines.iter().map(String::as_str).partition(|line| line.starts_with(V6));
    run_ip(namespace, &["-batch", "-"], &any.join("\n"))?;
    if v6.is_empty() {
        return Ok(());
    }
    let v6: Vec<&str> = v6.into_iter().filter_map(|line| line.strip_prefix(V6)).collect();
    run_ip(namespace, &["-6", "-batch", "-"], &v6.join("\n"))
}

fn run_ip(namespace: Option<&Namespace>, arguments: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = match namespace {
        Some(namespace) => namespace.spawn(&mut command),
        None => command.spawn().context("start ip"),
    };
    let mut child = started.context("the lab is built with ip of iproute2 (Debian: apt install iproute2)")?;
    let mut stdin = child.stdin.take().context("write to ip -batch")?;
    stdin.write_all(input.as_bytes()).context("write to ip -batch")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for ip -batch")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
