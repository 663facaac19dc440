//! Attributes (linux/netlink.h): type, length and value, padded to four bytes, nested as deep as one likes.

/// Flag of the type: the value is attributes again.
const NESTED: u16 = 1 << 15;
/// Flags of the type.
const FLAGS: u16 = 0xc000;
const HEADER: usize = 4;

/// Attributes on their way to the kernel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// As the kernel reads them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds a value as it is.
    pub fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        // What does not fit is cut in its length alone: the kernel refuses such a message, whole.
        let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number in network order, as nftables wants its numbers.
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    /// Adds a text with its closing zero.
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.raw(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds attributes as one value.
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        self.raw(kind | NESTED, &inner.0)
    }
}

/// The attributes in a message of the kernel; ends at the first that is cut off.
pub fn read(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !FLAGS;
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number in network order.
pub fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(*find(bytes, kind)?.first_chunk()?))
}

/// A long number in network order.
pub fn numbers64(bytes: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(*find(bytes, kind)?.first_chunk()?))
}

/// A text without its closing zero.
pub fn text(bytes: &[u8], kind: u16) -> Option<String> {
    let value = find(bytes, kind)?;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    Some(String::from_utf8_lossy(&value[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let inner = Attributes::new().text(1, "acc0").number(2, 7);
        let written = Attributes::new().raw(9, &[1, 2, 3]).nest(4, &inner);
        assert_eq!(written.bytes().len() % 4, 0);
        let kinds: Vec<u16> = read(written.bytes()).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [9, 4]);
        let nested = find(written.bytes(), 4).unwrap();
        assert_eq!((text(nested, 1).as_deref(), number(nested, 2)), (Some("acc0"), Some(7)));
    }

    #[test]
    fn a_message_that_is_cut_anywhere_ends_there() {
        let written = Attributes::new().text(1, "acc0").number(2, 7);
        for at in 0..written.bytes().len() {
            assert!(read(&written.bytes()[..at]).count() < 2, "cut at {at}");
        }
        // A length below its own header would be read for ever.
        assert_eq!(read(&[0, 0, 1, 0, 0, 0, 1, 0]).count(), 0);
    }
}
