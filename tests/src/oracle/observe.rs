//! Who only watches: what policy refuses passes, and is told as what would have been dropped.

use std::net::IpAddr;

use bulkhead::policy::{Device, Mode, Network};

use super::dissect::What;
use super::intent::Intent;
use super::place::special;
use super::{Flaw, Oracle, Refusal, Subject, is_special};

impl Intent<'_> {
    /// True if what policy refuses this device is not dropped.
    pub(super) fn watches(&self, device: &Device) -> bool {
        let Some(network) = self.policy.networks().get(&device.network.value) else { return false };
        let segment = device.segment.as_ref().and_then(|name| self.policy.segments().get(name));
        let strict = segment.is_some_and(|segment| {
            segment.mode.as_ref().is_some_and(|mode| mode.value == Mode::Enforce)
                || segment.canary.as_ref().is_some_and(|canary| {
                    let all = canary.share.as_ref().is_some_and(|share| share.value.to_string() == "100%");
                    let labels = canary.labels.as_ref().map(|labels| &labels.value);
                    let labelled = |key, value| device.labels.get(key) == Some(value);
                    all || labels.is_some_and(|wanted| wanted.iter().all(|(key, value)| labelled(key, value)))
                })
        });
        self.watches_nobody(network) && (!strict || self.flaw == Some(Flaw::LoosensSegments))
    }

    /// True if addresses of the network's pools that are no device's may speak.
    pub(super) fn watches_nobody(&self, network: &Network) -> bool {
        network.mode == Mode::Observe && self.flaw != Some(Flaw::ForgetsObserving)
    }
}

impl Oracle<'_> {
    /// True if everybody who refuses for this reason only watches: both ends, as far as they are devices, or the one
    /// whose limit it is.
    pub(super) fn excuses(
        &self,
        ends: (&Device, Option<&Device>),
        outward: bool,
        reason: Refusal,
        subject: &Subject<'_>,
    ) -> bool {
        let of_policy = match reason {
            "no_rule" | "unsolicited" | "segment_denied" | "icmp_error_unrelated" => true,
            "condition_posture" | "condition_place" | "condition_time" => true,
            _ if is_limit(reason) => true,
            "never" => self.has(Flaw::ObservesNever),
            _ => false,
        };
        let (device, refuser) = match ends {
            // A limit is its sender's own: whoever is at the other end refuses nothing.
            (_, Some(peer)) if is_limit(reason) && !outward => (peer, None),
            (device, _) if is_limit(reason) => (device, None),
            ends => ends,
        };
        let asked = refuser.filter(|_| !self.has(Flaw::AsksOneEnd));
        let watching = [Some(device), asked].into_iter().flatten().all(|end| self.intent.watches(end));
        let shut = self.is_shut(device, refuser, subject.now) && !self.has(Flaw::ObservesQuarantine);
        let abroad = outward && ends.1.is_none() && self.is_abroad(device, subject.frame.to);
        of_policy && watching && !shut && !abroad
    }

    /// True if an address is another network's device.
    fn is_abroad(&self, device: &Device, address: IpAddr) -> bool {
        let network = &self.intent.policy.networks()[&device.network.value];
        let ours = self.intent.is_infrastructure(network, address);
        !ours && self.intent.is_pool_anywhere(address) && !self.has(Flaw::LeavesNetworks)
    }

    /// From an address of a pool that no device has, at an access interface.
    pub(super) fn nobody_speaks(
        &self,
        network: &Network,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        const REASON: Refusal = "unknown_device";
        if !self.intent.watches_nobody(network) {
            return Err(REASON);
        }
        let to = subject.frame.to;
        if is_special(to) {
            return Err(special(to));
        }
        if self.intent.is_pool(network, to) {
            if let Some(peer) = self.intent.device(network, to) {
                subject.peer = Some(peer.name.to_string());
                if !self.intent.watches(peer) || self.is_shut(peer, None, subject.now) {
                    return Err(REASON);
                }
            }
        } else {
            let ours = self.intent.is_infrastructure(network, to);
            if !ours && self.intent.is_pool_anywhere(to) {
                return Err(REASON);
            }
            self.refuse_endpoint(subject)?;
        }
        // GTP-C, GTP-U, GTP' and PFCP are the core's own.
        let core_s_own = matches!(
            subject.frame.what,
            What::Ports { protocol: 17, destination: 2123 | 2152 | 3386 | 8805, .. }
        );
        if core_s_own && !self.has(Flaw::OpensControl) {
            return Err("control_protocol");
        }
        self.with_nobody(network, REASON, subject)
    }

    /// From or to nobody: nothing passes that would not if there was somebody.
    pub(super) fn with_nobody(
        &self,
        network: &Network,
        reason: Refusal,
        subject: &mut Subject<'_>,
    ) -> Result<&'static str, Refusal> {
        if !self.intent.watches_nobody(network) {
            return Err(reason);
        }
        match (subject.frame.piece, subject.frame.what) {
            (Some(_), _) => self.refuse_piece(network, subject)?,
            (None, What::IcmpOther | What::Redirect) => return Err("unsupported_icmp"),
            (None, What::Unknown) => return Err("unsupported_protocol"),
            (None, _) => {}
        }
        if subject.frame.options && !network.passes_options && !self.has(Flaw::PassesOptions) {
            return Err("ip_options");
        }
        subject.would = Some(reason);
        Ok("transit")
    }
}

/// True for what is allowed, but too much of it.
fn is_limit(reason: Refusal) -> bool {
    matches!(reason, "rate_limited" | "flow_rate_limited" | "flow_quota")
}
