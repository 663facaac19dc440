//! Bytes of a file in the order in which they come, with their place.

use std::io::{self, BufReader, Read};

use anyhow::{Context, Result, ensure};

/// Most bytes that are kept of one packet with its options; what claims to be larger is no packet of a network.
const LARGEST: u32 = 16 << 20;

/// A reader that knows how far it is.
#[derive(Debug)]
pub(super) struct Source<R> {
    reader: BufReader<R>,
    at: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(1 << 16, reader), at: 0 }
    }

    /// How many bytes were read.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes; nothing if the file ends before the first of them.
    pub(super) fn head<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read the capture"),
            }
        }
        self.at += filled as u64;
        ensure!(filled == 0 || filled == N, ENDS_EARLY);
        Ok((filled == N).then_some(bytes))
    }

    /// The next bytes, which must be there.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.head()?.context(ENDS_EARLY)
    }

    /// Replaces `into` by the next bytes. Memory grows with what is there, not with what is claimed.
    pub(super) fn take(&mut self, length: u32, into: &mut Vec<u8>) -> Result<()> {
        ensure!(length <= LARGEST, "it claims to have {length} bytes, more than {LARGEST}");
        into.clear();
        let read = self.reader.by_ref().take(length.into()).read_to_end(into).context("read the capture")?;
        self.at += read as u64;
        ensure!(read as u64 == u64::from(length), ENDS_EARLY);
        Ok(())
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, length: u32) -> Result<()> {
        let mut rest = self.reader.by_ref().take(length.into());
        let skipped = io::copy(&mut rest, &mut io::sink()).context("read the capture")?;
        self.at += skipped;
        ensure!(skipped == u64::from(length), ENDS_EARLY);
        Ok(())
    }
}

const ENDS_EARLY: &str = "the file ends early: the capture was cut off while it was written or copied";

/// How numbers lie in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// The least significant octet first.
    Little,
    /// The most significant octet first.
    Big,
}

impl Order {
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) const fn i64(self, bytes: [u8; 8]) -> i64 {
        match self {
            Self::Little => i64::from_le_bytes(bytes),
            Self::Big => i64::from_be_bytes(bytes),
        }
    }
}

/// The fields at the front of a body, one after the other.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// How numbers lie in it.
    pub(super) order: Order,
    /// What is left.
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(|bytes| self.order.u16(bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(|bytes| self.order.u32(bytes))
    }

    /// The next bytes, and those that fill them up to a multiple of four.
    pub(super) fn padded(&mut self, length: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length).context(SHORT)?;
        let padding = length.next_multiple_of(4) - length;
        self.rest = rest.get(padding..).context(SHORT)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().context(SHORT)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

const SHORT: &str = "a block is shorter than what it says that it holds";
