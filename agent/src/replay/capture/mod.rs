//! Capture files → packets: classic pcap and pcapng, read as a stream and never trusted.
//!
//! What is wrong with a file is an error that names the packet and the byte; packets before it were handed out.

mod blocks;
mod classic;
mod options;
mod resolution;
mod source;

use std::io::Read;

use anyhow::{Context, Result, bail};

use blocks::Blocks;
use classic::Classic;
use source::Source;

/// An interface that a capture was taken on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its name (`if_name`); classic captures have none.
    pub name: Option<String>,
    /// Its number within its section, from 0.
    pub number: u32,
    /// What packets begin with (<https://www.tcpdump.org/linktypes.html>).
    pub link_type: u32,
}

/// A packet as it was captured.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Captured {
    /// Which of [`Capture::interfaces`] it was seen on.
    pub interface: usize,
    /// Nanoseconds since 1970; nothing if the capture does not say.
    pub time: Option<u64>,
    /// Its length on the wire, header of its link type included.
    pub length: u32,
    /// True if the capture says that the host sent it.
    pub outgoing: bool,
    /// What was kept of it.
    pub bytes: Vec<u8>,
}

/// A capture that is being read.
#[derive(Debug)]
pub struct Capture<R> {
    source: Source<R>,
    format: Format,
    interfaces: Vec<Interface>,
    packet: Captured,
    packets: u64,
}

#[derive(Debug)]
enum Format {
    Classic(Classic),
    Blocks(Blocks),
}

impl<R: Read> Capture<R> {
    /// Reads the head of a capture.
    ///
    /// # Errors
    /// It is none, or one of a kind that is not read.
    pub fn open(reader: R) -> Result<Self> {
        let mut source = Source::new(reader);
        let mut interfaces = Vec::new();
        let magic = source.head()?.context("the file is empty")?;
        let format = match magic {
            blocks::MAGIC => Format::Blocks(Blocks::open(&mut source)?),
            _ => match Classic::open(magic, &mut source)? {
                Some((classic, interface)) => {
                    interfaces.push(interface);
                    Format::Classic(classic)
                }
                None => bail!(unknown(magic)),
            },
        };
        Ok(Self { source, format, interfaces, packet: Captured::default(), packets: 0 })
    }

    /// Every interface that was described so far, over all sections.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The packet that was read last.
    pub const fn packet(&self) -> &Captured {
        &self.packet
    }

    /// Reads the next packet; false at the file's end.
    ///
    /// # Errors
    /// The file cannot be read, ends within a packet, or contradicts itself.
    pub fn advance(&mut self) -> Result<bool> {
        let Self { source, format, interfaces, packet, packets } = self;
        let read = match format {
            Format::Classic(classic) => classic.next(source, packet),
            Format::Blocks(blocks) => blocks.next(source, interfaces, packet),
        };
        let more = read.with_context(|| format!("packet {} at byte {}", *packets + 1, source.at()))?;
        *packets += u64::from(more);
        Ok(more)
    }
}

/// What a file is that is no capture.
fn unknown(magic: [u8; 4]) -> String {
    let what = match magic {
        [0x1f, 0x8b, ..] => "it is compressed: unpack it first (gunzip)",
        [0x28, 0xb5, 0x2f, 0xfd] => "it is compressed: unpack it first (unzstd)",
        [0xfd, b'7', b'z', b'X'] => "it is compressed: unpack it first (unxz)",
        [0x34, 0xcd, 0xb2, 0xa1] | [0xa1, 0xb2, 0xcd, 0x34] => {
            "it is of a patched libpcap: write it anew with `editcap -F pcapng`"
        }
        _ => "convert it with `editcap -F pcapng` if Wireshark can read it",
    };
    format!("not a pcap or pcapng capture; {what}")
}
