//! A second opinion on every frame, from the operator's intent alone.
//!
//! Shares no code with `bulkhead_common` and reads no tables: it has a dissector of its own, looks
//! addresses up in the [`Policy`] by trying one resource after the other, and remembers
//! conversations in a list. Slow and plain, so that a person can check it against the design.
//! [`Flaw`] makes it wrong on purpose, to show that the comparison would notice.

use std::net::IpAddr;

use bulkhead::policy::{AgentConfig, Policy};
use bulkhead::tables::Host;

mod condition;
mod conversation;
mod dissect;
mod due;
mod flaw;
mod intent;
mod link;
mod observe;
mod piece;
mod place;
mod quarantine;
mod report;
mod time;
mod transport;
mod tunnel;
mod watch;

pub use dissect::{Dissected, What, dissect};
pub use flaw::Flaw;
pub use piece::Piece;
pub use report::{About, Failed};

use crate::generate::{Shot, Shut};
use conversation::Conversations;
use due::Debts;
use intent::Intent;
use piece::Begun;
use report::Reports;
use tunnel::{Heard, Unwrapped};

/// What the oracle says about a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opinion {
    /// Whether the frame goes on.
    pub passes: bool,
    /// The label of why.
    pub reason: &'static str,
    /// The device that the frame is about.
    pub device: Option<String>,
    /// The device at the other end.
    pub peer: Option<String>,
    /// The rule that allows it, as `policy/rule`.
    pub rule: Option<String>,
}

/// Why a frame is dropped.
type Refusal = &'static str;

/// One host with one policy, and what was said on it so far.
#[derive(Debug)]
pub struct Oracle<'p> {
    intent: Intent<'p>,
    conversations: Conversations,
    debts: Debts,
    /// It may do as much of everything as it likes.
    unlimited: bool,
    heard: Vec<Heard>,
    shut: &'p [Shut],
    begun: Vec<Begun>,
    reports: Vec<Reports>,
    /// The times at which a rule opens or closes.
    edges: Vec<u64>,
    flaw: Option<Flaw>,
    /// The last frame began nothing, and would go on what is allowed, had that begun before.
    follows: bool,
}

/// A frame and what is known of it, filled in from stage to stage.
struct Subject<'f> {
    frame: &'f Dissected,
    /// The tunnel that it came through.
    teid: Option<u32>,
    ifindex: u32,
    length: usize,
    now: u64,
    device: Option<String>,
    peer: Option<String>,
    rule: Option<String>,
    /// Why it would be dropped if somebody did more than watch.
    would: Option<Refusal>,
}

impl<'p> Oracle<'p> {
    /// Takes the operator's intent; nobody has spoken yet.
    pub fn new(policy: &'p Policy, agent: &'p AgentConfig, host: &'p Host) -> Self {
        let intent = Intent { policy, agent, host, flaw: None, later: None };
        Self {
            intent,
            conversations: Conversations::default(),
            debts: Debts::new(),
            unlimited: false,
            heard: Vec::new(),
            shut: &[],
            begun: Vec::new(),
            reports: Vec::new(),
            edges: intent.edges(),
            flaw: None,
            follows: false,
        }
    }

    /// Makes it wrong in one way.
    pub fn with_flaw(mut self, flaw: Flaw) -> Self {
        self.flaw = Some(flaw);
        self.intent.flaw = Some(flaw);
        self.edges = self.intent.edges();
        self
    }

    /// With these devices in quarantine.
    pub fn with_quarantine(mut self, shut: &'p [Shut]) -> Self {
        self.shut = shut;
        self
    }

    /// Puts these devices into quarantine, and lets all others out.
    pub fn change_quarantine(&mut self, shut: &'p [Shut]) {
        self.shut = shut;
    }

    /// Takes another policy; conversations go on as far as it allows them.
    pub fn change_policy(&mut self, policy: &'p Policy) {
        self.intent.policy = policy;
        self.edges = self.intent.edges();
    }

    /// As a candidate, which charges nothing.
    pub const fn without_limits(mut self) -> Self {
        self.unlimited = true;
        self
    }

    /// Takes over what another one has heard so far, as a candidate does that is not enforced.
    pub fn overhear(&mut self, enforced: &Self) {
        self.conversations = enforced.conversations.clone();
    }

    /// True if the last frame began nothing, and would go on what is allowed, had that begun before.
    pub const fn missed_the_beginning(&self) -> bool {
        self.follows
    }

    /// Judges a frame.
    pub fn judge(&mut self, shot: &Shot) -> Opinion {
        self.follows = false;
        let nobody = |passes, reason| Opinion { passes, reason, device: None, peer: None, rule: None };
        let gate = self.gate(shot.ifindex);
        let looks = gate.is_some_and(|gate| self.only_looks(gate));
        let outer = match dissect(&shot.bytes, self.flaw) {
            Ok(dissected) => dissected,
            Err(_) if looks && !self.has(Flaw::DropsAsWitness) => return nobody(true, "witness"),
            Err(reason) => return nobody(false, reason),
        };
        let Some(gate) = gate else { return nobody(false, "internal_interface") };
        if self.is_free(gate, shot.from_host) {
            return nobody(true, "host");
        }
        let (dissected, teid) = match self.unwrap(gate, &outer) {
            Ok(Unwrapped::Plain) => (outer, None),
            Ok(Unwrapped::Signalling) => return nobody(true, "gtpu"),
            Ok(Unwrapped::Packet(inner, teid)) => (*inner, Some(teid)),
            Err(reason) => return nobody(false, reason),
        };
        let mut subject = Subject {
            frame: &dissected,
            teid,
            ifindex: shot.ifindex,
            length: shot.bytes.len(),
            now: shot.now,
            device: None,
            peer: None,
            rule: None,
            would: None,
        };
        let answer = self.place(gate, &mut subject);
        let Subject { device, peer, rule, would, .. } = subject;
        let (passes, reason) = match answer {
            Ok(reason) => (true, would.unwrap_or(reason)),
            Err(reason) => (false, reason),
        };
        Opinion { passes, reason, device, peer, rule }
    }

    /// Packets and bytes of every conversation that lives: sent and received by the device it is charged to.
    pub fn totals(&self, now: u64) -> Vec<([u64; 2], [u64; 2])> {
        self.conversations.totals(now)
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

/// True for addresses that no host may have (RFC 1122, RFC 3927, RFC 4291, RFC 5771).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || first == 127 || first >= 224 || v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local()
        }
    }
}
