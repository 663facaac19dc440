//! One packet on its way from parse to verdict: what is known so far.
//!
//! The stages hand it on by reference. In the kernel it lies in a per-CPU map: the BPF stack has 512
//! bytes, and the verifier forgets what was stored in a map, so that the paths of one stage do not
//! multiply with those of the next.

use crate::abi::value::NETWORK_OBSERVES;
use crate::abi::{DeviceId, Epoch, FlowKey, Generation, ProfileId};
use crate::identify::Place;
use crate::parse::Packet;
use crate::tunnel::Binding;
use crate::verdict::{DropReason, Evidence, RefusedBy};
use crate::wire::embedded::Embedded;

/// What the first byte of a frame is (linux/if_arp.h).
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u32)]
pub enum LinkType {
    /// An Ethernet header (`ARPHRD_ETHER`).
    #[default]
    Ethernet = 0,
    /// The IP packet itself: TUN devices and tunnels (`ARPHRD_NONE` and the like).
    RawIp = 1,
}

impl LinkType {
    /// The type with this number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Ethernet),
            1 => Some(Self::RawIp),
            _ => None,
        }
    }
}

/// How a frame entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Arrival {
    /// The interface.
    pub ifindex: u32,
    /// What its frames begin with.
    pub link: LinkType,
    /// The frame's length in bytes.
    pub length: u32,
    /// How many packets it is: what leaves may be one buffer of several segments.
    pub packets: u32,
    /// True if this host itself sent it; known only of what leaves.
    pub from_host: bool,
}

impl Arrival {
    /// One packet that entered by an interface.
    #[inline(always)]
    pub const fn of(ifindex: u32, link: LinkType, length: u32) -> Self {
        Self { ifindex, link, length, packets: 1, from_host: false }
    }
}

/// Everything known of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Case {
    /// The parsed frame.
    pub packet: Packet,
    /// The epoch word, read before anything else.
    pub epoch: Epoch,
    /// Where and how the frame entered.
    pub arrival: Arrival,
    /// Where the IP packet to be judged begins in the frame.
    pub at: u32,
    /// Where it ends at the latest: the frame's end, or that of the tunnel's payload.
    pub end: u32,
    /// What is known of where it entered.
    pub place: Place,
    /// The packet that an ICMP error is about.
    pub embedded: Embedded,
    /// What identifying decided.
    pub course: Course,
    /// Who is at both ends.
    pub identity: Identity,
    /// What tells in which tunnels the sending device's packets may come.
    pub tunnel: Binding,
    /// The flow that is looked for.
    pub key: FlowKey,
    /// What the verdict's record will say.
    pub evidence: Evidence,
    /// Number of the [`DropReason`] for which it would be dropped if nobody only observed; 0 if for none.
    pub would: u32,
    /// Not 0 if it is refused as a flow's first packet, and would go on one that is allowed, had that been opened
    /// before; asked of a candidate alone.
    pub follows: u32,
}

impl Case {
    /// A packet that nothing is known of but when and where it came.
    #[inline(always)]
    pub const fn new(epoch: Epoch, arrival: Arrival) -> Self {
        Self {
            packet: Packet { length: arrival.length, ..Packet::EMPTY },
            epoch,
            arrival,
            at: 0,
            end: arrival.length,
            place: Place::NOWHERE,
            embedded: Embedded::EMPTY,
            course: Course::Returning,
            identity: Identity { device: Party::NOBODY, peer: Party::NOBODY, latest: Generation::NONE },
            tunnel: Binding::NONE,
            key: FlowKey::NONE,
            evidence: Evidence::NONE,
            would: 0,
            follows: 0,
        }
    }

    /// True if everybody who refuses the packet for this reason only observes.
    ///
    /// Of a device in quarantine nothing is only observed: it was put there by name.
    #[inline(always)]
    pub const fn observes(&self, reason: DropReason) -> bool {
        let Identity { device, peer, .. } = &self.identity;
        let other_end = peer.device.is_none() || peer.only_observes();
        match reason.refused_by() {
            RefusedBy::Engine => false,
            RefusedBy::Network => self.place.network.flags & NETWORK_OBSERVES != 0 && other_end,
            RefusedBy::Ends => device.only_observes() && other_end,
            RefusedBy::Device => device.only_observes(),
        }
    }

    /// Refuses the packet, or notes why it would be: of several reasons the first one.
    #[inline(always)]
    pub const fn refuse(&mut self, reason: DropReason) -> Result<(), DropReason> {
        if !self.observes(reason) {
            return Err(reason);
        }
        self.note(reason);
        Ok(())
    }

    /// Notes why it would be dropped.
    #[inline(always)]
    pub(crate) const fn note(&mut self, reason: DropReason) {
        if self.would == 0 {
            self.would = reason as u32;
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
    /// Not 0 if the packet's address lies behind the device, on its LAN.
    pub behind: u32,
    /// How far it is shut in by quarantine.
    pub confined: Confined,
    /// Not 0 if its policy is tried out only: what it refuses passes.
    pub observes: u32,
    /// Not 0 if of all that the policy says of the device itself nothing depends on a clock or a MAC address.
    pub steady: u32,
}

/// What quarantine leaves of a device's rules.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u32)]
pub enum Confined {
    /// All of them: it is in none.
    #[default]
    No,
    /// Nothing.
    Whole,
    /// What its segment names for its repair.
    Repair,
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
#[repr(u32)]
pub enum Course {
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
    pub const NOBODY: Self = Self {
        device: DeviceId::NONE,
        profile: ProfileId::NONE,
        rule_set: 0,
        behind: 0,
        confined: Confined::No,
        observes: 0,
        steady: 0,
    };

    /// True while it is in quarantine.
    #[inline(always)]
    pub const fn is_confined(&self) -> bool {
        !matches!(self.confined, Confined::No)
    }

    /// True if what its policy refuses passes.
    #[inline(always)]
    pub(crate) const fn only_observes(&self) -> bool {
        self.observes != 0 && !self.is_confined()
    }
}
