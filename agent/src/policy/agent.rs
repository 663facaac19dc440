//! What this host is: `kind: Agent` in `/etc/bulkhead/agent.yaml`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::location::{Located, Location};
use crate::tables::Capacities;

/// Where the agent keeps its pins unless its settings say otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/bulkhead";

/// The settings of one agent, with its defaults filled in.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where it was written.
    pub at: Location,
    /// The interfaces it guards; names are unique.
    pub interfaces: Vec<Interface>,
    /// Folder that holds the policies; `/etc/bulkhead/policies`.
    pub policy_folder: PathBuf,
    /// True if changes in the folder apply themselves; false.
    pub auto_apply: bool,
    /// Folder for the accepted policy; `/var/lib/bulkhead`.
    pub state_dir: PathBuf,
    /// The local API's socket; `/run/bulkhead/bulkhead.sock`.
    pub socket: PathBuf,
    /// Folder on bpffs for links and maps; `/sys/fs/bpf/bulkhead`.
    pub pin_dir: PathBuf,
    /// How large the kernel tables are made.
    pub tables: Capacities,
}

impl AgentConfig {
    /// An interface by its name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name.value == name)
    }

    /// Every GTP-U endpoint of this host, whichever interface it is on.
    pub fn endpoints(&self) -> impl Iterator<Item = &Located<IpAddr>> {
        self.interfaces.iter().filter_map(|interface| interface.gtpu.as_ref()).flat_map(|gtpu| &gtpu.local)
    }

    /// The defaults, with no interface at all.
    pub(crate) fn with_defaults(at: Location) -> Self {
        Self {
            at,
            interfaces: Vec::new(),
            policy_folder: PathBuf::from("/etc/bulkhead/policies"),
            auto_apply: false,
            state_dir: PathBuf::from("/var/lib/bulkhead"),
            socket: PathBuf::from("/run/bulkhead/bulkhead.sock"),
            pin_dir: PathBuf::from(PIN_DIR),
            tables: Capacities::default(),
        }
    }
}

/// One interface.
#[derive(Debug, Clone)]
pub struct Interface {
    /// The kernel's name, as written.
    pub name: Located<String>,
    /// What is behind it; at least one.
    pub roles: Vec<Role>,
    /// What happens to traffic that belongs to no device.
    pub transit: Transit,
    /// The GTP-U tunnels that end here; packets inside are judged.
    pub gtpu: Option<Gtpu>,
}

/// This host's end of GTP-U tunnels (TS 29.281), on an access interface.
#[derive(Debug, Clone)]
pub struct Gtpu {
    /// The endpoints' addresses; at least one.
    pub local: Vec<Located<IpAddr>>,
    /// The base stations and gateways that may send to them; at least one.
    pub peers: Vec<Located<IpNet>>,
    /// Silence after which a device may come through another tunnel; 30 s.
    pub idle: Duration,
}

/// What is behind an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Devices: uplink is judged here.
    Access,
    /// The data network: downlink is judged here.
    Core,
}

/// What happens to traffic that belongs to no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transit {
    /// It is none of our business.
    Pass,
    /// It is dropped.
    Drop,
}
