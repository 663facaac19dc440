//! What a driver does to frames before anybody sees them, feature by feature, as `ethtool -k` lists it.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::kind;

/// The features of an interface of this thread's network namespace.
pub(super) struct Features<'a> {
    socket: OwnedFd,
    interface: &'a str,
    /// Every feature that this kernel knows, in the order of its bits.
    names: Vec<String>,
}

impl<'a> Features<'a> {
    pub(super) fn of(interface: &'a str) -> io::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let mut features = Self { socket, interface, names: Vec::new() };
        features.names = features.read_names()?;
        Ok(features)
    }

    /// False also of what this kernel does not know: it has no driver that does it.
    pub(super) fn is_on(&self, name: &str) -> io::Result<bool> {
        let Some((word, bit)) = self.place(name) else { return Ok(false) };
        Ok(self.state()?.words.get(word).is_some_and(|state| state.active & bit != 0))
    }

    /// A driver that cannot do without it keeps it on, without an error.
    pub(super) fn switch_off(&self, name: &str) -> io::Result<()> {
        let Some((word, bit)) = self.place(name) else { return Ok(()) };
        let mut wish =
            Wish { command: SET_FEATURES, count: self.state()?.count, words: [Change::default(); WORDS] };
        if let Some(change) = wish.words.get_mut(word) {
            change.valid = bit;
        }
        self.call(&mut wish)
    }

    /// The word of its bit, and the bit.
    fn place(&self, name: &str) -> Option<(usize, u32)> {
        let at = self.names.iter().position(|known| known == name)?;
        Some((at / 32, 1 << (at % 32)))
    }

    fn state(&self) -> io::Result<States> {
        let mut states =
            States { command: GET_FEATURES, count: WORDS as u32, words: [State::default(); WORDS] };
        self.call(&mut states)?;
        Ok(states)
    }

    fn read_names(&self) -> io::Result<Vec<String>> {
        let mut size = Size { command: GET_SET_SIZE, reserved: 0, sets: 1 << FEATURES, count: 0, _pad: 0 };
        self.call(&mut size)?;
        // The kernel writes as many names as it has.
        if size.count as usize > 32 * WORDS {
            return Err(io::Error::other(format!("the kernel has {} features", size.count)));
        }
        let mut names = Names { command: GET_NAMES, set: FEATURES, count: 0, names: [[0; NAME]; 32 * WORDS] };
        self.call(&mut names)?;
        Ok(names.names.iter().take(names.count as usize).map(text).collect())
    }

    /// `value` begins with a command, and has room for all that the kernel answers it with.
    fn call<T>(&self, value: &mut T) -> io::Result<()> {
        let mut request = kind::request(self.interface);
        request.ifr_ifru.ifru_data = std::ptr::from_mut(value).cast();
        kind::ioctl(&self.socket, libc::SIOCETHTOOL, &mut request)
    }
}

fn text(name: &[u8; NAME]) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// `ETHTOOL_GSSET_INFO` and those behind, of linux/ethtool.h.
const GET_SET_SIZE: u32 = 0x37;
const GET_NAMES: u32 = 0x1b;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`
const NAME: usize = 32;
/// Room for features, 32 in each; kernels have two such words.
const WORDS: usize = 8;

/// `struct ethtool_sset_info`, of one set.
#[repr(C)]
struct Size {
    command: u32,
    reserved: u32,
    sets: u64,
    count: u32,
    _pad: u32,
}

/// `struct ethtool_gstrings`
#[repr(C)]
struct Names {
    command: u32,
    set: u32,
    count: u32,
    names: [[u8; NAME]; 32 * WORDS],
}

/// `struct ethtool_gfeatures`
#[repr(C)]
struct States {
    command: u32,
    count: u32,
    words: [State; WORDS],
}

/// `struct ethtool_get_features_block`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct State {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// `struct ethtool_sfeatures`; all that it does not make valid stays.
#[repr(C)]
struct Wish {
    command: u32,
    count: u32,
    words: [Change; WORDS],
}

/// `struct ethtool_set_features_block`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Change {
    valid: u32,
    requested: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_s_features_are_known_by_name() {
        let features = Features::of("lo").unwrap();
        assert!(features.is_on("loopback").unwrap());
        assert!(!features.is_on("rx-vlan-hw-parse").unwrap());
        assert!(features.place("rx-vlan-stag-hw-parse").is_some(), "{:?}", features.names);
        assert!(!features.is_on("no-such-feature").unwrap());
        features.switch_off("no-such-feature").unwrap();
    }

    #[test]
    fn an_interface_that_is_not_there_has_none() {
        assert!(Features::of("nowhere9").and_then(|features| features.is_on("loopback")).is_err());
    }
}
