//! The socket: whose it is, who may use it, and what it makes of nonsense.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value;

use super::host::{ENFORCING, Host, words};

#[test]
fn a_second_agent_is_refused_and_damages_nothing() -> Result<()> {
    let Some(host) = Host::enforcing()? else { return Ok(()) };
    let before = (host.status()?.generation(), host.attachments()?);
    let root = host.lab.directory();
    let (state, socket, config) = (root.join("state-2"), root.join("second.sock"), root.join("second.yaml"));
    // A state that was accepted elsewhere: an agent with it would begin to write the kernel's tables.
    fs::create_dir(&state)?;
    fs::copy(host.state.join("accepted"), state.join("accepted"))?;
    for (state, socket, why) in [
        (&host.state, &socket, "one agent per state directory"),
        (&state, &host.socket, "another agent answers on"),
        (&state, &socket, "another agent holds"),
    ] {
        fs::write(&config, host.settings(state, socket)?)?;
        let output = host.start_refused(&config)?;
        let said = words(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{why}: {said}");
        assert!(!socket.exists() || *socket == host.socket, "it leaves no socket");
    }
    let status = host.status()?;
    assert_eq!((status.code, status.generation()), (ENFORCING, before.0), "{}", status.text);
    assert_eq!(host.attachments()?, before.1);
    assert!(!words(&host.bulkhead(&["status"])?).contains("no agent"), "the first still answers");
    assert!(host.is_guarded()?);
    Ok(())
}

#[test]
fn an_old_socket_is_replaced_and_nothing_else_is() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    drop(UnixListener::bind(&host.socket)?);
    host.start()?;
    let found = fs::symlink_metadata(&host.socket)?;
    assert!(found.file_type().is_socket());
    assert_eq!((found.mode() & 0o777, found.uid()), (0o600, 0));
    host.kill()?;
    fs::remove_file(&host.socket)?;
    let precious = host.lab.directory().join("precious");
    fs::write(&precious, "keep me")?;
    for by_link in [false, true] {
        match by_link {
            false => fs::copy(&precious, &host.socket).map(|_| ())?,
            true => std::os::unix::fs::symlink(&precious, &host.socket)?,
        }
        let output = host.start_refused(&host.config)?;
        let said = words(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("is no socket") && said.contains("remove it"), "{said}");
        assert_eq!(fs::read_to_string(&host.socket)?, "keep me");
        fs::remove_file(&host.socket)?;
    }
    Ok(())
}

#[test]
fn only_root_may_ask() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    host.start()?;
    let nobody = |host: &Host| -> Result<Output> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-sS", "--unix-socket"]);
        Ok(command.arg(&host.socket).arg("http://agent/v1/status").output()?)
    };
    let output = nobody(&host)?;
    assert!(!output.status.success() && output.stdout.is_empty(), "the mode refuses: {}", words(&output));
    // Even if somebody opens the file to everybody, the peer's user is what counts.
    fs::set_permissions(&host.socket, fs::Permissions::from_mode(0o666))?;
    fs::set_permissions(host.lab.directory(), fs::Permissions::from_mode(0o755))?;
    let output = nobody(&host)?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| words(&output))?;
    assert_eq!(answer["error"], "only root may ask this agent");
    Ok(())
}

#[test]
fn nonsense_is_refused_in_json_and_the_agent_lives() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    host.start()?;
    let json = "content-type: application/json";
    let deep = "[".repeat(100_000);
    let requests: [(&str, &[&str]); 14] = [
        ("404", &["/"]),
        ("404", &["/v1/../../etc/passwd", "--path-as-is"]),
        ("405", &["/v1/apply"]),
        ("405", &["/v1/status", "-X", "DELETE"]),
        ("415", &["/v1/apply", "-d", "{}"]),
        ("400", &["/v1/apply", "-H", json, "-d", "{"]),
        ("422", &["/v1/apply", "-H", json, "-d", &deep]),
        ("422", &["/v1/apply", "-H", json, "-d", "{}"]),
        ("422", &["/v1/apply", "-H", json, "-d", r#"{"files":[{"name":"x","text":"\u0000"}]}"#]),
        ("413", &["/v1/apply", "-H", json, "-H", "content-length: 99999999999", "-d", "{}"]),
        ("400", &["/v1/drops?limit=many"]),
        ("400", &["/v1/drops/not-an-id"]),
        ("400", &["/v1/follow?events=everything"]),
        ("400", &["/v1/devices/%00%ff%2e%2e"]),
    ];
    for (code, arguments) in requests {
        let said = ask(&host, arguments)?;
        let (body, status) = said.rsplit_once('\n').with_context(|| said.clone())?;
        let what = arguments.iter().map(|a| a.chars().take(60).collect::<String>()).collect::<Vec<_>>();
        assert_eq!(status, code, "{what:?}: {body}");
        let answer: Value = serde_json::from_str(body).with_context(|| format!("{what:?}: {body:?}"))?;
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{what:?}: {body}");
    }
    raw(&host, &[0xff; 4096])?;
    raw(&host, &[b"GET / HTTP/1.1\r\n", vec![b'a'; 1 << 20].as_slice()].concat())?;
    assert!(host.status()?.text.starts_with("NOT ENFORCING no policy"), "it still answers");
    Ok(())
}

fn ask(host: &Host, arguments: &[&str]) -> Result<String> {
    let (path, options) = arguments.split_first().context("no path")?;
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}", "--unix-socket"]).arg(&host.socket);
    let output = command.args(options).arg(format!("http://agent{path}")).output()?;
    Ok(words(&output))
}

/// Bytes that are no HTTP; whatever comes back.
fn raw(host: &Host, bytes: &[u8]) -> Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(&host.socket)?;
    // It may be cut off while it still speaks.
    let _ = stream.write_all(bytes);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    let _ = stream.read(&mut [0; 512]);
    Ok(())
}
