//! A TUN device, driven from user space as a UPF or a base station drives its own.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::OFlag;

use crate::netns::Namespace;

/// linux/if_tun.h: packets begin with the IP header, and nothing stands before them.
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// `sizeof(struct ifreq)` and where its flags lie behind the name.
const IFREQ: usize = 40;
const IFNAMSIZ: usize = 16;

mod ioctl {
    nix::ioctl_write_int!(tunsetiff, b'T', 202);
}

/// The side of a TUN device that a program has; the device goes with it.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes the device in a namespace.
    ///
    /// # Errors
    /// The kernel's; a name that is too long.
    pub fn new(namespace: &Namespace, name: &str) -> Result<Self> {
        Self::with(namespace, name, 0)
    }

    /// Makes one where each packet begins with what is left to do about it: see [`crate::merged`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn merging(namespace: &Namespace, name: &str) -> Result<Self> {
        Self::with(namespace, name, IFF_VNET_HDR)
    }

    fn with(namespace: &Namespace, name: &str, flags: u16) -> Result<Self> {
        ensure!(name.len() < IFNAMSIZ, "{name} is no interface's name");
        let mut request = [0u8; IFREQ];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[IFNAMSIZ..IFNAMSIZ + 2].copy_from_slice(&(IFF_TUN | IFF_NO_PI | flags).to_ne_bytes());
        let made = namespace.run(|| -> Result<File> {
            let mut options = File::options();
            options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
            let file = options.open("/dev/net/tun").context("open /dev/net/tun")?;
            // SAFETY: the kernel reads a `struct ifreq`, which is as long as the request, during the call.
            unsafe { ioctl::tunsetiff(file.as_raw_fd(), request.as_ptr() as u64) }
                .with_context(|| format!("make the TUN device {name}"))?;
            Ok(file)
        })??;
        Ok(Self(made))
    }

    /// The next packet that the kernel sent into the device; nothing if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("read from a TUN device"),
        }
    }

    /// Lets a packet enter the kernel by the device.
    ///
    /// # Errors
    /// The kernel's: the device is down, or the packet is none.
    pub fn write(&self, packet: &[u8]) -> Result<()> {
        (&self.0).write_all(packet).context("write to a TUN device")
    }
}
