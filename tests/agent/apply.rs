//! Applies: refused ones, merging and pruning ones, two at once.

use anyhow::Result;
use tests::netns::SERVER;

use super::crash::firmware;
use super::host::{ENFORCING, Host, POLICIES_OF_THE_DEMO, words};

#[test]
fn a_refused_apply_leaves_everything() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let before = host.status()?;
    let mut live = host.connection("charger-1", 8443)?;
    let failing = firmware(9443)
        + "  tests:\n    - {device: charger-1, opens: 203.0.113.10, port: tcp/22, expect: allow}\n";
    let dangling = firmware(9443).replace("cloud", "clod");
    for (text, told) in [("kind: [", "change.yaml:1"), (&dangling, "clod"), (&failing, "expected allow")] {
        let output = host.apply_text(text)?;
        let said = words(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(told) && said.contains("r1 stays in force"), "{told}: {said}");
    }
    let after = host.status()?;
    assert_eq!((after.code, after.revision()), (ENFORCING, 1), "{}", after.text);
    assert_eq!(after.generation(), before.generation());
    assert!(host.is_guarded()? && live.is_alive()?);
    Ok(())
}

#[test]
fn a_policy_that_does_not_fit_is_refused_with_numbers() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let before = host.status()?;
    let device = |n: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x0a2d_1000 + n);
        format!(
            "---\napiVersion: bulkhead/v1\nkind: Device\nmetadata: {{name: many-{n}}}\n\
             spec: {{network: fleet, addresses: [{address}]}}\n"
        )
    };
    let output = host.apply_text(&(0..1025).map(device).collect::<String>())?;
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("needs 1030 devices, and the table holds 1023"), "{said}");
    assert!(!said.contains("no numbers left"), "the one cause, not its consequence: {said}");
    let after = host.status()?;
    assert_eq!((after.code, after.generation()), (ENFORCING, before.generation()), "{}", after.text);
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn an_apply_merges_and_a_pruning_one_replaces() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let total = |counts: &serde_json::Value| -> u64 {
        counts.as_object().into_iter().flat_map(|o| o.values()).filter_map(serde_json::Value::as_u64).sum()
    };
    let all = total(&host.status()?.json["objects"]);
    let said = words(&host.apply_text(&firmware(9443))?);
    assert!(said.contains("0 added, 1 changed, 0 removed"), "{said}");
    assert_eq!(total(&host.status()?.json["objects"]), all);
    assert!(host.is_guarded()? && host.reaches("charger-1", SERVER.v4.into(), 9443)?);
    let said = words(&host.apply_text(&firmware(9443))?);
    assert!(said.contains("UNCHANGED: r2"), "{said}");
    // Pruned to the network and one device, nothing is allowed any more.
    let path = |name: &str| format!("{POLICIES_OF_THE_DEMO}/{name}");
    let (network, devices) = (path("10-network.yaml"), path("20-devices.yaml"));
    let output = host.bulkhead(&["apply", "--prune", "-f", &network, &devices])?;
    let said = words(&output);
    assert!(output.status.success() && said.contains("APPLIED r3"), "{said}");
    assert!(!host.allows()? && host.forbids()?, "nothing is left that allows");
    host.apply()?;
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn two_applies_at_once_come_one_after_the_other() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let mut live = host.connection("charger-1", 443)?;
    let names = ["one", "two", "three", "four"];
    let mut applies = Vec::new();
    for (name, port) in names.iter().zip(7001..) {
        let path = host.lab.directory().join(format!("{name}.yaml"));
        std::fs::write(&path, firmware(port).replace("name: firmware", &format!("name: {name}")))?;
        applies.push(host.spawn(&mut host.command(&["apply", "-f", &path.to_string_lossy()])?)?);
    }
    for apply in applies {
        let output = apply.wait_with_output()?;
        assert!(output.status.success(), "{}", words(&output));
    }
    let status = host.status()?;
    assert_eq!((status.code, status.revision()), (ENFORCING, 1 + names.len() as u64), "{}", status.text);
    let output = host.bulkhead(&["diff", "--prune", "-f", POLICIES_OF_THE_DEMO])?;
    for name in names {
        assert!(words(&output).contains(&format!("- policy/{name}")), "{}", words(&output));
    }
    assert!(live.is_alive()? && host.is_guarded()?);
    Ok(())
}
