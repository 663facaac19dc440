//! The program for what leaves: it judges as the engine on the host, and counts what the stack has merged apart.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bulkhead::tables::{Image, Tables};
use bulkhead_common::abi::Flow;
use bulkhead_common::abi::counter::{Count, Counters};
use bulkhead_common::abi::key::EGRESS;
use bulkhead_common::case::{Arrival, Case, LinkType};
use bulkhead_common::decide::Tables as _;
use bulkhead_common::verdict::{DropReason, Verdict};
use tests::compare::hex;
use tests::generate::{Random, Shot, Traffic, World, seed};
use tests::kernel::{Kernel, LOOPBACK, Leaving, SHORTEST, XDP_PASS, privilege};

use super::links::{ETHERNET, is_plain_ip};
use super::{FRAMES, ROOM, geometry, is_emulated};

/// Worlds in which something leaves.
const WORLDS: usize = 24;
const WORLDS_EMULATED: usize = 4;
/// Where forwarded packets came from.
const ELSEWHERE: u32 = 7;
/// The number of the place by which all leave.
const POINT: u32 = LOOPBACK | EGRESS;

#[test]
fn what_leaves_is_judged_as_the_engine_says_and_counted_by_its_segments() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let mut random = Random::new(seed(8));
    let mut kernel = Kernel::load(ROOM)?;
    kernel.load_leaving()?;
    kernel.count_on(POINT)?;
    let mut verdicts = BTreeMap::<&str, Count>::new();
    let wanted = if is_emulated() { WORLDS_EMULATED } else { WORLDS };
    let mut worlds = 0;
    while worlds < wanted {
        let world = World::draw(&mut random);
        if world.policy.networks().contains_key("green") {
            agree(&mut kernel, &world, &mut random, &mut verdicts)?;
            worlds += 1;
        }
    }
    eprintln!("{verdicts:?}");
    for reason in ["established", "host", "unsolicited"] {
        ensure!(verdicts.contains_key(reason), "nothing has left as {reason}: {verdicts:?}");
    }
    Ok(())
}

/// Judges a world's traffic twice, and counts by verdict what has left.
fn agree(
    kernel: &mut Kernel,
    world: &World,
    random: &mut Random,
    left: &mut BTreeMap<&str, Count>,
) -> Result<()> {
    let image = Image::new(&by_loopback(&world.compiled.tables)).with_flows(geometry(ROOM));
    kernel.fill(image.layout())?;
    let traffic = Traffic::new(world, random.next());
    for shot in traffic.filter(|shot| shot.bytes.len() >= SHORTEST).take(FRAMES) {
        image.set_now(shot.now, shot.boot());
        kernel.enter(shot.ifindex, shot.now, shot.boot())?;
        if shot.enters() {
            let passes = kernel.runner()?.run(&shot.bytes)? == XDP_PASS;
            ensure!(passes == shot.judged(&image).0.passes(), "{} enters", hex(&shot.bytes));
        } else if is_plain_ip(&shot.bytes) {
            let segments = *random.pick(&[0, 1, 2, 7, 44]);
            let verdict = leave(kernel, &image, &shot, segments)?;
            let count = left.entry(verdict.as_str()).or_default();
            count.packets += u64::from(segments.max(1));
            count.bytes += (shot.bytes.len() - ETHERNET) as u64;
        }
    }
    let flows = image.flows().into_iter().map(|flow| (flow.key, flow)).collect::<BTreeMap<_, Flow>>();
    ensure!(kernel.flows() == flows, "the flows differ:\n{}", world.text);
    agree_on_counters(&kernel.counters(POINT)?, left)
}

fn agree_on_counters(counters: &Counters, left: &BTreeMap<&str, Count>) -> Result<()> {
    let all = left.values().fold(Count::default(), |sum, count| Count {
        packets: sum.packets + count.packets,
        bytes: sum.bytes + count.bytes,
    });
    ensure!(counters.received == all, "{:?} were counted of {all:?}", counters.received);
    for reason in DropReason::ALL {
        let observed = counters.of(Verdict::Observe(*reason));
        let counted = counters.of(Verdict::Drop(*reason)).packets + observed.packets;
        let wanted = left.get(reason.as_str()).map_or(0, |count| count.packets);
        ensure!(counted == wanted, "{counted} of {wanted} are counted as {}", reason.as_str());
    }
    Ok(())
}

/// Both judge a packet that leaves, without its Ethernet header.
fn leave(kernel: &Kernel, image: &Image, shot: &Shot, segments: u32) -> Result<Verdict> {
    let packet = &shot.bytes[ETHERNET..];
    let arrival = Arrival {
        packets: segments.max(1),
        from_host: shot.from_host,
        ..Arrival::of(POINT, LinkType::RawIp, u32::try_from(packet.len())?)
    };
    let mut case = Case::new(image.epoch(), arrival);
    let verdict = bulkhead_common::judge(packet, image, &mut case);
    let entered = (!shot.from_host).then_some(ELSEWHERE);
    let passes = kernel.leave(packet, Leaving { segments, entered })?;
    ensure!(passes == verdict.passes(), "{} is {verdict:?}, and passes: {passes}", hex(packet));
    Ok(verdict)
}

/// The test run takes packets for those of the loopback, so its row is that of the interface where they leave.
fn by_loopback(tables: &Tables) -> Tables {
    let mut tables = tables.clone();
    let leaving = tables.subinterfaces.iter().filter(|(place, _)| place.ifindex & EGRESS != 0);
    let renamed =
        leaving.map(|(place, facts)| (bulkhead::tables::Place { ifindex: POINT, ..*place }, facts.clone()));
    let renamed: Vec<_> = renamed.collect();
    tables.subinterfaces.extend(renamed);
    tables
}
