//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks, each section with its own byte order and interfaces.

use std::io::Read;

use anyhow::{Context, Result, ensure};

use super::options::{self, Item};
use super::resolution::Resolution;
use super::source::{Fields, Order, Source};
use super::{Captured, Interface};

/// Type of a section header block, the same in either byte order.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, and still found.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Behind the length of a section header: tells the byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The only major version there is.
const VERSION: u16 = 1;
/// Type, and the length in front and behind.
const FRAME: u32 = 12;
/// Byte order, version and length of the section.
const SECTION_HEAD: u32 = 16;

const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
/// `epb_flags` and `pack_flags`.
const FLAGS: u16 = 2;
/// The lowest two bits of the flags.
const OUTBOUND: u32 = 2;

/// A file of blocks that is being read.
#[derive(Debug)]
pub(super) struct Blocks {
    section: Section,
    body: Vec<u8>,
}

/// The section at hand.
#[derive(Debug)]
struct Section {
    order: Order,
    /// Index of its first interface over all sections.
    first: usize,
    clocks: Vec<Clock>,
}

/// What packets of an interface need to be read.
#[derive(Debug)]
struct Clock {
    snap_length: u32,
    resolution: Resolution,
}

impl Blocks {
    /// Reads the first section's header behind its type.
    pub(super) fn open<R: Read>(source: &mut Source<R>) -> Result<Self> {
        Ok(Self { section: Section::open(source, 0)?, body: Vec::new() })
    }

    /// Reads up to the next packet and describes the interfaces on the way; false at the file's end.
    pub(super) fn next<R: Read>(
        &mut self,
        source: &mut Source<R>,
        interfaces: &mut Vec<Interface>,
        packet: &mut Captured,
    ) -> Result<bool> {
        while let Some(kind) = source.head::<4>()? {
            if kind == MAGIC {
                self.section = Section::open(source, interfaces.len())?;
                continue;
            }
            let kind = self.section.order.u32(kind);
            self.read(kind, source)?;
            let mut fields = Fields { order: self.section.order, rest: &self.body };
            if kind == INTERFACE_DESCRIPTION {
                interfaces.push(self.section.describe(&mut fields)?);
            } else if self.section.packet(kind, &mut fields, packet)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a block behind its type; only the body of those that are looked at is kept.
    fn read<R: Read>(&mut self, kind: u32, source: &mut Source<R>) -> Result<()> {
        let order = self.section.order;
        let length = order.u32(source.array()?);
        match kind {
            INTERFACE_DESCRIPTION | PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                source.take(body_length(length)?, &mut self.body)?;
            }
            // Names, statistics, secrets, and what is to come.
            _ => source.skip(body_length(length)?)?,
        }
        ensure!(order.u32(source.array()?) == length, "a block's two lengths differ");
        Ok(())
    }
}

impl Section {
    /// Reads a section header behind its type.
    fn open<R: Read>(source: &mut Source<R>, first: usize) -> Result<Self> {
        let (length, magic): ([u8; 4], [u8; 4]) = (source.array()?, source.array()?);
        let order = [Order::Little, Order::Big].into_iter().find(|order| order.u32(magic) == BYTE_ORDER);
        let order = order.context("a section without a byte order")?;
        let [m0, m1, ..]: [u8; 12] = source.array()?;
        let major = order.u16([m0, m1]);
        ensure!(major == VERSION, "a pcapng section of version {major}; version {VERSION} is read");
        let length = order.u32(length);
        let options = body_length(length)?.checked_sub(SECTION_HEAD);
        source.skip(options.context("a section header is too short")?)?;
        ensure!(order.u32(source.array()?) == length, "a section header's two lengths differ");
        Ok(Self { order, first, clocks: Vec::new() })
    }

    fn describe(&mut self, fields: &mut Fields<'_>) -> Result<Interface> {
        let link_type = fields.u16()?.into();
        let _reserved = fields.u16()?;
        let mut clock = Clock { snap_length: fields.u32()?, resolution: Resolution::default() };
        let number = u32::try_from(self.clocks.len()).context("too many interfaces")?;
        let mut interface = Interface { name: None, number, link_type };
        options::each(fields, |Item { code, value, order }| {
            match code {
                IF_NAME => interface.name = name(value),
                IF_TSRESOL => [clock.resolution.unit] = value.try_into().context("a wrong if_tsresol")?,
                IF_TSOFFSET => {
                    let offset = value.try_into().context("a wrong if_tsoffset")?;
                    clock.resolution.offset = order.i64(offset);
                }
                _ => {}
            }
            Ok(())
        })?;
        self.clocks.push(clock);
        Ok(interface)
    }

    /// Reads a packet; false if the block is none.
    fn packet(&self, kind: u32, fields: &mut Fields<'_>, packet: &mut Captured) -> Result<bool> {
        let number = match kind {
            ENHANCED_PACKET => fields.u32()? as usize,
            PACKET => {
                let number = fields.u16()?;
                let _dropped = fields.u16()?;
                number.into()
            }
            // It has no number: the section's first is meant.
            SIMPLE_PACKET => 0,
            _ => return Ok(false),
        };
        let clock = self.clocks.get(number);
        let clock = clock.with_context(|| format!("interface {number} is not described in its section"))?;
        packet.interface = self.first + number;
        packet.outgoing = false;
        match kind {
            SIMPLE_PACKET => simple(fields, clock, packet)?,
            _ => full(fields, clock, packet)?,
        }
        Ok(true)
    }
}

fn body_length(length: u32) -> Result<u32> {
    ensure!(length.is_multiple_of(4), "a block of {length} bytes, which is no multiple of four");
    length.checked_sub(FRAME).with_context(|| format!("a block of {length} bytes, less than its own frame"))
}

fn name(value: &[u8]) -> Option<String> {
    let name = String::from_utf8_lossy(value);
    let name = name.trim_end_matches('\0');
    (!name.is_empty()).then(|| name.to_owned())
}

/// What enhanced and obsolete packet blocks have in common, from the timestamp on.
fn full(fields: &mut Fields<'_>, clock: &Clock, packet: &mut Captured) -> Result<()> {
    let (high, low) = (fields.u32()?, fields.u32()?);
    packet.time = Some(clock.resolution.nanoseconds(u64::from(high) << 32 | u64::from(low))?);
    let (kept, length) = (fields.u32()?, fields.u32()?);
    keep(fields, kept, length, packet)?;
    options::each(fields, |Item { code, value, order }| {
        if let (FLAGS, Ok(flags)) = (code, value.try_into()) {
            packet.outgoing = order.u32(flags) & 3 == OUTBOUND;
        }
        Ok(())
    })
}

/// A packet without time; how much was kept follows from the interface.
fn simple(fields: &mut Fields<'_>, clock: &Clock, packet: &mut Captured) -> Result<()> {
    packet.time = None;
    let length = fields.u32()?;
    let kept = if clock.snap_length == 0 { length } else { length.min(clock.snap_length) };
    keep(fields, kept, length, packet)
}

fn keep(fields: &mut Fields<'_>, kept: u32, length: u32, packet: &mut Captured) -> Result<()> {
    packet.length = length.max(kept);
    packet.bytes.clear();
    packet.bytes.extend_from_slice(fields.padded(kept as usize)?);
    Ok(())
}
