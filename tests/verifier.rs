//! `CAP_BPF`: what the verifier makes of every program, and that the maps are what the ABI says.
//!
//! Runs alone in a minimal guest too (`cargo xtask vm`): needs no other program, no pins, no network.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{MapInfo, MapType};
use aya::programs::{ProgramInfo, Xdp};
use aya::{Ebpf, EbpfLoader};
use bulkhead::datapath::{OBJECT, PROGRAM};
use bulkhead_common::abi::counter::{Counters, EventBudget, EventCounters};
use bulkhead_common::abi::{
    AddressKey, Device, DeviceState, FlowGeometry, FlowSlot, Network, Peer, PortRange, Range, ReplayInput,
    RuleSet, ScopeRange, Subinterface, SubinterfaceKey, Versioned, map,
};
use bulkhead_common::case::Case;
use bulkhead_common::fragment::FragmentPlace;
use tests::kernel::privilege;

/// Instructions that the verifier may look at: a quarter of its limit, so that there is room to grow.
const BUDGET: u32 = 250_000;
/// As the kernel keeps names (`BPF_OBJ_NAME_LEN`, with its final zero).
const LONGEST_NAME: usize = 15;

#[test]
fn every_program_loads_within_its_budget() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    for (build, replay) in [("attached", 0u32), ("replay", 1)] {
        for (name, program) in programs(replay)?.1 {
            let cost =
                program.verified_instruction_count().context("the kernel does not say what it verified")?;
            eprintln!(
                "{name} ({build}): {cost} instructions verified, {} B translated, {} B of machine code",
                program.size_translated().unwrap_or_default(),
                program.size_jitted()
            );
            ensure!(cost <= BUDGET, "{name} ({build}) costs {cost} instructions, the budget is {BUDGET}");
        }
    }
    Ok(())
}

#[test]
fn maps_are_what_the_abi_says() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let (ebpf, programs) = programs(0)?;
    let mut found = BTreeMap::new();
    for (_, program) in &programs {
        for id in program.map_ids()?.context("the kernel does not say which maps are used")? {
            let info = MapInfo::from_id(id)?;
            let name = info.name_as_str().context("a map's name is not text")?.to_owned();
            found.insert(name, (info.map_type()? as u32, info.key_size(), info.value_size()));
        }
    }
    drop(ebpf);
    for (name, kind, key, value) in expected() {
        ensure!(name.len() <= LONGEST_NAME, "the kernel would cut the name {name}");
        let wanted = (kind as u32, key as u32, value as u32);
        match found.get(name) {
            Some(layout) => ensure!(*layout == wanted, "{name} is {layout:?}, the ABI says {wanted:?}"),
            // Only the replay build reads it.
            None => ensure!(name == map::REPLAY_INPUT, "the program does not use {name}"),
        }
        found.remove(name);
    }
    found.retain(|name, _| !name.starts_with('.') && !name.contains("rodata") && !name.contains("data"));
    ensure!(found.is_empty(), "maps that no ABI names: {found:?}");
    Ok(())
}

/// Loads everything in the object.
fn programs(replay: u32) -> Result<(Ebpf, Vec<(String, ProgramInfo)>)> {
    let mut loader = EbpfLoader::new();
    loader.override_global("REPLAY", &replay, true).override_global("TELL_ALL", &replay, true);
    let mut ebpf = loader.load(OBJECT).context("create the maps")?;
    let mut infos = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        let program: &mut Xdp =
            program.try_into().with_context(|| format!("{name} is not an XDP program"))?;
        program.load().with_context(|| format!("load {name}"))?;
        infos.push((name.to_owned(), program.info()?));
    }
    ensure!(infos.iter().any(|(name, _)| name == PROGRAM), "the object has no program {PROGRAM}");
    Ok((ebpf, infos))
}

/// Name, type, and sizes of key and value of every map.
fn expected() -> [(&'static str, MapType, usize, usize); 24] {
    const INDEX: usize = size_of::<u32>();
    let hash = |name, key, value| (name, MapType::Hash, key, value);
    let array = |name, value| (name, MapType::Array, INDEX, value);
    let per_cpu = |name, value| (name, MapType::PerCpuArray, INDEX, value);
    [
        array(map::GENERATION, size_of::<u64>()),
        hash(map::SUBINTERFACES, size_of::<SubinterfaceKey>(), size_of::<Subinterface>()),
        array(map::NETWORKS, size_of::<Network>()),
        array(map::SCOPES, size_of::<ScopeRange>()),
        hash(map::ADDRESSES, size_of::<AddressKey>(), size_of::<u32>()),
        array(map::IDENTITIES, size_of::<Versioned>()),
        array(map::TUNNELS, size_of::<u64>()),
        array(map::FRAGMENTS, size_of::<FragmentPlace>()),
        array(map::ERROR_BUDGETS, size_of::<u64>()),
        array(map::DEVICES, size_of::<Device>()),
        array(map::PROFILES, size_of::<Versioned>()),
        array(map::RULE_SETS, size_of::<RuleSet>()),
        array(map::RANGES, size_of::<Range>()),
        array(map::PEERS, size_of::<Peer>()),
        array(map::PORTS, size_of::<PortRange>()),
        array(map::FLOWS, size_of::<FlowSlot>()),
        array(map::FLOW_GEOMETRY, size_of::<FlowGeometry>()),
        array(map::DEVICE_STATES, size_of::<DeviceState>()),
        (map::COUNTERS, MapType::PerCpuHash, INDEX, size_of::<Counters>()),
        (map::EVENTS, MapType::RingBuf, 0, 0),
        per_cpu(map::EVENT_BUDGETS, size_of::<EventBudget>()),
        per_cpu(map::EVENT_COUNTERS, size_of::<EventCounters>()),
        array(map::REPLAY_INPUT, size_of::<ReplayInput>()),
        per_cpu("CASES", size_of::<Case>()),
    ]
}
