//! Links: pinned, adopted, and swapped only by link update, so that no packet meets an empty hook.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::programs::links::{FdLink, PinnedLink};
use bulkhead_common::abi::key::EGRESS;
use serde::Serialize;

use super::syscall::bpf;

/// How the program is hooked in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the network stack, behind the driver: slower, and sees offloaded frames merged.
    Generic,
    /// Where frames leave the interface.
    Tcx,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Native, Self::Generic, Self::Tcx];

    /// The label in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
        }
    }

    /// The number under which the engine knows an interface, where this hook judges.
    pub const fn point(self, ifindex: u32) -> u32 {
        match self {
            Self::Native | Self::Generic => ifindex,
            Self::Tcx => ifindex | EGRESS,
        }
    }
}

/// One interface that the program is attached to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Attachment {
    /// The interface's name when it was attached.
    pub interface: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// How.
    pub mode: Mode,
    /// True if the interface is gone: the pin is left, but nothing runs.
    pub defunct: bool,
}

impl Attachment {
    /// The number under which the engine knows it.
    pub const fn point(&self) -> u32 {
        self.mode.point(self.ifindex)
    }
}

/// Where a link is pinned: the name tells interface and mode, which the kernel does not.
pub(super) fn pin_path(pins: &Path, ifindex: u32, mode: Mode, interface: &str) -> PathBuf {
    pins.join("links").join(format!("{ifindex}-{}-{}", mode.as_str(), escape(interface)))
}

/// The BPF file system refuses names with a dot (`bpf_lookup`, kernel/bpf/inode.c), and VLAN interfaces have one.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// Every link pinned below `pins`.
pub(super) fn pinned(pins: &Path) -> Result<Vec<(PathBuf, Attachment)>> {
    let folder = pins.join("links");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut links = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if let Some(attachment) = read_name(&path) {
            let defunct = kernel_ifindex(&path)? != attachment.ifindex;
            links.push((path, Attachment { defunct, ..attachment }));
        }
    }
    links.sort_by(|a, b| a.1.interface.cmp(&b.1.interface));
    Ok(links)
}

fn read_name(path: &Path) -> Option<Attachment> {
    let mut parts = path.file_name()?.to_str()?.splitn(3, '-');
    let ifindex = parts.next()?.parse().ok()?;
    let label = parts.next()?;
    let mode = Mode::ALL.into_iter().find(|mode| mode.as_str() == label)?;
    Some(Attachment { interface: unescape(parts.next()?), ifindex, mode, defunct: false })
}

/// Pins a link; the descriptor is held as well as the pin: removing the pin alone then detaches nothing.
pub(super) fn pin(link: FdLink, pins: &Path, wanted: &Attachment) -> Result<FdLink> {
    let path = pin_path(pins, wanted.ifindex, wanted.mode, &wanted.interface);
    let pinned = link.pin(&path).with_context(|| format!("pin its link at {}", path.display()))?;
    Ok(pinned.into())
}

/// Opens a pinned link.
pub(super) fn pinned_link(path: &Path) -> Result<FdLink> {
    Ok(PinnedLink::from_pin(path)?.into())
}

/// Removes a pin; the hook goes with the last descriptor.
pub(super) fn unpin(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("remove the pinned link {}", path.display()))
}

/// Takes a link off its interface at once, whoever still holds it, and removes its pin.
///
/// Removing the pin alone lets the program run on until the kernel has got round to it, or for ever if an
/// agent holds the link.
pub(super) fn detach(path: &Path) -> Result<()> {
    let act = || format!("detach the pinned link {}", path.display());
    let link = open(path).with_context(act)?;
    let detach = LinkDetach { link: link.as_raw_fd().cast_unsigned() };
    bpf(LINK_DETACH, &detach).with_context(act)?;
    unpin(path)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let link = bpf(OBJ_GET, &ObjGet { path: name.as_ptr() as u64, fd: 0, flags: 0 })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(link)?) })
}

/// The interface that the kernel says a pinned link is on; 0 if that interface is gone.
///
/// By hand: aya's `LinkInfo` hides the interface, and its links hide their descriptor.
fn kernel_ifindex(path: &Path) -> Result<u32> {
    let act = || format!("ask for the interface of the pinned link {}", path.display());
    let link = open(path).with_context(act)?;
    let mut info = LinkInfo::default();
    let ask = InfoByFd {
        fd: link.as_raw_fd().cast_unsigned(),
        len: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &ask).with_context(act)?;
    Ok(info.ifindex)
}

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const OBJ_GET: libc::c_long = 7;
/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const LINK_DETACH: libc::c_long = 34;

/// `union bpf_attr` of [`LINK_DETACH`].
#[repr(C)]
struct LinkDetach {
    link: u32,
}

/// `union bpf_attr` of [`OBJ_GET`].
#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` of [`OBJ_GET_INFO_BY_FD`].
#[repr(C)]
struct InfoByFd {
    fd: u32,
    len: u32,
    info: u64,
}

/// The start of `struct bpf_link_info`, as far as XDP and tcx links fill it.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    _pad: u32,
    ifindex: u32,
    _rest: [u32; 11],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_s_name_tells_interface_and_mode() {
        for name in ["acc0", "eth0.100", "a-b", "%2e", "x%"] {
            let path = pin_path(Path::new("/pins"), 7, Mode::Generic, name);
            assert!(!path.to_string_lossy().contains('.'), "{}", path.display());
            let wanted =
                Attachment { interface: name.to_owned(), ifindex: 7, mode: Mode::Generic, defunct: false };
            assert_eq!(read_name(&path), Some(wanted));
        }
        assert_eq!(read_name(Path::new("/pins/links/x-native-acc0")), None);
    }
}
