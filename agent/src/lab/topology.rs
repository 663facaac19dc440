//! Who is in a lab and at which address: plain data, documentation addresses only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The real server that policies allow.
pub const SERVER: Dual = Dual::new([203, 0, 113, 10], [0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10]);
/// A real server that no policy names.
pub const FORBIDDEN: Dual = Dual::new([198, 51, 100, 9], [0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 9]);
/// The control room, which an inbound rule lets in.
pub const SCADA: Dual = Dual::new([198, 51, 100, 7], [0x2001, 0xdb8, 0x5ca, 0, 0, 0, 0, 7]);
/// The resolver of the operator, inside the infrastructure range.
pub const DNS: Dual = Dual::new([10, 99, 0, 53], [0xfd00, 0x99, 0, 0, 0, 0, 0, 0x53]);
/// The attacker on the far side of the data network.
pub const OUTSIDER: Dual = Dual::new([192, 0, 2, 66], [0x2001, 0xdb8, 0x66, 0, 0, 0, 0, 0x66]);

/// An address of each family for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Dual {
    const fn new([a, b, c, d]: [u8; 4], [e, f, g, h, i, j, k, l]: [u16; 8]) -> Self {
        Self { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(e, f, g, h, i, j, k, l) }
    }

    /// Returns both addresses, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Which access link of the core a device's packets enter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The first site.
    Acc0,
    /// The second site.
    Acc1,
}

impl Access {
    /// Returns the interface's name, the same on the core's side and on the radio side.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Acc0 => "acc0",
            Self::Acc1 => "acc1",
        }
    }
}

/// One SIM: a namespace with one radio link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The namespace's role and the policy's device name.
    pub name: String,
    /// Its /32 and its address inside its own /64.
    pub address: Dual,
    /// The link its packets enter the core by.
    pub access: Access,
}

impl Device {
    /// Makes the device with the host number `host`: 10.45.0.HOST and fd00:45:0:HOST::1, HOST as written in decimal.
    pub fn new(name: &str, host: u8, access: Access) -> Self {
        let written = u16::from_str_radix(&host.to_string(), 16).unwrap_or(u16::from(host));
        let v6 = Ipv6Addr::new(0xfd00, 0x45, 0, written, 0, 0, 0, 1);
        Self { name: name.to_owned(), address: Dual { v4: Ipv4Addr::new(10, 45, 0, host), v6 }, access }
    }
}

/// The devices of a lab; ran, core, dn and outside are always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The devices, in the order in which the radio side numbers its links.
    pub devices: Vec<Device>,
}

impl Topology {
    /// Returns the five devices of the demo's policies, and `stray-1`, a SIM that no policy knows.
    pub fn demo() -> Self {
        let devices = [
            ("charger-1", 11, Access::Acc0),
            ("charger-2", 12, Access::Acc0),
            ("pump-1", 21, Access::Acc0),
            ("camera-1", 31, Access::Acc1),
            ("nvr-1", 32, Access::Acc1),
            ("stray-1", 99, Access::Acc0),
        ];
        Self {
            devices: devices
                .into_iter()
                .map(|(name, host, access)| Device::new(name, host, access))
                .collect(),
        }
    }

    /// Finds a device by name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// Lists the namespaces' roles, devices last.
    pub fn roles(&self) -> Vec<String> {
        let fixed = ["ran", "core", "dn", "outside"].map(str::to_owned);
        fixed.into_iter().chain(self.devices.iter().map(|device| device.name.clone())).collect()
    }
}
