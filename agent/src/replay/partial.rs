//! A frame of which only the first bytes are at hand.

use std::cell::Cell;

use bulkhead_common::frame::Frame;

/// The front of a frame; remembers whether anybody asked for what lies behind.
#[derive(Debug)]
pub(super) struct Partial<'a> {
    shown: &'a [u8],
    length: u32,
    missed: Cell<bool>,
}

impl<'a> Partial<'a> {
    /// A frame of `length` bytes that begins with `shown`.
    pub(super) fn new(shown: &'a [u8], length: u32) -> Self {
        Self { shown, length, missed: Cell::new(false) }
    }

    /// True if a byte was asked for that the frame has and that is not at hand.
    pub(super) fn is_missed(&self) -> bool {
        self.missed.get()
    }
}

impl Frame for Partial<'_> {
    fn len(&self) -> u32 {
        self.length
    }

    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let end = u64::from(at) + N as u64;
        if end > u64::from(self.length) {
            return None;
        }
        let bytes = self.shown.load(at);
        if bytes.is_none() {
            self.missed.set(true);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_frame_has_can_be_missed() {
        let frame = Partial::new(&[1, 2, 3], 5);
        assert_eq!(frame.load::<2>(1), Some([2, 3]));
        assert_eq!(frame.load::<2>(4), None);
        assert!(!frame.is_missed());
        assert_eq!(frame.load::<2>(2), None);
        assert!(frame.is_missed());
    }
}
