//! How a conversation's state follows its packets, and how long each state lasts.
//!
//! A flow lives from its device's last packet on: what others send may shorten the time that is left,
//! never start it anew (RFC 4787 REQ-6), so that nobody outside keeps a way in open.

use crate::abi::Timeouts;
use crate::abi::value::{STATE_CLOSING, STATE_FIN_BY_INITIATOR, STATE_FIN_BY_RESPONDER, STATE_REPLIED};
use crate::wire::{ip_proto, l4};

const SECOND: u64 = 1_000_000_000;

/// The flow's state after a packet.
#[inline(always)]
pub const fn next_state(state: u64, from_initiator: bool, tcp_flags: u8) -> u64 {
    const FINS: u64 = STATE_FIN_BY_INITIATOR | STATE_FIN_BY_RESPONDER;
    let mut next = state;
    if from_initiator && tcp_flags & (l4::TCP_SYN | l4::TCP_ACK) == l4::TCP_SYN {
        // The 5-tuple is used again: a new connection starts half-open.
        next &= !(STATE_CLOSING | STATE_REPLIED | FINS);
    }
    if !from_initiator {
        next |= STATE_REPLIED;
    }
    if tcp_flags & l4::TCP_FIN != 0 {
        next |= if from_initiator { STATE_FIN_BY_INITIATOR } else { STATE_FIN_BY_RESPONDER };
    }
    if tcp_flags & l4::TCP_RST != 0 || next & FINS == FINS {
        next |= STATE_CLOSING;
    }
    next
}

/// How long a flow in this state lives without a packet of its device, in nanoseconds.
#[inline(always)]
pub const fn timeout(timeouts: &Timeouts, protocol: u8, state: u64) -> u64 {
    let idle = (state >> 32) as u32;
    if protocol == ip_proto::TCP
        && let Some(transitory) = transitory(timeouts, state)
    {
        // A rule that lets its flows live shorter than this is not overruled by a half-open one.
        return (if idle != 0 && idle < transitory { idle } else { transitory }) as u64 * SECOND;
    }
    if idle != 0 {
        return idle as u64 * SECOND;
    }
    let seconds = match protocol {
        ip_proto::TCP => or(timeouts.tcp_established, TCP_ESTABLISHED_S),
        ip_proto::SCTP => or(timeouts.sctp, SCTP_S),
        ip_proto::UDP if state & STATE_REPLIED == 0 => or(timeouts.udp_unanswered, UDP_UNANSWERED_S),
        ip_proto::UDP => or(timeouts.udp, UDP_S),
        ip_proto::ICMP | ip_proto::ICMPV6 => or(timeouts.icmp, ICMP_S),
        _ => or(timeouts.portless, PORTLESS_S),
    };
    seconds as u64 * SECOND
}

/// Seconds of a TCP connection that is not established on both sides.
#[inline(always)]
const fn transitory(timeouts: &Timeouts, state: u64) -> Option<u32> {
    if state & STATE_CLOSING != 0 {
        Some(or(timeouts.tcp_closing, TCP_CLOSING_S))
    } else if state & STATE_REPLIED == 0 {
        Some(or(timeouts.tcp_half_open, TCP_HALF_OPEN_S))
    } else if state & (STATE_FIN_BY_INITIATOR | STATE_FIN_BY_RESPONDER) != 0 {
        Some(TCP_HALF_CLOSED_S)
    } else {
        None
    }
}

#[inline(always)]
const fn or(seconds: u32, default: u32) -> u32 {
    if seconds == 0 { default } else { seconds }
}

/// A TCP connection that nobody answered yet, in seconds: what the kernel's connection tracking allows the
/// answer itself.
pub const TCP_HALF_OPEN_S: u32 = 60;
/// A TCP connection that one side has closed (RFC 5382 REQ-5), in seconds. The other may go on sending.
pub const TCP_HALF_CLOSED_S: u32 = 240;
/// A TCP connection that both sides have closed, or that was reset, in seconds: for what is still on its way.
pub const TCP_CLOSING_S: u32 = 10;
/// Established TCP connections (RFC 5382 REQ-5), in seconds.
pub const TCP_ESTABLISHED_S: u32 = 7440;
/// SCTP associations, as TCP connections, in seconds.
pub const SCTP_S: u32 = 7440;
/// UDP that was answered (RFC 4787 REQ-5), in seconds.
pub const UDP_S: u32 = 300;
/// UDP that nobody answered yet (RFC 4787 REQ-5, the least that it allows), in seconds.
pub const UDP_UNANSWERED_S: u32 = 120;
/// Protocols without ports, in seconds: as the kernel's connection tracking has it for those it does not
/// know (`nf_conntrack_generic_timeout`), long enough for the keepalives of IPsec and GRE.
pub const PORTLESS_S: u32 = 600;
/// ICMP echo (RFC 5508 REQ-1), in seconds.
pub const ICMP_S: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Timeouts = Timeouts { tcp_closing: 3, udp: 7, ..Timeouts::DEFAULT };

    fn seconds(timeouts: &Timeouts, protocol: u8, state: u64) -> u64 {
        timeout(timeouts, protocol, state) / SECOND
    }

    #[test]
    fn a_connection_ends_soon_once_both_sides_have_closed_it() {
        let open = next_state(next_state(0, true, l4::TCP_SYN), false, l4::TCP_SYN | l4::TCP_ACK);
        assert_eq!(seconds(&OWN, ip_proto::TCP, open), 7440);
        let half = next_state(open, true, l4::TCP_FIN | l4::TCP_ACK);
        assert_eq!(seconds(&OWN, ip_proto::TCP, half), 240);
        let both = next_state(half, false, l4::TCP_FIN | l4::TCP_ACK);
        assert_eq!(seconds(&OWN, ip_proto::TCP, both), 3);
        let again = next_state(both, true, l4::TCP_SYN);
        assert_eq!(seconds(&OWN, ip_proto::TCP, again), 60);
        assert_eq!(seconds(&OWN, ip_proto::TCP, next_state(open, false, l4::TCP_RST)), 3);
    }

    #[test]
    fn a_rule_s_idle_time_replaces_all_but_what_passes_by() {
        let idle = 2 << 32;
        assert_eq!(seconds(&OWN, ip_proto::UDP, idle), 2);
        assert_eq!(seconds(&OWN, ip_proto::TCP, idle | STATE_CLOSING), 2);
        assert_eq!(seconds(&OWN, ip_proto::TCP, (600 << 32) | STATE_CLOSING), 3);
        assert_eq!(seconds(&OWN, ip_proto::TCP, (600 << 32) | STATE_REPLIED), 600);
    }

    #[test]
    fn an_answer_prolongs_udp() {
        assert_eq!(seconds(&OWN, ip_proto::UDP, 0), 120);
        assert_eq!(seconds(&OWN, ip_proto::UDP, STATE_REPLIED), 7);
    }
}
