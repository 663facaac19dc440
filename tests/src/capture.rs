//! Writes captures: classic pcap and pcapng, in either byte order. It shares nothing with what reads them.

/// How numbers lie in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The least significant octet first.
    Little,
    /// The most significant octet first.
    Big,
}

impl Order {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Little, Self::Big];

    fn u16(self, number: u16) -> [u8; 2] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }
}

/// Link type of Ethernet.
pub const ETHERNET: u32 = 1;
/// Link type of raw IP.
pub const RAW: u32 = 101;
/// Link type of Linux cooked captures.
pub const COOKED: u32 = 113;
/// Link type of Linux cooked captures with interface numbers.
pub const COOKED_V2: u32 = 276;

/// A classic capture.
#[derive(Debug)]
pub struct Classic {
    order: Order,
    bytes: Vec<u8>,
}

impl Classic {
    /// The file's head; nanoseconds or microseconds.
    pub fn new(order: Order, nanoseconds: bool, link: u32) -> Self {
        let magic: u32 = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut bytes = order.u32(magic).to_vec();
        bytes.extend([order.u16(2), order.u16(4)].concat());
        for number in [0, 0, 65_535, link] {
            bytes.extend(order.u32(number));
        }
        Self { order, bytes }
    }

    /// A record: seconds, their fraction in the file's unit, the length on the wire, and what was kept.
    pub fn packet(mut self, seconds: u32, fraction: u32, length: usize, kept: &[u8]) -> Self {
        for number in [seconds, fraction, kept.len() as u32, length as u32] {
            self.bytes.extend(self.order.u32(number));
        }
        self.bytes.extend(kept);
        self
    }

    /// A record that was kept whole, at a time in seconds.
    pub fn whole(self, seconds: u32, bytes: &[u8]) -> Self {
        self.packet(seconds, 0, bytes.len(), bytes)
    }

    /// The file.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A pcapng capture.
#[derive(Debug)]
pub struct Blocks {
    order: Order,
    bytes: Vec<u8>,
}

/// An option of a block.
pub type Item<'a> = (u16, &'a [u8]);

/// An option that names an interface.
pub fn named(name: &str) -> Item<'_> {
    (2, name.as_bytes())
}

impl Blocks {
    /// The file's first section.
    pub fn new(order: Order) -> Self {
        Self { order, bytes: Vec::new() }.section(order)
    }

    /// A further section.
    pub fn section(mut self, order: Order) -> Self {
        self.order = order;
        let unknown_length = [0xff; 8];
        let body = [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &unknown_length].concat();
        self.block(0x0a0d_0d0a, body)
    }

    /// An interface of the section.
    pub fn interface(self, link: u32, snap_length: u32, items: &[Item<'_>]) -> Self {
        let order = self.order;
        let head = [&order.u16(link as u16)[..], &order.u16(0), &order.u32(snap_length)].concat();
        let items = options(order, items);
        self.block(1, [head, items].concat())
    }

    /// An Ethernet interface with a name and nanoseconds.
    pub fn ethernet(self, name: &str) -> Self {
        self.interface(ETHERNET, 0, &[named(name), (9, &[9])])
    }

    /// An enhanced packet: interface, time in its unit, length on the wire, what was kept.
    pub fn packet(self, interface: u32, time: u64, length: usize, kept: &[u8]) -> Self {
        self.flagged(interface, time, length, kept, &[])
    }

    /// An enhanced packet that was kept whole.
    pub fn whole(self, interface: u32, time: u64, bytes: &[u8]) -> Self {
        self.packet(interface, time, bytes.len(), bytes)
    }

    /// An enhanced packet with options.
    pub fn flagged(self, interface: u32, time: u64, length: usize, kept: &[u8], items: &[Item<'_>]) -> Self {
        let order = self.order;
        let items = options(order, items);
        let body = [&order.u32(interface)[..], &tail(order, time, length, kept), &items].concat();
        self.block(6, body)
    }

    /// An obsolete packet block.
    pub fn obsolete(self, interface: u16, time: u64, length: usize, kept: &[u8]) -> Self {
        let order = self.order;
        let body = [&order.u16(interface)[..], &order.u16(0), &tail(order, time, length, kept)].concat();
        self.block(2, body)
    }

    /// A simple packet.
    pub fn simple(self, length: usize, kept: &[u8]) -> Self {
        let body = [&self.order.u32(length as u32)[..], &padded(kept)].concat();
        self.block(3, body)
    }

    /// Any block.
    pub fn block(mut self, kind: u32, body: Vec<u8>) -> Self {
        let length = self.order.u32(body.len() as u32 + 12);
        self.bytes.extend(self.order.u32(kind));
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.extend(length);
        self
    }

    /// The file.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What enhanced and obsolete packets have in common.
fn tail(order: Order, time: u64, length: usize, kept: &[u8]) -> Vec<u8> {
    let numbers = [(time >> 32) as u32, time as u32, kept.len() as u32, length as u32];
    [numbers.map(|number| order.u32(number)).concat(), padded(kept)].concat()
}

fn options(order: Order, items: &[Item<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, value) in items {
        bytes.extend(order.u16(*code));
        bytes.extend(order.u16(value.len() as u16));
        bytes.extend(padded(value));
    }
    if !items.is_empty() {
        bytes.extend([0; 4]);
    }
    bytes
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded
}
