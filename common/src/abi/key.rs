//! Keys of the hash maps. Every key that holds an address holds its network too.

use bytemuck::{Pod, Zeroable};

use super::addr::Addr;
use super::id::{DeviceId, NetworkId};
use super::map::SUBINTERFACE_ROWS;
use super::seek::seek;

/// VLAN number in a [`SubinterfaceKey`] that stands for "whatever no other row names".
pub const VLAN_OTHER: u16 = 0xffff;

/// Bit of an interface's number that stands for what leaves by it; the kernel's own numbers are below.
///
/// What enters and what leaves are two points of one interface, each with rows and counters of its own.
pub const EGRESS: u32 = 1 << 31;

/// One interface with one stack of VLAN tags; finds the network.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct SubinterfaceKey {
    bank: u32,
    ifindex: u32,
    outer_vlan: u16,
    inner_vlan: u16,
}

impl SubinterfaceKey {
    /// The row for these tags; 0 is "no tag".
    #[inline(always)]
    pub const fn new(bank: u32, ifindex: u32, outer_vlan: u16, inner_vlan: u16) -> Self {
        Self { bank, ifindex, outer_vlan, inner_vlan }
    }

    /// The interface's row for tags that no network lists.
    #[inline(always)]
    pub const fn other(bank: u32, ifindex: u32) -> Self {
        Self::new(bank, ifindex, VLAN_OTHER, VLAN_OTHER)
    }

    /// Which [`super::value::Leg`] a frame with these tags enters by.
    #[inline(always)]
    pub const fn entry(port: u32, outer_vlan: u16, inner_vlan: u16) -> Self {
        Self::new(0, port, outer_vlan, inner_vlan)
    }

    /// Which [`super::value::Leg`] a packet leaves by whose route names this interface.
    #[inline(always)]
    pub const fn exit(ifindex: u32) -> Self {
        Self::new(0, ifindex | EGRESS, 0, 0)
    }

    /// The same in a bank.
    #[inline(always)]
    pub const fn in_bank(self, bank: u32) -> Self {
        Self { bank, ..self }
    }

    /// The first of the key's rows in [`super::map::SUBINTERFACES`] or [`super::map::LEGS`] that is wanted.
    #[inline(always)]
    pub fn seek(self, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        let bank = (self.bank & 1) * SUBINTERFACE_ROWS;
        seek(self.number(), SUBINTERFACE_ROWS, |row| wanted(bank + row)).map(|row| bank + row)
    }

    /// Odd constants, so that neither interfaces nor VLANs in a row meet.
    #[inline(always)]
    const fn number(self) -> u32 {
        let vlans = self.vlan_bits().wrapping_mul(0xc2b2_ae35);
        self.ifindex.wrapping_mul(0x85eb_ca6b).wrapping_add(vlans)
    }

    /// 0 if both are one key.
    #[inline(always)]
    pub const fn difference(self, other: Self) -> u32 {
        let numbers = (self.bank ^ other.bank) | (self.ifindex ^ other.ifindex);
        numbers | (self.vlan_bits() ^ other.vlan_bits())
    }

    #[inline(always)]
    const fn vlan_bits(self) -> u32 {
        (self.outer_vlan as u32) << 16 | self.inner_vlan as u32
    }

    /// The bank that holds the row.
    #[inline(always)]
    pub const fn bank(self) -> u32 {
        self.bank
    }

    /// The kernel's number of the interface.
    #[inline(always)]
    pub const fn ifindex(self) -> u32 {
        self.ifindex
    }

    /// Outer and inner VLAN number.
    #[inline(always)]
    pub const fn vlans(self) -> (u16, u16) {
        (self.outer_vlan, self.inner_vlan)
    }
}

/// Which row of [`super::map::COUNTERS`] an interface has, in one word: `interface << 32 | row`; 0 is no interface.
///
/// The interface's number holds [`EGRESS`], for what leaves by it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct InterfaceRow(pub u64);

impl InterfaceRow {
    /// Gives an interface a row.
    pub const fn new(interface: u32, row: u32) -> Self {
        Self((interface as u64) << 32 | row as u64)
    }

    /// The interface.
    #[inline(always)]
    pub const fn interface(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The row of its counters.
    #[inline(always)]
    pub const fn row(self) -> u32 {
        self.0 as u32
    }
}

/// A device's address or prefix inside one network.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct AddressKey {
    network: NetworkId,
    prefix_len: u32,
    address: Addr,
}

impl AddressKey {
    /// One address: IPv4 /32 or IPv6 /128.
    #[inline(always)]
    pub const fn host(network: NetworkId, address: Addr) -> Self {
        Self { network, prefix_len: 128, address }
    }

    /// An IPv6 /64, the prefix that 3GPP gives a PDU session (TS 23.501 clause 5.8.2.2).
    #[inline(always)]
    pub const fn prefix64(network: NetworkId, address: Addr) -> Self {
        Self { network, prefix_len: 64, address: address.prefix64() }
    }

    /// A prefix of any other length, counted in the 128-bit form.
    #[inline(always)]
    pub const fn prefix(network: NetworkId, address: Addr, prefix_len: u32) -> Self {
        Self { network, prefix_len, address: address.prefix(prefix_len) }
    }

    /// Its three words.
    #[inline(always)]
    pub const fn words(self) -> [u64; 3] {
        let owner = (self.network.0 as u64) << 32 | self.prefix_len as u64;
        [owner, self.address.high(), self.address.low()]
    }

    /// The key with these words.
    #[inline(always)]
    pub const fn from_words([owner, high, low]: [u64; 3]) -> Self {
        let network = NetworkId((owner >> 32) as u32);
        Self { network, prefix_len: owner as u32, address: Addr::from_halves(high, low) }
    }

    /// True if the key is found by an address alone; any other takes [`super::Network::prefixes`].
    pub const fn is_exact(self) -> bool {
        self.prefix_len == 128 || (self.prefix_len == 64 && !self.address.is_v4())
    }

    /// The network in which the address means something.
    pub const fn network(self) -> NetworkId {
        self.network
    }

    /// The address, or the prefix's first.
    pub const fn address(self) -> Addr {
        self.address
    }

    /// Counted in the 128-bit form: an IPv4 host has 128.
    pub const fn prefix_len(self) -> u32 {
        self.prefix_len
    }
}

/// A flow, seen from the device it is charged to (`local`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct FlowKey {
    /// The network of both ends.
    pub network: NetworkId,
    /// The device; part of the key, so that an address that changes hands starts afresh.
    pub device: DeviceId,
    /// The device's address.
    pub local: Addr,
    /// The other end's address.
    pub remote: Addr,
    /// The device's port, or the ICMP echo identifier.
    pub local_port: u16,
    /// The other end's port; for ICMP echo [`ECHO_BY_LOCAL`] or [`ECHO_BY_REMOTE`].
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

impl FlowKey {
    /// Nobody's flow.
    pub const NONE: Self = Self {
        network: NetworkId::NONE,
        device: DeviceId::NONE,
        local: Addr::UNSPECIFIED_V6,
        remote: Addr::UNSPECIFIED_V6,
        local_port: 0,
        remote_port: 0,
        protocol: 0,
        _pad: [0; 3],
    };

    /// The key as a slot of the flow table holds it.
    #[inline(always)]
    pub fn words(&self) -> [u64; 6] {
        [
            (self.device.0 as u64) << 32 | self.network.0 as u64,
            self.local.high(),
            self.local.low(),
            self.remote.high(),
            self.remote.low(),
            (self.protocol as u64) << 32 | (self.remote_port as u64) << 16 | self.local_port as u64,
        ]
    }

    /// The key with these words.
    pub fn from_words([owner, local_high, local_low, remote_high, remote_low, ports]: [u64; 6]) -> Self {
        Self {
            network: NetworkId(owner as u32),
            device: DeviceId((owner >> 32) as u32),
            local: Addr::from_halves(local_high, local_low),
            remote: Addr::from_halves(remote_high, remote_low),
            local_port: ports as u16,
            remote_port: (ports >> 16) as u16,
            protocol: (ports >> 32) as u8,
            _pad: [0; 3],
        }
    }
}

/// `remote_port` of an ICMP echo flow in which the device asks.
pub const ECHO_BY_LOCAL: u16 = 1;
/// `remote_port` of an ICMP echo flow in which the other end asks.
pub const ECHO_BY_REMOTE: u16 = 0;
