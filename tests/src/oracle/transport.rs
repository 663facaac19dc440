//! What an IP packet carries.

use std::net::Ipv6Addr;

use super::dissect::{What, number, v6};
use super::{Flaw, Refusal};

/// Reads both ports of a protocol that has them.
pub(super) fn ports(protocol: u8, bytes: &[u8], flaw: Option<Flaw>) -> Result<What, Refusal> {
    let (header, flags) = match protocol {
        6 => tcp(bytes).ok_or("malformed_tcp")?,
        17 => (udp(bytes, flaw).ok_or("malformed_udp")?, 0),
        132 => (bytes.get(..12).ok_or("malformed_sctp")?, 0),
        // IPIP, 6in4, GRE, ESP, AH, EtherIP, L2TP.
        4 | 41 | 47 | 50 | 51 | 97 | 115 => return Ok(What::Portless(protocol)),
        _ => return Ok(What::Unknown),
    };
    Ok(What::Ports { protocol, source: number(&header[..2]), destination: number(&header[2..4]), flags })
}

/// RFC 9293 section 3.1: the data offset counts words of four bytes, at least five.
fn tcp(bytes: &[u8]) -> Option<(&[u8], u8)> {
    let words = usize::from(bytes.get(12)? / 16);
    let header = bytes.get(..words * 4).filter(|header| header.len() >= 20)?;
    Some((header, header[13]))
}

/// RFC 768: the length covers header and data, so it is at least eight.
fn udp(bytes: &[u8], flaw: Option<Flaw>) -> Option<&[u8]> {
    let length = usize::from(number(bytes.get(4..6)?));
    let length = if flaw == Some(Flaw::IgnoresUdpLength) { bytes.len() } else { length };
    bytes.get(..length).filter(|datagram| datagram.len() >= 8)
}

/// Reads an ICMP message (RFC 792).
pub(super) fn icmp(bytes: &[u8]) -> Result<What, Refusal> {
    let header = bytes.get(..8).ok_or("malformed_icmp")?;
    let id = number(&header[4..6]);
    Ok(match header[0] {
        8 => What::Ping(id),
        0 => What::Pong(id),
        3 | 4 | 5 | 11 | 12 => What::IcmpError,
        _ => What::IcmpOther,
    })
}

/// Reads an ICMPv6 message (RFC 4443), and the target if it is about a neighbour (RFC 4861).
pub(super) fn icmpv6(bytes: &[u8]) -> Result<(What, Option<Ipv6Addr>), Refusal> {
    let header = bytes.get(..8).ok_or("malformed_icmp")?;
    let id = number(&header[4..6]);
    let about = |what| {
        let target = bytes.get(8..24).ok_or("malformed_neighbour")?;
        Ok((what, Some(v6(target))))
    };
    let what = match header[0] {
        135 => return about(What::NeighbourAsked),
        136 => return about(What::NeighbourTold),
        133 => What::RouterAsked,
        134 | 137 => What::RouterTold,
        128 => What::Ping(id),
        129 => What::Pong(id),
        0..128 => What::IcmpError,
        _ => What::IcmpOther,
    };
    Ok((what, None))
}
