//! Root: the datapath on real links with real traffic; the receiving side's kernel counts what arrives.

#[path = "enforcement/core.rs"]
mod core;
#[path = "enforcement/flips.rs"]
mod flips;
#[path = "enforcement/forwarding.rs"]
mod forwarding;
#[path = "enforcement/inner.rs"]
mod inner;
#[path = "enforcement/lan.rs"]
mod lan;
#[path = "enforcement/large.rs"]
mod large;
#[path = "enforcement/limits.rs"]
mod limits;
#[path = "enforcement/links.rs"]
mod links;
#[path = "enforcement/merged.rs"]
mod merged;
#[path = "enforcement/networks.rs"]
mod networks;
#[path = "enforcement/telemetry.rs"]
mod telemetry;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use bulkhead::datapath::{Datapath, Hook};
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use tests::frame::{self, eth};
use tests::netns::{Client, Injector, Match, Witness};
use tests::small;

use self::core::{Core, DEVICE, OPEN, SIZES, assert_balanced};

#[test]
fn what_a_rule_allows_is_answered_and_nothing_else_arrives() -> Result<()> {
    let Some(core) = Core::start()? else { return Ok(()) };
    let servers = core.servers()?;
    assert!(core.udp(OPEN)?, "allowed UDP must be answered");
    assert!(!core.udp(OPEN + 1)?, "no rule allows this port");
    let forbidden = servers.received(SocketAddr::new(small::REMOTE, OPEN + 1));
    assert_eq!(forbidden.datagrams, 0, "counted by the server");
    let counters = core.counters("acc0")?;
    assert!(counters.of(Verdict::Drop(DropReason::NoRule)).packets >= 1);
    assert!(counters.of(Verdict::Pass(Pass::Opened)).packets >= 1);
    assert!(core.counters("n6")?.of(Verdict::Pass(Pass::Established)).packets >= 1);
    Ok(())
}

#[test]
fn every_packet_that_enters_is_counted_once_and_equals_what_was_sent() -> Result<()> {
    const FRAMES: u64 = 2_000;
    let Some(core) = Core::start()? else { return Ok(()) };
    let injector = Injector::open(core.lab.namespace("ran")?, "acc1")?;
    core.quiet()?;
    let before = core.counters("acc1")?;
    let device = small::address(31);
    let frames = [
        eth().ip(device, small::REMOTE).udp(1, 2).build(),
        eth().vlan(9).ip(device, small::REMOTE).udp(1, 2).build(),
        eth().ip(small::address(200), small::REMOTE).tcp(1, 2).build(),
        eth().ether_type(0x1234).payload(&[0; 60]).build(),
        frame::bare().payload(&[0xff; 64]).build(),
    ];
    let mut bytes = 0;
    for index in 0..FRAMES {
        let frame = &frames[usize::try_from(index)? % frames.len()];
        injector.send(frame)?;
        bytes += frame.len() as u64;
    }
    core.quiet()?;
    let after = core.counters("acc1")?;
    assert_balanced(&after);
    // The kernel's own multicast listener reports and router solicitations come in between; they are counted apart.
    let noise = [Verdict::Drop(DropReason::Multicast), Verdict::Pass(Pass::Neighbour)];
    let sent = |c: &Counters| {
        let noise = noise.map(|verdict| c.of(verdict));
        let packets: u64 = noise.iter().map(|count| count.packets).sum();
        let bytes: u64 = noise.iter().map(|count| count.bytes).sum();
        (c.received.packets - packets, c.received.bytes - bytes)
    };
    assert_eq!(sent(&after).0 - sent(&before).0, FRAMES, "in = what the generator sent");
    assert_eq!(sent(&after).1 - sent(&before).1, bytes);
    let each = FRAMES / frames.len() as u64;
    for reason in [DropReason::NoRule, DropReason::UnknownVlan, DropReason::UnknownDevice] {
        let count = |c: &Counters| c.of(Verdict::Drop(reason)).packets;
        assert_eq!(count(&after) - count(&before), each, "{}", reason.as_str());
    }
    let ethertype = after.of(Verdict::Drop(DropReason::UnsupportedEthertype)).packets;
    assert_eq!(ethertype - before.of(Verdict::Drop(DropReason::UnsupportedEthertype)).packets, 2 * each);
    Ok(())
}

#[test]
fn an_agent_that_goes_leaves_the_datapath_enforcing_and_the_next_adopts_it() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let _servers = core.servers()?;
    assert!(core.udp(OPEN)?);
    let links = core.pinned_inodes()?;
    let before = core.datapath()?.attachments()?;
    core.datapath = None;
    assert!(core.udp(OPEN)?, "established and allowed stays up without an agent");
    assert!(!core.udp(OPEN + 1)?, "forbidden stays forbidden without an agent");
    core.open()?;
    assert_eq!(core.datapath()?.attachments()?, before);
    assert_eq!(core.pinned_inodes()?, links, "links and maps are the same objects");
    assert_eq!(core.reconciler()?.state().epoch.generation.0, 1, "adopting changes no generation");
    assert!(core.udp(OPEN)?);
    assert!(!core.udp(OPEN + 1)?);
    Ok(())
}

#[test]
fn no_packet_leaks_while_programs_are_swapped_and_tables_flip() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let servers = core.servers()?;
    let lab = Arc::clone(&core.lab);
    let stop = AtomicBool::new(false);
    let (lost, leaked) = std::thread::scope(|scope| -> Result<(u32, u64)> {
        let wanted = Match { source: Some(small::address(DEVICE)), destination: Some(small::REMOTE) };
        let entered = Witness::open(lab.namespace("dn")?, "n6", wanted)?;
        let device = lab.namespace("charger-1")?;
        let stop = &stop;
        let allowed = scope.spawn(move || -> Result<u32> {
            let mut lost = 0;
            while !stop.load(Ordering::Relaxed) {
                let to = SocketAddr::new(small::REMOTE, OPEN);
                let answered =
                    Client::new(device).timeout(Duration::from_millis(500)).udp(to, b"x")?.echoed(b"x");
                lost += u32::from(!answered);
            }
            Ok(lost)
        });
        let forbidden = scope.spawn(move || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let to = SocketAddr::new(small::REMOTE, OPEN + 1);
                Client::new(device).timeout(Duration::from_millis(1)).udp(to, b"y")?;
            }
            Ok(())
        });
        for round in 0..20u16 {
            core.open_port(OPEN, 12, 6000 + round)?;
            if round % 5 == 0 {
                core.datapath = None;
                core.open()?;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let lost = allowed.join().map_err(|_| anyhow::anyhow!("the allowed sender panicked"))??;
        forbidden.join().map_err(|_| anyhow::anyhow!("the forbidden sender panicked"))??;
        let leaked = servers.received(SocketAddr::new(small::REMOTE, OPEN + 1)).datagrams;
        assert!(entered.seen()? > 20, "the allowed traffic was really there");
        Ok((lost, leaked))
    })?;
    let seen = [core.drops("acc0")?, core.drops("n6")?];
    assert_eq!((lost, leaked), (0, 0), "allowed lost, forbidden leaked; drops: {seen:?}");
    let refused = core.counters("acc0")?.of(Verdict::Drop(DropReason::NoRule)).packets;
    assert!(refused > 20, "the forbidden traffic was really there: {refused}");
    Ok(())
}

#[test]
fn pinned_maps_of_another_layout_are_refused_by_name() -> Result<()> {
    let Some(core) = Core::start()? else { return Ok(()) };
    let strange = core.pins().with_file_name(format!("{}-strange", core.lab.prefix()));
    std::fs::create_dir_all(&strange)?;
    let removed = scopeguard(&strange);
    let map: aya::maps::Array<aya::maps::MapData, u32> = aya::maps::Array::create(1, 0)?;
    map.pin(strange.join("RANGES"))?;
    let error =
        Datapath::open(&strange, &SIZES).map(|_| ()).expect_err("a map of another layout must be refused");
    let text = format!("{error:#}");
    assert!(text.contains("RANGES") && text.contains("value size is 4") && text.contains("detach"), "{text}");
    drop(removed);
    Ok(())
}

#[test]
fn a_foreign_program_is_named_and_left_alone() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let other = core.pins().with_file_name(format!("{}-other", core.lab.prefix()));
    let mut second = Datapath::open(&other, &SIZES)?;
    let ifindex = core.ifindex("acc0")?;
    let attempt =
        core.lab.namespace("core")?.run(|| second.attach("acc0", ifindex, Hook::NATIVE).map(|_| ()))?;
    drop(second);
    Datapath::detach(&other)?;
    let text = format!("{:#}", attempt.expect_err("the interface is taken"));
    assert!(text.contains("another XDP program") && text.contains("acc0"), "{text}");
    assert!(!core.udp(OPEN + 1)?, "the first still enforces");
    core.datapath = None;
    Ok(())
}

#[test]
fn detach_names_what_is_open_now_and_leaves_nothing() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let _servers = core.servers()?;
    assert!(!core.udp(OPEN + 1)?);
    core.datapath = None;
    let open: Vec<String> = Datapath::detach(core.pins())?.into_iter().map(|a| a.interface).collect();
    assert_eq!(open, ["acc0", "acc1", "n6"]);
    assert!(!core.pins().exists());
    // The kernel lets go of a link behind the removal of its pin (`bpf_link_put_deferred`).
    for _ in 0..10 {
        if core.udp(OPEN + 1)? {
            return Ok(());
        }
    }
    anyhow::bail!("something is still enforced")
}

/// Removes a folder of pins when it goes out of scope.
fn scopeguard(folder: &Path) -> impl Drop {
    struct Remove(PathBuf);
    impl Drop for Remove {
        fn drop(&mut self) {
            for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
                let _ = std::fs::remove_file(entry.path());
                let _ = std::fs::remove_dir(entry.path());
            }
            let _ = std::fs::remove_dir(&self.0);
        }
    }
    Remove(folder.to_owned())
}
