//! WireGuard: the kernel decrypts, and what comes out of it is judged.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use bulkhead::datapath::link_type;
use bulkhead_common::case::LinkType;
use tests::command::run;
use tests::frame::bare;
use tests::merged::packet_socket;

use super::host::Guarded;
use super::inside;

/// Both ends are on this host, by its loopback.
const ENDS: [(&str, u16); 2] = [("wg7", 51_820), ("wg8", 51_821)];

#[test]
fn what_comes_by_wireguard_is_judged_inside() -> Result<()> {
    let Some(mut host) = Guarded::start("link add wg7 type wireguard")? else { return Ok(()) };
    run("ip link add wg8 type wireguard")?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let publics = [Key::make(&file("wg7"))?, Key::make(&file("wg8"))?];
    for (at, (name, port)) in ENDS.into_iter().enumerate() {
        let (peer, far) = (&publics[1 - at].0, ENDS[1 - at].1);
        run(&format!(
            "wg set {name} listen-port {port} private-key {} peer {peer} endpoint 127.0.0.1:{far} allowed-ips 0.0.0.0/0",
            file(name)
        ))?;
    }
    run("ip link set wg8 up")?;
    ensure!(link_type("wg7")? == LinkType::RawIp);
    host.guard("wg7", LinkType::RawIp)?;
    let far = packet_socket("wg8")?;
    for (packet, verdict) in inside(bare) {
        let bytes = host.sent("wg7", &packet, &far, verdict)?;
        // WireGuard pads to sixteen bytes and takes off again what the packet's own length says.
        ensure!(
            bytes == packet.len() as u64,
            "{verdict:?}: {bytes} bytes were counted, not {}",
            packet.len()
        );
    }
    Ok(())
}

/// A public key, whose private one is in a file.
struct Key(String);

impl Key {
    fn make(file: &str) -> Result<Self> {
        let private = run("wg genkey")?;
        std::fs::write(file, &private).with_context(|| format!("write {file}"))?;
        let mut wg = Command::new("wg");
        let mut wg = wg.arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        wg.stdin.take().context("wg takes no key")?.write_all(private.as_bytes())?;
        let output = wg.wait_with_output().context("wait for wg")?;
        ensure!(output.status.success(), "wg pubkey: {}", output.status);
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}
