//! Loading the program: pinned maps are adopted only if they are what this program was built for.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{MapData, MapInfo};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_obj::Object;
use bulkhead_common::abi::map;
use bulkhead_common::case::LinkType;
use bulkhead_common::fragment;

use super::feature::{has_frags, require_features};
use super::programs::{self, Variant};
use crate::tables::Capacities;

/// The XDP program and its maps, as built.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bulkhead.bpf.o"));

/// Name of the XDP program in the object.
pub const PROGRAM: &str = "bulkhead";
/// Name of the XDP program for kernels where every frame lies in one buffer.
pub const PLAIN_PROGRAM: &str = "bulkhead_plain";
/// Name of the program for what leaves.
pub const EGRESS_PROGRAM: &str = "bulkhead_egress";
/// The constant that tells the XDP program what frames begin with.
pub const LINK_TYPE: &str = "LINK_TYPE";

/// The constant that tells the XDP program whether a frame may lie in several buffers.
pub const FRAGS: &str = "FRAGS";

/// Name of the XDP program for this kernel.
pub fn xdp_program() -> &'static str {
    if has_frags() { PROGRAM } else { PLAIN_PROGRAM }
}

/// Name of the program that starts the sweep of dead flows.
pub const SWEEP_PROGRAM: &str = "bulkhead_sweep";

/// Maps that outlive the agent, by name. The others are scratch of one program.
pub const PINNED: [&str; 25] = [
    map::GENERATION,
    map::SUBINTERFACES,
    map::NETWORKS,
    map::SCOPES,
    map::ADDRESSES,
    map::IDENTITIES,
    map::TUNNELS,
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
];

/// Entries of the maps that are made to measure; adopted maps keep their size.
fn entries(sizes: &Capacities) -> [(&'static str, u32); 11] {
    [
        // Two rows for each device, and device 0 is nobody.
        (map::DEVICES, sizes.devices.saturating_add(1).saturating_mul(2)),
        (map::ADDRESSES, sizes.addresses),
        (map::IDENTITIES, sizes.addresses),
        (map::TUNNELS, sizes.addresses),
        (map::PROFILES, sizes.profiles.saturating_add(1)),
        (map::RANGES, sizes.ranges),
        (map::PORTS, sizes.ports),
        (map::FLOWS, sizes.flows),
        (map::DEVICE_STATES, sizes.devices.saturating_add(1)),
        (map::FRAGMENTS, sizes.devices.saturating_add(1).saturating_mul(fragment::PLACES)),
        (map::ERROR_BUDGETS, sizes.devices.saturating_add(1)),
    ]
}

/// Loads a copy of the program over the maps pinned below `pins`, which are created where they are missing.
///
/// # Errors
/// A pinned map of another layout; whatever the kernel refuses, the verifier's log cut short.
pub(super) fn load(pins: &Path, sizes: &Capacities, variant: Variant) -> Result<Ebpf> {
    check_pins(pins)?;
    let mut loader = EbpfLoader::new();
    let link = match variant {
        Variant::Ingress(link) => link as u32,
        Variant::Egress => LinkType::RawIp as u32,
    };
    loader.override_global(LINK_TYPE, &link, true);
    for name in PINNED {
        loader.map_pin_path(name, pins.join(name));
    }
    load_with(&mut loader, sizes, variant)
}

/// Loads the program over maps of its own that nobody else sees, to be run on single frames.
///
/// # Errors
/// Whatever the kernel refuses.
pub(super) fn load_isolated(sizes: &Capacities) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.override_global("REPLAY", &1u32, true).override_global("TELL_ALL", &1u32, true);
    load_with(&mut loader, sizes, Variant::Ingress(LinkType::Ethernet))
}

fn load_with(loader: &mut EbpfLoader<'_>, sizes: &Capacities, variant: Variant) -> Result<Ebpf> {
    require_features()?;
    let frags = if has_frags() { &1u32 } else { &0 };
    loader.override_global(FRAGS, frags, true);
    for (name, entries) in entries(sizes) {
        loader.map_max_entries(name, entries);
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
fn check_pins(pins: &Path) -> Result<()> {
    let object = Object::parse(OBJECT).context("read the embedded XDP object")?;
    for name in PINNED {
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
