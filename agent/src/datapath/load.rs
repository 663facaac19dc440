//! Loading the program: pinned maps are adopted only if they are what this program was built for.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{MapData, MapInfo, ProgramArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_obj::Object;
use bulkhead_common::abi::map;
use bulkhead_common::address_table;
use bulkhead_common::case::LinkType;
use bulkhead_common::fragment;

use super::feature::{has_frags, require_features};
use super::programs::{self, Variant};
use crate::tables::Capacities;

/// The XDP program and its maps, as built.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bulkhead.bpf.o"));

/// Name of the XDP program in the object.
pub const PROGRAM: &str = "bulkhead";
/// Name of the one of the short way, which is attached in front of it to Ethernet interfaces.
pub const SHORT_PROGRAM: &str = "bulkhead_short";
/// As [`SHORT_PROGRAM`], in front of [`PLAIN_PROGRAM`].
pub const SHORT_PLAIN_PROGRAM: &str = "bulkhead_short_plain";
/// Name of the one that sends frames on past the kernel's stack.
pub const LEAVE_PROGRAM: &str = "bulkhead_leave";
/// As [`LEAVE_PROGRAM`], behind [`PLAIN_PROGRAM`].
pub const LEAVE_PLAIN_PROGRAM: &str = "bulkhead_leave_plain";
/// Name of the XDP program for kernels where every frame lies in one buffer.
pub const PLAIN_PROGRAM: &str = "bulkhead_plain";
/// Name of the program for what leaves.
pub const EGRESS_PROGRAM: &str = "bulkhead_egress";
/// The constant that tells the XDP program what frames begin with.
pub const LINK_TYPE: &str = "LINK_TYPE";

/// The constant that tells the XDP program whether a frame may lie in several buffers.
pub const FRAGS: &str = "FRAGS";

/// The constant that tells the program that it is a candidate's.
pub const CANDIDATE: &str = "CANDIDATE";

/// Name of the XDP program for this kernel.
pub fn xdp_program() -> &'static str {
    if has_frags() { PROGRAM } else { PLAIN_PROGRAM }
}

/// Name of the XDP program that enters it by the short way.
pub fn short_program() -> &'static str {
    if has_frags() { SHORT_PROGRAM } else { SHORT_PLAIN_PROGRAM }
}

/// Name of the XDP program that sends frames on.
fn leave_program() -> &'static str {
    if has_frags() { LEAVE_PROGRAM } else { LEAVE_PLAIN_PROGRAM }
}

/// Name of the program that starts the sweep of dead flows.
pub const SWEEP_PROGRAM: &str = "bulkhead_sweep";

/// Maps that outlive the agent, by name. The others are scratch of one program.
pub const PINNED: [&str; 30] = [
    map::GENERATION,
    map::SUBINTERFACES,
    map::LEGS,
    map::LEG_BANK,
    map::NETWORKS,
    map::SCOPES,
    map::ADDRESS_INDEX,
    map::ADDRESSES,
    map::DEVICES,
    map::PROFILES,
    map::RULE_SETS,
    map::RANGES,
    map::PEERS,
    map::PORTS,
    map::WINDOWS,
    map::FLOWS,
    map::FLOW_GEOMETRY,
    map::DEVICE_STATES,
    map::FRAGMENTS,
    map::ERROR_BUDGETS,
    map::INTERFACES,
    map::SWEEPER,
    map::COUNTERS,
    map::EVENTS,
    map::EVENT_BUDGETS,
    map::EVENT_COUNTERS,
    map::DECIDED,
    map::ONWARD,
    map::CANDIDATES,
    map::LEAVING,
];

/// Maps of a candidate's own that outlive the agent; the others it shares with the enforced policy, and of those it
/// writes none.
pub const CANDIDATE_PINS: [&str; 18] = [
    map::GENERATION,
    map::SUBINTERFACES,
    map::NETWORKS,
    map::SCOPES,
    map::ADDRESS_INDEX,
    map::ADDRESSES,
    map::DEVICES,
    map::PROFILES,
    map::RULE_SETS,
    map::RANGES,
    map::PEERS,
    map::PORTS,
    map::WINDOWS,
    map::FRAGMENTS,
    map::ERROR_BUDGETS,
    map::WOULD,
    map::WOULD_DEVICES,
    map::WOULD_RULES,
];

/// Entries of the maps that are made to measure; adopted maps keep their size. Of which devices and rules a candidate
/// would treat packets otherwise only a candidate counts.
fn entries(sizes: &Capacities, would: Would) -> [(&'static str, u32); 12] {
    [
        // Two rows for each device, and device 0 is nobody.
        (map::DEVICES, sizes.devices.saturating_add(1).saturating_mul(2)),
        (map::ADDRESS_INDEX, address_table::size(sizes.addresses)),
        (map::ADDRESSES, sizes.addresses),
        (map::PROFILES, sizes.profiles.saturating_add(1)),
        (map::RANGES, sizes.ranges),
        (map::PORTS, sizes.ports),
        (map::FLOWS, sizes.flows),
        (map::DEVICE_STATES, sizes.devices.saturating_add(1)),
        (map::FRAGMENTS, sizes.devices.saturating_add(1).saturating_mul(fragment::PLACES)),
        (map::ERROR_BUDGETS, sizes.devices.saturating_add(1)),
        (map::WOULD_DEVICES, would.devices),
        (map::WOULD_RULES, would.rules),
    ]
}

/// Rows of a candidate's counters.
struct Would {
    devices: u32,
    rules: u32,
}

impl Would {
    /// Of a program that is no candidate's.
    const NONE: Self = Self { devices: 1, rules: 1 };
}

/// Loads a copy of the program over the maps pinned below `pins`, which are created where they are missing.
///
/// # Errors
/// A pinned map of another layout; whatever the kernel refuses, the verifier's log cut short.
pub(super) fn load(pins: &Path, sizes: &Capacities, variant: Variant) -> Result<Ebpf> {
    check_pins(pins, &PINNED)?;
    let mut loader = EbpfLoader::new();
    let link = variant.link() as u32;
    loader.override_global(LINK_TYPE, &link, true);
    for name in PINNED {
        loader.map_pin_path(name, pins.join(name));
    }
    let mut ebpf = load_with(&mut loader, &entries(sizes, Would::NONE), variant)?;
    if variant.has_short_way() {
        load_around(&mut ebpf)?;
    }
    Ok(ebpf)
}

/// Loads the programs around the one that judges, which was loaded before: that of the short way in front of it, and the one
/// behind that sends on.
///
/// # Errors
/// The kernel's.
pub fn load_around(ebpf: &mut Ebpf) -> Result<()> {
    for (name, program) in [("sends on", leave_program()), ("takes the short way", short_program())] {
        if let Err(error) = programs::named(ebpf, program)?.load() {
            bail!("the kernel refuses the program that {name}: {}", shortened(&error));
        }
    }
    // Before anything is attached. What another agent has attached goes on with these from now on, and hands nothing on that
    // they read.
    for (slot, program) in [(map::ONWARD_WHOLE, xdp_program()), (map::ONWARD_LEAVE, leave_program())] {
        let program = programs::named(ebpf, program)?.fd()?.try_clone().context("copy a descriptor")?;
        let slots = ebpf.map_mut(map::ONWARD).context("the object has no slots for programs")?;
        ProgramArray::try_from(slots)?.set(slot, &program, 0).context("let packets go on")?;
    }
    Ok(())
}

/// Loads a copy of the program as a candidate's: over maps of its own below `own`, which are created where they are
/// missing, and over those of the enforced policy below `pins`.
///
/// # Errors
/// As [`load`].
pub(super) fn load_candidate(
    pins: &Path,
    own: &Path,
    sizes: &Capacities,
    rules: u32,
    variant: Variant,
) -> Result<Ebpf> {
    check_pins(own, &CANDIDATE_PINS)?;
    let mut loader = EbpfLoader::new();
    let link = variant.link() as u32;
    loader.override_global(LINK_TYPE, &link, true).override_global(CANDIDATE, &1u32, true);
    for name in PINNED {
        loader.map_pin_path(name, pins.join(name));
    }
    for name in CANDIDATE_PINS {
        loader.map_pin_path(name, own.join(name));
    }
    let entries = entries(sizes, Would { devices: sizes.devices.saturating_add(1), rules });
    if !own.join(map::ADDRESSES).exists() {
        has_memory(&entries)?;
    }
    load_with(&mut loader, &entries, variant)
}

/// Removes the pins of these maps below a folder, as far as they are there.
pub(super) fn unpin(folder: &Path, names: &[&str]) -> Result<()> {
    for path in names.iter().map(|name| folder.join(name)).filter(|path| path.exists()) {
        fs::remove_file(&path).with_context(|| format!("remove the pinned map {}", path.display()))?;
    }
    Ok(())
}

/// Refuses a second set of tables that the host has no memory for, before the kernel looks for it elsewhere.
fn has_memory(entries: &[(&'static str, u32)]) -> Result<()> {
    let object = Object::parse(OBJECT).context("read the embedded XDP object")?;
    let maps = CANDIDATE_PINS.iter().filter_map(|name| Some((*name, object.maps.get(*name)?)));
    let bytes = |(name, built): (&str, &aya_obj::Map)| {
        let given = entries.iter().find(|(other, _)| *other == name).map(|(_, rows)| *rows);
        let row = u64::from(built.value_size().next_multiple_of(8)) + u64::from(built.key_size());
        u64::from(given.unwrap_or(built.max_entries())) * row
    };
    let needed: u64 = maps.map(bytes).sum();
    let available = available_memory().context("ask how much memory is free")?;
    ensure!(
        needed <= available,
        "its tables take {} MiB beside those that are enforced, and {} MiB of memory are available",
        needed >> 20,
        available >> 20
    );
    Ok(())
}

/// What can be had without swapping, in bytes (`MemAvailable`, proc(5)).
fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()).context("it is not told")?;
    Ok(kilobytes.parse::<u64>()?.saturating_mul(1024))
}

/// Loads the program over maps of its own that nobody else sees, to be run on single frames.
///
/// # Errors
/// Whatever the kernel refuses.
pub(super) fn load_isolated(sizes: &Capacities) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.override_global("REPLAY", &1u32, true).override_global("TELL_ALL", &1u32, true);
    load_with(&mut loader, &entries(sizes, Would::NONE), Variant::Ingress(LinkType::Ethernet))
}

fn load_with(loader: &mut EbpfLoader<'_>, entries: &[(&'static str, u32)], variant: Variant) -> Result<Ebpf> {
    require_features()?;
    let frags = if has_frags() { &1u32 } else { &0 };
    loader.override_global(FRAGS, frags, true);
    for (name, entries) in entries {
        loader.map_max_entries(name, *entries);
    }
    let mut ebpf = loader.load(OBJECT).context("create the maps of the program")?;
    let loaded = match variant {
        Variant::Ingress(_) => programs::xdp(&mut ebpf)?.load(),
        Variant::Egress => programs::classifier(&mut ebpf)?.load(),
    };
    if let Err(error) = loaded {
        bail!("the kernel refuses the program: {}", shortened(&error));
    }
    Ok(ebpf)
}

/// Starts the sweep of dead flows, which then goes on without an agent; or takes it over.
///
/// # Errors
/// The kernel's.
pub fn start_sweep(ebpf: &mut Ebpf) -> Result<()> {
    const ANY_FRAME: [u8; 64] = [0; 64];
    let program = ebpf.program_mut(SWEEP_PROGRAM).context("the object holds no program for the sweep")?;
    let program: &mut Xdp = program.try_into().context("the program for the sweep is not an XDP program")?;
    if let Err(error) = program.load() {
        bail!("the kernel refuses the program for the sweep: {}", shortened(&error));
    }
    let options = TestRunOptions { data_in: Some(&ANY_FRAME), ..TestRunOptions::new() };
    program.test_run(options).context("start the sweep of dead flows")?;
    Ok(())
}

/// Compares every pinned map with the object: aya adopts a pin without looking, and a value of
/// another size would then be copied over the end of a buffer.
fn check_pins(pins: &Path, names: &[&str]) -> Result<()> {
    let object = Object::parse(OBJECT).context("read the embedded XDP object")?;
    for name in names {
        let path = pins.join(name);
        if !path.exists() {
            continue;
        }
        let pinned =
            MapData::from_pin(&path).with_context(|| format!("open the pinned map {}", path.display()))?;
        let info = pinned.info().with_context(|| format!("ask for the layout of {}", path.display()))?;
        check_layout(&object.maps, name, &info)
            .with_context(|| format!("adopt {} (run `bulkhead detach` to start afresh)", path.display()))?;
    }
    Ok(())
}

fn check_layout(maps: &HashMap<String, aya_obj::Map>, name: &str, info: &MapInfo) -> Result<()> {
    let built = maps.get(name).with_context(|| format!("the object holds no map {name}"))?;
    let kind = info.map_type().map(|kind| kind as u32).unwrap_or_default();
    for (what, pinned, wanted) in [
        ("type", kind, built.map_type()),
        ("key size", info.key_size(), built.key_size()),
        ("value size", info.value_size(), built.value_size()),
        ("flags", info.map_flags(), built.map_flags()),
    ] {
        ensure!(pinned == wanted, "its {what} is {pinned}, this agent needs {wanted}");
    }
    Ok(())
}

/// The verifier's log has thousands of lines; its end says why.
fn shortened(error: &aya::programs::ProgramError) -> String {
    const TAIL: usize = 600;
    let text = error.to_string();
    let tail = text.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
    if tail == 0 { text } else { format!("… {}", &text[tail..]) }
}
