//! What an IP packet carries.

use std::net::Ipv6Addr;

use super::dissect::{What, number, v4, v6};
use super::{About, Failed, Flaw, Refusal};

/// Reads both ports of a protocol that has them.
pub(super) fn ports(protocol: u8, bytes: &[u8], piece: bool, flaw: Option<Flaw>) -> Result<What, Refusal> {
    let (header, flags) = match protocol {
        6 => tcp(bytes).ok_or("malformed_tcp")?,
        17 => (udp(bytes, piece, flaw).ok_or("malformed_udp")?, 0),
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
fn udp(bytes: &[u8], piece: bool, flaw: Option<Flaw>) -> Option<&[u8]> {
    let length = usize::from(number(bytes.get(4..6)?));
    // In the first piece of a datagram it is the length of all pieces.
    if piece {
        return bytes.get(..8).filter(|_| length >= 8);
    }
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
        3 | 11 | 12 => What::IcmpError(failed_v4(&bytes[8..])),
        5 => What::Redirect,
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
        1..5 => What::IcmpError(failed_v6(&bytes[8..])),
        _ => What::IcmpOther,
    };
    Ok((what, None))
}

/// The IPv4 packet in an error (RFC 792): its header and eight bytes.
fn failed_v4(bytes: &[u8]) -> Option<About> {
    let fixed = bytes.get(..20)?;
    let words = usize::from(fixed[0] % 16);
    let first = number(&fixed[6..8]).is_multiple_of(0x2000);
    if fixed[0] / 16 != 4 || words < 5 || !first {
        return None;
    }
    let what = failed(fixed[9], bytes.get(words * 4..)?, [8, 0])?;
    Some(About { from: v4(&fixed[12..16]), to: v4(&fixed[16..20]), what })
}

/// The IPv6 packet in an error (RFC 4443): its header, perhaps that of a first fragment, and eight bytes.
fn failed_v6(bytes: &[u8]) -> Option<About> {
    let (fixed, mut rest) = bytes.split_at_checked(40)?;
    let (from, to) = (v6(&fixed[8..24]), v6(&fixed[24..40]));
    if fixed[0] / 16 != 6 || from.to_ipv4_mapped().is_some() || to.to_ipv4_mapped().is_some() {
        return None;
    }
    let mut protocol = fixed[6];
    if protocol == 44 {
        let (fragment, behind) = rest.split_at_checked(8)?;
        if number(&fragment[2..4]) / 8 != 0 {
            return None;
        }
        (protocol, rest) = (fragment[0], behind);
    }
    Some(About { from: from.into(), to: to.into(), what: failed(protocol, rest, [128, 129])? })
}

fn failed(protocol: u8, bytes: &[u8], [request, reply]: [u8; 2]) -> Option<Failed> {
    let bytes = bytes.get(..8)?;
    let icmp = if request == 8 { 1 } else { 58 };
    Some(match protocol {
        6 | 17 | 132 => Failed::Ports(protocol, number(&bytes[..2]), number(&bytes[2..4])),
        4 | 41 | 47 | 50 | 51 | 97 | 115 => Failed::Portless(protocol),
        _ if protocol == icmp && (bytes[0] == request || bytes[0] == reply) => {
            Failed::Echo { request: bytes[0] == request, id: number(&bytes[4..6]) }
        }
        _ => return None,
    })
}
