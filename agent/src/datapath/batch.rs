//! Many elements of a hash map by one system call.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bulkhead_common::abi::AddressKey;

use super::syscall::bpf;
use crate::processors;

/// `BPF_MAP_UPDATE_BATCH` (linux/bpf.h).
const UPDATE_BATCH: libc::c_long = 26;

/// Addresses of one system call; more save nothing.
const AT_ONCE: usize = 4096;

/// The part of `union bpf_attr` that batches use.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    /// How many there are; the kernel says here how many it did.
    count: Cell<u32>,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// A hash map of addresses that takes many at once.
pub(super) struct Addresses(OwnedFd);

impl Addresses {
    pub(super) fn of(map: impl AsFd) -> io::Result<Self> {
        Ok(Self(map.as_fd().try_clone_to_owned()?))
    }

    /// Inserts addresses with their slots, on every processor if there are many. After an error some of them are there.
    pub(super) fn insert(&self, keys: &[AddressKey], slots: &[u32]) -> io::Result<()> {
        let part = keys.len().div_ceil(processors::count()).max(AT_ONCE);
        let parts = keys.chunks(part).zip(slots.chunks(part));
        processors::each(parts, |(keys, slots)| self.all(keys, slots)).into_iter().collect()
    }

    fn all(&self, keys: &[AddressKey], slots: &[u32]) -> io::Result<()> {
        let mut some = keys.chunks(AT_ONCE).zip(slots.chunks(AT_ONCE));
        some.try_for_each(|(keys, slots)| self.some(keys, slots))
    }

    fn some(&self, keys: &[AddressKey], slots: &[u32]) -> io::Result<()> {
        let count = u32::try_from(keys.len().min(slots.len())).map_err(io::Error::other)?;
        if count == 0 {
            return Ok(());
        }
        let attributes = Attributes {
            keys: keys.as_ptr() as u64,
            values: slots.as_ptr() as u64,
            count: Cell::new(count),
            map: self.0.as_raw_fd().cast_unsigned(),
            ..Attributes::default()
        };
        bpf(UPDATE_BATCH, &attributes).map(|_| ())
    }
}
