//! A capture judged by the XDP program itself, on isolated maps: what would happen, or would have happened.
//!
//! ```text
//! file → capture → link → judge → told → cli
//!                    interfaces ┘   └ names of the policy
//! ```
//!
//! The program, its tables, and how they are written are those of the running agent; only clock, interface and
//! length come from the capture, and every packet is told of.

mod capture;
mod clock;
mod interfaces;
mod judge;
mod link;
mod partial;
mod summary;
mod told;

use std::io::Read;

use anyhow::{Context, Result};

pub use capture::{Capture, Captured, Interface};
pub use interfaces::{Interfaces, Mapping};
pub use judge::{By, Judge, Judgement};
pub use link::{Frame, LinkLayer};
pub use summary::{Summary, Tally};
pub use told::{HEADERS_CUT, OUTGOING, Teller, Told};

/// Everything that turns packets of a capture into what is told of them.
pub struct Replay<'a> {
    interfaces: Interfaces,
    judge: Judge<'a>,
    teller: Teller,
    room: Vec<u8>,
}

impl<'a> Replay<'a> {
    /// Puts the parts together.
    pub fn new(interfaces: Interfaces, judge: Judge<'a>, teller: Teller) -> Self {
        Self { interfaces, judge, teller, room: Vec::new() }
    }

    /// Judges the packet that the capture holds, after all before it.
    ///
    /// # Errors
    /// Its interface stands for none of the agent, or the kernel's.
    pub fn judge<R: Read>(&mut self, capture: &Capture<R>) -> Result<Told> {
        let Self { interfaces, judge, teller, room } = self;
        let packet = capture.packet();
        interfaces.learn(capture.interfaces())?;
        let layer = interfaces.layer(packet.interface).context("a packet of an unknown interface")?;
        let ifindex = interfaces.find(capture.interfaces(), packet.interface, layer.ifindex(packet))?;
        let frame = layer.frame(packet, room);
        let judgement = judge.judge(&frame, ifindex, packet.time)?;
        teller.tell(&frame, packet.time, &judgement)
    }
}
