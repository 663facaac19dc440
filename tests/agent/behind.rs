//! A grant for what lies behind a device: one host of its LAN, for a while.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Result, ensure};
use tests::lan::{LAN, NEIGHBOUR, PLC, ROLE, put_behind};
use tests::netns::{Endpoint, SERVER, Servers};

use super::host::words;
use super::site::{CREATE, Site, VISITOR, hold_over_the_end};

/// How long the grant lasts.
const LASTS: u64 = 14;

/// A host of the LAN, at the port of the visit.
const fn ssh(host: IpAddr) -> SocketAddr {
    SocketAddr::new(host, 22)
}

/// The demo's first charger, with a LAN behind it.
fn charger() -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Device\nmetadata: {{name: charger-1, labels: {{class: ev-charger, site: \
         oslo-12}}}}\nspec:\n  network: fleet\n  addresses: [10.45.0.11, \"fd00:45:0:11::/64\"]\n  binding: \
         {{interface: acc0}}\n  framedRoutes: [{LAN}]\n"
    )
}

#[test]
fn a_grant_behind_a_device_opens_one_host_of_its_lan_and_ends_on_the_live_session() -> Result<()> {
    let Some(site) = Site::new("")? else { return Ok(()) };
    put_behind(&site.host.lab)?;
    let lan = Servers::new();
    let endpoints = [ssh(PLC), SocketAddr::new(PLC, 502), ssh(NEIGHBOUR)];
    lan.start(site.host.lab.namespace(ROLE)?, &endpoints.map(|at| Endpoint::tcp(at.ip(), at.port())))?;
    let said = site.host.apply_text(&charger())?;
    ensure!(said.status.success(), "{}", words(&said));
    assert!(!site.opens_at(VISITOR, ssh(PLC))?, "nobody is let in before");

    let (plc, lasts) = (PLC.to_string(), format!("{LASTS}s"));
    let asked = Instant::now();
    let said = site.done("kari", &[&CREATE[..], &["--behind", &plc, "--for", &lasts]].concat())?;
    let created = Instant::now();
    ensure!(
        said.contains("GRANTED chg-4711 open until") && said.contains("behind it 192.168.50.20"),
        "{said}"
    );
    let mut live = site.session_at(ssh(PLC))?;
    assert!(!site.opens_at(VISITOR, ssh(NEIGHBOUR))?, "not its neighbour in the LAN");
    assert!(!site.opens_at(VISITOR, SocketAddr::new(PLC, 502))?, "no other port");
    assert!(!site.opens_at(("dn", SERVER.v4.into()), ssh(PLC))?, "nobody else");
    assert!(!site.is_open()?, "nor the device that it is behind");
    hold_over_the_end(&mut live, LASTS, (asked, created))?;
    assert!(!site.opens_at(VISITOR, ssh(PLC))?, "and nothing new is opened");
    for closed in [ssh(NEIGHBOUR), SocketAddr::new(PLC, 502)] {
        assert_eq!(lan.received(closed).connections, 0, "counted by {closed}");
    }
    assert_eq!(lan.received(ssh(PLC)).connections, 1, "counted by the host itself");

    let report = site.report()?;
    ensure!(report["state"] == "ended" && report["behind"] == serde_json::json!([plc]), "{report}");
    ensure!(report["closed"]["cause"] == "time" && report["carried"]["flows"] == 1, "{report}");
    Ok(())
}
