//! A host in a network namespace of its own: a device's link, a link to the data network, and one more thing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead::datapath::{Datapath, Hook, Mode};
use bulkhead::reconcile::Reconciler;
use bulkhead::tables::{Capacities, Tables};
use bulkhead_common::abi::counter::Counters;
use bulkhead_common::abi::value::{ROLE_ACCESS, ROLE_CORE};
use bulkhead_common::case::LinkType;
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use bytemuck::Zeroable as _;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{MsgFlags, send};
use tests::command::run;
use tests::frame::eth;
use tests::kernel::privilege;
use tests::merged::packet_socket;
use tests::netns::mac;
use tests::small;

const SIZES: Capacities =
    Capacities { devices: 64, addresses: 64, profiles: 64, ranges: 64, ports: 64, flows: 1024 };
/// The device, and the UDP port of the data network that it may reach.
pub(crate) const DEVICE: u8 = 11;
pub(crate) const OPEN: u16 = 5000;
/// This host's and the other end's address on the link to the data network.
pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

pub(crate) const LOCAL_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
pub(crate) const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 2);

/// Emulated processors are slow, and WireGuard has to shake hands first.
const PATIENCE: Duration = Duration::from_secs(30);

/// The host with its datapath; what it is made of is gone with the test's thread.
pub(crate) struct Guarded {
    datapath: Datapath,
    reconciler: Reconciler,
    pins: PathBuf,
    /// The far ends of the device's link, and of that to the data network.
    device: OwnedFd,
    outside: OwnedFd,
    /// The hardware address of the link to the data network.
    pub(crate) mac: [u8; 6],
}

impl Guarded {
    /// Nothing where the test may not run, or the kernel has no driver for what `ip` is to make.
    pub(crate) fn start(made: &str) -> Result<Option<Self>> {
        if !privilege::granted() {
            return Ok(None);
        }
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        run("ip link set lo up")?;
        if let Err(error) = run(&format!("ip {made}")) {
            privilege::skip(&format!("{error:#}"));
            return Ok(None);
        }
        for (near, far) in [("acc0", "acc1"), ("n6", "n7")] {
            run(&format!("ip link add {near} type veth peer name {far}"))?;
            run(&format!("ip link set {near} up"))?;
            run(&format!("ip link set {far} up"))?;
        }
        run(&format!("ip addr add {LOCAL}/24 dev n6"))?;
        run(&format!("ip addr add {LOCAL_V6}/64 dev n6 nodad"))?;
        let pins = PathBuf::from(format!("/sys/fs/bpf/bulkhead-tunnels-{}", std::process::id()));
        let mut datapath = Datapath::open(&pins, &SIZES)?;
        let reconciler = Reconciler::observe(datapath.rows())?;
        let (device, outside, mac) = (packet_socket("acc1")?, packet_socket("n7")?, mac("n6")?);
        Ok(Some(Self { datapath, reconciler, pins, device, outside, mac }))
    }

    /// Judges an interface as one of the data network's, and lets the device open a flow of each family.
    pub(crate) fn guard(&mut self, interface: &str, link: LinkType) -> Result<()> {
        run(&format!("ip link set {interface} up"))?;
        let places = [(if_nametoindex("acc0")?, ROLE_ACCESS), (if_nametoindex(interface)?, ROLE_CORE)];
        let tables = small::in_ipv6(small::tables(&places, &[(DEVICE, OPEN)]));
        self.hook("acc0", Hook::NATIVE)?;
        self.hook(interface, Hook { link, mode: Mode::Generic })?;
        self.apply(&tables)?;
        let v6 = (small::address_v6(DEVICE).into(), small::REMOTE_V6.into());
        for (from, to) in [(small::address(DEVICE), small::REMOTE), v6] {
            let asks = eth().ip(from, to).udp(40_000, OPEN).build();
            self.sent("acc0", &asks, &self.device, Verdict::Pass(Pass::Opened))?;
        }
        Ok(())
    }

    /// Hooks the program in on an interface.
    pub(crate) fn hook(&mut self, interface: &str, hook: Hook) -> Result<()> {
        self.datapath.attach(interface, if_nametoindex(interface)?, hook).map(drop)
    }

    /// Puts tables in force.
    pub(crate) fn apply(&mut self, tables: &Tables) -> Result<()> {
        self.reconciler.apply(self.datapath.rows(), tables).map(drop)
    }

    /// Sends a frame from the data network; holds what becomes of so many bytes of it against the interface's counters.
    pub(crate) fn expect(&self, at: &str, frame: &[u8], verdict: Verdict, bytes: usize) -> Result<()> {
        let counted = self.sent(at, frame, &self.outside, verdict)?;
        ensure!(counted == bytes as u64, "{verdict:?}: {counted} bytes were counted, not {bytes}");
        Ok(())
    }

    /// Sends a frame, and waits until the interface counts a packet more with a verdict; says how many bytes it had.
    pub(crate) fn sent(&self, at: &str, frame: &[u8], by: &OwnedFd, verdict: Verdict) -> Result<u64> {
        let before = self.counters(at)?.of(verdict);
        send(by.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let now = self.counters(at)?.of(verdict);
            if now.packets > before.packets {
                return Ok(now.bytes - before.bytes);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{at}: expected {verdict:?}, and counted {:?}", self.reasons(at)?)
    }

    fn counters(&self, at: &str) -> Result<Counters> {
        let all = self.datapath.counters()?;
        Ok(all.get(&if_nametoindex(at)?).copied().unwrap_or_else(Counters::zeroed))
    }

    /// What an interface has counted, by verdict.
    fn reasons(&self, at: &str) -> Result<Vec<(&'static str, u64)>> {
        let counters = self.counters(at)?;
        let passed = Pass::ALL.iter().map(|pass| Verdict::Pass(*pass));
        let dropped = DropReason::ALL.iter().map(|reason| Verdict::Drop(*reason));
        let all = passed.chain(dropped).map(|verdict| (verdict.as_str(), counters.of(verdict).packets));
        Ok(all.filter(|(_, packets)| *packets > 0).collect())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for folder in [self.pins.join("links"), self.pins.clone()] {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.for_each(|entry| drop(std::fs::remove_file(entry.path())));
            drop(std::fs::remove_dir(folder));
        }
    }
}
