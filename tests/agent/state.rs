//! No policy, a lost policy, a full disk: what the agent makes of its state.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tests::netns::FORBIDDEN;

use super::crash::firmware;
use super::host::{DEGRADED, ENFORCING, Host, NOT_ENFORCING, PATIENCE, words};

#[test]
fn nothing_is_attached_before_the_first_apply() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    let absent = host.status()?;
    assert_eq!(absent.code, NOT_ENFORCING, "{}", absent.text);
    assert!(absent.text.contains("no agent, nothing attached"), "{}", absent.text);
    host.start()?;
    let status = host.status()?;
    assert_eq!(status.code, NOT_ENFORCING, "{}", status.text);
    assert!(status.text.starts_with("NOT ENFORCING"), "{}", status.text);
    assert!(status.text.contains("bulkhead apply -f"), "it says what to do: {}", status.text);
    assert!(host.attachments()?.is_empty());
    assert!(host.reaches("charger-1", FORBIDDEN.v4.into(), 443)?, "traffic is as it was");
    host.apply()?;
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (ENFORCING, 1), "{}", status.text);
    assert!(status.text.starts_with("ENFORCING r1"), "{}", status.text);
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn a_damaged_state_is_kept_aside_and_the_previous_is_used() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    assert!(host.apply_text(&firmware(9443))?.status.success());
    host.kill()?;
    let accepted = host.state.join("accepted");
    let whole = fs::read(&accepted)?;
    fs::write(&accepted, &whole[..whole.len() / 2])?;
    host.start()?;
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (DEGRADED, 1), "{}", status.text);
    assert!(status.text.contains("accepted.damaged"), "{}", status.text);
    assert!(host.is_guarded()?);
    // The operator applies what is in force: that settles it, too.
    host.apply()?;
    let status = host.status()?;
    assert_eq!(status.code, ENFORCING, "{}", status.text);
    Ok(())
}

#[test]
fn a_damaged_part_of_the_state_costs_nothing_and_one_without_a_copy_one_revision() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    // More than fits into the accepted file itself.
    let rows: String = (1..=200).map(|number| format!("meter-{number},fleet,10.45.77.{number}\n")).collect();
    let table = host.lab.directory().join("meters.csv");
    fs::write(&table, format!("name,network,addresses\n{rows}"))?;
    let applied = host.bulkhead(&["apply", "-f", &table.to_string_lossy()])?;
    assert!(applied.status.success(), "{}", words(&applied));
    host.kill()?;
    let [part, copy] = part_and_copy(&host.state)?;
    fs::write(&part, &fs::read(&copy)?[1..])?;
    let audit = host.bulkhead(&["audit", "verify"])?;
    assert_eq!(audit.status.code(), Some(1), "{}", words(&audit));
    assert!(words(&audit).contains(&format!("{} is damaged", part.display())), "{}", words(&audit));
    host.start()?;
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (ENFORCING, 2), "{}", status.text);
    assert!(host.bulkhead(&["audit", "verify"])?.status.success(), "its copy took its place");
    host.kill()?;
    [&part, &copy].into_iter().try_for_each(|path| fs::write(path, b"nonsense"))?;
    host.start()?;
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (DEGRADED, 1), "{}", status.text);
    assert!(host.is_guarded()?);
    Ok(())
}

/// The one part that the accepted state is made of.
fn part_and_copy(state: &Path) -> Result<[PathBuf; 2]> {
    let files =
        fs::read_dir(state.join("parts"))?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    let part = files.into_iter().find(|path| path.extension().is_none()).context("there is no part")?;
    let copy = part.with_extension("copy");
    Ok([part, copy])
}

#[test]
fn a_lost_state_leaves_what_the_kernel_has() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    for damage in [corrupt as fn(&Path) -> Result<()>, remove, empty] {
        let mut live = host.connection("charger-1", 443)?;
        host.kill()?;
        damage(&host.state)?;
        host.start()?;
        let status = host.status()?;
        assert_eq!(status.code, DEGRADED, "{}", status.text);
        assert!(status.text.contains("the kernel still enforces what it had"), "{}", status.text);
        assert!(host.is_guarded()? && live.is_alive()?);
        host.apply()?;
        assert_eq!(host.status()?.code, ENFORCING);
        assert!(host.is_guarded()?);
    }
    Ok(())
}

#[test]
fn a_lost_state_and_an_empty_kernel_are_closed_but_for_the_host() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    host.kill()?;
    assert!(host.bulkhead(&["detach"])?.status.success());
    corrupt(&host.state)?;
    host.start()?;
    let status = host.status()?;
    assert_eq!(status.code, DEGRADED, "{}", status.text);
    assert!(status.text.contains("closed until the next apply"), "{}", status.text);
    assert!(!host.allows()? && host.forbids()?, "nothing is forwarded");
    assert!(host.host_answers()?, "and the host is not locked out");
    // An interface that is made anew while closed locks nobody out either.
    host.ip("core", &["link del n6"])?;
    host.ip("core", &[&format!("link add n6 type veth peer name n6 netns {}-dn", host.lab.prefix())])?;
    host.ip("core", &["link set n6 up", "addr add 10.99.3.1/30 dev n6"])?;
    host.ip("dn", &["link set n6 up", "addr add 10.99.3.2/30 dev n6"])?;
    host.nudge()?;
    host.await_status(super::host::REPAIR, |status| status.mode("n6").is_some())?;
    assert!(host.host_answers()?, "{}", host.log()?);
    host.ip("core", &["route add default via 10.99.3.2"])?;
    host.ip("dn", &["route add default via 10.99.3.1"])?;
    host.apply()?;
    host.await_status(PATIENCE, |status| status.code == ENFORCING)?;
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn a_full_disk_refuses_an_apply_before_the_kernel_is_touched() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    let _disk = SmallDisk::mount(&host.state)?;
    host.start()?;
    host.apply()?;
    let before = host.status()?;
    fs::write(host.state.join("filler"), vec![0; 1 << 20]).expect_err("the disk is small");
    let output = host.apply_text(&firmware(9443))?;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was changed") && said.contains("No space left"), "{said}");
    let after = host.status()?;
    assert_eq!((after.code, after.revision()), (ENFORCING, 1), "{}", after.text);
    assert_eq!(after.generation(), before.generation());
    assert!(host.is_guarded()?);
    for name in ["accepted.new", "revisions/2.new"] {
        assert!(!host.state.join(name).exists(), "what could not be written takes no room: {name}");
    }
    host.kill()?;
    host.start()?;
    assert_eq!(host.status()?.revision(), 1, "the old state is whole");
    fs::remove_file(host.state.join("filler"))?;
    assert!(host.apply_text(&firmware(9443))?.status.success());
    let audit = host.bulkhead(&["audit", "verify"])?;
    assert!(audit.status.success() && words(&audit).contains("r1 to r2, one chain"), "{}", words(&audit));
    Ok(())
}

#[test]
fn a_journal_that_was_cut_stops_no_apply_and_is_told() -> Result<()> {
    let Some(mut host) = Host::enforcing()? else { return Ok(()) };
    assert!(host.apply_text(&firmware(9443))?.status.success());
    host.kill()?;
    let entry = host.state.join("revisions/2");
    let whole = fs::read(&entry)?;
    fs::write(&entry, &whole[..whole.len() / 2])?;
    host.start()?;
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (ENFORCING, 2), "{}", status.text);
    // Without the way back, nothing is put together that never was.
    let output = host.bulkhead(&["rollback", "1"])?;
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(
        words(&output).contains("is damaged") && words(&output).contains("r2 stays in force"),
        "{}",
        words(&output)
    );
    assert!(host.apply_text(&firmware(8443))?.status.success());
    assert_eq!(host.status()?.revision(), 3);
    let audit = words(&host.bulkhead(&["audit", "verify"])?);
    assert!(audit.contains("! r2: ") && audit.contains("NOT WHOLE: 1 wrong in 3 revisions"), "{audit}");
    Ok(())
}

fn corrupt(state: &Path) -> Result<()> {
    for name in ["accepted", "previous"] {
        fs::write(state.join(name), b"bulkhead-state-3 0\n{}")?;
    }
    Ok(())
}

fn remove(state: &Path) -> Result<()> {
    // The first damage left no previous one.
    let _ = fs::remove_file(state.join("previous"));
    Ok(fs::remove_file(state.join("accepted"))?)
}

fn empty(state: &Path) -> Result<()> {
    Ok(fs::remove_dir_all(state)?)
}

/// A file system with room for a few small policies.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self> {
        fs::create_dir(at)?;
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=256k,mode=0700"))?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The agent may still hold its lock in there.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
