//! Interfaces come, go and change; pins are removed; strangers are in the way.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead::datapath::{Datapath, Hook};
use bulkhead::tables::Capacities;
use nix::net::if_::if_nametoindex;
use tests::netns::{FORBIDDEN, SERVER};

use super::host::{DEGRADED, ENFORCING, Host, PATIENCE, REPAIR, Status};

const SMALL: Capacities =
    Capacities { devices: 8, addresses: 8, profiles: 8, ranges: 8, ports: 8, flows: 64 };

impl Host {
    /// Makes the second access link anew, as the lab had it for IPv4.
    pub(crate) fn plug_in(&self) -> Result<()> {
        let peer = format!("link add acc1 type veth peer name acc1 netns {}-ran", self.lab.prefix());
        self.ip("core", &[&peer, "link set acc1 up", "addr add 10.99.2.1/30 dev acc1"])?;
        self.ip("ran", &["link set acc1 up", "addr add 10.99.2.2/30 dev acc1"])?;
        self.ip("ran", &["route add default via 10.99.2.1 dev acc1 table 101"])?;
        self.ip("core", &["route add 10.45.0.31/32 via 10.99.2.2"])
    }

    /// True if camera-1, behind the second access link, may do what it may and no more.
    pub(crate) fn camera_is_guarded(&self) -> Result<bool> {
        Ok(self.reaches("camera-1", SERVER.v4.into(), 443)?
            && !self.reaches("camera-1", FORBIDDEN.v4.into(), 443)?)
    }

    /// Waits until it may: a neighbour that got no answer while its interface was closed is asked again a second later.
    pub(crate) fn await_camera(&self) -> Result<()> {
        let until = Instant::now() + REPAIR;
        while !self.camera_is_guarded()? {
            ensure!(!self.reaches("camera-1", FORBIDDEN.v4.into(), 443)?, "camera-1 may do more than it may");
            ensure!(Instant::now() < until, "{}", self.log()?);
        }
        Ok(())
    }
}

#[test]
fn an_interface_that_is_made_anew_is_guarded_again() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let mut live = host.connection("charger-1", 443)?;
    assert!(host.camera_is_guarded()?);
    host.ip("core", &["link set acc1 down"])?;
    host.ip("core", &["link set acc1 up", "route add 10.45.0.31/32 via 10.99.2.2"])?;
    assert!(host.camera_is_guarded()?, "down and up takes nothing away");
    host.ip("core", &["link del acc1"])?;
    let status = host.await_status(REPAIR, |status| status.code == DEGRADED)?;
    assert!(status.text.contains("acc1 is not guarded"), "{}", status.text);
    host.plug_in()?;
    host.await_status(REPAIR, |status| status.code == ENFORCING)?;
    host.await_camera()?;
    assert!(live.is_alive()? && host.is_guarded()?, "the others never noticed");
    assert_eq!(host.attachments()?.len(), 3, "the pin of the old one is gone");
    Ok(())
}

#[test]
fn an_interface_keeps_its_mode_until_it_is_let_go_of_and_the_status_says_so() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    host.kill()?;
    let settings = fs::read_to_string(&host.config)?;
    let generic = settings.replace("{name: acc1,", "{name: acc1, attachMode: generic,");
    assert_ne!(settings, generic);
    fs::write(&host.config, generic)?;
    host.start()?;
    let told = |status: &Status| status.text.contains("acc1 is not guarded as it should be");
    let status = host.await_status(REPAIR, told)?;
    assert!(status.text.contains("it is judged in native mode"), "{}", status.text);
    assert_eq!((status.code, status.mode("acc1")), (DEGRADED, Some("native")), "{}", status.text);
    host.await_camera()?;
    host.kill()?;
    assert!(host.bulkhead(&["detach"])?.status.success());
    host.start()?;
    let status = host.await_status(REPAIR, |status| status.code == ENFORCING)?;
    assert_eq!(status.mode("acc1"), Some("generic"), "{}", status.text);
    host.await_camera()
}

#[test]
fn a_renamed_interface_stays_closed_until_it_has_its_name_again() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    host.ip("core", &["link set acc1 down", "link set acc1 name other", "link set other up"])?;
    host.ip("core", &["route add 10.45.0.31/32 via 10.99.2.2"])?;
    let status = host.await_status(REPAIR, |status| status.code == DEGRADED)?;
    assert!(status.text.contains("acc1 is not guarded"), "{}", status.text);
    assert_eq!(status.mode("acc1"), None, "nothing of that name is attached: {}", status.text);
    host.nudge()?;
    host.await_status(REPAIR, |status| status.generation() > 1)?;
    for server in [SERVER.v4, FORBIDDEN.v4] {
        assert!(!host.reaches("camera-1", server.into(), 443)?, "nothing passes under a foreign name");
    }
    assert!(host.is_guarded()?);
    host.ip("core", &["link set other down", "link set other name acc1", "link set acc1 up"])?;
    host.nudge()?;
    host.ip("core", &["route add 10.45.0.31/32 via 10.99.2.2"])?;
    host.await_status(REPAIR, |status| status.code == ENFORCING)?;
    host.await_camera()
}

#[test]
fn pins_that_somebody_removed_are_back_and_nothing_passed_meanwhile() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let forbidden = host.forbidden()?;
    let mut live = host.connection("charger-1", 443)?;
    let links = host.pins().join("links");
    let first = fs::read_dir(&links)?.next().context("there are pins")??.path();
    fs::remove_file(&first)?;
    host.await_status(REPAIR, |status| status.code == ENFORCING && first.exists())?;
    // The whole folder, too: the links live by the agent's descriptors until it is there again.
    fs::remove_dir_all(&links)?;
    host.nudge()?;
    host.await_status(REPAIR, |status| status.code == ENFORCING && first.exists())?;
    assert_eq!(host.attachments()?.len(), 3);
    host.kill()?;
    assert!(live.is_alive()? && host.is_guarded()?, "the new pins hold without an agent");
    let (sent, arrived) = forbidden.stop()?;
    assert!(sent > 100 && arrived == 0, "{arrived} of {sent} arrived");
    Ok(())
}

#[test]
fn a_stranger_s_program_and_a_missing_interface_keep_no_other_from_being_guarded() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    let stranger = host.lab.pins().with_file_name(format!("{}-stranger", host.lab.prefix()));
    let result = strangers(&mut host, &stranger);
    let removed = Datapath::detach(&stranger);
    result.and(removed.map(|_| ()))
}

fn strangers(host: &mut Host, stranger: &std::path::Path) -> Result<()> {
    let core = host.lab.namespace("core")?.clone();
    let mut theirs = Datapath::open(stranger, &SMALL)?;
    core.run(|| theirs.attach("acc0", if_nametoindex("acc0")?, Hook::NATIVE))??;
    host.ip("core", &["link del acc1"])?;
    host.start()?;
    host.apply()?;
    let status = host.status()?;
    assert_eq!(status.code, DEGRADED, "{}", status.text);
    for told in ["acc0 is not guarded", "another XDP program", "detach it first", "acc1 is not guarded"] {
        assert!(status.text.contains(told), "{told}: {}", status.text);
    }
    assert_eq!((status.mode("acc0"), status.mode("n6")), (None, Some("native")));
    // What comes from n6 is judged.
    let forbidden = host.forbidden()?;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(forbidden.stop()?.1, 0);
    host.plug_in()?;
    host.await_status(REPAIR, |status| status.mode("acc1") == Some("native"))?;
    host.await_camera()?;
    // The stranger leaves: its place is taken.
    let ours = core.run(|| if_nametoindex("acc0"))??;
    theirs.detach_point(ours)?;
    host.nudge()?;
    host.await_status(REPAIR, |status| status.code == ENFORCING)?;
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn every_address_that_the_host_gets_is_infrastructure() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    // The cloud that chargers may reach becomes the host itself: no longer a destination for them.
    assert!(host.allows()?);
    host.ip("core", &[&format!("addr add {}/32 dev lo", SERVER.v4)])?;
    let listening = std::net::SocketAddr::new(SERVER.v4.into(), 443);
    let local = tests::netns::Servers::new();
    local.start(host.lab.namespace("core")?, &[tests::netns::Endpoint::Tcp(listening)])?;
    let generation = host.status()?.generation();
    let status = host.await_status(REPAIR, |status| status.generation() > generation)?;
    // Tests gate an apply; a host that changed is closed all the same, and the status tells.
    assert_eq!(status.code, DEGRADED, "{}", status.text);
    assert!(status.text.contains("tests of the policy fail since the host changed"), "{}", status.text);
    assert!(!host.allows()?, "a device reaches nothing of the host");
    assert_eq!(local.received(listening).connections, 0);
    host.ip("core", &[&format!("addr del {}/32 dev lo", SERVER.v4)])?;
    host.nudge()?;
    host.await_status(PATIENCE, |status| status.generation() > generation + 1)?;
    assert!(host.allows()?, "and gets its destination back");
    Ok(())
}
