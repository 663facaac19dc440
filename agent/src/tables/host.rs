//! What the compiler must know of the host: interfaces and their addresses, observed, not configured.

use std::collections::BTreeMap;

use bulkhead_common::case::LinkType;
use ipnet::IpNet;

/// The host's interfaces by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Interfaces by the kernel's name.
    pub interfaces: BTreeMap<String, HostInterface>,
}

/// One interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostInterface {
    /// The kernel's number.
    pub ifindex: u32,
    /// Addresses with the prefix of their link.
    pub addresses: Vec<IpNet>,
    /// What its frames begin with.
    pub link: LinkType,
}
