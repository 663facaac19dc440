//! Bytes of the ring → an event whose numbers are all known.

use std::fmt;

use bulkhead_common::abi::event::Event;
use bulkhead_common::parse::Kind;
use bulkhead_common::verdict::{Direction, Verdict};

/// An event of the program, and its numbers as what they mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Judged {
    /// As the program wrote it.
    pub event: Event,
    /// [`Event::verdict`].
    pub verdict: Verdict,
    /// [`Event::direction`].
    pub direction: Direction,
    /// [`Event::kind`].
    pub kind: Kind,
}

/// Why bytes are no event of this agent's program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DecodeError {
    /// So many bytes instead of an event's.
    Size(usize),
    /// A verdict that this agent does not know.
    Verdict(u16),
    /// A direction that this agent does not know.
    Direction(u8),
    /// A kind of packet that this agent does not know.
    Kind(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(seen) => {
                write!(f, "decode event: {seen} bytes instead of {}", size_of::<Event>())
            }
            Self::Verdict(code) => write!(f, "decode event: unknown verdict {code:#x}"),
            Self::Direction(number) => write!(f, "decode event: unknown direction {number}"),
            Self::Kind(number) => write!(f, "decode event: unknown kind of packet {number}"),
        }?;
        f.write_str("; the program in the kernel is of another release: restart the agent")
    }
}

impl std::error::Error for DecodeError {}

/// Reads one record of the ring.
///
/// # Errors
/// The size differs from an event's, or a number is unknown.
pub fn decode(bytes: &[u8]) -> Result<Judged, DecodeError> {
    let event: Event = bytemuck::try_pod_read_unaligned(bytes).map_err(|_| DecodeError::Size(bytes.len()))?;
    Judged::try_from(event)
}

impl TryFrom<Event> for Judged {
    type Error = DecodeError;

    fn try_from(event: Event) -> Result<Self, DecodeError> {
        let verdict = Verdict::from_code(event.verdict).ok_or(DecodeError::Verdict(event.verdict))?;
        let direction =
            Direction::from_number(event.direction).ok_or(DecodeError::Direction(event.direction))?;
        let kind = Kind::from_number(event.kind).ok_or(DecodeError::Kind(event.kind))?;
        Ok(Self { event, verdict, direction, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fixtures::drop_event;

    #[test]
    fn an_event_comes_back() {
        let event = drop_event();
        let judged = decode(bytemuck::bytes_of(&event)).unwrap();
        assert_eq!(judged.event, event);
        assert_eq!(judged.verdict.as_str(), "no_rule");
        assert_eq!((judged.direction, judged.kind), (Direction::Uplink, Kind::Ports));
    }

    #[test]
    fn every_other_size_is_named() {
        let bytes = [0u8; 2 * size_of::<Event>()];
        for len in (0..bytes.len()).filter(|len| *len != size_of::<Event>()) {
            assert_eq!(decode(&bytes[..len]), Err(DecodeError::Size(len)));
        }
        assert!(DecodeError::Size(95).to_string().contains("95 bytes instead of 112"));
    }

    #[test]
    fn unknown_numbers_are_named() {
        let event = drop_event();
        let wrong = |change: fn(&mut Event)| {
            let mut event = event;
            change(&mut event);
            decode(bytemuck::bytes_of(&event)).unwrap_err()
        };
        assert_eq!(wrong(|event| event.verdict = 0x1ff), DecodeError::Verdict(0x1ff));
        assert_eq!(wrong(|event| event.direction = 9), DecodeError::Direction(9));
        assert_eq!(wrong(|event| event.kind = 99), DecodeError::Kind(99));
    }
}
