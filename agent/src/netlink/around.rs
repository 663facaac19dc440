//! What else decides where and how packets go on their way through the stack: policy routing, queues, IPsec.

use std::collections::BTreeMap;
use std::io;

use super::{Message, Socket, find, text};

/// `struct fib_rule_hdr`, `struct tcmsg`
const RULE: usize = 12;
const QUEUE: usize = 20;
/// `FRA_FWMARK` (linux/fib_rules.h), `TCA_KIND` (linux/rtnetlink.h)
const MARK: u16 = 10;
const KIND: u16 = 1;
/// `XFRM_MSG_GETSPDINFO`, `XFRMA_SPD_INFO` (linux/xfrm.h)
const GET_POLICIES: u16 = 0x25;
const POLICIES: u16 = 1;

/// True if a rule of policy routing asks for a packet's mark.
///
/// # Errors
/// The kernel does not tell.
pub fn routes_by_mark(socket: &Socket) -> io::Result<bool> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut body = vec![0; RULE];
        body[0] = family as u8;
        let rules = match socket.dump(&Message { kind: libc::RTM_GETRULE, flags: 0, body }) {
            // A host without this family (`ipv6.disable=1`), or without rules at all.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
                continue;
            }
            rules => rules?,
        };
        if rules.iter().any(|rule| find(rule.body.get(RULE..).unwrap_or_default(), MARK).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Kinds of queues and hooks of traffic control, by the interface that they are on.
///
/// # Errors
/// The kernel does not tell.
pub fn queues(socket: &Socket) -> io::Result<BTreeMap<u32, Vec<String>>> {
    let asked = Message { kind: libc::RTM_GETQDISC, flags: 0, body: vec![0; QUEUE] };
    let mut found: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (ifindex, kind) in socket.dump(&asked)?.iter().filter_map(|reply| queue(&reply.body)) {
        found.entry(ifindex).or_default().push(kind);
    }
    Ok(found)
}

fn queue(body: &[u8]) -> Option<(u32, String)> {
    let ifindex = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    Some((ifindex, text(body.get(QUEUE..)?, KIND)?))
}

/// True if IPsec has policies, for packets of whatever way.
///
/// # Errors
/// The kernel does not tell.
pub fn has_ipsec(socket: &Socket) -> io::Result<bool> {
    let reply = socket.get(&Message { kind: GET_POLICIES, flags: 0, body: vec![0; 4] })?;
    Ok(reply.is_some_and(|reply| counts_any(&reply.body)))
}

/// `struct xfrmu_spdinfo`: in, out and forwarded, then those of sockets.
fn counts_any(body: &[u8]) -> bool {
    let counts = find(body.get(4..).unwrap_or_default(), POLICIES).unwrap_or_default();
    counts.iter().take(12).any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::super::{Attributes, Protocol};
    use super::*;

    #[test]
    fn policies_of_sockets_are_nobody_else_s() {
        let body = |counts: [u32; 6]| {
            let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_ne_bytes()).collect();
            [&[0; 4], Attributes::new().raw(POLICIES, &bytes).bytes()].concat()
        };
        assert!(!counts_any(&body([0, 0, 0, 3, 3, 0])) && !counts_any(&[]));
        assert!(counts_any(&body([0, 0, 1, 0, 0, 0])));
    }

    #[test]
    fn every_host_has_rules_and_loopback_a_queue() {
        let socket = Socket::open(Protocol::Route).unwrap();
        routes_by_mark(&socket).unwrap();
        assert!(queues(&socket).unwrap().contains_key(&1), "loopback has noqueue");
    }
}
