//! Root: the datapath on real links with real traffic; the receiving side's kernel counts what arrives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead::datapath::{Attachment, Datapath, Mode, Sizes};
use bulkhead::reconcile::Reconciler;
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::abi::value::{ROLE_ACCESS, ROLE_CORE};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use nix::net::if_::if_nametoindex;
use tests::frame::{self, eth};
use tests::netns::{Client, Endpoint, Injector, Lab, Match, Servers, Topology, Witness, granted};
use tests::small;

const SIZES: Sizes =
    Sizes { devices: 256, addresses: 512, profiles: 256, ranges: 512, ports: 512, flows: 65_536 };
const LINKS: [(&str, u8); 3] = [("acc0", ROLE_ACCESS), ("acc1", ROLE_ACCESS), ("n6", ROLE_CORE)];
/// charger-1, as the demo's topology numbers it.
const DEVICE: u8 = 11;
const OPEN: u16 = 5000;

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
    let received = after.received.packets - before.received.packets;
    assert_eq!(received, FRAMES, "in = what the generator sent");
    assert_eq!(after.received.bytes - before.received.bytes, bytes);
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
    let attempt = core.lab.namespace("core")?.run(|| second.attach("acc0", ifindex, false).map(|_| ()))?;
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
    assert!(core.udp(OPEN + 1)?, "nothing is enforced any more");
    Ok(())
}

/// The lab with the datapath in its core.
struct Core {
    lab: Arc<Lab>,
    pins: PathBuf,
    datapath: Option<(Datapath, Reconciler)>,
}

impl Core {
    /// Nothing where the test may not run.
    fn start() -> Result<Option<Self>> {
        if !granted() {
            return Ok(None);
        }
        let lab = Arc::new(Lab::new(&Topology::demo())?);
        lab.mount_bpffs()?;
        let pins = lab.pins();
        let mut core = Self { lab, pins, datapath: None };
        core.open()?;
        core.open_port(OPEN, 12, 6000)?;
        core.attach()?;
        Ok(Some(core))
    }

    fn pins(&self) -> &Path {
        &self.pins
    }

    fn open(&mut self) -> Result<()> {
        let mut datapath = Datapath::open(&self.pins, &SIZES)?;
        let reconciler = Reconciler::observe(&mut datapath)?;
        self.datapath = Some((datapath, reconciler));
        if Datapath::present(&self.pins) {
            self.attach()?;
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<()> {
        for (name, _) in LINKS {
            let ifindex = self.ifindex(name)?;
            let (datapath, _) = self.datapath.as_mut().context("no agent")?;
            let attached = self.lab.namespace("core")?.run(|| datapath.attach(name, ifindex, false))??;
            let expected =
                Attachment { interface: name.to_owned(), ifindex, mode: Mode::Native, defunct: false };
            assert_eq!(attached, expected);
        }
        Ok(())
    }

    /// Lets charger-1 reach `port`, and another device another port.
    fn open_port(&mut self, port: u16, other: u8, other_port: u16) -> Result<()> {
        let mut places = Vec::new();
        for (name, roles) in LINKS {
            places.push((self.ifindex(name)?, roles));
        }
        let tables = small::tables(&places, &[(DEVICE, port), (other, other_port), (31, 7000)]);
        let (datapath, reconciler) = self.datapath.as_mut().context("no agent")?;
        reconciler.apply(datapath, &tables)?;
        Ok(())
    }

    fn datapath(&self) -> Result<&Datapath> {
        self.datapath.as_ref().map(|(datapath, _)| datapath).context("no agent")
    }

    fn reconciler(&self) -> Result<&Reconciler> {
        self.datapath.as_ref().map(|(_, reconciler)| reconciler).context("no agent")
    }

    fn servers(&self) -> Result<Servers> {
        let servers = Servers::new();
        let endpoints = [OPEN, OPEN + 1].map(|port| Endpoint::udp(small::REMOTE, port));
        servers.start(self.lab.namespace("dn")?, &endpoints)?;
        Ok(servers)
    }

    /// True if charger-1 gets an answer from the server's port.
    fn udp(&self, port: u16) -> Result<bool> {
        let client = Client::new(self.lab.namespace("charger-1")?).timeout(Duration::from_millis(400));
        Ok(client.udp(SocketAddr::new(small::REMOTE, port), b"hello")?.echoed(b"hello"))
    }

    fn ifindex(&self, name: &str) -> Result<u32> {
        Ok(self.lab.namespace("core")?.run(|| if_nametoindex(name))??)
    }

    fn counters(&self, name: &str) -> Result<Counters> {
        let ifindex = self.ifindex(name)?;
        self.datapath()?.counters()?.get(&ifindex).copied().context("the interface has no counters")
    }

    /// What was dropped, by reason.
    fn drops(&self, name: &str) -> Result<Vec<(&'static str, u64)>> {
        let counters = self.counters(name)?;
        let each = DropReason::ALL
            .iter()
            .map(|reason| (reason.as_str(), counters.of(Verdict::Drop(*reason)).packets));
        Ok(each.filter(|(_, packets)| *packets > 0).collect())
    }

    /// Waits until nothing is on the way any more.
    fn quiet(&self) -> Result<()> {
        let mut last = self.counters("acc1")?.received;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(60));
            let now = self.counters("acc1")?.received;
            if now == last {
                return Ok(());
            }
            last = now;
        }
        anyhow::bail!("the link does not come to rest")
    }

    fn pinned_inodes(&self) -> Result<Vec<(PathBuf, u64)>> {
        use std::os::unix::fs::MetadataExt;
        let mut inodes = Vec::new();
        for folder in [self.pins.clone(), self.pins.join("links")] {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                inodes.push((entry.path(), entry.metadata()?.ino()));
            }
        }
        inodes.sort();
        Ok(inodes)
    }
}

fn assert_balanced(counters: &Counters) {
    let sum = counters.passed_total().packets + counters.dropped_total().packets;
    assert_eq!(counters.received.packets, sum, "in = passed + dropped");
    let bytes = counters.passed_total().bytes + counters.dropped_total().bytes;
    assert_eq!(counters.received.bytes, bytes, "in = passed + dropped, in bytes");
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
