//! The only way to read a packet.

/// Bytes of a frame, read in fixed-size pieces with a bounds check each.
///
/// The kernel implements it with packet pointers (a Rust slice over `data..data_end` is refused by
/// the verifier), the host with a byte slice.
pub trait Frame {
    /// Bytes in the frame.
    fn len(&self) -> u32;

    /// The `N` bytes at `at`, or nothing if the frame ends before.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;

    /// True for a frame of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame for [u8] {
    fn len(&self) -> u32 {
        u32::try_from(<[u8]>::len(self)).unwrap_or(u32::MAX)
    }

    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}

/// A part of a frame that ends before the frame does: headers are never read past their parent's length.
pub struct Window<'f, F: Frame + ?Sized> {
    frame: &'f F,
    end: u32,
}

impl<'f, F: Frame + ?Sized> Window<'f, F> {
    /// The frame up to `end`, or nothing if it is not that long.
    #[inline(always)]
    pub fn new(frame: &'f F, end: u32) -> Option<Self> {
        (end <= frame.len()).then_some(Self { frame, end })
    }

    /// The part of the window that ends at `end`, or nothing if the window ends before.
    #[inline(always)]
    pub fn up_to(&self, end: u32) -> Option<Self> {
        (end <= self.end).then_some(Self { frame: self.frame, end })
    }

    /// Bytes from `at` to the window's end.
    #[inline(always)]
    pub fn rest(&self, at: u32) -> u32 {
        self.end.saturating_sub(at)
    }

    /// The `N` bytes at `at`, or nothing if the window ends before.
    #[inline(always)]
    pub fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if self.rest(at) < N as u32 {
            return None;
        }
        self.frame.load(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_read_up_to_its_last_byte() {
        let bytes: &[u8] = &[1, 2, 3, 4];
        assert_eq!(bytes.load::<2>(2), Some([3, 4]));
        assert_eq!(bytes.load::<2>(3), None);
        assert_eq!(bytes.load::<1>(u32::MAX), None);
    }

    #[test]
    fn a_window_hides_what_lies_behind_it() {
        let bytes: &[u8] = &[1, 2, 3, 4];
        let window = Window::new(bytes, 3).unwrap();
        assert_eq!(window.load::<1>(2), Some([3]));
        assert_eq!(window.load::<2>(2), None);
        assert_eq!(window.rest(5), 0);
        assert!(Window::new(bytes, 5).is_none());
    }
}
