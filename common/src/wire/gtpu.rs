//! GTP-U header and its bounded extension chain (TS 29.281 clauses 5.1 and 5.2).

use crate::frame::{Frame, Window};
use crate::verdict::DropReason;

/// The port that a GTP-U endpoint listens on (TS 29.281 clause 4.4.2).
pub const PORT: u16 = 2152;
/// Bytes of the mandatory part; the length field counts from behind it.
pub const LEN: u32 = 8;
/// Bytes of sequence number, N-PDU number and next extension type, present together or not at all.
const OPTIONAL_LEN: u32 = 4;
/// Extension headers that are walked; a longer chain is a drop.
pub const EXTENSIONS_MAX: u32 = 4;

const VERSION_1: u8 = 1;
/// Protocol type: GTP, not GTP' (TS 32.295).
const PROTOCOL_TYPE: u8 = 0x10;
const EXTENSION_FLAG: u8 = 0x04;
/// E, S and PN: any of them brings all optional fields.
const OPTIONAL_FLAGS: u8 = 0x07;

/// What a message is for (TS 29.281 table 6.1-1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Message {
    /// A packet of a device.
    GPdu,
    /// Talk between the endpoints of tunnels.
    Signalling,
    /// Any other.
    Unknown,
}

/// A GTP-U header whose length fits the datagram that carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gtpu([u8; LEN as usize]);

impl Gtpu {
    /// Reads the mandatory part. Its length must fit the window, which is the UDP datagram's payload.
    #[inline(always)]
    pub fn load<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32) -> Result<Self, DropReason> {
        let header = Self(window.load(at).ok_or(DropReason::GtpuMalformed)?);
        if header.0[0] >> 5 != VERSION_1 {
            return Err(DropReason::GtpuVersion);
        }
        if header.0[0] & PROTOCOL_TYPE == 0 {
            return Err(DropReason::GtpuPrime);
        }
        let fits = window.rest(at + LEN) >= header.length();
        if fits { Ok(header) } else { Err(DropReason::GtpuMalformed) }
    }

    /// Bytes behind the mandatory part.
    #[inline(always)]
    pub const fn length(&self) -> u32 {
        u16::from_be_bytes([self.0[2], self.0[3]]) as u32
    }

    /// What the message is for.
    #[inline(always)]
    pub const fn message(&self) -> Message {
        match self.0[1] {
            255 => Message::GPdu,
            // Echo request and response, error indication, supported extension headers, tunnel status, end marker.
            1 | 2 | 26 | 31 | 253 | 254 => Message::Signalling,
            _ => Message::Unknown,
        }
    }

    /// Tunnel endpoint identifier, given by the endpoint that receives the message.
    #[inline(always)]
    pub const fn teid(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// Where the packet inside begins: behind the optional fields, which are there iff E, S or PN is
    /// set, and behind the extension headers, which are there iff E is set.
    ///
    /// The window ends where the length field says.
    #[inline(always)]
    pub fn payload<F: Frame + ?Sized>(&self, window: &Window<'_, F>, at: u32) -> Result<u32, DropReason> {
        let mut at = at + LEN;
        if self.0[0] & OPTIONAL_FLAGS == 0 {
            return Ok(at);
        }
        let [_, _, _, mut next] = window.load::<4>(at).ok_or(DropReason::GtpuMalformed)?;
        at += OPTIONAL_LEN;
        if self.0[0] & EXTENSION_FLAG == 0 {
            return Ok(at);
        }
        for _ in 0..EXTENSIONS_MAX {
            if next == 0 {
                return Ok(at);
            }
            (at, next) = skip(window, at, next)?;
        }
        if next == 0 { Ok(at) } else { Err(DropReason::GtpuExtension) }
    }
}

/// Steps over an extension header; answers where the next begins and of which type it is.
#[inline(always)]
fn skip<F: Frame + ?Sized>(window: &Window<'_, F>, at: u32, kind: u8) -> Result<(u32, u8), DropReason> {
    if !is_known(kind) {
        return Err(DropReason::GtpuExtension);
    }
    // Length in words of four bytes, itself and the next type included; never 0 (clause 5.2.1).
    let [words] = window.load::<1>(at).ok_or(DropReason::GtpuMalformed)?;
    if words == 0 {
        return Err(DropReason::GtpuMalformed);
    }
    let end = at + words as u32 * 4;
    let [next] = window.load::<1>(end - 1).ok_or(DropReason::GtpuMalformed)?;
    Ok((end, next))
}

/// Extension header types of TS 29.281 figure 5.2.1-3: service class, UDP port, RAN containers, PDCP
/// PDU numbers and the PDU session container. None of them changes what the packet inside means.
#[inline(always)]
const fn is_known(kind: u8) -> bool {
    matches!(kind, 0x03 | 0x20 | 0x40 | 0x81..=0x85 | 0xc0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn message(flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = std::vec![flags, 255, 0, rest.len() as u8, 0, 0, 0x1a, 0x2b];
        bytes.extend_from_slice(rest);
        bytes
    }

    fn payload(bytes: &[u8]) -> Result<u32, DropReason> {
        let window = Window::new(bytes, bytes.len() as u32).unwrap();
        let header = Gtpu::load(&window, 0)?;
        header.payload(&window.up_to(LEN + header.length()).unwrap(), 0)
    }

    #[test]
    fn optional_fields_are_there_iff_one_of_their_flags_is() {
        assert_eq!(payload(&message(0x30, &[0x45])), Ok(8));
        for flag in [1, 2, 3] {
            assert_eq!(payload(&message(0x30 | flag, &[0, 0, 0, 0x85, 0x45])), Ok(12), "flag {flag}");
        }
        assert_eq!(payload(&message(0x34, &[0, 0, 0, 0, 0x45])), Ok(12));
    }

    #[test]
    fn the_extension_chain_is_walked_by_its_lengths() {
        let chain = [0, 0, 0, 0x85, 1, 0, 9, 0x20, 2, 0, 0, 0, 0, 0, 0, 0, 0x45];
        assert_eq!(payload(&message(0x34, &chain)), Ok(8 + 16));
    }

    #[test]
    fn bad_chains_are_refused() {
        for (rest, reason) in [
            (&[0, 0, 0, 0x85, 0, 0, 0, 0][..], DropReason::GtpuMalformed),
            (&[0, 0, 0, 0x85, 9, 0, 0, 0], DropReason::GtpuMalformed),
            (&[0, 0, 0, 0x85], DropReason::GtpuMalformed),
            (&[0, 0, 0, 0x77, 1, 0, 0, 0], DropReason::GtpuExtension),
            (
                &[0, 0, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0],
                DropReason::GtpuExtension,
            ),
        ] {
            assert_eq!(payload(&message(0x34, rest)), Err(reason), "{rest:?}");
        }
    }

    #[test]
    fn version_protocol_type_and_length_must_be_right() {
        assert_eq!(payload(&message(0x50, &[0x45])), Err(DropReason::GtpuVersion));
        assert_eq!(payload(&message(0x20, &[0x45])), Err(DropReason::GtpuPrime));
        let mut long = message(0x30, &[0x45]);
        long[3] = 2;
        assert_eq!(payload(&long), Err(DropReason::GtpuMalformed));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = message(0x34, &[0, 0, 0, 0x85, 1, 0, 9, 0, 0x45]);
        for len in 0..bytes.len() {
            assert!(payload(&bytes[..len]).is_err(), "{len}");
        }
    }
}
