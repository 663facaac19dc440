//! Names and capacities of the maps. The kernel keeps 15 octets of a name.

/// The epoch word (ARRAY, mmap).
pub const GENERATION: &str = "GENERATION";
/// [`super::SubinterfaceRow`]s, both banks, where [`super::seek`] says (ARRAY, mmap).
pub const SUBINTERFACES: &str = "SUBINTERFACES";
/// [`super::LegRow`]s, both banks, where [`super::seek`] says (ARRAY, mmap).
pub const LEGS: &str = "LEGS";
/// Which bank of [`LEGS`] packets read, 0 or 1 (ARRAY of one, mmap).
pub const LEG_BANK: &str = "LEG_BANK";
/// [`super::Network`] by bank and id (ARRAY).
pub const NETWORKS: &str = "NETWORKS";
/// [`super::ScopeRange`] by bank (ARRAY).
pub const SCOPES: &str = "SCOPES";
/// [`super::IndexLine`]s: which slot of [`ADDRESSES`] an address has, where [`crate::address_table`] says (ARRAY, mmap; an
/// entry outlives its generation's grace period).
pub const ADDRESS_INDEX: &str = "ADDRESS_INDEX";
/// Slot → [`super::AddressRow`] (ARRAY, mmap); the word of its tunnel is written by the program.
pub const ADDRESSES: &str = "ADDRESSES";
/// [`super::Device`] rows, two for each device: `2 * id` and `2 * id + 1` (ARRAY, mmap).
pub const DEVICES: &str = "DEVICES";
/// [`super::ProfileId`] → [`super::Versioned`] row in [`RULE_SETS`] (ARRAY, mmap).
pub const PROFILES: &str = "PROFILES";
/// [`super::RuleSet`] (ARRAY, mmap); row 0 is unused.
pub const RULE_SETS: &str = "RULE_SETS";
/// [`super::Range`] (ARRAY, mmap).
pub const RANGES: &str = "RANGES";
/// [`super::Peer`] (ARRAY, mmap).
pub const PEERS: &str = "PEERS";
/// [`super::PortRange`] (ARRAY, mmap).
pub const PORTS: &str = "PORTS";
/// [`super::Window`] (ARRAY, mmap).
pub const WINDOWS: &str = "WINDOWS";
/// [`super::FlowSlot`], eight to a bucket (ARRAY, mmap).
pub const FLOWS: &str = "FLOWS";
/// [`crate::fragment::FragmentPlace`]s, four for each device (ARRAY, mmap); written by the program.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// Device → when its next ICMP error may come, in nanoseconds (ARRAY, mmap); written by the program.
pub const ERROR_BUDGETS: &str = "ERROR_BUDGETS";
/// [`super::FlowGeometry`] of [`FLOWS`] (ARRAY of one, mmap).
pub const FLOW_GEOMETRY: &str = "FLOW_GEOMETRY";
/// [`super::DeviceState`] by [`super::DeviceId`] (ARRAY, mmap).
pub const DEVICE_STATES: &str = "DEVICE_STATES";
/// The timer of the sweep (ARRAY of one).
pub const SWEEPER: &str = "SWEEPER";
/// [`super::InterfaceRow`]s: which counters an interface has, where [`super::seek`] says (ARRAY, mmap).
pub const INTERFACES: &str = "INTERFACES";
/// [`super::counter::Counters`] (PERCPU_ARRAY); row 0 counts for interfaces without counters of their own.
pub const COUNTERS: &str = "COUNTERS";
/// [`super::event::Event`] (RINGBUF).
pub const EVENTS: &str = "EVENTS";
/// [`super::counter::EventBudget`] by bucket (PERCPU_ARRAY).
pub const EVENT_BUDGETS: &str = "EVENT_BUDGETS";
/// [`super::counter::EventCounters`] (PERCPU_ARRAY of one).
pub const EVENT_COUNTERS: &str = "EVENT_COUNTERS";
/// [`super::ReplayInput`] of the frame to come (ARRAY of one, mmap); unused by an attached program.
pub const REPLAY_INPUT: &str = "REPLAY_INPUT";

/// [`super::counter::DecidedWords`] (PERCPU_ARRAY of one): what a candidate is told of the packet at hand.
pub const DECIDED: &str = "DECIDED";
/// Programs that others of a packet's go on with (PROG_ARRAY of [`ONWARD_SLOTS`]).
pub const ONWARD: &str = "ONWARD";
/// [`crate::case::LinkType`] → the candidate's program for what enters (PROG_ARRAY); empty without a candidate.
pub const CANDIDATES: &str = "CANDIDATES";
/// The candidate's program for what leaves (PROG_ARRAY of one).
pub const LEAVING: &str = "LEAVING";
/// [`super::counter::CandidateCounters`] (PERCPU_ARRAY of one).
pub const WOULD: &str = "WOULD";
/// [`super::counter::Would`] by [`super::DeviceId`] (ARRAY, mmap); row 0 counts for no device.
pub const WOULD_DEVICES: &str = "WOULD_DEVICES";
/// [`super::counter::Would`] by [`super::RuleId`] (ARRAY, mmap); row 0 counts for no rule, and for those beyond.
pub const WOULD_RULES: &str = "WOULD_RULES";

/// Entries of [`ONWARD`].
pub const ONWARD_SLOTS: u32 = 2;
/// Of [`ONWARD`]: the whole way.
pub const ONWARD_WHOLE: u32 = 0;
/// Of [`ONWARD`]: past the kernel's stack.
pub const ONWARD_LEAVE: u32 = 1;

/// Networks per bank; id 0 is the host itself.
pub const NETWORK_CAPACITY: u32 = 256;
/// Subinterfaces per bank.
pub const SUBINTERFACE_CAPACITY: u32 = 1024;
/// Rows for the subinterfaces of a bank.
pub const SUBINTERFACE_ROWS: u32 = 4096;
/// Scope ranges per bank, device prefixes among them.
pub const SCOPE_CAPACITY: u32 = 65_536;
/// Device addresses, where nobody says otherwise; also slots.
pub const ADDRESS_CAPACITY: u32 = 262_144;
/// Device addresses at most.
pub const ADDRESS_CAPACITY_MAX: u32 = 8_388_608;
/// Devices, where nobody says otherwise.
pub const DEVICE_CAPACITY: u32 = 131_072;
/// Devices at most: two rows of each have a number, and [`super::value::IDENTITY_NESTED`] lies above.
pub const DEVICE_CAPACITY_MAX: u32 = 4_194_304;
/// Profiles.
pub const PROFILE_CAPACITY: u32 = 65_536;
/// Rule sets.
pub const RULE_SET_CAPACITY: u32 = 65_536;
/// Ranges over all rule sets.
pub const RANGE_CAPACITY: u32 = 262_144;
/// Peers over all rule sets.
pub const PEER_CAPACITY: u32 = 262_144;
/// Port ranges over all lists.
pub const PORT_CAPACITY: u32 = 262_144;
/// Windows over all rule sets.
pub const WINDOW_CAPACITY: u32 = 131_072;
/// Numbers of rules: a flow has 23 bits for its own.
pub const RULE_CAPACITY: u32 = 1 << 23;
/// Rows for what a candidate would treat otherwise by rule, where nobody says otherwise.
pub const WOULD_RULE_ROWS: u32 = 16_384;
/// Flows, where nobody says otherwise: a power of two.
pub const FLOW_CAPACITY: u32 = 262_144;
/// Slots that one tick of the sweep looks at: few, because it runs where packets wait.
pub const SWEEP_SLOTS: u32 = 2048;
/// In how many nanoseconds the sweep looks at every slot, if the table is not too large for that.
pub const SWEEP_ROUND_NS: u64 = 3_200_000_000;
/// Nanoseconds from tick to tick, at least and at most.
pub const SWEEP_PERIODS_NS: [u64; 2] = [2_500_000, 25_000_000];
/// How long the sweep leaves a dead flow, in nanoseconds, so that an agent that looks once a second can tell its end.
pub const SWEEP_DELAY_NS: u64 = 2_000_000_000;
/// Flows at most: 2 GiB.
pub const FLOW_CAPACITY_MAX: u32 = 16_777_216;
/// Interfaces with counters, each way apart, and one for all others.
pub const INTERFACE_CAPACITY: u32 = 256;
/// Rows for interfaces with counters.
pub const INTERFACE_ROWS: u32 = 1024;
/// Bytes of the ring.
pub const EVENT_BYTES: u32 = 4 << 20;
