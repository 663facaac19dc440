//! Classic pcap (draft-ietf-opsawg-pcap): one interface without a name, microseconds or nanoseconds.

use std::io::Read;

use anyhow::{Result, ensure};

use super::source::{Order, Source};
use super::{Captured, Interface};

/// The magic number with microseconds, as a number.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
/// The magic number with nanoseconds.
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// The only major version there ever was.
const VERSION: u16 = 2;
/// The lower bits are the link type, the upper tell of a frame check sequence, which lies behind the packet.
const LINK_TYPE: u32 = 0x03ff_ffff;

/// How the records of a file are to be read.
#[derive(Debug)]
pub(super) struct Classic {
    order: Order,
    /// Nanoseconds in a unit of the second half of a timestamp.
    unit: u64,
}

impl Classic {
    /// Reads the file's head behind its magic number; nothing if the number is none of the four.
    pub(super) fn open<R: Read>(magic: [u8; 4], source: &mut Source<R>) -> Result<Option<(Self, Interface)>> {
        let of = |order: Order| match order.u32(magic) {
            MICROSECONDS => Some(Self { order, unit: 1000 }),
            NANOSECONDS => Some(Self { order, unit: 1 }),
            _ => None,
        };
        let Some(classic) = of(Order::Little).or_else(|| of(Order::Big)) else { return Ok(None) };
        let head: [[u8; 4]; 5] = bytemuck::cast(source.array::<20>()?);
        let major = classic.order.u16([head[0][0], head[0][1]]);
        ensure!(major == VERSION, "a classic capture of version {major}; version {VERSION} is read");
        let link_type = classic.order.u32(head[4]) & LINK_TYPE;
        Ok(Some((classic, Interface { name: None, number: 0, link_type })))
    }

    /// Reads the next record; false at the file's end.
    pub(super) fn next<R: Read>(&self, source: &mut Source<R>, packet: &mut Captured) -> Result<bool> {
        let Some(head) = source.head::<16>()? else { return Ok(false) };
        let head: [[u8; 4]; 4] = bytemuck::cast(head);
        let [seconds, fraction, kept, length] = head.map(|field| self.order.u32(field));
        source.take(kept, &mut packet.bytes)?;
        packet.time = Some(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit);
        packet.length = length.max(kept);
        Ok(true)
    }
}
