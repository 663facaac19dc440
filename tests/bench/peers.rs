//! What else a Linux host can hold addresses against: each with the same devices, set up once and hooked in for a round.

use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use tests::command::run;

use super::fleet::FIRST;

/// One way to let known devices through and drop the rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// xdp-filter of xdp-tools: a list of sources, without state.
    XdpFilter,
    /// nftables at the interface's ingress: a set of sources, without state.
    NftNetdev,
    /// nftables where packets are forwarded: connections of the kernel, new ones from a set of sources.
    NftConntrack,
    /// iptables before routing, with an ipset of sources, without state.
    Ipset,
}

/// xdp-filter's tables end here (`MAX_IPV4` would be its own name; xdp-filter.h of 1.3).
const XDP_FILTER_ROOM: u32 = 10_000;
const XDP_FILTER_MAP: &str = "/sys/fs/bpf/xdp-filter/filter_ipv4";
/// `MAP_FLAG_SRC` of xdp-filter.
const FROM: u64 = 1;

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::XdpFilter => "xdp-filter",
            Self::NftNetdev => "nft netdev set",
            Self::NftConntrack => "nft conntrack + set",
            Self::Ipset => "iptables raw + ipset",
        }
    }

    /// Loads the addresses; a reason why not otherwise.
    pub(crate) fn prepare(self, devices: u32) -> Result<()> {
        match self {
            Self::XdpFilter => {
                ensure!(devices <= XDP_FILTER_ROOM, "its tables end at {XDP_FILTER_ROOM} addresses");
                run("which xdp-filter").map(drop)
            }
            Self::NftNetdev => load_nft("netdev", devices),
            Self::NftConntrack => load_nft("ip", devices),
            Self::Ipset => load_ipset(devices),
        }
    }

    /// Acts while it guards the interface `into`.
    pub(crate) fn while_hooked<T>(self, devices: u32, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.hook(devices)?;
        let done = act();
        self.unhook()?;
        done
    }

    fn hook(self, devices: u32) -> Result<()> {
        match self {
            Self::XdpFilter => {
                run("xdp-filter load --mode native --policy deny --features ipv4 into")?;
                allow(devices)
            }
            Self::NftNetdev => {
                nft("add chain netdev bench guard { type filter hook ingress device into priority 0; }")?;
                nft("add rule netdev bench guard ip saddr != @known drop")
            }
            Self::NftConntrack => {
                // Before routing, as Bulkhead: what is dropped is not routed first.
                nft("add chain ip bench guard { type filter hook prerouting priority 0; policy drop; }")?;
                nft("add rule ip bench guard ct state established accept")?;
                nft("add rule ip bench guard ip saddr @known accept")
            }
            Self::Ipset => {
                run("iptables -t raw -A PREROUTING -i into -m set ! --match-set bench src -j DROP").map(drop)
            }
        }
    }

    fn unhook(self) -> Result<()> {
        match self {
            Self::XdpFilter => run("xdp-filter unload into").map(drop),
            Self::NftNetdev => nft("delete chain netdev bench guard"),
            Self::NftConntrack => nft("delete chain ip bench guard"),
            Self::Ipset => {
                run("iptables -t raw -F PREROUTING")?;
                forget_iptables()
            }
        }
    }

    /// Takes its addresses away again.
    pub(crate) fn clear(self) -> Result<()> {
        match self {
            Self::XdpFilter => Ok(()),
            Self::NftNetdev => nft("delete table netdev bench"),
            Self::NftConntrack => nft("delete table ip bench"),
            Self::Ipset => run("ipset destroy bench").map(drop),
        }
    }
}

/// Takes the table away that iptables has made in nftables, or none if it is the older one: its chain is hooked in without a rule
/// too, and all that is measured next would go through it. (To ask for tables, nft reads all elements of all sets.)
fn forget_iptables() -> Result<()> {
    nft("add table ip raw\ndelete table ip raw")
}

fn nft(command: &str) -> Result<()> {
    from_file(command, |path| format!("nft -f {path}"))
}

/// Runs a command on a file of this text: a set of a million addresses fits on no command line.
fn from_file(text: &str, command: impl FnOnce(&str) -> String) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new().context("make a temporary file")?;
    file.write_all(text.as_bytes()).context("write a temporary file")?;
    run(&command(&file.path().to_string_lossy())).map(drop)
}

fn addresses(devices: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..devices).map(|number| Ipv4Addr::from_bits(FIRST + number))
}

fn load_nft(family: &str, devices: u32) -> Result<()> {
    let list = addresses(devices).map(|address| address.to_string()).collect::<Vec<_>>().join(", ");
    nft(&format!(
        "add table {family} bench\nadd set {family} bench known {{ type ipv4_addr; elements = {{ {list} }}; }}"
    ))
}

fn load_ipset(devices: u32) -> Result<()> {
    let mut text = format!("create bench hash:ip maxelem {}\n", devices.max(65_536));
    addresses(devices).for_each(|address| text += &format!("add bench {address}\n"));
    from_file(&text, |path| format!("ipset -file {path} restore"))
}

/// Writes xdp-filter's list where it keeps it: its own command takes an address at a time.
fn allow(devices: u32) -> Result<()> {
    let pinned = MapData::from_pin(XDP_FILTER_MAP).context("find xdp-filter's list")?;
    let mut list: HashMap<_, [u8; 4], u64> = Map::HashMap(pinned).try_into()?;
    addresses(devices).try_for_each(|address| Ok(list.insert(address.octets(), FROM, 0)?))
}
