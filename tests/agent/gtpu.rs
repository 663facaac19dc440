//! A device behind a GTP-U tunnel: a base station, the agent's N3, and a UPF that hands its packets to the kernel.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::frame::eth;
use tests::gtpu::{PORT, TunnelEnd};
use tests::netns::{Client, FORBIDDEN, Match, OUTSIDER, SERVER, Witness};
use tests::tun::Tun;

use super::host::{DEGRADED, ENFORCING, Host, PATIENCE, POLICIES_OF_THE_DEMO, REPAIR, Status, words};

/// The base station's and the UPF's address on the link that the lab calls acc1.
const GNB: &str = "10.99.2.2";
const UPF: &str = "10.99.2.1";
const UE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 45, 0, 50));
const TEID: u32 = 0x1a2b;

const DEVICE: &str = "
apiVersion: bulkhead/v1
kind: Device
metadata: {name: charger-50, labels: {class: ev-charger, site: oslo-12}}
spec: {network: fleet, addresses: [10.45.0.50]}
";

/// The tunnel's two ends.
struct N3 {
    host: Host,
    gnb: TunnelEnd,
    upf: TunnelEnd,
}

/// The demo's network, shown on the UPF's own device too.
fn seen_on_ogstun() -> Result<String> {
    let network = std::fs::read_to_string(format!("{POLICIES_OF_THE_DEMO}/10-network.yaml"))?;
    Ok(network.replacen("seenOn: [", "seenOn: [{interface: ogstun}, ", 1))
}

impl N3 {
    /// The UPF's own device is a witness.
    fn start() -> Result<Option<Self>> {
        let Some(n3) = Self::with("{name: ogstun, roles: [witness]}", &seen_on_ogstun()?)? else {
            return Ok(None);
        };
        n3.host.await_status(REPAIR, |status| status.mode("ogstun") == Some("generic"))?;
        Ok(Some(n3))
    }

    /// With this interface of the UPF, and this policy, applied before there is a TUN device.
    fn with(upf: &str, policy: &str) -> Result<Option<Self>> {
        let n3 = format!(
            "{{name: acc1, roles: [access], transit: pass, gtpu: {{local: [{UPF}], peers: [{GNB}]}}}}"
        );
        let plain = "{name: acc1, roles: [access], transit: drop}";
        let both = format!("{n3}\n    - {upf}");
        let settings = |text: String| text.replace(plain, &both);
        let Some(mut host) = Host::with_settings(settings)? else {
            return Ok(None);
        };
        host.start()?;
        host.apply()?;
        let applied = host.apply_text(DEVICE)?;
        ensure!(applied.status.success(), "{}", words(&applied));
        if !policy.is_empty() {
            let applied = host.apply_text(policy)?;
            ensure!(applied.status.success(), "{}", words(&applied));
        }
        let (ran, core, ue) =
            (host.lab.namespace("ran")?, host.lab.namespace("core")?, host.lab.namespace("stray-1")?);
        let (radio, ogstun) = (Tun::new(ue, "ue0")?, Tun::new(core, "ogstun")?);
        host.ip(
            "stray-1",
            &[
                "addr add 10.45.0.50/32 dev ue0",
                "link set ue0 up",
                "route add default dev ue0 table 50",
                "rule add from 10.45.0.50 table 50",
            ],
        )?;
        host.ip("core", &["link set ogstun up", "route add 10.45.0.50/32 dev ogstun"])?;
        let (gnb, upf): (SocketAddr, SocketAddr) =
            (format!("{GNB}:{PORT}").parse()?, format!("{UPF}:{PORT}").parse()?);
        let gnb_end = TunnelEnd::start(ran, gnb, upf, TEID, radio)?;
        let upf_end = TunnelEnd::start(core, upf, gnb, 0x77, ogstun)?;
        Ok(Some(Self { host, gnb: gnb_end, upf: upf_end }))
    }

    fn reaches(&self, server: IpAddr) -> Result<bool> {
        let client = Client::new(self.host.lab.namespace("stray-1")?).from(UE);
        let client = client.timeout(Duration::from_millis(700));
        Ok(client.tcp(SocketAddr::new(server, 443), b"hello")?.echoed(b"hello"))
    }

    /// Waits until a drop with this reason was told.
    fn told(&self, reason: &str) -> Result<String> {
        let wanted = format!("\"reason\":\"{reason}\"");
        let started = std::time::Instant::now();
        loop {
            let drops = words(&self.host.bulkhead(&["drops", "-o", "json"])?);
            if let Some(line) = drops.lines().find(|line| line.contains(&wanted)) {
                return Ok(line.to_owned());
            }
            ensure!(started.elapsed() < PATIENCE, "no {reason}: {drops}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_device_behind_a_tunnel_is_judged_by_the_packet_inside() -> Result<()> {
    let Some(n3) = N3::start()? else { return Ok(()) };
    ensure!(n3.gnb.is_alive()?, "echo between the endpoints does not pass");
    ensure!(n3.reaches(SERVER.v4.into())?, "what the policy allows does not pass: {}", n3.host.log()?);
    ensure!(n3.upf.packets() >= 3 && n3.gnb.packets() >= 2, "it did not go through the tunnel");
    ensure!(!n3.reaches(FORBIDDEN.v4.into())?, "what no rule names passes");
    let drop = n3.told("no_rule")?;
    for part in ["\"device\":\"charger-50\"", "\"teid\":6699", "\"tunnel_peer\":\"10.99.2.2\""] {
        ensure!(drop.contains(part), "{part}: {drop}");
    }

    // Outside of its tunnel the device is nobody's, and so is its address in another tunnel.
    let packet = eth().ip(UE, IpAddr::from(SERVER.v4)).udp(1000, 443).build();
    let before = n3.upf.packets();
    n3.gnb.send(TEID + 1, &packet[14..])?;
    n3.told("spoofed_tunnel")?;
    let stranger = eth().ip(IpAddr::from([10, 45, 0, 51]), IpAddr::from(SERVER.v4)).udp(1, 443).build();
    n3.gnb.send(TEID, &stranger[14..])?;
    n3.told("unknown_device")?;
    n3.gnb.send(TEID, &eth().ip(UE, IpAddr::from(OUTSIDER.v4)).udp(1, 2152).build()[14..])?;
    n3.told("gtpu_nested")?;
    n3.gnb.send(0, &packet[14..])?;
    n3.told("gtpu_teid_zero")?;
    n3.gnb.send_raw(&[0x30, 255, 0, 1, 0, 0, 0, 9, 0x15])?;
    n3.told("gtpu_inner")?;
    n3.gnb.send_raw(&[0x30, 255, 0, 9, 0, 0, 0, 9, 0x45])?;
    n3.told("gtpu_malformed")?;
    ensure!(n3.upf.packets() == before, "the UPF was reached");

    // What is not for the endpoint follows `transit`.
    let client = Client::new(n3.host.lab.namespace("ran")?).from(GNB.parse::<IpAddr>()?);
    let ping = client.timeout(Duration::from_secs(2)).ping(UPF.parse::<IpAddr>()?, b"n2?")?;
    ensure!(ping.echoed(b"n2?"), "transit does not pass on N3");
    Ok(())
}

#[test]
fn tunnels_are_judged_while_the_agent_is_dead_and_their_pieces_are_named() -> Result<()> {
    let Some(mut n3) = N3::start()? else { return Ok(()) };
    // Larger than the link: the base station's kernel sends it in pieces, and no piece reaches the UPF.
    let large = eth().ip(UE, IpAddr::from(SERVER.v4)).udp(1000, 443).payload(&[7; 2000]).build();
    let pieces = Match { source: Some(GNB.parse()?), destination: Some(UPF.parse()?) };
    let witness = Witness::open(n3.host.lab.namespace("core")?, "acc1", pieces)?;
    n3.gnb.send(TEID, &large[14..])?;
    n3.told("gtpu_outer_fragment")?;
    ensure!(witness.seen()? == 0, "a piece of a tunnel's packet came through");
    let status = n3.host.status()?;
    ensure!(status.text.contains("pieces of tunnelled packets"), "{}", status.text);
    ensure!([ENFORCING, DEGRADED].contains(&status.code), "{}", status.text);

    n3.host.kill().context("kill the agent")?;
    ensure!(n3.reaches(SERVER.v4.into())?, "a dead agent stops a device");
    ensure!(!n3.reaches(FORBIDDEN.v4.into())?, "a dead agent lets a device out");
    Ok(())
}

#[test]
fn a_witness_drops_nothing_and_tells_what_n3_never_let_through() -> Result<()> {
    let Some(n3) = N3::start()? else { return Ok(()) };
    ensure!(n3.reaches(SERVER.v4.into())?, "{}", n3.host.log()?);
    let status = n3.host.status()?;
    ensure!(!status.text.contains("had let through"), "what N3 let through rings the alarm: {}", status.text);
    let ogstun = |status: &Status| {
        let interfaces = status.json["interfaces"].as_array().cloned().unwrap_or_default();
        interfaces.into_iter().find(|interface| interface["name"] == "ogstun").unwrap_or_default()
    };
    ensure!(ogstun(&status)["received"].as_u64() >= Some(3), "it has seen nothing: {}", status.text);

    // Past N3: the UPF hands over what came through no tunnel. The policy forbids it, and it passes all the same.
    let wanted = Match { source: Some(UE), destination: Some(FORBIDDEN.v4.into()) };
    let arrived = Witness::open(n3.host.lab.namespace("dn")?, "n6", wanted)?;
    let flows = words(&n3.host.bulkhead(&["flows", "-o", "json"])?);
    n3.upf.hand_over(&eth().ip(UE, IpAddr::from(FORBIDDEN.v4)).udp(1, 443).build()[14..])?;
    let told = n3.told("witness_alarm")?;
    for part in ["\"event\":\"witness\"", "\"device\":\"charger-50\"", "\"interface\":\"ogstun\""] {
        ensure!(told.contains(part), "{part}: {told}");
    }
    ensure!(arrived.seen()? == 1, "a witness dropped a packet");
    let rings = |status: &Status| status.json["problems"].to_string().contains("had let through");
    let status = n3.host.await_status(REPAIR, rings)?;
    ensure!(ogstun(&status)["dropped"] == 0, "{}", status.text);
    let after = words(&n3.host.bulkhead(&["flows", "-o", "json"])?);
    ensure!(after.lines().count() == flows.lines().count(), "a witness opened a flow: {after}");
    Ok(())
}

#[test]
fn two_judging_points_of_one_uplink_are_refused() -> Result<()> {
    let tun = "{name: ogstun, roles: [access], transit: drop, hairpin: none}";
    let Some(n3) = N3::with(tun, "")? else { return Ok(()) };
    let refused = words(&n3.host.apply_text(&seen_on_ogstun()?)?);
    ensure!(refused.contains("would be judged twice") && refused.contains("roles: [witness]"), "{refused}");
    Ok(())
}
