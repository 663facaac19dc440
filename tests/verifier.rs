//! `CAP_BPF`: what the verifier makes of every program, and that the maps are what the ABI says.
//!
//! Runs alone in a minimal guest too (`cargo xtask vm`): needs no other program, no pins, no network.

use std::collections::BTreeMap;
use std::fs;
use std::pin::pin;
use std::task::{self, Poll, Waker};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{MapInfo, MapType};
use aya::programs::{Program, ProgramInfo};
use aya::{Ebpf, EbpfLoader};
use bulkhead::datapath::{
    CANDIDATE, EGRESS_PROGRAM, FRAGS, LEAVE_PLAIN_PROGRAM, LEAVE_PROGRAM, LINK_TYPE, OBJECT, PLAIN_PROGRAM,
    PROGRAM, SHORT_PLAIN_PROGRAM, SHORT_PROGRAM, has_frags, require_features, require_tcx,
};
use bulkhead_common::abi::counter::{
    CandidateCounters, Counters, DecidedWords, EventBudget, EventCounters, Would,
};
use bulkhead_common::abi::{
    AddressRow, Device, DeviceState, Epoch, FlowGeometry, FlowSlot, IndexLine, InterfaceRow, LegRow, Network,
    Peer, PortRange, Range, ReplayInput, RuleSet, ScopeRange, SubinterfaceRow, Versioned, Window, map,
};
use bulkhead_common::case::{Case, LinkType};
use bulkhead_common::express::{Datagram, Opening};
use bulkhead_common::fragment::FragmentPlace;
use tests::kernel::{privilege, stack};

/// Instructions that the verifier may look at: three tenths of its limit, so that there is room to grow.
const BUDGET: u32 = 300_000;
/// As the kernel keeps names (`BPF_OBJ_NAME_LEN`, with its final zero).
const LONGEST_NAME: usize = 15;

#[test]
fn every_program_loads_within_its_budget() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    for (build, constants) in [
        ("attached", ATTACHED),
        ("raw IP", Constants { link: LinkType::RawIp, ..ATTACHED }),
        ("replay", Constants { replay: 1, ..ATTACHED }),
        ("one buffer", Constants { frags: false, ..ATTACHED }),
        ("candidate", Constants { candidate: 1, ..ATTACHED }),
        ("candidate, one buffer", Constants { candidate: 1, frags: false, ..ATTACHED }),
    ] {
        if constants.frags && !has_frags() {
            continue;
        }
        for (name, program) in programs(constants)?.1 {
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

/// Needs no privilege; and the kernel that runs it might be content with more.
#[test]
fn every_chain_of_calls_fits_the_stack_of_the_strictest_kernel() -> Result<()> {
    for program in [PROGRAM, PLAIN_PROGRAM, SHORT_PROGRAM, SHORT_PLAIN_PROGRAM, EGRESS_PROGRAM] {
        let deepest = stack::deepest(OBJECT, program)?;
        eprintln!("{program}: the deepest chain of calls takes {deepest} of {} bytes of stack", stack::LIMIT);
        ensure!(deepest <= stack::LIMIT, "older kernels refuse {program}: see the frames of its subprograms");
        ensure!(
            deepest > 256,
            "{program}: {deepest} is less than its largest stage takes: frames are not seen"
        );
    }
    Ok(())
}

/// Run alone by `cargo xtask vm` on kernels that are too old, where all other tests must fail.
#[test]
fn a_kernel_is_refused_by_the_name_of_what_it_lacks() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("ask which kernel this is")?;
    let refusal = require_features().err().map(|error| format!("{error:#}"));
    let too_old = |version| series(&release) < version;
    for (feature, since) in [
        ("the BPF ring buffer (Linux 5.8)", [5, 8]),
        ("the BPF helper bpf_ktime_get_boot_ns (Linux 5.8)", [5, 8]),
        ("the BPF helper bpf_ktime_get_coarse_ns (Linux 5.11)", [5, 11]),
        ("atomic compare-and-exchange in BPF programs (Linux 5.12)", [5, 12]),
        // With `nohz_full` a new kernel lacks it too, and is no place for these tests.
        ("membarrier for all processes", [4, 16]),
    ] {
        let named = refusal.as_ref().is_some_and(|refusal| refusal.contains(feature));
        ensure!(named == too_old(since), "{release}: {feature}, in {refusal:?}");
    }
    if let Some(refusal) = refusal {
        eprintln!("{refusal}");
        ensure!(refusal.lines().count() == 1 && refusal.ends_with(": run Linux 6.1 or newer"), "{refusal}");
        ensure!(start_an_agent()? == refusal, "the agent does not say so");
    }
    Ok(())
}

/// What leaves is judged where the kernel has hooks for it; found by asking it, and not by its version.
#[test]
fn a_kernel_without_hooks_for_what_leaves_is_refused_by_name() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("ask which kernel this is")?;
    let refusal = require_tcx().err().map(|error| format!("{error:#}"));
    ensure!(refusal.is_some() == (series(&release) < [6, 6]), "{release}: {refusal:?}");
    if let Some(refusal) = refusal {
        eprintln!("{refusal}");
        let named = refusal.contains(release.trim()) && refusal.contains("(tcx, Linux 6.6)");
        ensure!(named && refusal.lines().count() == 1, "{refusal}");
    }
    Ok(())
}

/// What an agent says that must not start: at once, and before it waits for anything.
fn start_an_agent() -> Result<String> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let config = folder.path().join("agent.yaml");
    fs::write(&config, AGENT).context("write the agent's settings")?;
    let agent = pin!(bulkhead::runtime::run(&config));
    match agent.poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(refusal)) => Ok(format!("{refusal:#}")),
        Poll::Ready(Ok(code)) => bail!("the agent ended with {code:?}"),
        Poll::Pending => bail!("the agent started"),
    }
}

const AGENT: &str = "apiVersion: bulkhead/v1\nkind: Agent\n\
                     spec: {interfaces: [{name: lo, roles: [access], transit: pass}]}\n";

/// The first two numbers of a release.
fn series(release: &str) -> [u32; 2] {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
}

#[test]
fn maps_are_what_the_abi_says() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let (ebpf, programs) = programs(Constants { frags: has_frags(), ..ATTACHED })?;
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

/// Loads everything in the object that is for kernels with frames of several buffers, or for those without.
fn programs(constants: Constants) -> Result<(Ebpf, Vec<(String, ProgramInfo)>)> {
    let Constants { replay, link, frags, candidate } = constants;
    let (link, several) = (link as u32, u32::from(frags));
    let (several_buffers, one_buffer) =
        ([SHORT_PROGRAM, PROGRAM, LEAVE_PROGRAM], [SHORT_PLAIN_PROGRAM, PLAIN_PROGRAM, LEAVE_PLAIN_PROGRAM]);
    let (entries, others) = if frags { (several_buffers, one_buffer) } else { (one_buffer, several_buffers) };
    let mut loader = EbpfLoader::new();
    loader.override_global("REPLAY", &replay, true).override_global("TELL_ALL", &replay, true);
    loader.override_global(LINK_TYPE, &link, true).override_global(FRAGS, &several, true);
    loader.override_global(CANDIDATE, &candidate, true);
    let mut ebpf = loader.load(OBJECT).context("create the maps")?;
    let mut infos = Vec::new();
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| !others.contains(name)) {
        let loaded = if let Program::Xdp(xdp) = program {
            xdp.load()
        } else if let Program::SchedClassifier(classifier) = program {
            classifier.load()
        } else {
            bail!("{name} is a program of another kind")
        };
        loaded.with_context(|| format!("load {name}"))?;
        infos.push((name.to_owned(), program.info()?));
    }
    for wanted in entries.into_iter().chain([EGRESS_PROGRAM]) {
        ensure!(infos.iter().any(|(name, _)| name == wanted), "the object has no program {wanted}");
    }
    Ok((ebpf, infos))
}

/// What is set in a copy of the object before it is loaded.
#[derive(Clone, Copy)]
struct Constants {
    replay: u32,
    link: LinkType,
    frags: bool,
    candidate: u32,
}

const ATTACHED: Constants = Constants { replay: 0, link: LinkType::Ethernet, frags: true, candidate: 0 };

/// Name, type, and sizes of key and value of every map.
fn expected() -> [(&'static str, MapType, usize, usize); 38] {
    const INDEX: usize = size_of::<u32>();
    let array = |name, value| (name, MapType::Array, INDEX, value);
    let per_cpu = |name, value| (name, MapType::PerCpuArray, INDEX, value);
    [
        array(map::GENERATION, size_of::<u64>()),
        array(map::SUBINTERFACES, size_of::<SubinterfaceRow>()),
        array(map::LEG_BANK, size_of::<u64>()),
        array(map::LEGS, size_of::<LegRow>()),
        array(map::NETWORKS, size_of::<Network>()),
        array(map::SCOPES, size_of::<ScopeRange>()),
        array(map::ADDRESS_INDEX, size_of::<IndexLine>()),
        array(map::ADDRESSES, size_of::<AddressRow>()),
        array(map::FRAGMENTS, size_of::<FragmentPlace>()),
        array(map::ERROR_BUDGETS, size_of::<u64>()),
        array(map::DEVICES, size_of::<Device>()),
        array(map::PROFILES, size_of::<Versioned>()),
        array(map::RULE_SETS, size_of::<RuleSet>()),
        array(map::RANGES, size_of::<Range>()),
        array(map::PEERS, size_of::<Peer>()),
        array(map::PORTS, size_of::<PortRange>()),
        array(map::WINDOWS, size_of::<Window>()),
        array(map::FLOWS, size_of::<FlowSlot>()),
        array(map::FLOW_GEOMETRY, size_of::<FlowGeometry>()),
        array(map::DEVICE_STATES, size_of::<DeviceState>()),
        // A timer, and where it goes on.
        array(map::SWEEPER, 24),
        array(map::INTERFACES, size_of::<InterfaceRow>()),
        per_cpu(map::COUNTERS, size_of::<Counters>()),
        (map::EVENTS, MapType::RingBuf, 0, 0),
        per_cpu(map::EVENT_BUDGETS, size_of::<EventBudget>()),
        per_cpu(map::EVENT_COUNTERS, size_of::<EventCounters>()),
        array(map::REPLAY_INPUT, size_of::<ReplayInput>()),
        per_cpu(map::DECIDED, size_of::<DecidedWords>()),
        (map::ONWARD, MapType::ProgramArray, INDEX, INDEX),
        (map::CANDIDATES, MapType::ProgramArray, INDEX, INDEX),
        (map::LEAVING, MapType::ProgramArray, INDEX, INDEX),
        per_cpu(map::WOULD, size_of::<CandidateCounters>()),
        array(map::WOULD_DEVICES, size_of::<Would>()),
        array(map::WOULD_RULES, size_of::<Would>()),
        per_cpu("TURNS", size_of::<u64>()),
        per_cpu("CASES", size_of::<Case>()),
        // The packet at hand as the short way sees it: what is known, the epoch, a datagram, an opening.
        per_cpu("HANDED", 4 + size_of::<Epoch>() + size_of::<Datagram>() + size_of::<Opening>()),
        // A reading of the clock, and of the count of ticks.
        per_cpu("CLOCK", 16),
    ]
}
