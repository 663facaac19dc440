//! One write at a time, and who can perform it.

use anyhow::Result;
use bulkhead_common::abi::{
    AddressKey, Device, Epoch, Network, Peer, PortRange, Range, RuleSet, ScopeRange, Subinterface,
    SubinterfaceKey, Versioned, Window,
};

/// One write to the tables. An interruption after any of them must be survivable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Writes an unpublished row of `PORTS`.
    Port(u32, PortRange),
    /// Writes an unpublished row of `WINDOWS`.
    Window(u32, Window),
    /// Writes an unpublished row of `RANGES`.
    Range(u32, Range),
    /// Writes an unpublished row of `PEERS`.
    Peer(u32, Peer),
    /// Writes an unpublished row of `RULE_SETS`.
    RuleSet(u32, RuleSet),
    /// Writes an unpublished row of `DEVICES`.
    Device(u32, Device),
    /// Writes a row of the bank that is not in force.
    Network(u32, Network),
    /// Writes a row of the bank that is not in force.
    Scope(u32, ScopeRange),
    /// Stores one word of who an `ADDRESSES` row leads to, the one that does not hold.
    Identity {
        /// Row.
        slot: u32,
        /// 0 or 1.
        word: usize,
        /// `since << 32 | device row`.
        value: u64,
    },
    /// Stores one word of `PROFILES`, the one that does not hold.
    Profile {
        /// Row.
        profile: u32,
        /// 0 or 1.
        word: usize,
        /// `since << 32 | rule set row`.
        value: u64,
    },
    /// Forgets which tunnel a slot's old owner came through.
    ForgetTunnel(u32),
    /// Writes a row of `ADDRESSES` that no address leads to, with one word that does not hold yet, forgets which tunnel
    /// its old owner came through, and makes an address lead there. If it is refused, nothing leads there.
    InsertAddress {
        /// The address.
        key: AddressKey,
        /// Row.
        slot: u32,
        /// `since << 32 | device row`.
        value: u64,
    },
    /// Removes an address that leads nowhere any more.
    RemoveAddress(AddressKey),
    /// Writes a row of the bank that is not in force.
    InsertPlace(SubinterfaceKey, Subinterface),
    /// Removes a row of the bank that is not in force.
    RemovePlace(SubinterfaceKey),
    /// Publishes: the one store that packets see.
    Flip(Epoch),
    /// Waits until every packet that started before is through.
    Wait,
}

/// How many rows each table has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Capacity {
    /// Addresses, and slots.
    pub addresses: u32,
    /// Rows of devices: two for each, and two for nobody.
    pub device_rows: u32,
    /// Profiles.
    pub profiles: u32,
    /// Rule sets.
    pub rule_sets: u32,
    /// Ranges.
    pub ranges: u32,
    /// Peers.
    pub peers: u32,
    /// Port ranges.
    pub ports: u32,
    /// Windows.
    pub windows: u32,
}

/// Tables that can be read and written row by row: the kernel's, or [`super::Memory`].
pub trait Rows {
    /// The epoch in force.
    fn epoch(&self) -> Epoch;
    /// How many rows there are.
    fn capacity(&self) -> Capacity;
    /// Every row of `SUBINTERFACES`, both banks.
    ///
    /// # Errors
    /// The table cannot be read.
    fn places(&self) -> Result<Vec<(SubinterfaceKey, Subinterface)>>;
    /// Every address with its slot.
    ///
    /// # Errors
    /// The table cannot be read.
    fn addresses(&self) -> Result<Vec<(AddressKey, u32)>>;
    /// A row of `NETWORKS`.
    fn network(&self, index: u32) -> Option<Network>;
    /// A row of `SCOPES`.
    fn scope(&self, index: u32) -> Option<ScopeRange>;
    /// Whom a row of `ADDRESSES` leads to.
    fn identity(&self, slot: u32) -> Option<Versioned>;
    /// A row of `DEVICES`.
    fn device(&self, row: u32) -> Option<Device>;
    /// A row of `PROFILES`.
    fn profile(&self, profile: u32) -> Option<Versioned>;
    /// A row of `RULE_SETS`.
    fn rule_set(&self, row: u32) -> Option<RuleSet>;
    /// A row of `RANGES`.
    fn range(&self, row: u32) -> Option<Range>;
    /// A row of `PEERS`.
    fn peer(&self, row: u32) -> Option<Peer>;
    /// A row of `PORTS`.
    fn port(&self, row: u32) -> Option<PortRange>;
    /// A row of `WINDOWS`.
    fn window(&self, row: u32) -> Option<Window>;
    /// Performs one write.
    ///
    /// # Errors
    /// The write was refused; it was not done in part.
    fn perform(&mut self, op: &Op) -> Result<()>;

    /// Performs writes in their order.
    ///
    /// # Errors
    /// A write was refused; those before it were done.
    fn perform_all(&mut self, ops: &[Op]) -> Result<()> {
        ops.iter().try_for_each(|op| self.perform(op))
    }
}
