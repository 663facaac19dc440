//! What drivers can do with XDP frames (generic netlink, family `netdev`; Linux 6.3).

use std::collections::BTreeSet;
use std::io;

use super::{Attributes, Message, Socket, find};

/// `struct genlmsghdr`
const HEADER: usize = 4;
/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME` (linux/genetlink.h)
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES` (linux/netdev.h)
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_REDIRECT`, `NETDEV_XDP_ACT_NDO_XMIT`
const REDIRECTS: u64 = 2;
const SENDS: u64 = 4;

/// What drivers do with XDP frames at the moment, by interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drivers {
    /// Those that let a program send a frame on by another interface.
    pub redirecting: BTreeSet<u32>,
    /// Those that send frames of other interfaces' programs.
    pub sending: BTreeSet<u32>,
}

/// Asks what drivers can do with XDP frames; nothing if the kernel does not know.
///
/// # Errors
/// The kernel does not tell.
pub fn drivers(socket: &Socket) -> io::Result<Option<Drivers>> {
    let name = Attributes::new().text(FAMILY_NAME, "netdev");
    let Some(family) = socket.get(&message(CONTROL, GET_FAMILY, &name))? else { return Ok(None) };
    let id = find(family.body.get(HEADER..).unwrap_or_default(), FAMILY_ID);
    let Some(id) = id.and_then(|id| id.first_chunk().copied()).map(u16::from_ne_bytes) else {
        return Ok(None);
    };
    let mut drivers = Drivers::default();
    for device in socket.dump(&message(id, GET_DEVICE, &Attributes::new()))? {
        if let Some((ifindex, features)) = device.body.get(HEADER..).and_then(features) {
            drivers.add(ifindex, features);
        }
    }
    Ok(Some(drivers))
}

impl Drivers {
    fn add(&mut self, ifindex: u32, features: u64) {
        for (feature, able) in [(REDIRECTS, &mut self.redirecting), (SENDS, &mut self.sending)] {
            if features & feature != 0 {
                able.insert(ifindex);
            }
        }
    }
}

fn message(kind: u16, command: u8, attributes: &Attributes) -> Message {
    Message { kind, flags: 0, body: [&[command, 1, 0, 0], attributes.bytes()].concat() }
}

/// The number of an interface, and what its driver can do.
fn features(device: &[u8]) -> Option<(u32, u64)> {
    let features = u64::from_ne_bytes(*find(device, XDP_FEATURES)?.first_chunk()?);
    Some((u32::from_ne_bytes(*find(device, IFINDEX)?.first_chunk()?), features))
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    #[test]
    fn a_driver_does_what_it_says() {
        let told =
            Attributes::new().raw(IFINDEX, &7u32.to_ne_bytes()).raw(XDP_FEATURES, &0x27u64.to_ne_bytes());
        assert_eq!(features(told.bytes()), Some((7, 0x27)));
        assert_eq!(features(&[]), None);
        let mut drivers = Drivers::default();
        [(7, 0x27), (8, 0x23), (9, 0x01)].into_iter().for_each(|(ifindex, can)| drivers.add(ifindex, can));
        assert_eq!(drivers, Drivers { redirecting: [7, 8].into(), sending: [7].into() });
    }

    #[test]
    fn loopback_does_not_send() {
        let socket = Socket::open(Protocol::Generic).unwrap();
        let drivers = drivers(&socket).unwrap();
        assert!(drivers.is_none_or(|drivers| !drivers.sending.contains(&1)));
    }
}
