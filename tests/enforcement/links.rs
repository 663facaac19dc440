//! What a link must be like, and what is left when one goes.

use anyhow::{Context, Result, ensure};
use bulkhead::datapath::{Hook, keep_vlan_tags};
use bulkhead_common::verdict::{DropReason, Pass, Verdict};
use nix::net::if_::if_nametoindex;
use tests::command::ip;
use tests::frame::eth;
use tests::netns::Injector;
use tests::small;

use crate::core::Core;

#[test]
fn a_driver_that_hides_vlan_tags_is_told_to_leave_them_in_the_frame() -> Result<()> {
    let Some(core) = Core::start()? else { return Ok(()) };
    let kept = core.lab.namespace("core")?.run(|| -> Result<_> {
        ip("link add tags0 type veth peer name tags1")?;
        Ok([keep_vlan_tags("tags0")?, keep_vlan_tags("tags0")?, keep_vlan_tags("tags1")?])
    })??;
    // 802.1Q's and 802.1ad's.
    let both = vec!["rxvlan", "rx-vlan-stag-hw-parse"];
    assert_eq!(kept, [both.clone(), vec![], both], "on by default, off at once, and off for good");
    let error = core.lab.namespace("core")?.run(|| keep_vlan_tags("tags7"))?.expect_err("there is none");
    assert!(format!("{error:#}").contains("tags7"), "{error:#}");
    Ok(())
}

#[test]
fn an_interface_that_comes_and_goes_leaves_no_counters_behind() -> Result<()> {
    let Some(mut core) = Core::start()? else { return Ok(()) };
    let known = core.datapath()?.counters()?.len();
    let lab = std::sync::Arc::clone(&core.lab);
    for _ in 0..3 {
        let (datapath, _) = core.datapath.as_mut().context("no agent")?;
        lab.namespace("core")?.run(|| -> Result<()> {
            ip("link add gone0 type veth peer name gone1")?;
            datapath.attach("gone0", if_nametoindex("gone0")?, Hook::NATIVE)?;
            ip("link del gone0")
        })??;
    }
    // The last one is forgotten when the next interface is attached.
    assert!(core.datapath()?.counters()?.len() <= known + 1, "{:?}", core.datapath()?.counters()?.keys());
    Ok(())
}

#[test]
fn jumbo_frames_are_judged_natively_whole_also_after_the_mtu_was_raised() -> Result<()> {
    const MTU: u32 = 9000;
    let Some(core) = Core::start()? else { return Ok(()) };
    for role in ["core", "ran"] {
        core.lab.namespace(role)?.run(|| ip(&format!("link set acc1 mtu {MTU}")))??;
    }
    let injector = Injector::open(core.lab.namespace("ran")?, "acc1")?;
    let payload = vec![0x5a; MTU as usize - 28];
    let jumbo =
        |port| eth().ip(small::address(31), small::REMOTE).udp(40_000, port).payload(&payload).build();
    let before = core.counters("acc1")?;
    core.expect("acc1", &injector, &jumbo(7000), Verdict::Pass(Pass::Opened))?;
    core.expect("acc1", &injector, &jumbo(7001), Verdict::Drop(DropReason::NoRule))?;
    let after = core.counters("acc1")?;
    for verdict in [Verdict::Pass(Pass::Opened), Verdict::Drop(DropReason::NoRule)] {
        let bytes = after.of(verdict).bytes - before.of(verdict).bytes;
        ensure!(bytes == u64::from(MTU) + 14, "{verdict:?}: {bytes} bytes were counted");
    }
    let flows = core.datapath()?.flows();
    ensure!(
        flows.iter().any(|flow| flow.sent == [1, u64::from(MTU) + 14]),
        "the flow counted something else"
    );
    Ok(())
}
