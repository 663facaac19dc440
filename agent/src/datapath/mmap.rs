//! A BPF array mapped into memory: rows are read and written in place, words in one store.

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::Pod;

/// An array of `T` that the kernel shares (`BPF_F_MMAPABLE`).
#[derive(Debug)]
pub(super) struct Mmap<T> {
    base: NonNull<u8>,
    bytes: usize,
    rows: usize,
    kind: PhantomData<T>,
}

// SAFETY: the mapping is shared memory without thread affinity; writes go through `&mut self` or atomics.
unsafe impl<T: Send> Send for Mmap<T> {}
// SAFETY: as above; `&self` only reads.
unsafe impl<T: Sync> Sync for Mmap<T> {}

impl<T: Pod> Mmap<T> {
    /// The kernel keeps rows 8 bytes aligned (`array_map_alloc`, kernel/bpf/arraymap.c).
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps `rows` rows of a map.
    ///
    /// # Errors
    /// The kernel's: the map is not mappable, or smaller.
    pub(super) fn new(map: BorrowedFd<'_>, rows: usize) -> io::Result<Self> {
        let bytes = (rows * Self::STRIDE).next_multiple_of(4096);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping of a file descriptor that is open for the call.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        Ok(Self { base, bytes, rows, kind: PhantomData })
    }

    /// How many rows there are.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Copies a row; nothing behind the last.
    pub(super) fn read(&self, row: u32) -> Option<T> {
        let at = self.offset(row)?;
        // SAFETY: `at` lies inside the mapping and any bytes are a `T`.
        Some(unsafe { self.base.as_ptr().add(at).cast::<T>().read_volatile() })
    }

    /// Writes a row that no packet can see yet.
    pub(super) fn write(&mut self, row: u32, value: T) -> Option<()> {
        let at = self.offset(row)?;
        // SAFETY: `at` lies inside the mapping.
        unsafe { self.base.as_ptr().add(at).cast::<T>().write_volatile(value) };
        Some(())
    }

    /// One aligned word of a row: what packets read while it is written.
    pub(super) fn word(&self, row: u32, word: usize) -> Option<&AtomicU64> {
        if (word + 1) * 8 > size_of::<T>() {
            return None;
        }
        let at = self.offset(row)? + word * 8;
        // SAFETY: `at` is a multiple of 8 inside the mapping, which lives as long as `self`.
        Some(unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(at).cast()) })
    }

    /// Stores a word so that all earlier writes are seen before it.
    pub(super) fn store(&mut self, row: u32, word: usize, value: u64) -> Option<()> {
        self.word(row, word).map(|cell| cell.store(value, Ordering::SeqCst))
    }

    fn offset(&self, row: u32) -> Option<usize> {
        let row = row as usize;
        (row < self.rows).then_some(row * Self::STRIDE)
    }
}

impl<T> Drop for Mmap<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, and nothing borrows from it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast::<c_void>(), self.bytes) };
    }
}
