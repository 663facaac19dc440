//! The demo's lab with the datapath in its core, driven without an agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead::datapath::{Attachment, Datapath, Hook, Mode};
use bulkhead::reconcile::Reconciler;
use bulkhead::tables::{Capacities, Tables};
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::abi::value::{ROLE_ACCESS, ROLE_CORE};
use bulkhead_common::verdict::{DropReason, Verdict};
use nix::net::if_::if_nametoindex;
use tests::netns::{Client, Endpoint, Injector, Lab, Servers, Topology, granted};
use tests::small;

pub(crate) const SIZES: Capacities =
    Capacities { devices: 256, addresses: 512, profiles: 256, ranges: 512, ports: 512, flows: 65_536 };
/// The core's links and their roles.
pub(crate) const LINKS: [(&str, u8); 3] = [("acc0", ROLE_ACCESS), ("acc1", ROLE_ACCESS), ("n6", ROLE_CORE)];
/// charger-1, as the demo's topology numbers it.
pub(crate) const DEVICE: u8 = 11;
/// The port that charger-1 may reach.
pub(crate) const OPEN: u16 = 5000;

/// The lab with the datapath in its core.
pub(crate) struct Core {
    pub(crate) lab: Arc<Lab>,
    pub(crate) pins: PathBuf,
    pub(crate) datapath: Option<(Datapath, Reconciler)>,
}

impl Core {
    /// Nothing where the test may not run.
    pub(crate) fn start() -> Result<Option<Self>> {
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

    pub(crate) fn pins(&self) -> &Path {
        &self.pins
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        let mut datapath = Datapath::open(&self.pins, &SIZES)?;
        let reconciler = Reconciler::observe(datapath.rows())?;
        self.datapath = Some((datapath, reconciler));
        if Datapath::present(&self.pins) {
            self.attach()?;
        }
        Ok(())
    }

    pub(crate) fn attach(&mut self) -> Result<()> {
        for (name, _) in LINKS {
            let ifindex = self.ifindex(name)?;
            let (datapath, _) = self.datapath.as_mut().context("no agent")?;
            let attached =
                self.lab.namespace("core")?.run(|| datapath.attach(name, ifindex, Hook::NATIVE))??;
            let expected =
                Attachment { interface: name.to_owned(), ifindex, mode: Mode::Native, defunct: false };
            assert_eq!(attached, expected);
        }
        Ok(())
    }

    /// Lets charger-1 reach `port`, and another device another port.
    pub(crate) fn open_port(&mut self, port: u16, other: u8, other_port: u16) -> Result<()> {
        let mut places = Vec::new();
        for (name, roles) in LINKS {
            places.push((self.ifindex(name)?, roles));
        }
        self.apply(&small::tables(&places, &[(DEVICE, port), (other, other_port), (31, 7000)]))
    }

    /// Makes the kernel hold these tables.
    pub(crate) fn apply(&mut self, tables: &Tables) -> Result<()> {
        let (datapath, reconciler) = self.datapath.as_mut().context("no agent")?;
        reconciler.apply(datapath.rows(), tables)?;
        Ok(())
    }

    pub(crate) fn datapath(&self) -> Result<&Datapath> {
        self.datapath.as_ref().map(|(datapath, _)| datapath).context("no agent")
    }

    pub(crate) fn reconciler(&self) -> Result<&Reconciler> {
        self.datapath.as_ref().map(|(_, reconciler)| reconciler).context("no agent")
    }

    pub(crate) fn servers(&self) -> Result<Servers> {
        let servers = Servers::new();
        let endpoints = [OPEN, OPEN + 1].map(|port| Endpoint::udp(small::REMOTE, port));
        servers.start(self.lab.namespace("dn")?, &endpoints)?;
        Ok(servers)
    }

    /// True if charger-1 gets an answer from the server's port.
    pub(crate) fn udp(&self, port: u16) -> Result<bool> {
        let client = Client::new(self.lab.namespace("charger-1")?).timeout(Duration::from_millis(400));
        Ok(client.udp(SocketAddr::new(small::REMOTE, port), b"hello")?.echoed(b"hello"))
    }

    pub(crate) fn ifindex(&self, name: &str) -> Result<u32> {
        Ok(self.lab.namespace("core")?.run(|| if_nametoindex(name))??)
    }

    pub(crate) fn counters(&self, name: &str) -> Result<Counters> {
        let ifindex = self.ifindex(name)?;
        self.datapath()?.counters()?.get(&ifindex).copied().context("the interface has no counters")
    }

    /// Sends a frame, and holds what became of it against the interface's counters.
    pub(crate) fn expect(&self, link: &str, from: &Injector, frame: &[u8], verdict: Verdict) -> Result<()> {
        self.expect_of(link, || from.send(frame), verdict)
    }

    /// As [`Self::expect`], of whatever is sent.
    pub(crate) fn expect_of(
        &self,
        link: &str,
        send: impl FnOnce() -> Result<()>,
        verdict: Verdict,
    ) -> Result<()> {
        let before = self.counters(link)?;
        send()?;
        for _ in 0..40 {
            if self.counters(link)?.of(verdict).packets > before.of(verdict).packets {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::bail!("{link}: expected {verdict:?}, dropped so far: {:?}", self.drops(link)?)
    }

    /// What was dropped, by reason.
    pub(crate) fn drops(&self, name: &str) -> Result<Vec<(&'static str, u64)>> {
        let counters = self.counters(name)?;
        let each = DropReason::ALL
            .iter()
            .map(|reason| (reason.as_str(), counters.of(Verdict::Drop(*reason)).packets));
        Ok(each.filter(|(_, packets)| *packets > 0).collect())
    }

    /// Waits until nothing is on the way any more.
    pub(crate) fn quiet(&self) -> Result<()> {
        let received = || {
            LINKS
                .map(|(name, _)| self.counters(name).map(|it| it.received.packets))
                .into_iter()
                .collect::<Result<Vec<_>>>()
        };
        let mut last = received()?;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(60));
            let now = received()?;
            if now == last {
                return Ok(());
            }
            last = now;
        }
        anyhow::bail!("the links do not come to rest")
    }

    pub(crate) fn pinned_inodes(&self) -> Result<Vec<(PathBuf, u64)>> {
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

pub(crate) fn assert_balanced(counters: &Counters) {
    let sum = counters.passed_total().packets + counters.dropped_total().packets;
    assert_eq!(counters.received.packets, sum, "in = passed + dropped");
    let bytes = counters.passed_total().bytes + counters.dropped_total().bytes;
    assert_eq!(counters.received.bytes, bytes, "in = passed + dropped, in bytes");
}
