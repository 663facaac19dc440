//! Who is speaking with whom. Only the side that may call begins; the other may answer.
#![expect(clippy::wildcard_enum_match_arm, reason = "what is not named is the rest, whatever it is")]

use std::net::IpAddr;
use std::time::Duration;

use bulkhead::policy::{Device, Timeouts};

use super::dissect::What;
use super::intent::{Called, Intent, Permission};
use super::{Flaw, Oracle, Refusal, Subject};

/// How long a packet may take to where it only comes by.
const ON_THE_WAY_NS: u64 = 1_000_000_000;

/// What was begun and not yet removed, dead ones too.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversations(Vec<Conversation>);

/// A conversation, as the device sees it that it is charged to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Name {
    pub(super) network: String,
    pub(super) device: String,
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) matter: Matter,
}

/// What it is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Matter {
    Ports { protocol: u8, local: u16, remote: u16 },
    Echo { id: u16, local_asks: bool },
    Portless { protocol: u8 },
}

#[derive(Clone, Debug)]
pub(super) struct Conversation {
    name: Name,
    local_called: bool,
    idle_seconds: Option<u64>,
    timed: bool,
    ends: u64,
    /// Where each side's frames enter, if it is a device and has spoken.
    entries: [Option<Entry>; 2],
    replied: bool,
    /// The caller and the called have said that they are done.
    closed: [bool; 2],
    reset: bool,
    totals: [[u64; 2]; 2],
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Ends are kept in steps of 2^20 ns, and a conversation may end so much earlier.
const fn whole(ends: u64) -> u64 {
    ends & !0xf_ffff
}

/// From one end or the other, and whom the policy is asked about.
pub(super) struct Talk<'p> {
    /// Whom the packet is about.
    pub(super) device: &'p Device,
    /// The device at the other end.
    pub(super) peer: Option<&'p Device>,
    /// The device is the sender.
    pub(super) sent: bool,
    /// The sender's frames enter here, so their entry is remembered.
    enters: bool,
}

/// An interface and its tags.
pub(super) type Entry = (u32, (u16, u16));

impl<'p> Talk<'p> {
    /// Of a device that speaks, or is spoken to, where somebody looks on.
    pub(super) const fn seen(device: &'p Device, sent: bool) -> Self {
        Self { device, peer: None, sent, enters: false }
    }

    /// A device's packet that comes back from the core.
    pub(super) const fn returns(&self) -> bool {
        self.sent && !self.enters
    }

    /// Where the sender's frames enter, if it is a device.
    pub(super) fn entry(&self, subject: &Subject<'_>) -> Option<Entry> {
        self.enters.then_some((subject.ifindex, subject.frame.vlans))
    }
}

impl<'p> Oracle<'p> {
    /// From a device to the outside.
    pub(super) fn uplink(
        &mut self,
        device: &'p Device,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        let talk = Talk { device, peer: None, sent: true, enters: true };
        self.outside(talk, subject)
    }

    /// From the outside to a device.
    pub(super) fn downlink(
        &mut self,
        device: &'p Device,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        let talk = Talk { device, peer: None, sent: false, enters: false };
        self.outside(talk, subject)
    }

    fn outside(&mut self, talk: Talk<'p>, subject: &mut Subject<'_>) -> Result<&'static str, Refusal> {
        self.refuse_options(talk.device, subject)?;
        if let What::IcmpError(about) = subject.frame.what {
            return self.report(talk.device, None, (talk.sent, talk.enters), about, subject);
        }
        self.in_order(&talk, subject, |oracle, subject| {
            oracle.told(&talk, subject, |oracle, subject| {
                speakable(subject.frame.what)?;
                oracle.continued(&talk, subject).unwrap_or_else(|| oracle.begun(&talk, subject))
            })
        })
    }

    /// From device to device: at the sender's access interface, or coming back from the core.
    pub(super) fn lateral(
        &mut self,
        sender: &'p Device,
        receiver: &'p Device,
        enters: bool,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        self.refuse_options(sender, subject)?;
        if let What::IcmpError(about) = subject.frame.what {
            return self.report(sender, Some(receiver), (true, enters), about, subject);
        }
        let sent = Talk { device: sender, peer: Some(receiver), sent: true, enters };
        let received = Talk { device: receiver, peer: Some(sender), sent: false, enters };
        self.in_order(&sent, subject, |oracle, subject| {
            oracle.told(&sent, subject, |oracle, subject| {
                speakable(subject.frame.what)?;
                if let Some(answer) = oracle.continued(&sent, subject) {
                    return answer;
                }
                if let Some(answer) = oracle.continued(&received, subject) {
                    return answer;
                }
                let later = subject.frame.piece.is_some_and(|piece| piece.from > 0);
                if enters || later { oracle.begun(&sent, subject) } else { Err("spoofed_source") }
            })
        })
    }

    /// Of whom is shut in, every refusal is told as that.
    fn told(
        &mut self,
        talk: &Talk<'p>,
        subject: &mut Subject<'_>,
        judge: impl FnOnce(&mut Self, &mut Subject<'_>) -> Result<&'static str, Refusal>,
    ) -> Result<&'static str, Refusal> {
        let shut = self.is_shut(talk.device, talk.peer, subject.now);
        judge(self, subject).map_err(|reason| if shut { "quarantined" } else { reason })
    }

    /// Options are for networks that say so.
    fn refuse_options(&self, device: &Device, subject: &Subject<'_>) -> Result<(), Refusal> {
        let passes = self.intent.policy.networks()[&device.network.value].passes_options;
        let refused = subject.frame.options && !passes && !self.has(Flaw::PassesOptions);
        if refused { Err("ip_options") } else { Ok(()) }
    }

    /// True if such a conversation was live when a packet that comes by was on its way.
    pub(super) fn was_live(&self, talk: &Talk<'p>, subject: &Subject<'_>) -> bool {
        let way = if self.has(Flaw::ForgetsTheWay) { 0 } else { ON_THE_WAY_NS };
        self.conversations.live(&self.name(talk, subject), subject.now.saturating_sub(way)).is_some()
    }

    /// Part of a live conversation, or nothing.
    pub(super) fn continued(
        &mut self,
        talk: &Talk<'p>,
        subject: &mut Subject<'_>,
    ) -> Option<Result<&'static str, Refusal>> {
        if self.has(Flaw::ForgetsConversations) {
            return None;
        }
        let name = self.name(talk, subject);
        let endless = self.has(Flaw::ForgetsIdle);
        let at = self.conversations.0.iter().position(|known| {
            known.name == name && (known.ends > subject.now || endless && known.ends > 0)
        })?;
        Some(self.continue_at(at, talk, subject))
    }

    fn continue_at(
        &mut self,
        at: usize,
        talk: &Talk<'p>,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        let entry = talk.entry(subject);
        let side = usize::from(!talk.sent);
        let known = &self.conversations.0[at];
        let elsewhere = entry.is_some() && known.entries[side].is_some() && entry != known.entries[side];
        if elsewhere && !self.has(Flaw::ForgetsEntry) {
            return Err("spoofed_source");
        }
        let by_caller = talk.sent == known.local_called;
        let flags = flags(subject.frame.what);
        if is_opening(flags) && !by_caller && !self.has(Flaw::ForgetsResponderSyn) {
            return self.excused(talk, "unsolicited", subject).map(|()| "established");
        }
        let judged = self.permission(talk, known.local_called, subject);
        let permission =
            match judged.map(Some).or_else(|reason| self.excused(talk, reason, subject).map(|()| None)) {
                Ok(permission) => permission,
                Err(reason) => {
                    self.conversations.0[at].ends = 0;
                    return Err(reason);
                }
            };
        subject.rule = permission.as_ref().map(|permission| permission.rule.clone());
        // Coming back from the core, it was heard at the sender's access interface already.
        if talk.peer.is_some() && !talk.enters {
            return Ok("established");
        }
        if subject.rule.is_some() {
            self.pay(talk, false, subject).or_else(|reason| self.excused(talk, reason, subject))?;
        }
        let patience = self.patience(talk);
        let local_called = self.conversations.0[at].local_called;
        let is_timed = permission.as_ref().is_some_and(|permission| permission.timed);
        let closes = if is_timed { self.closes(talk, local_called, subject) } else { u64::MAX };
        let known = &mut self.conversations.0[at];
        let before = patience.of(known);
        let was_timed = known.timed;
        known.timed = is_timed;
        let timed = was_timed || is_timed;
        known.entries[side] = known.entries[side].or(entry);
        known.idle_seconds = permission.and_then(|permission| permission.idle_seconds);
        known.hear(by_caller, flags, self.flaw);
        known.count(side, subject);
        let ends = if talk.enters || self.flaw == Some(Flaw::BelievesOutsiders) {
            subject.now + patience.of(known)
        } else if timed && patience.of(known) < before {
            // Nobody knows whether it was the clock that was to end it, so it lives no longer than it was to.
            known.ends.min(subject.now + patience.of(known))
        } else {
            // The time runs from the device's own last packet.
            (known.ends + patience.of(known)).saturating_sub(before)
        };
        known.ends = whole(ends.min(closes));
        Ok("established")
    }

    /// The first packet of a conversation; of one that is refused it is noted whether it may go on what was not heard.
    fn begun(&mut self, talk: &Talk<'p>, subject: &mut Subject<'_>) -> Result<&'static str, Refusal> {
        let begun = self.begun_at_all(talk, subject);
        self.follows = begun.is_err() && self.is_a_sequel(talk, subject);
        begun
    }

    /// It would be allowed to the other side to have asked for this, or to this one to have connected before.
    fn is_a_sequel(&self, talk: &Talk<'p>, subject: &Subject<'_>) -> bool {
        let asks = matches!(subject.frame.what, What::Ping(_)) || is_opening(flags(subject.frame.what));
        if asks || talk.returns() {
            return false;
        }
        match talk.peer {
            None => {
                let within = matches!(subject.frame.what, What::Ports { protocol: 6, .. }) && !talk.sent;
                let connected = self.permission(talk, talk.sent, subject).ok().filter(|_| within);
                connected.ok_or("").or_else(|_| self.permission(talk, !talk.sent, subject))
            }
            Some(peer) => {
                let asked = Talk { device: peer, peer: Some(talk.device), sent: false, enters: talk.enters };
                self.permission(&asked, true, subject)
            }
        }
        .is_ok()
    }

    fn begun_at_all(&mut self, talk: &Talk<'p>, subject: &mut Subject<'_>) -> Result<&'static str, Refusal> {
        let judged = self.beginning(talk, subject);
        if subject.frame.piece.is_some_and(|piece| piece.from > 0) {
            // Only what nobody remembers goes on without a conversation.
            let Err(reason) = judged else { return Err("fragment_early") };
            let known = talk.enters || talk.peer.is_none();
            let excused = known && self.excused(talk, reason, subject).is_ok();
            return if excused { Ok("opened") } else { Err("fragment_early") };
        }
        let permission = match judged {
            Ok(permission) => Some(permission),
            Err(reason) => {
                self.excused(talk, reason, subject)?;
                if !self.is_a_beginning(talk, subject) {
                    return Ok("opened");
                }
                None
            }
        };
        let flags = flags(subject.frame.what);
        subject.rule = permission.as_ref().map(|permission| permission.rule.clone());
        if permission.is_some()
            && let Err(reason) = self.pay(talk, true, subject)
        {
            self.excused(talk, reason, subject)?;
            if reason == "flow_quota" {
                return Ok("opened");
            }
        }
        let name = self.name(talk, subject);
        let side = usize::from(!talk.sent);
        let mut entries = [None, None];
        entries[side] = talk.entry(subject);
        let mut new = Conversation {
            name,
            local_called: talk.sent,
            idle_seconds: permission.as_ref().and_then(|permission| permission.idle_seconds),
            timed: permission.as_ref().is_some_and(|permission| permission.timed),
            ends: 0,
            entries,
            replied: false,
            closed: [false; 2],
            reset: false,
            totals: [[0; 2]; 2],
        };
        new.hear(true, flags, self.flaw);
        new.count(side, subject);
        let closes = if new.timed { self.closes(talk, talk.sent, subject) } else { u64::MAX };
        new.ends = whole((subject.now + self.patience(talk).of(&new)).min(closes));
        self.conversations.0.retain(|known| known.name != new.name);
        self.conversations.0.push(new);
        subject.rule = permission.map(|permission| permission.rule);
        Ok("opened")
    }

    /// Whether a packet may be the first.
    fn beginning(&self, talk: &Talk<'p>, subject: &Subject<'_>) -> Result<Permission, Refusal> {
        if matches!(subject.frame.what, What::Pong(_)) {
            return Err("unsolicited");
        }
        let tcp = matches!(subject.frame.what, What::Ports { protocol: 6, .. });
        let midway = tcp && !is_opening(flags(subject.frame.what));
        if !talk.sent && midway && !self.has(Flaw::ForgetsSyn) {
            return Err("unsolicited");
        }
        self.permission(talk, talk.sent, subject)
    }

    /// Nobody refuses it who does more than watch; what would have been is noted.
    fn excused(&self, talk: &Talk<'p>, reason: Refusal, subject: &mut Subject<'_>) -> Result<(), Refusal> {
        if !self.excuses((talk.device, talk.peer), talk.sent, reason, subject) {
            return Err(reason);
        }
        subject.would = subject.would.or(Some(reason));
        Ok(())
    }

    /// Of what no rule allows, only a device's own word, a connection's opening, or a question says who began.
    fn is_a_beginning(&self, talk: &Talk<'p>, subject: &Subject<'_>) -> bool {
        match subject.frame.what {
            What::Pong(_) => false,
            What::Ping(_) => true,
            what => talk.sent || is_opening(flags(what)) || self.has(Flaw::GuessesWhoBegan),
        }
    }

    /// When nothing will allow the conversation any more, by the clock alone.
    fn closes(&self, talk: &Talk<'p>, local_called: bool, subject: &Subject<'_>) -> u64 {
        // Who is let out of quarantine in the meantime is judged anew then; who is only watched goes on.
        let watched = self.excuses((talk.device, talk.peer), talk.sent, "condition_time", subject);
        let shut = self.is_shut(talk.device, talk.peer, subject.now);
        if shut || watched || self.has(Flaw::ForgetsClosing) {
            return u64::MAX;
        }
        let mut later = self.edges.iter().filter(|edge| **edge > subject.now);
        let closed =
            later.find(|edge| self.permission_at(talk, local_called, subject, Some(**edge)).is_err());
        closed.copied().unwrap_or(u64::MAX)
    }

    /// Asks the policy about the conversation's first packet.
    fn permission(
        &self,
        talk: &Talk<'p>,
        local_called: bool,
        subject: &Subject<'_>,
    ) -> Result<Permission, Refusal> {
        self.permission_at(talk, local_called, subject, None)
    }

    /// As [`Self::permission`], and by the windows of another time.
    fn permission_at(
        &self,
        talk: &Talk<'p>,
        local_called: bool,
        subject: &Subject<'_>,
        later: Option<u64>,
    ) -> Result<Permission, Refusal> {
        let caller_sent = talk.sent == local_called;
        let called = match subject.frame.what {
            What::Ports { protocol, destination, .. } if caller_sent => Called::Port(protocol, destination),
            What::Ports { protocol, source, .. } => Called::Port(protocol, source),
            What::Portless(protocol) => Called::Portless(protocol),
            _ => Called::Echo,
        };
        let (from, to) = (subject.frame.from, subject.frame.to);
        let ends = if talk.sent { [from, to] } else { [to, from] };
        self.permits((talk.device, talk.peer), local_called, called, ends, (subject.now, later))
    }

    /// Asks the policy whether a conversation may go on, whoever speaks.
    pub(super) fn permission_of(
        &self,
        device: &'p Device,
        peer: Option<&'p Device>,
        local_called: bool,
        name: &Name,
        now: u64,
    ) -> Result<Permission, Refusal> {
        let called = match name.matter {
            Matter::Ports { protocol, remote, .. } if local_called => Called::Port(protocol, remote),
            Matter::Ports { protocol, local, .. } => Called::Port(protocol, local),
            Matter::Portless { protocol } => Called::Portless(protocol),
            Matter::Echo { .. } => Called::Echo,
        };
        self.permits((device, peer), local_called, called, [name.local, name.remote], (now, None))
    }

    fn permits(
        &self,
        (device, peer): (&'p Device, Option<&'p Device>),
        local_called: bool,
        called: Called,
        [local, remote]: [IpAddr; 2],
        (now, later): (u64, Option<u64>),
    ) -> Result<Permission, Refusal> {
        let intent = Intent { later, ..self.intent };
        let with_never = peer.filter(|_| !self.has(Flaw::ForgetsPeersNever));
        // GTP-C, GTP-U, GTP' and PFCP are the core's own.
        let core_s_own = matches!(called, Called::Port(17, 2123 | 2152 | 3386 | 8805));
        if core_s_own && (peer.is_some() || local_called) && !self.has(Flaw::OpensControl) {
            return Err("control_protocol");
        }
        if intent.is_never(device, called) || with_never.is_some_and(|peer| intent.is_never(peer, called)) {
            return Err("never");
        }
        if self.is_shut(device, peer, now) {
            return match peer {
                None if local_called => self.repair(device, remote, called, now),
                None | Some(_) => Err("quarantined"),
            };
        }
        match peer {
            None if local_called => intent.outbound(device, remote, called, now),
            None => intent.inbound(device, [local, remote], called, now),
            Some(peer) => intent.between(device, (peer, remote), called, now),
        }
    }

    fn patience(&self, talk: &Talk<'p>) -> Patience<'p> {
        let network = self.intent.policy.networks().get(&talk.device.network.value);
        let timeouts = network.map(|network| &network.timeouts);
        Patience { timeouts: timeouts.filter(|_| !self.has(Flaw::ForgetsTimeouts)), flaw: self.flaw }
    }

    fn name(&self, talk: &Talk<'p>, subject: &Subject<'_>) -> Name {
        let frame = subject.frame;
        let (local, remote) = if talk.sent { (frame.from, frame.to) } else { (frame.to, frame.from) };
        let known_id = |id| if self.has(Flaw::ForgetsEchoId) { 0 } else { id };
        let matter = match frame.what {
            What::Ports { protocol, source, destination, .. } if talk.sent => {
                Matter::Ports { protocol, local: source, remote: destination }
            }
            What::Ports { protocol, source, destination, .. } => {
                Matter::Ports { protocol, local: destination, remote: source }
            }
            What::Portless(protocol) => Matter::Portless { protocol },
            What::Ping(id) => Matter::Echo { id: known_id(id), local_asks: talk.sent },
            What::Pong(id) => Matter::Echo { id: known_id(id), local_asks: !talk.sent },
            what => unreachable!("{what:?} is no conversation"),
        };
        let network = talk.device.network.value.to_string();
        Name { network, device: talk.device.name.to_string(), local, remote, matter }
    }
}

impl Conversations {
    /// A conversation that has not ended.
    pub(super) fn live(&self, name: &Name, now: u64) -> Option<&Conversation> {
        self.0.iter().find(|known| known.name == *name && known.ends > now)
    }

    /// How many a device has that it began itself, or that others began; those that have ended only if asked for.
    pub(super) fn of(&self, device: &Device, local_called: bool, now: u64, ended_too: bool) -> usize {
        let of_device = self.0.iter().filter(|known| known.name.device == device.name.to_string());
        of_device
            .filter(|known| known.local_called == local_called && (ended_too || known.ends > now))
            .count()
    }

    /// Packets and bytes of each: sent, received.
    pub(super) fn totals(&self, now: u64) -> Vec<([u64; 2], [u64; 2])> {
        let live = self.0.iter().filter(|known| known.ends > now);
        let mut totals: Vec<_> = live.map(|known| (known.totals[0], known.totals[1])).collect();
        totals.sort_unstable();
        totals
    }
}

impl Conversation {
    /// Where each side's frames enter.
    pub(super) fn entries(&self) -> [Option<Entry>; 2] {
        self.entries
    }

    /// The device that it is charged to has begun it.
    pub(super) fn is_by_local(&self) -> bool {
        self.local_called
    }

    fn hear(&mut self, by_caller: bool, flags: u8, flaw: Option<Flaw>) {
        if by_caller && flags & (SYN | ACK) == SYN {
            (self.replied, self.closed, self.reset) = (false, [false; 2], false);
        }
        self.replied |= !by_caller;
        self.closed[usize::from(!by_caller)] |= flags & FIN != 0;
        self.reset |= flags & RST != 0 || flaw == Some(Flaw::ClosesAtOnce) && flags & FIN != 0;
    }

    fn count(&mut self, side: usize, subject: &Subject<'_>) {
        self.totals[side][0] += 1;
        self.totals[side][1] += subject.length as u64;
    }
}

/// How long conversations of a network survive silence.
struct Patience<'p> {
    timeouts: Option<&'p Timeouts>,
    flaw: Option<Flaw>,
}

impl Patience<'_> {
    /// In nanoseconds: what the rule says, else the network, else RFC 5382, RFC 4787, RFC 5508.
    fn of(&self, known: &Conversation) -> u64 {
        let (passing, seconds) = match known.name.matter {
            Matter::Ports { protocol: 6, .. } => self.tcp(known),
            Matter::Ports { protocol: 17, .. } if known.replied => (false, self.set(|own| own.udp, 300)),
            Matter::Ports { protocol: 17, .. } => (false, self.set(|own| own.udp_unanswered, 120)),
            Matter::Ports { .. } => (false, self.set(|own| own.sctp, 7440)),
            Matter::Echo { .. } => (false, self.set(|own| own.icmp, 60)),
            Matter::Portless { .. } => (false, self.set(|own| own.portless, 600)),
        };
        let idle = known.idle_seconds.unwrap_or(seconds);
        1_000_000_000 * if passing { idle.min(seconds) } else { idle }
    }

    /// Whether a connection is in a state that passes by, and its seconds.
    fn tcp(&self, known: &Conversation) -> (bool, u64) {
        if self.flaw == Some(Flaw::ForgetsHalfOpen) {
            return (false, self.set(|own| own.tcp_established, 7440));
        }
        match (known.reset || known.closed == [true; 2], known.replied) {
            (true, _) => (true, self.set(|own| own.tcp_closing, 10)),
            (false, false) => (true, self.set(|own| own.tcp_half_open, 60)),
            (false, true) if known.closed == [false; 2] => (false, self.set(|own| own.tcp_established, 7440)),
            (false, true) => (true, 240),
        }
    }

    fn set(&self, which: impl Fn(&Timeouts) -> Option<Duration>, default: u64) -> u64 {
        self.timeouts.and_then(which).map_or(default, |time| time.as_secs())
    }
}

fn speakable(what: What) -> Result<(), Refusal> {
    match what {
        What::Ports { .. } | What::Ping(_) | What::Pong(_) | What::Portless(_) => Ok(()),
        What::IcmpOther | What::Redirect => Err("unsupported_icmp"),
        _ => Err("unsupported_protocol"),
    }
}

fn flags(what: What) -> u8 {
    match what {
        What::Ports { flags, .. } => flags,
        _ => 0,
    }
}

/// True for the segment that opens a TCP connection.
fn is_opening(flags: u8) -> bool {
    flags & (FIN | SYN | RST | ACK) == SYN
}
