//! A network namespace of its own on one CPU: `out ══ into` and, beyond the kernel's forwarding, `core ══ sink`.

use std::fs;
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use tests::command::run;
use tests::cpu;

/// What frames are sent to: forwarding takes only what is for the host itself.
pub(crate) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The interfaces by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lab {
    /// Where the generator's frames leave.
    pub(crate) out: u32,
    /// Where they enter, and a firewall looks at them.
    pub(crate) into: u32,
    /// Where they leave if they are forwarded.
    pub(crate) core: u32,
    /// Where they then arrive.
    pub(crate) sink: u32,
}

/// Acts in the lab, which goes with its thread.
pub(crate) fn within(act: impl FnOnce(Lab) -> Result<()> + Send) -> Result<()> {
    thread::scope(|scope| {
        let measuring = scope.spawn(|| -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            // Generator and receiver on one CPU: otherwise traffic between caches would be measured.
            cpu::stay_on(0)?;
            wire()?;
            act(Lab {
                out: if_nametoindex("out")?,
                into: if_nametoindex("into")?,
                core: if_nametoindex("core")?,
                sink: if_nametoindex("sink")?,
            })
        });
        measuring.join().map_err(|_| anyhow!("the measuring thread panicked"))?
    })
}

fn wire() -> Result<()> {
    let router = ROUTER_MAC.map(|byte| format!("{byte:02x}")).join(":");
    for line in [
        "ip link set lo up",
        "ip link add out type veth peer name into",
        "ip link add core type veth peer name sink",
        "ip link set out up",
        &format!("ip link set into address {router} up"),
        "ip link set core up",
        "ip link set sink up",
        // Without XDP, veth takes frames from a program only with GRO on.
        "ethtool -K into gro on",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.into.rp_filter=0",
        "ip route add 203.0.113.0/24 dev core",
        "ip route add 10.0.0.0/8 dev into",
        // Nobody's address: the sink drops what reaches it as another host's.
        "ip neigh add 203.0.113.10 lladdr 02:00:00:00:00:99 dev core nud permanent",
    ] {
        run(line)?;
    }
    Ok(())
}

/// How many frames an interface of the lab has received.
pub(crate) fn received(interface: &str) -> Result<u64> {
    let json: serde_json::Value = serde_json::from_str(&run(&format!("ip -j -s link show {interface}"))?)?;
    json.pointer("/0/stats64/rx/packets")
        .and_then(serde_json::Value::as_u64)
        .context("ip shows no statistics")
}

/// Nanoseconds that CPU 0's own thread for interrupts has used: it takes over what is too much at once.
pub(crate) fn softirq_time() -> Result<f64> {
    static THREAD: OnceLock<Option<String>> = OnceLock::new();
    let Some(path) = THREAD.get_or_init(softirq_thread) else { return Ok(0.0) };
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(text.split(' ').next().context("an empty schedstat")?.parse()?)
}

/// Nanoseconds of processor time of all commands that have ended, their system calls with them.
pub(crate) fn children_time() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let all = [usage.user_time(), usage.system_time()];
    Ok(all.iter().map(|time| time.num_microseconds() as f64 * 1e3).sum())
}

fn softirq_thread() -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes.map(|process| process.path()).find_map(|path| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        (name.trim_end() == "ksoftirqd/0").then(|| path.join("schedstat").display().to_string())
    })
}
