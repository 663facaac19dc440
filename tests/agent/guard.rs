//! The second guard: no way round the side, with the agent alive and dead.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead::guard::{Guard, Layer, Pools, Step, Wanted, plan};
use bulkhead::policy::{AddressRange, LocalOutput, merged};
use nix::sys::signal::Signal;
use tests::netns::{Client, FORBIDDEN, Lab, Load, Match, OUTSIDER, SERVER, Topology, Witness, granted};

use super::host::{DEGRADED, ENFORCING, Host, PATIENCE, REPAIR, Status, polled, words};

/// What the agent promises when the kernel tells it of a change, and a debug build's share.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Enough for some dozens of datagrams.
const WHILE: Duration = Duration::from_millis(300);
const PORT: u16 = 4444;

/// Ways into the core that no configuration lists.
impl Host {
    /// Gives a device a second link, by which it reaches a server that it may not.
    fn open_side(&self, port_of: Option<&str>) -> Result<()> {
        self.plug("side", "charger-1", 71)?;
        if let Some(bridge) = port_of {
            self.ip("core", &["addr flush dev side", &format!("link add {bridge} type bridge")])?;
            self.ip("core", &[&format!("link set {bridge} up"), &format!("link set side master {bridge}")])?;
            self.address(bridge, 71)?;
        }
        let [charger, charger6] = self.device("charger-1")?;
        let (to, to6) = (FORBIDDEN.v4, FORBIDDEN.v6);
        self.ip("charger-1", &[&format!("route add {to}/32 via 10.99.71.1 dev side src {charger}")])?;
        self.ip("charger-1", &[&format!("-6 route add {to6}/128 via fd00:99:71::1 dev side src {charger6}")])
    }

    /// Gives the outsider a link of its own to the core, by which it reaches a device.
    fn open_back(&self) -> Result<()> {
        self.plug("back", "outside", 72)?;
        let [charger, charger6] = self.device("charger-1")?;
        let (from, from6) = (OUTSIDER.v4, OUTSIDER.v6);
        self.ip("outside", &[&format!("route add {charger}/32 via 10.99.72.1 dev back src {from}")])?;
        self.ip("outside", &[&format!("-6 route add {charger6}/128 via fd00:99:72::1 dev back src {from6}")])
    }

    fn plug(&self, name: &str, role: &str, net: u8) -> Result<()> {
        let peer = format!("link add {name} type veth peer name {name} netns {}-{role}", self.lab.prefix());
        self.ip("core", &[&peer, &format!("link set {name} up")])?;
        self.address(name, net)?;
        self.ip(role, &[&format!("link set {name} up"), &format!("addr add 10.99.{net}.2/30 dev {name}")])?;
        self.ip(role, &[&format!("addr add fd00:99:{net}::2/64 dev {name} nodad")])
    }

    fn address(&self, name: &str, net: u8) -> Result<()> {
        self.ip("core", &[&format!("addr add 10.99.{net}.1/30 dev {name}")])?;
        self.ip("core", &[&format!("addr add fd00:99:{net}::1/64 dev {name} nodad")])
    }

    fn device(&self, name: &str) -> Result<[IpAddr; 2]> {
        Ok(self.lab.topology().device(name).context("no such device")?.address.both())
    }

    /// Datagrams of both families from the device to the server, and what arrives there.
    fn upward(&self) -> Result<Streams<'_>> {
        let [charger, charger6] = self.device("charger-1")?;
        let [server, server6] = FORBIDDEN.both();
        Streams::start(self, "charger-1", [(charger, server), (charger6, server6)], ("dn", "n6"))
    }

    /// Datagrams of both families from outside to the device, and what arrives there.
    fn downward(&self) -> Result<Streams<'_>> {
        let [charger, charger6] = self.device("charger-1")?;
        let [outsider, outsider6] = OUTSIDER.both();
        Streams::start(self, "outside", [(outsider, charger), (outsider6, charger6)], ("charger-1", "radio"))
    }

    /// Datagrams of both families from the host itself to the device.
    fn outward(&self) -> Result<Streams<'_>> {
        let [charger, charger6] = self.device("charger-1")?;
        let own = [IpAddr::from([10, 99, 1, 1]), "fd00:99:1::1".parse()?];
        let pairs = [(own[0], charger), (own[1], charger6)];
        Streams::start(self, "core", pairs, ("charger-1", "radio"))
    }

    fn nft(&self, arguments: &[&str]) -> Result<String> {
        nft(&self.lab, arguments)
    }

    fn has_table(&self) -> Result<bool> {
        Ok(self.nft(&["list", "tables"])?.contains("table inet bulkhead"))
    }
}

/// One datagram stream for each family.
struct Streams<'a> {
    started: Vec<(Load, Witness)>,
    is_local: bool,
    _host: &'a Host,
}

impl<'a> Streams<'a> {
    fn start(
        host: &'a Host,
        actor: &str,
        pairs: [(IpAddr, IpAddr); 2],
        (receiver, interface): (&str, &str),
    ) -> Result<Self> {
        let started = pairs.map(|(source, destination)| {
            let wanted = Match { source: Some(source), destination: Some(destination) };
            let witness = Witness::open(host.lab.namespace(receiver)?, interface, wanted)?;
            let client = Client::new(host.lab.namespace(actor)?).from(source);
            let load = Load::start(&client, SocketAddr::new(destination, PORT), Duration::from_millis(5))?;
            anyhow::Ok((load, witness))
        });
        let started = started.into_iter().collect::<Result<_>>()?;
        Ok(Self { started, is_local: actor == "core", _host: host })
    }

    /// What arrived of IPv4 and of IPv6, after a while in which a few dozens were sent.
    fn arrived(self) -> Result<[u64; 2]> {
        std::thread::sleep(WHILE);
        let mut arrived = Vec::new();
        for (load, witness) in self.started {
            // A datagram that is dropped on its way out of its own host was not sent.
            ensure!(load.stop() > 10 || self.is_local, "too little was sent");
            std::thread::sleep(Duration::from_millis(20));
            arrived.push(witness.seen()?);
        }
        arrived.try_into().map_err(|_| anyhow::anyhow!("a stream for each family"))
    }
}

impl Status {
    fn guard(&self, field: &str) -> &serde_json::Value {
        &self.json["second_guard"][field]
    }

    fn dropped(&self, counter: &str) -> u64 {
        self.json["second_guard"]["dropped"][counter].as_u64().unwrap_or_default()
    }

    fn has_note(&self, words: &str) -> bool {
        let notes = self.json["notes"].as_array();
        notes.is_some_and(|notes| notes.iter().any(|note| note.as_str().unwrap_or_default().contains(words)))
    }
}

/// Runs `nft` in the core.
fn nft(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("nft");
    let output = lab.namespace("core")?.run(|| command.args(arguments).output())??;
    ensure!(output.status.success(), "nft {}: {}", arguments.join(" "), words(&output));
    Ok(words(&output))
}

fn pools(nets: &[&str]) -> Result<Pools> {
    let nets = nets.iter().map(|net| Ok(AddressRange::from(net.parse::<ipnet::IpNet>()?)));
    Ok(Pools::new(&merged(nets.collect::<Result<_>>()?)))
}

#[test]
fn the_table_is_made_read_back_and_changed() -> Result<()> {
    if !granted() {
        return Ok(());
    }
    let lab = Lab::new(&Topology::demo())?;
    let mut wanted = Wanted {
        pools: pools(&["10.45.0.0/16", "fd00:45::/32", "255.255.255.0/24", "ffff::/16"])?,
        held: BTreeSet::from([2, 7]),
        local_output: LocalOutput::Drop,
        layer: Layer::Routed,
    };
    lab.namespace("core")?.run(|| {
        let guard = Guard::open()?;
        assert!(guard.observe(Layer::Routed)?.is_none());
        guard.make(None, &wanted)?;
        let listed = nft(&lab, &["list", "table", "inet", "bulkhead"])?;
        for told in ["elements = { 10.45.0.0/16, 255.255.255.0/24 }", "meta ipsec missing iif @held accept"] {
            assert!(listed.contains(told), "{listed}");
        }
        let found = guard.observe(Layer::Routed)?.context("the table is there")?;
        assert_eq!(plan(Some(&found), &wanted), [], "{found:?}");
        wanted.held = BTreeSet::from([7, 9]);
        assert_eq!(plan(Some(&found), &wanted), [Step::Release(2), Step::Hold(9)]);
        wanted.pools = pools(&["10.45.0.0/17", "10.99.0.0/16"])?;
        guard.make(Some(&found), &wanted)?;
        let found = guard.observe(Layer::Routed)?.context("the table is there")?;
        assert_eq!(plan(Some(&found), &wanted), [], "{found:?}");
        // As many pools as the program's own tables have room for.
        let many: Vec<String> = (0..8192).map(|n| format!("10.{}.{}.0/24", n / 128, n % 128 * 2)).collect();
        let many6: Vec<String> = (0..8192).map(|n| format!("fd00:{:x}::/32", n * 2)).collect();
        let many: Vec<&str> = many.iter().chain(&many6).map(String::as_str).collect();
        wanted.pools = pools(&many)?;
        assert_eq!(wanted.pools.len(), 16_384);
        guard.make(Some(&found), &wanted)?;
        let found = guard.observe(Layer::Routed)?.context("the table is there")?;
        assert_eq!(plan(Some(&found), &wanted), []);
        // A stranger's rule in front of ours, a chain of theirs, a table that sleeps: noticed, and put right.
        for change in [
            "insert rule inet bulkhead prerouting accept",
            "add chain inet bulkhead theirs",
            "add table inet bulkhead { flags dormant; }",
            "flush chain inet bulkhead refuse",
            "flush set inet bulkhead pools_ipv4",
            "add element inet bulkhead held { lo }",
        ] {
            nft(&lab, &change.split(' ').collect::<Vec<_>>())?;
            let found = guard.observe(Layer::Routed)?;
            assert_ne!(plan(found.as_ref(), &wanted), [], "{change}");
            guard.make(found.as_ref(), &wanted)?;
            assert_eq!(plan(guard.observe(Layer::Routed)?.as_ref(), &wanted), [], "{change}");
        }
        assert!(guard.remove()? && !guard.remove()?);
        anyhow::Ok(())
    })?
}

#[test]
fn without_the_guard_there_is_a_way_round_the_side() -> Result<()> {
    let Some(mut host) = Host::with_settings(|settings| settings + "  secondGuard: off\n")? else {
        return Ok(());
    };
    host.start()?;
    host.apply()?;
    host.open_side(None)?;
    host.open_back()?;
    for arrived in [host.upward()?.arrived()?, host.downward()?.arrived()?] {
        assert!(arrived.iter().all(|n| *n > 10), "the lab must be able to leak: {arrived:?}");
    }
    let status = host.status()?;
    assert_eq!((status.code, status.guard("state").as_str()), (ENFORCING, Some("off")), "{}", status.text);
    assert!(
        status.text.contains("second guard off · interfaces that are not listed are open"),
        "{}",
        status.text
    );
    assert!(!host.has_table()?);
    Ok(())
}

#[test]
fn nothing_passes_by_an_interface_that_is_not_listed() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let mut live = host.connection("charger-1", 443)?;
    host.open_side(None)?;
    host.open_back()?;
    assert_eq!(host.upward()?.arrived()?, [0, 0], "from a device");
    assert_eq!(host.downward()?.arrived()?, [0, 0], "to a device");
    let status = host.status()?;
    assert_eq!(status.code, ENFORCING, "{}", status.text);
    for counter in ["from_ipv4", "from_ipv6", "to_ipv4", "to_ipv6"] {
        assert!(status.dropped(counter) > 10, "{counter}: {}", status.text);
    }
    assert!(
        status.text.contains("second guard on · 2 pools closed but for acc0, acc1, n6 · dropped"),
        "{}",
        status.text
    );
    assert!(status.has_note("packets from or to devices were dropped there"), "{}", status.text);
    assert!(status.json["second_guard"]["refused"]["side"].as_u64() > Some(10), "{}", status.text);
    assert!(live.is_alive()? && host.is_guarded()?, "what is guarded goes on");
    // The same with the agent dead, and told all the same.
    host.kill()?;
    assert_eq!([host.upward()?.arrived()?, host.downward()?.arrived()?], [[0, 0]; 2]);
    let status = host.status()?;
    assert!(
        status.text.contains("second guard on · 2 pools closed but for acc0, acc1, n6"),
        "{}",
        status.text
    );
    assert!(live.is_alive()? && host.is_guarded()?);
    // And adopted without a cut.
    host.start()?;
    assert!(live.is_alive()? && host.is_guarded()?);
    let after = host.status()?;
    assert!(after.dropped("from_ipv4") >= status.dropped("from_ipv4").max(20), "{}", after.text);
    assert_eq!(after.guard("repairs").as_u64(), Some(0), "{}", after.text);
    Ok(())
}

#[test]
fn nothing_passes_by_a_bridge_and_a_tunnel_is_named() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    host.open_side(Some("br0"))?;
    assert_eq!(host.upward()?.arrived()?, [0, 0]);
    host.ip("core", &["link add vx0 type vxlan id 7 dev n6 dstport 4789", "link set vx0 up"])?;
    let named = "vx0 is a tunnel (vxlan) that is not listed";
    let status = host.await_status(REPAIR, |status| status.has_note(named))?;
    assert!(status.has_note("br0 is not guarded"), "{}", status.text);
    assert_eq!(status.code, ENFORCING, "a note is no fault: {}", status.text);
    // A guarded interface in a bridge: what enters by it is the bridge's, and is cut.
    host.ip("core", &["link set acc1 master br0"])?;
    let status = host.await_status(REPAIR, |status| status.has_note("acc1 is a port of the bridge br0"))?;
    assert!(status.text.contains("take acc1 out of it if"), "{}", status.text);
    Ok(())
}

#[test]
fn what_a_bridge_passes_from_port_to_port_is_closed() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    // Two neighbours on a bridge of the core, one of which uses a device's address; the core routes none of it.
    // Where br_netfilter is there, it shows switched packets to the table of routed ones, as the bridge's.
    host.lab.namespace("core")?.run(|| {
        for family in ["iptables", "ip6tables"] {
            let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), "0");
        }
    })?;
    host.plug("side", "charger-1", 71)?;
    host.plug("back", "outside", 72)?;
    host.ip(
        "core",
        &["addr flush dev side", "addr flush dev back", "link add br0 type bridge", "link set br0 up"],
    )?;
    host.ip("core", &["link set side master br0", "link set back master br0"])?;
    let [charger, charger6] = host.device("charger-1")?;
    let there = [IpAddr::from([10, 99, 73, 2]), "fd00:99:73::2".parse()?];
    host.ip("outside", &["addr add 10.99.73.2/32 dev back", "addr add fd00:99:73::2/128 dev back nodad"])?;
    host.ip(
        "outside",
        &[&format!("route add {charger}/32 dev back"), &format!("-6 route add {charger6}/128 dev back")],
    )?;
    host.ip("charger-1", &[&format!("route add 10.99.73.2/32 dev side src {charger}")])?;
    host.ip("charger-1", &[&format!("-6 route add fd00:99:73::2/128 dev side src {charger6}")])?;
    let pairs = [(charger, there[0]), (charger6, there[1])];
    let arrived = |host: &Host| Streams::start(host, "charger-1", pairs, ("outside", "back"))?.arrived();
    host.await_status(REPAIR, |_| {
        host.nft(&["list", "tables"]).is_ok_and(|l| l.contains("bridge bulkhead"))
    })?;
    assert_eq!(arrived(&host)?, [0, 0]);
    let status = host.status()?;
    assert!(status.dropped("switched_ipv4") > 10 && status.dropped("switched_ipv6") > 0, "{}", status.text);
    assert!(status.text.contains("between ports of bridges"), "{}", status.text);
    host.kill()?;
    assert_eq!(arrived(&host)?, [0, 0], "with the agent dead");
    assert!(host.bulkhead(&["detach"])?.status.success());
    assert!(!host.nft(&["list", "tables"])?.contains("bulkhead"), "both tables are gone");
    let open = arrived(&host)?;
    assert!(open.iter().all(|n| *n > 10), "the lab must be able to leak: {open:?}");
    Ok(())
}

#[test]
fn an_interface_that_is_made_anew_is_closed_until_it_is_guarded_and_that_takes_no_second() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    host.kill()?;
    host.ip("core", &["link del acc1"])?;
    host.plug_in()?;
    let [camera, _] = host.device("camera-1")?;
    for server in [SERVER.v4, FORBIDDEN.v4] {
        let wanted = Match { source: Some(camera), destination: Some(server.into()) };
        let witness = Witness::open(host.lab.namespace("dn")?, "n6", wanted)?;
        assert!(!host.reaches("camera-1", server.into(), 443)?);
        assert_eq!(witness.seen()?, 0, "with the agent dead, {server}");
    }
    host.start()?;
    host.await_status(PATIENCE, |status| status.code == ENFORCING)?;
    assert!(host.camera_is_guarded()?);
    // With the agent alive, the kernel tells it.
    host.ip("core", &["link del acc1"])?;
    host.plug_in()?;
    let (started, ifindex) =
        (Instant::now(), host.lab.namespace("core")?.run(|| nix::net::if_::if_nametoindex("acc1"))??);
    let is_back = || -> Result<bool> {
        let attached = host.attachments()?.iter().any(|a| a.ifindex == ifindex && !a.defunct);
        let held = host.lab.namespace("core")?.run(|| Guard::open()?.observe(Layer::Routed))??;
        Ok(attached && held.is_some_and(|found| found.held.contains(&ifindex)))
    };
    while !is_back()? {
        assert!(started.elapsed() < AT_ONCE, "it took {:?}\n{}", started.elapsed(), host.log()?);
        std::thread::sleep(Duration::from_millis(10));
    }
    host.await_camera()
}

#[test]
fn the_table_comes_with_the_first_policy_and_goes_with_detach() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    let loaded = words(&host.bulkhead(&["guard", "load"])?);
    assert!(loaded.contains("no policy was accepted yet"), "{loaded}");
    host.start()?;
    let status = host.status()?;
    assert_eq!(status.guard("state"), "idle", "{}", status.text);
    assert!(!host.has_table()?, "nothing to close before the first policy");
    host.apply()?;
    assert!(host.has_table()?);
    host.stop(Signal::SIGTERM)?;
    assert!(host.has_table()?, "an agent that ends leaves it");
    let said = words(&host.bulkhead(&["detach"])?);
    assert!(said.contains("the second guard (nftables tables bulkhead) is gone"), "{said}");
    assert!(!host.has_table()?);
    host.open_side(None)?;
    let arrived = host.upward()?.arrived()?;
    assert!(arrived.iter().all(|n| *n > 10), "nothing is enforced: {arrived:?}");
    Ok(())
}

#[test]
fn before_the_network_is_up_the_pools_are_closed_and_the_host_is_not() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    // As after a reboot: the policy is on disk, the kernel has nothing.
    host.kill()?;
    assert!(host.bulkhead(&["detach"])?.status.success());
    let output = host.bulkhead(&["guard", "load"])?;
    let said = words(&output);
    assert!(
        output.status.success() && said.contains("2 pools are closed on every interface but 0"),
        "{said}"
    );
    host.open_side(None)?;
    host.open_back()?;
    assert_eq!([host.upward()?.arrived()?, host.downward()?.arrived()?], [[0, 0]; 2]);
    assert!(!host.allows()? && host.forbids()?, "nothing of a device's is forwarded");
    assert!(host.host_answers()?, "the operator reaches the host");
    // Also at an address that lies in a pool.
    host.ip("core", &["addr add 10.45.255.1/32 dev lo"])?;
    host.ip("outside", &["route add 10.45.255.1/32 via 10.99.72.1 dev back"])?;
    let outside = host.lab.namespace("outside")?.clone();
    let operator = Client::new(&outside);
    let own = IpAddr::from([10, 45, 255, 1]);
    assert!(operator.ping(own, b"there?")?.echoed(b"there?"), "the host's own address is no device's");
    let status = host.status()?;
    assert!(status.text.contains("second guard on · 2 pools closed but for no interface"), "{}", status.text);
    host.start()?;
    host.await_status(PATIENCE, |status| status.code == ENFORCING)?;
    assert!(host.is_guarded()?, "{}", host.log()?);
    assert!(operator.ping(own, b"there?")?.echoed(b"there?"));
    // Loading it again takes nothing from an agent that runs.
    let said = words(&host.bulkhead(&["guard", "load"])?);
    assert!(said.contains("on every interface but 3") && host.is_guarded()?, "{said}");
    assert_eq!([host.upward()?.arrived()?, host.downward()?.arrived()?], [[0, 0]; 2]);
    Ok(())
}

#[test]
fn a_table_that_somebody_flushed_is_back_at_once_and_the_status_tells() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    host.open_side(None)?;
    for (count, change) in [
        vec!["flush", "ruleset"],
        vec!["flush", "table", "inet", "bulkhead"],
        vec!["delete", "chain", "inet", "bulkhead", "prerouting"],
    ]
    .into_iter()
    .enumerate()
    {
        host.nft(&change)?;
        let repaired = |status: &Status| status.guard("repairs").as_u64() == Some(count as u64 + 1);
        let started = Instant::now();
        let status = host.await_status(REPAIR, repaired)?;
        assert!(started.elapsed() < 2 * AT_ONCE, "{change:?}: it took {:?}", started.elapsed());
        assert!(status.text.contains("somebody changed its table"), "{}", status.text);
        assert_eq!(status.code, ENFORCING, "{}", status.text);
        assert_eq!(host.upward()?.arrived()?, [0, 0], "{change:?}");
        assert!(host.is_guarded()?);
    }
    Ok(())
}

#[test]
fn a_guard_that_cannot_be_kept_is_a_fault_and_says_why() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    // A table of that name that the kernel keeps for somebody else.
    let stranger = Stranger::owning(&host)?;
    host.start()?;
    host.apply()?;
    let status = host.status()?;
    assert_eq!((status.code, status.guard("state").as_str()), (DEGRADED, Some("missing")), "{}", status.text);
    for told in ["the second guard is missing", "CAP_NET_ADMIN", "secondGuard: off", "second guard MISSING"] {
        assert!(status.text.contains(told), "{told}: {}", status.text);
    }
    assert!(host.is_guarded()?, "what is listed is guarded all the same");
    drop(stranger);
    let status = host.await_status(REPAIR, |status| status.code == ENFORCING)?;
    assert_eq!(status.guard("state"), "on", "{}", status.text);
    Ok(())
}

/// `nft` that stays, and with it the table that it owns.
struct Stranger(Child);

impl Stranger {
    fn owning(host: &Host) -> Result<Self> {
        let mut command = Command::new("nft");
        command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = host.lab.namespace("core")?.spawn(&mut command)?;
        let input = child.stdin.as_mut().context("nft reads what it is told")?;
        input.write_all(b"add table inet bulkhead { flags owner; }\n")?;
        let stranger = Self(child);
        ensure!(polled(PATIENCE, || host.has_table(), |made| *made)?, "nft made no table");
        Ok(stranger)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_apply_closes_a_new_pool_and_frees_an_old_one() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    // A second device network, on its way in by the side, and no device's yet.
    host.plug("side", "charger-1", 71)?;
    host.ip("charger-1", &["addr add 10.47.0.9/32 dev side"])?;
    let route = format!("route add {}/32 via 10.99.71.1 dev side src 10.47.0.9", FORBIDDEN.v4);
    host.ip("charger-1", &[&route])?;
    let arrives = || -> Result<bool> {
        let source = IpAddr::from([10, 47, 0, 9]);
        let wanted = Match { source: Some(source), destination: Some(FORBIDDEN.v4.into()) };
        let witness = Witness::open(host.lab.namespace("dn")?, "n6", wanted)?;
        let client = Client::new(host.lab.namespace("charger-1")?).from(source);
        let load =
            Load::start(&client, SocketAddr::new(FORBIDDEN.v4.into(), PORT), Duration::from_millis(5))?;
        std::thread::sleep(WHILE);
        load.stop();
        Ok(witness.seen()? > 0)
    };
    assert!(arrives()?, "it is nobody's pool");
    let network = "apiVersion: bulkhead/v1\nkind: Network\nmetadata: {name: second}\nspec:\n  \
                   seenOn: [{interface: n6, vlan: 200}]\n  pools: [10.47.0.0/16]\n";
    let output = host.apply_text(network)?;
    assert!(output.status.success(), "{}", words(&output));
    assert!(!arrives()?, "it is closed with the apply");
    assert!(host.is_guarded()?);
    assert_eq!(host.status()?.guard("pools").as_u64(), Some(3));
    host.apply()?;
    assert!(arrives()?, "it is free again");
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn what_the_host_sends_to_devices_is_a_setting() -> Result<()> {
    for drops in [false, true] {
        let setting = if drops { "  localOutput: drop\n" } else { "" };
        let Some(mut host) = Host::with_settings(|settings| settings + setting)? else { return Ok(()) };
        host.start()?;
        host.apply()?;
        let arrived = host.outward()?.arrived()?;
        assert_eq!(arrived.map(|n| n == 0), [drops; 2], "{arrived:?}");
        let status = host.status()?;
        for counter in ["output_ipv4", "output_ipv6"] {
            assert_eq!(status.dropped(counter) > 10, drops, "{}", status.text);
        }
        assert_eq!(status.text.contains("sent by this host"), drops, "{}", status.text);
        assert!(host.is_guarded()?, "what is forwarded is not what the host sends");
    }
    Ok(())
}
