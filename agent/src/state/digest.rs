//! Checksums, written as 64 hexadecimal digits.

use sha2::{Digest, Sha256};

/// A checksum as bytes.
pub(super) type Sum = [u8; 32];

/// SHA-256 of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of several texts, each with its length, so that no two lists have one digest.
pub(crate) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    hex(&sum_of(parts))
}

/// As [`digest_of`], of anything and not yet written.
pub(super) fn sum_of(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Sum {
    let mut sum = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    }
    sum.finalize().into()
}

/// Writes a checksum.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_one_text_ends_and_the_next_begins_counts() {
        assert_ne!(digest_of(["ab", "c"]), digest_of(["a", "bc"]));
        assert_eq!(digest(b"").len(), 64);
    }
}
