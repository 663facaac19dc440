//! ICMP errors: about a live conversation, to the one who sent the packet that failed.

use std::net::IpAddr;

use bulkhead::policy::Device;

use super::conversation::{Matter, Name};
use super::{Flaw, Oracle, Refusal, Subject};

/// The packet that failed, as far as the error carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct About {
    /// Who sent it.
    pub from: IpAddr,
    /// Whom it was for.
    pub to: IpAddr,
    /// What it was.
    pub what: Failed,
}

/// What failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failed {
    /// Protocol, source and destination port.
    Ports(u8, u16, u16),
    /// An echo request or reply, with its identifier.
    Echo {
        /// True for a request.
        request: bool,
        /// The identifier.
        id: u16,
    },
    /// A protocol without ports.
    Portless(u8),
}

/// One device's errors.
#[derive(Debug)]
pub(super) struct Reports {
    device: String,
    /// When the next may come, if the device is to have ten a second.
    due: u64,
}

const INTERVAL: u64 = 100_000_000;
const AT_ONCE: u64 = 20;

impl<'p> Oracle<'p> {
    /// Judges an error that `device` gets, or sends (`told` is the device at the other end).
    pub(super) fn report(
        &mut self,
        device: &'p Device,
        told: Option<&'p Device>,
        (sent, enters): (bool, bool),
        about: Option<About>,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        const UNRELATED: Refusal = "icmp_error_unrelated";
        let about = about.filter(|_| subject.frame.piece.is_none()).ok_or(UNRELATED)?;
        if about.from != subject.frame.to && !self.has(Flaw::ReportsToAnybody) {
            return Err(UNRELATED);
        }
        // Whom the packet was for. A device tells about what it was sent, and not about what others were.
        let network = &self.intent.policy.networks()[&device.network.value];
        let meant = self.intent.device(network, about.to);
        let its_own = meant.is_some_and(|meant| meant.name == device.name);
        if sent && !its_own && !self.has(Flaw::ReportsOfOthers) {
            return Err(UNRELATED);
        }
        let other = if sent { told } else { meant.filter(|_| !self.has(Flaw::ForgetsCalledSenders)) };
        let ends = (device, other);
        let mut owners = vec![(device, other, !sent)];
        let partner = (its_own || !sent).then_some(device);
        owners.extend(other.map(|other| (other, partner, sent)));
        for (side, (owner, other, owner_sent)) in owners.into_iter().enumerate() {
            let name = name(owner, &about, owner_sent);
            let Some(found) = self.conversations.live(&name, subject.now) else { continue };
            let (entries, local_called) = (found.entries(), found.is_by_local());
            let judged = self.permission_of(owner, other, local_called, &name, subject.now);
            let rule = match judged {
                Ok(permission) => Some(permission.rule),
                Err(reason) if self.excuses(ends, sent, reason, subject) => {
                    subject.would = Some(reason);
                    None
                }
                Err(_) => continue,
            };
            let entry = enters.then_some((subject.ifindex, subject.frame.vlans));
            if sent && entry.is_some() && entries[side].is_some() && entry != entries[side] {
                return Err("spoofed_source");
            }
            subject.rule = rule;
            let returning = sent && !enters;
            return if returning || self.is_due(device, subject.now) {
                Ok("icmp_error")
            } else {
                Err("icmp_error_rate")
            };
        }
        let returning = sent && !enters;
        if returning || !self.excuses(ends, sent, UNRELATED, subject) {
            return Err(UNRELATED);
        }
        subject.would = Some(UNRELATED);
        if self.is_due(device, subject.now) { Ok("icmp_error") } else { Err("icmp_error_rate") }
    }

    /// Ten a second, twenty at once.
    fn is_due(&mut self, device: &Device, now: u64) -> bool {
        let name = device.name.to_string();
        if !self.reports.iter().any(|reports| reports.device == name) {
            self.reports.push(Reports { device: name.clone(), due: 0 });
        }
        let endless = self.has(Flaw::ForgetsErrorRate);
        let Some(reports) = self.reports.iter_mut().find(|reports| reports.device == name) else {
            return false;
        };
        if reports.due > now + AT_ONCE * INTERVAL && !endless {
            return false;
        }
        reports.due = reports.due.max(now) + INTERVAL;
        true
    }
}

fn name(owner: &Device, about: &About, owner_sent: bool) -> Name {
    let (local, remote) = if owner_sent { (about.from, about.to) } else { (about.to, about.from) };
    let matter = match about.what {
        Failed::Ports(protocol, source, destination) if owner_sent => {
            Matter::Ports { protocol, local: source, remote: destination }
        }
        Failed::Ports(protocol, source, destination) => {
            Matter::Ports { protocol, local: destination, remote: source }
        }
        Failed::Echo { request, id } => Matter::Echo { id, local_asks: request == owner_sent },
        Failed::Portless(protocol) => Matter::Portless { protocol },
    };
    Name { network: owner.network.value.to_string(), device: owner.name.to_string(), local, remote, matter }
}
