//! One packet on its way from parse to verdict: what is known so far.
//!
//! The stages hand it on by reference. In the kernel it lies in a per-CPU map: the BPF stack has 512
//! bytes, and the verifier forgets what was stored in a map, so that the paths of one stage do not
//! multiply with those of the next.

use crate::abi::{DeviceId, Epoch, Generation, ProfileId};
use crate::parse::Packet;
use crate::verdict::{Evidence, Pass};

/// Everything known of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Case {
    /// The parsed frame.
    pub packet: Packet,
    /// The epoch word, read before anything else.
    pub epoch: Epoch,
    /// Where the frame entered.
    pub ifindex: u32,
    /// What identifying decided.
    pub course: Course,
    /// Who is at both ends.
    pub identity: Identity,
    /// What the verdict's record will say.
    pub evidence: Evidence,
}

impl Case {
    /// A packet that nothing is known of but when and where it came.
    #[inline(always)]
    pub const fn new(epoch: Epoch, ifindex: u32) -> Self {
        Self {
            packet: Packet::EMPTY,
            epoch,
            ifindex,
            course: Course::Returning,
            identity: Identity { device: Party::NOBODY, peer: Party::NOBODY, latest: Generation::NONE },
            evidence: Evidence::NONE,
        }
    }
}

/// A device as the packet's generation sees it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Party {
    /// Who.
    pub device: DeviceId,
    /// What applies to it.
    pub profile: ProfileId,
    /// Row of its rule set, 0 if it has none.
    pub rule_set: u32,
}

/// Both ends as far as they are devices, and how new the newest fact about them is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Identity {
    /// The device the packet is about: its sender, or on the way down its receiver.
    pub device: Party,
    /// The device at the other end, if it is one.
    pub peer: Party,
    /// The greatest `since` of everything read: a flow stamped earlier must be judged again.
    pub latest: Generation,
}

/// What is to be done with an identified packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Course {
    /// It passes without touching a device.
    Pass(Pass),
    /// From a device to the outside.
    Uplink,
    /// From the outside to a device.
    Downlink,
    /// From device to device, at the sender's access interface.
    Lateral,
    /// From device to device, coming back from the core: passes only on a live flow.
    Returning,
}

impl Party {
    /// No device.
    pub const NOBODY: Self = Self { device: DeviceId::NONE, profile: ProfileId::NONE, rule_set: 0 };
}
