//! What this host is: `kind: Agent` in `/etc/bulkhead/agent.yaml`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_common::abi::key::EGRESS;
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
    /// True if the second guard is kept; true.
    pub second_guard: bool,
    /// What the host itself sends to devices; it passes.
    pub local_output: LocalOutput,
    /// True if the wall clock is believed although the kernel knows of nobody who keeps it right; false.
    pub trusts_clock: bool,
    /// How long grants last at most, and who agrees to them.
    pub grants: GrantLimits,
    /// How large the kernel tables are made.
    pub tables: Capacities,
    /// How many revisions are kept; 100.
    pub revisions_kept: u32,
    /// Where the newest revision's checksum is told outside; nowhere.
    pub anchors: Anchors,
    /// Beyond what a change has to be accepted by its plan.
    pub guard: Guard,
}

/// Where the newest revision's checksum is told outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchors {
    /// A file that is appended to; it belongs on another machine or a write-once medium.
    pub file: Option<PathBuf>,
    /// The system log.
    pub syslog: bool,
    /// A URL that is posted to.
    pub webhook: Option<String>,
}

impl Anchors {
    /// True if nothing is told anywhere.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How much of what is live a change may take away unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Of all devices, those that lose every rule or are removed; 1 %.
    pub devices: Percent,
    /// Of the live flows, those that would be cut; 5 %.
    pub flows: Percent,
}

impl Default for Guard {
    fn default() -> Self {
        Self { devices: Percent::whole(1), flows: Percent::whole(5) }
    }
}

/// A share, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    const fn whole(percent: u32) -> Self {
        Self(percent * 100)
    }

    /// Reads `5%` and `0.25%`, up to `100%`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('%')?;
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 || whole.len() > 3 {
            return None;
        }
        let hundredths = whole.parse::<u32>().ok()? * 100 + format!("{part:0<2}").parse::<u32>().ok()?;
        (hundredths <= 10_000).then_some(Self(hundredths))
    }

    /// True if one of many with this evenly spread number belongs to the share.
    pub(crate) fn holds(self, drawn: u64) -> bool {
        drawn % 10_000 < u64::from(self.0)
    }

    /// True if `part` of `whole` is more than this share; of nothing, nothing is.
    pub fn is_exceeded(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 10_000 > u128::from(whole) * u128::from(self.0)
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// What this host allows of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantLimits {
    /// How long one lasts at most; a day.
    pub max_duration: Duration,
    /// True if somebody else than who asks has to agree; false.
    pub four_eyes: bool,
}

impl Default for GrantLimits {
    fn default() -> Self {
        Self { max_duration: Duration::from_secs(86_400), four_eyes: false }
    }
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
            second_guard: true,
            local_output: LocalOutput::default(),
            trusts_clock: false,
            grants: GrantLimits::default(),
            tables: Capacities::default(),
            revisions_kept: 100,
            anchors: Anchors::default(),
            guard: Guard::default(),
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
    /// How the program is hooked in, where there is a choice; native.
    pub attach_mode: AttachMode,
    /// What the packet core behind it does with packets from device to device, if that was said.
    pub hairpin: Option<Hairpin>,
    /// Where what devices receive by it is judged; where it enters the host.
    pub downlink: Downlink,
}

impl Interface {
    /// An interface with roles and everything else by default.
    pub fn new(name: Located<String>, roles: Vec<Role>, transit: Transit) -> Self {
        Self {
            name,
            roles,
            transit,
            gtpu: None,
            attach_mode: AttachMode::Native,
            hairpin: None,
            downlink: Downlink::Ingress,
        }
    }

    /// True if it has the role.
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The number under which the engine knows the interface where it judges in a role, given the kernel's.
    pub fn point(&self, role: Role, ifindex: u32) -> Option<u32> {
        let leaves = role == Role::Core && self.downlink != Downlink::Ingress;
        if self.plays(role) { Some(ifindex) } else { leaves.then_some(ifindex | EGRESS) }
    }
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
    /// Devices, whose uplink is judged elsewhere on this host: nothing is dropped here, what was not judged is told.
    Witness,
}

/// How the program is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// Behind the driver: slower, and works with every driver.
    Generic,
}

/// What a packet core does with a packet from one of its devices to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hairpin {
    /// It may switch it itself, and this host never sees it.
    Inside,
    /// It sends every packet out.
    Never,
}

/// Where what devices receive is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downlink {
    /// Where it enters the host: on interfaces with role `core`.
    Ingress,
    /// Where it leaves towards the devices, behind the host's own address translation.
    Egress {
        /// What becomes of packets that the host itself sends to devices.
        from_host: FromHost,
    },
}

/// What becomes of packets that the host itself sends to devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromHost {
    /// They are judged like anybody's.
    Judge,
    /// They pass, and open nothing.
    Pass,
}

/// What happens to traffic that belongs to no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transit {
    /// It is none of our business.
    Pass,
    /// It is dropped.
    Drop,
}

/// What happens to packets that the host itself sends to devices. XDP does not see them: it sees what enters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalOutput {
    /// They leave. What a device answers is judged where it enters.
    #[default]
    Pass,
    /// They are dropped, but for ICMP errors and neighbour discovery.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_are_written() {
        for text in ["0%", "1%", "5%", "0.5%", "0.25%", "99.05%", "100%"] {
            assert_eq!(Percent::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "%", "5", "-1%", "101%", "100.01%", "1.%", ".5%", "1.234%", "1e1%", "9999%"] {
            assert_eq!(Percent::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_share_is_exceeded_by_more_than_it() {
        let five = Percent::parse("5%").unwrap();
        assert!(!five.is_exceeded(5, 100) && five.is_exceeded(6, 100) && five.is_exceeded(1, 1));
        assert!(!five.is_exceeded(0, 0));
        assert!(!Percent::parse("100%").unwrap().is_exceeded(7, 7));
        assert!(Percent::parse("0%").unwrap().is_exceeded(1, 1_000_000));
    }
}
