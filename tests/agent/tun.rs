//! A packet core's TUN device, and nothing else of it: what a UPF writes there is judged, what it switches itself is not.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::frame::eth;
use tests::nat::masquerade;
use tests::netns::{Client, FORBIDDEN, SERVER};
use tests::tun::Tun;

use super::host::{DEGRADED, ENFORCING, Host, PATIENCE, REPAIR, Status, words};

const METER: Ipv4Addr = Ipv4Addr::new(10, 47, 0, 17);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 47, 0, 18);
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

/// What the tests change in it is in capitals.
const POLICY: &str = "
apiVersion: bulkhead/v1
kind: Network
metadata: {name: apn}
spec: {seenOn: [{interface: ogstun}SEEN], pools: [10.47.0.0/16]}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: meter-1}
spec: {network: apn, addresses: [10.47.0.17]}
---
apiVersion: bulkhead/v1
kind: Device
metadata: {name: meter-2}
spec: {network: apn, addresses: [10.47.0.18]}
---
apiVersion: bulkhead/v1
kind: Policy
metadata: {name: meters}
spec:
  subject: {device: meter-1}
  allow: [{name: head-end, to: {cidrs: [203.0.113.10]}, ports: [tcp/443]}]
";

/// A UPF in user space: its device, and whether it switches packets between devices itself.
struct Upf {
    host: Host,
    tun: Tun,
    hairpins: bool,
}

impl Upf {
    /// The agent with `ogstun` and these settings of it, under a policy that shows the network there, and where `seen` says.
    fn start(settings: &str, seen: &str, hairpins: bool) -> Result<Option<Self>> {
        let line = format!("    - {{name: ogstun, transit: drop, {settings}}}\n");
        let settings = |text: String| text.replace("  interfaces:\n", &format!("  interfaces:\n{line}"));
        let Some(mut host) = Host::with_settings(settings)? else { return Ok(None) };
        let tun = Tun::new(host.lab.namespace("core")?, "ogstun")?;
        host.ip("core", &["addr add 10.47.0.1/16 dev ogstun", "link set ogstun up"])?;
        host.start()?;
        let applied = host.apply_text(&POLICY.replace("SEEN", seen))?;
        ensure!(applied.status.success(), "{}", words(&applied));
        Ok(Some(Self { host, tun, hairpins }))
    }

    /// A device sends; true if the UPF has switched it to another device itself.
    fn send(&self, packet: &[u8]) -> Result<bool> {
        let inside = self.hairpins && packet[16..18] == [10, 47];
        if !inside {
            self.tun.write(packet)?;
        }
        Ok(inside)
    }

    /// True if a packet like this reaches the devices within a second.
    fn receives(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<bool> {
        let started = Instant::now();
        let mut buffer = [0; 2048];
        while started.elapsed() < Duration::from_secs(1) {
            match self.tun.read(&mut buffer)? {
                Some(length) if wanted(&buffer[..length]) => return Ok(true),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Ok(false)
    }

    /// True if the meter gets an answer to the first packet of a connection.
    fn connects(&self, port: u16, to: Ipv4Addr) -> Result<bool> {
        self.send(&eth().ipv4(METER, to).tcp(port, 443).flags(SYN).build()[14..])?;
        self.receives(|packet| {
            packet[..1] == [0x45]
                && packet[12..16] == to.octets()
                && packet[22..24] == port.to_be_bytes()
                && packet[33] == SYN_ACK
        })
    }

    /// Waits until something was dropped for this reason where packets enter (0) or leave (1) by the device.
    fn await_drop(&self, point: usize, reason: &str) -> Result<Status> {
        self.host.await_status(PATIENCE, |status| points(status)[point]["reasons"][reason].as_u64() > Some(0))
    }
}

/// What status says of the device: what enters by it, and what leaves.
fn points(status: &Status) -> Vec<&serde_json::Value> {
    let interfaces = status.json["interfaces"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found: Vec<_> = interfaces.iter().filter(|interface| interface["name"] == "ogstun").collect();
    found.resize(2, &serde_json::Value::Null);
    found
}

fn to_neighbour() -> Vec<u8> {
    eth().ipv4(METER, NEIGHBOUR).udp(1000, 22).payload(b"lateral").build()[14..].to_vec()
}

#[test]
fn a_tun_device_is_judged_generically_and_says_that_lateral_is_not_enforced() -> Result<()> {
    let Some(upf) = Upf::start("roles: [access]", ", {interface: n6}", true)? else { return Ok(()) };
    ensure!(upf.connects(4001, SERVER.v4)?, "what a rule allows is not answered: {}", upf.host.log()?);
    ensure!(!upf.connects(4002, FORBIDDEN.v4)?, "what no rule names passes");
    let status = upf.await_drop(0, "no_rule")?;
    ensure!(status.code == DEGRADED && status.mode("ogstun") == Some("generic"), "{}", status.text);
    for part in ["generic (a raw IP device has no native XDP)", "LATERAL NOT ENFORCED in apn"] {
        ensure!(status.text.contains(part), "{part}: {}", status.text);
    }
    ensure!(status.json["problems"].to_string().contains("LATERAL NOT ENFORCED"), "{}", status.json);

    // It is true: the stand-in hands the packet over, and nothing of Bulkhead ever sees it.
    let before = points(&status)[0]["received"].clone();
    ensure!(upf.send(&to_neighbour())?, "the stand-in does not hairpin");
    ensure!(points(&upf.host.status()?)[0]["received"] == before, "it was seen after all");
    Ok(())
}

#[test]
fn a_upf_that_sends_everything_out_has_lateral_enforced() -> Result<()> {
    let settings = "roles: [access], hairpin: none";
    let Some(upf) = Upf::start(settings, ", {interface: n6}", false)? else { return Ok(()) };
    let status = upf.host.await_status(REPAIR, |status| status.code == ENFORCING)?;
    ensure!(!status.text.contains("LATERAL"), "{}", status.text);
    ensure!(!upf.send(&to_neighbour())?);
    ensure!(!upf.receives(|packet| packet.ends_with(b"lateral"))?, "one device reached another");
    upf.await_drop(0, "segment_denied")?;
    Ok(())
}

#[test]
fn a_masquerade_that_hides_devices_from_the_core_interface_is_told() -> Result<()> {
    let settings = "roles: [access], hairpin: none";
    let Some(upf) = Upf::start(settings, ", {interface: n6}", false)? else { return Ok(()) };
    masquerade(upf.host.lab.namespace("core")?)?;
    ensure!(upf.connects(4001, SERVER.v4)?, "{}", upf.host.log()?);
    let told = |status: &Status| {
        status.json["problems"].to_string().contains("translates addresses of devices of apn")
    };
    let status = upf.host.await_status(REPAIR, told)?;
    ensure!(status.code == DEGRADED && status.text.contains("10.47.0.17"), "{}", status.text);
    Ok(())
}

#[test]
fn what_leaves_by_a_tun_is_judged_behind_the_hosts_masquerade() -> Result<()> {
    let settings = "roles: [access], hairpin: none, downlink: egress";
    let Some(mut upf) = Upf::start(settings, "", false)? else { return Ok(()) };
    masquerade(upf.host.lab.namespace("core")?)?;
    ensure!(upf.connects(4001, SERVER.v4)?, "a translated answer does not come back: {}", upf.host.log()?);
    let status = upf.host.status()?;
    ensure!(status.code == ENFORCING, "{}", status.text);
    ensure!(
        points(&status)[1]["mode"] == "tcx" && points(&status)[1]["roles"][0] == "egress",
        "{}",
        status.text
    );
    ensure!(points(&status)[1]["passed"].as_u64() > Some(0), "it did not leave through the program");

    // The host itself, and whoever it would forward for, opens nothing that no rule lets in.
    let call = |upf: &Upf| -> Result<bool> {
        let core = Client::new(upf.host.lab.namespace("core")?).timeout(Duration::from_millis(50));
        core.udp((IpAddr::from(METER), 22).into(), b"from the host")?;
        upf.receives(|packet| packet.ends_with(b"from the host"))
    };
    ensure!(!call(&upf)?, "what nobody asked for reached a device");
    upf.await_drop(1, "unsolicited")?;
    // Dead or not, and adopted by the next.
    upf.host.kill()?;
    ensure!(!call(&upf)?, "what nobody asked for passes while the agent is dead");
    let links = upf.host.attachments()?;
    upf.host.start()?;
    ensure!(upf.host.attachments()? == links, "the next agent attached anew");
    ensure!(upf.connects(4003, SERVER.v4)? && !call(&upf)?);
    Ok(())
}

#[test]
fn a_host_may_speak_to_devices_unasked_where_its_settings_say_so() -> Result<()> {
    let settings = "roles: [access], hairpin: none, downlink: egress, fromHost: pass";
    let Some(upf) = Upf::start(settings, "", false)? else { return Ok(()) };
    let core = Client::new(upf.host.lab.namespace("core")?).timeout(Duration::from_millis(50));
    core.udp((IpAddr::from(METER), 22).into(), b"from the host")?;
    ensure!(upf.receives(|packet| packet.ends_with(b"from the host"))?, "{}", upf.host.status()?.text);
    // That is no door for others: what is forwarded is judged.
    let outside = Client::new(upf.host.lab.namespace("dn")?).timeout(Duration::from_millis(50));
    outside.udp((IpAddr::from(METER), 22).into(), b"from outside")?;
    ensure!(!upf.receives(|packet| packet.ends_with(b"from outside"))?, "the outside reached a device");
    Ok(())
}
