//! Who is shut in, and what is left to them.

use bulkhead::policy::Device;

use super::intent::{Called, Permission};
use super::{Flaw, Oracle, Refusal};
use crate::generate::Shut;

impl<'p> Oracle<'p> {
    /// The quarantine that a device is in at this time.
    pub(super) fn quarantine(&self, device: &Device, now: u64) -> Option<&'p Shut> {
        let shut = self.shut.iter().find(|shut| shut.device == device.name.as_str());
        let over = |shut: &&Shut| shut.until.is_some_and(|until| now >= until);
        shut.filter(|shut| !over(shut) || self.has(Flaw::KeepsQuarantine))
            .filter(|_| !self.has(Flaw::ForgetsQuarantine))
    }

    /// True if one of the two is shut in.
    pub(super) fn is_shut(&self, device: &Device, peer: Option<&Device>, now: u64) -> bool {
        let peer = peer.filter(|_| !self.has(Flaw::ForgetsPeersQuarantine));
        [Some(device), peer].into_iter().flatten().any(|device| self.quarantine(device, now).is_some())
    }

    /// What a device that is shut in may still call outside.
    pub(super) fn repair(
        &self,
        device: &Device,
        remote: std::net::IpAddr,
        called: Called,
        now: u64,
    ) -> Result<Permission, Refusal> {
        let granted = self.quarantine(device, now).is_some_and(|shut| shut.repair);
        if !granted && !self.has(Flaw::RepairsUnasked) {
            return Err("quarantined");
        }
        self.intent.repair(device, remote, called).ok_or("quarantined")
    }
}
