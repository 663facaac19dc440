//! `kill -9`: at rest and at any moment of an apply.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tests::netns::SERVER;

use super::host::{ENFORCING, Host, words};

/// Kills during an apply; each at another moment of it.
const KILLS: u32 = 10;
/// An apply takes about this long here.
const APPLY: Duration = Duration::from_millis(250);

#[test]
fn a_killed_agent_leaves_its_datapath_and_the_next_adopts_it() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let forbidden = host.forbidden()?;
    let mut live = host.connection("charger-1", 443)?;
    let (before, attached) = (host.status()?, host.attachments()?);
    host.kill()?;
    assert!(live.is_alive()?, "established stays");
    assert!(host.is_guarded()?, "allowed and forbidden stay what they were");
    let status = host.status()?;
    assert_eq!(status.code, 1, "{}", status.text);
    assert!(status.text.contains("no agent; the kernel enforces the last policy"), "{}", status.text);
    host.start()?;
    let after = host.await_status(super::host::PATIENCE, |status| status.code == ENFORCING)?;
    assert_eq!((after.revision(), after.generation()), (before.revision(), before.generation()));
    assert_eq!(host.attachments()?, attached);
    assert!(live.is_alive()?, "and the restart cuts nothing");
    let (sent, arrived) = forbidden.stop()?;
    assert!(sent > 100 && arrived == 0, "{arrived} of {sent} arrived");
    Ok(())
}

#[test]
fn an_agent_killed_during_an_apply_leaves_one_whole_policy() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    let forbidden = host.forbidden()?;
    let mut live = host.connection("charger-1", 443)?;
    let stop = AtomicBool::new(false);
    let exchanged = std::thread::scope(|scope| {
        let exchanges = scope.spawn(|| live.exchange_until(&stop));
        let killed = kill_applies(&mut host);
        stop.store(true, Ordering::Relaxed);
        killed.map(|()| exchanges.join())
    })?;
    let (count, cut) = exchanged.map_err(|_| anyhow::anyhow!("the exchange panicked"))??;
    assert!(count > 100 && cut.is_none(), "established: {cut:?} after {count}");
    let (sent, arrived) = forbidden.stop()?;
    assert!(sent > 1000 && arrived == 0, "{arrived} of {sent} arrived");
    Ok(())
}

fn kill_applies(host: &mut Host) -> Result<()> {
    let (mut moved, mut finished) = (false, 0);
    for round in 0..KILLS {
        let wanted = if moved { 8443 } else { 9443 };
        let path = host.lab.directory().join("firmware.yaml");
        std::fs::write(&path, firmware(wanted))?;
        let mut apply = host.spawn(&mut host.command(&["apply", "-f", &path.to_string_lossy()])?)?;
        // Spread over the apply, from before it begins to after it ended.
        std::thread::sleep(APPLY * (round * 7 % KILLS) / KILLS);
        host.kill()?;
        finished += u32::from(apply.wait()?.success());
        let in_force = ports(host)?;
        assert!(in_force == [8443] || in_force == [9443], "round {round}: ports {in_force:?} are open");
        host.start()?;
        let status = host.await_status(super::host::PATIENCE, |status| status.code == ENFORCING)?;
        moved = ports(host)? == [9443];
        let accepted = words(&host.bulkhead(&["diff", "-f", &path.to_string_lossy()])?);
        let says_moved = accepted.is_empty() == (wanted == 9443);
        assert_eq!(moved, says_moved, "round {round}: {}\nkernel and state differ", status.text);
    }
    assert!(finished < KILLS, "no apply was killed: the moments are wrong");
    Ok(())
}

/// Which of the two ports a new connection gets through.
fn ports(host: &Host) -> Result<Vec<u16>> {
    let mut open = Vec::new();
    for port in [8443, 9443] {
        if host.reaches("charger-1", SERVER.v4.into(), port)? {
            open.push(port);
        }
    }
    Ok(open)
}

/// The demo's firmware policy with its port moved.
pub(crate) fn firmware(port: u16) -> String {
    format!(
        "apiVersion: bulkhead/v1\nkind: Policy\nmetadata: {{name: firmware}}\nspec:\n  \
         subject: {{segment: ev-chargers}}\n  allow:\n    \
         - {{name: download, to: {{destinations: [cloud]}}, ports: [tcp/{port}]}}\n"
    )
}
