//! Memory shared by the XDP program and the agent: keys, values, events and map names.
//!
//! Every type is `repr(C)` and [`bytemuck::Pod`], so it has no hidden padding and any bit pattern
//! is valid. Addresses keep the wire's byte order; numbers that we invented are native.

pub mod addr;
pub mod counter;
pub mod event;
pub mod id;
pub mod key;
pub mod map;
pub mod replay;
pub mod seek;
pub mod value;

pub use addr::Addr;
pub use id::{DeviceId, Generation, NetworkId, ProfileId, RuleId};
pub use key::{AddressKey, FlowKey, InterfaceRow, SubinterfaceKey};
pub use replay::ReplayInput;
pub use value::{
    AddressRow, Device, DeviceState, Epoch, Flow, FlowGeometry, FlowSlot, IndexLine, Leg, LegRow, Limits,
    Network, Peer, PortRange, Range, RuleSet, ScopeRange, Span, Subinterface, SubinterfaceRow, Timeouts,
    Versioned, Window,
};

/// The layout's number; part of the pin path, so that an agent never meets maps of another layout.
pub const ABI_VERSION: u32 = 14;

/// Asserts sizes at compile time: a changed layout must bump [`ABI_VERSION`].
const _: () = {
    assert!(size_of::<Addr>() == 16);
    assert!(size_of::<SubinterfaceKey>() == 12);
    assert!(size_of::<AddressKey>() == 24);
    assert!(size_of::<FlowKey>() == 48);
    assert!(size_of::<Subinterface>() == 52);
    // One cache line.
    assert!(size_of::<SubinterfaceRow>() == 64);
    assert!(size_of::<Leg>() == 24);
    assert!(size_of::<LegRow>() == 36);
    assert!(size_of::<InterfaceRow>() == 8);
    assert!(size_of::<Network>() == 56);
    assert!(size_of::<ScopeRange>() == 36);
    assert!(size_of::<Versioned>() == 16);
    assert!(size_of::<AddressRow>() == 64 && align_of::<AddressRow>() == 64);
    assert!(size_of::<IndexLine>() == 64 && align_of::<IndexLine>() == 64);
    assert!(size_of::<Device>() == 56);
    assert!(size_of::<RuleSet>() == 80);
    assert!(size_of::<Range>() == 40);
    assert!(size_of::<Peer>() == 20);
    assert!(size_of::<PortRange>() == 24);
    assert!(size_of::<crate::fragment::FragmentPlace>() == 64);
    assert!(size_of::<Window>() == 32);
    assert!(size_of::<event::Event>() == 112);
    assert!(size_of::<counter::Counters>() == 4880);
    assert!(size_of::<ReplayInput>() == 32);
    assert!(size_of::<FlowSlot>() == 128 && align_of::<FlowSlot>() == 64);
    assert!(size_of::<FlowGeometry>() == 112);
    assert!(size_of::<DeviceState>() == 64 && align_of::<DeviceState>() == 64);
};
