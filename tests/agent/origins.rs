//! Whose an object is: besides the folder and the command line, a program that speaks the API itself and one that
//! watches traffic. Each prunes only what it has brought.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead::api::client::Client;
use bulkhead::api::types::{ApplyReply, Object, path};
use serde_json::{Value, json};
use tests::netns::SERVER;

use super::crash::firmware;
use super::folder::fill;
use super::host::{ENFORCING, Host};
use super::revisions::done;

/// A change of the folder is looked at when it has settled.
const SOON: Duration = Duration::from_secs(20);

/// A policy of this name, which opens a port of the update server to chargers.
fn policy(name: &str, port: u16) -> String {
    firmware(port).replace("name: firmware", &format!("name: {name}"))
}

/// As a program writes it that knows the documentation and none of our types; `more` are its own words.
fn post(client: &Client, name: &str, port: u16, more: &Value) -> Result<u64> {
    let mut request = json!({"files": [{"name": format!("{name}.yaml"), "text": policy(name, port)}]});
    let (fields, more) =
        (request.as_object_mut().context("no object")?, more.as_object().context("no object")?);
    fields.extend(more.clone());
    let reply: ApplyReply = client.post(path::APPLY, &request)?;
    ensure!(!reply.unchanged, "{name} changed nothing");
    Ok(reply.revision)
}

/// Applies a policy as somebody types it.
fn typed(host: &Host, name: &str, port: u16, more: &[&str]) -> Result<String> {
    let path = host.lab.directory().join(format!("{name}.yaml"));
    fs::write(&path, policy(name, port))?;
    done(host, &[&["apply", "-f", &path.to_string_lossy()], more].concat())
}

/// The policies that there are beside those of the demo, and whose each is.
fn owners(client: &Client) -> Result<Vec<(String, &'static str)>> {
    let objects: Vec<Object> = client.get(path::OBJECTS, &())?;
    let added = objects.into_iter().filter(|object| object.kind == "Policy" && object.name.contains('-'));
    Ok(added.map(|object| (object.name, object.origin.as_str())).collect())
}

fn are(client: &Client, expected: &[(&str, &'static str)]) -> Result<()> {
    let found = owners(client)?;
    let expected: Vec<_> = expected.iter().map(|(name, origin)| ((*name).to_owned(), *origin)).collect();
    ensure!(found == expected, "{found:?} and not {expected:?}");
    Ok(())
}

#[test]
fn a_program_and_a_detector_prune_what_is_theirs_and_nobody_else_does() -> Result<()> {
    let Some(mut host) = Host::with_settings(|settings| settings + "  autoApply: true\n")? else {
        return Ok(());
    };
    fill(&host.folder)?;
    let kept = host.folder.join("90-kept.yaml");
    fs::write(&kept, policy("by-folder", 7001))?;
    host.start()?;
    host.await_status(SOON, |status| status.code == ENFORCING && status.revision() == 1)?;
    let client = Client::connect(&host.socket)?;
    let opens = |port| host.reaches("charger-1", SERVER.v4.into(), port);
    ensure!(!opens(9443)?, "nobody has opened it");
    typed(&host, "by-hand", 7002, &[])?;
    let by_program = post(&client, "by-program", 9443, &json!({"origin": "api"}))?;
    let by_detector = post(&client, "by-detector", 7003, &json!({"origin": "detector"}))?;
    // Whoever does not say what it is speaks the API, so much is known.
    let by_nameless = post(&client, "by-nameless", 7004, &json!({}))?;
    let [detector, program, nameless] =
        [("by-detector", "detector"), ("by-program", "api"), ("by-nameless", "api")];
    let folder = ("by-folder", "folder");
    are(&client, &[detector, folder, ("by-hand", "cli"), nameless, program])?;
    ensure!(opens(9443)?);
    for (number, name, origin) in [
        (by_program, "by-program", "api"),
        (by_detector, "by-detector", "detector"),
        (by_nameless, "by-nameless", "api"),
    ] {
        let shown = done(&host, &["revisions", "show", &number.to_string()])?;
        let first = shown.lines().next().unwrap_or_default();
        ensure!(first.ends_with(&format!("root, {origin}")), "{shown}");
        ensure!(shown.contains(&format!("+ policy/{name} ({name}.yaml:1, {origin})")), "{shown}");
    }
    let said = typed(&host, "by-hand-again", 7005, &["--prune"])?;
    ensure!(said.contains("1 added, 0 changed, 1 removed"), "{said}");
    are(&client, &[detector, folder, ("by-hand-again", "cli"), nameless, program])?;
    fs::rename(&kept, host.lab.directory().join("kept.yaml"))?;
    let before = host.status()?.revision();
    host.await_status(SOON, |status| status.revision() > before)?;
    are(&client, &[detector, ("by-hand-again", "cli"), nameless, program])?;
    ensure!(opens(9443)? && opens(8443)?, "what the program has opened, and what the folder has");
    post(&client, "by-program-again", 7006, &json!({"origin": "api", "prune": true}))?;
    are(&client, &[detector, ("by-hand-again", "cli"), ("by-program-again", "api")])?;
    ensure!(!opens(9443)? && opens(8443)?, "its own is closed, and nothing of others");
    post(&client, "by-detector-again", 7007, &json!({"origin": "detector", "prune": true}))?;
    are(
        &client,
        &[("by-detector-again", "detector"), ("by-hand-again", "cli"), ("by-program-again", "api")],
    )?;
    ensure!(host.is_guarded()?);
    Ok(())
}
