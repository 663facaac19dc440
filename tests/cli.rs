//! The real binary without an agent: standard output, standard error, exit codes.

#[path = "cli/replay.rs"]
mod replay;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use tests::binary::bulkhead;
use tests::schema::Schema;

/// The repository's own example, which these tests therefore keep true.
fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/demo")
}

/// A command that sees no settings and no terminal of whoever runs the tests.
fn command(arguments: &[&str]) -> Command {
    let mut command = bulkhead();
    command.args(arguments).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

/// What a command did, as a user sees it.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

fn run(arguments: &[&str]) -> Result<Done> {
    let mut command = command(arguments);
    Ok(command.output().with_context(|| format!("run {command:?}; build the agent first"))?.into())
}

/// `arguments -f policies/demo -c policies/demo/host/agent.yaml`.
fn run_on_demo(arguments: &[&str]) -> Result<Done> {
    let (folder, agent) = (demo(), demo().join("host/agent.yaml"));
    let files = ["-f", &*folder.to_string_lossy(), "-c", &*agent.to_string_lossy()].map(str::to_owned);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    run(&[arguments, &files].concat())
}

/// A host whose agent never ran: settings that point into an empty folder.
fn idle_host() -> Result<(TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let settings = format!(
        "apiVersion: bulkhead/v1\nkind: Agent\nmetadata: {{name: idle}}\nspec:\n  \
         interfaces: [{{name: acc0, roles: [access], transit: drop}}]\n  \
         socket: {}\n  pinDir: {}\n  stateDir: {}\n",
        at("sock"),
        at("pins"),
        at("state")
    );
    let path = at("agent.yaml");
    fs::write(&path, settings)?;
    Ok((folder, path))
}

#[test]
fn check_counts_what_it_accepts() -> Result<()> {
    let done = run_on_demo(&["check"])?;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.out.starts_with("OK 7 files: 1 network, 4 segments, 5 devices, "), "{done:?}");
    assert!(done.out.trim_end().ends_with(" tests passed"), "{done:?}");
    let done = run_on_demo(&["check", "-o", "json"])?;
    let report: Value = serde_json::from_str(&done.out)?;
    assert_eq!(
        (done.code, &report["accepted"], &report["census"]["devices"]),
        (Some(0), &true.into(), &5.into())
    );
    Ok(())
}

#[test]
fn check_draws_what_it_refuses() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ev.yaml").display().to_string();
    fs::write(&path, "apiVersion: bulkhead/v1\nkind: Segment\nmetadata: {name: ev}\nspec: {membrs: {}}\n")?;
    let done = run(&["check", "-f", &path])?;
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{done:?}");
    for part in [&format!("{path}:4:8"), "^^^^^^", "membrs", "members"] {
        assert!(done.err.contains(part), "{part:?} is not in {}", done.err);
    }
    assert!(done.err.lines().last().is_some_and(|last| last.starts_with("REFUSED: ")), "{done:?}");
    let done = run(&["check", "-f", &path, "-o", "json"])?;
    let report: Value = serde_json::from_str(&done.out)?;
    let first = &report["diagnostics"]["items"][0];
    assert_eq!((done.code, &report["accepted"], &first["line"]), (Some(1), &false.into(), &4.into()));
    Ok(())
}

#[test]
fn check_tells_warnings_from_errors_in_every_form() -> Result<()> {
    let page = |name: &str| format!("{}/fixtures/policies/{name}", env!("CARGO_MANIFEST_DIR"));
    let sarif = Schema::read(include_str!("fixtures/sarif/sarif-schema-2.1.0.json"))?;
    let done = run(&["check", "-f", &page("accepted/doubts.yaml")])?;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.out.contains("warning: rule wide lets its devices call everybody"), "{done:?}");
    assert!(done.out.trim_end().ends_with("; 9 warnings"), "{done:?}");
    for (name, code, level) in [("accepted/doubts.yaml", 0, "warning"), ("refused/ports.yaml", 1, "error")] {
        let done = run(&["check", "-f", &page(name), "-o", "sarif"])?;
        assert_eq!((done.code, done.err.as_str()), (Some(code), ""), "{done:?}");
        let mut log: Value = serde_json::from_str(&done.out)?;
        sarif.validate(&log).with_context(|| format!("this is no SARIF: {log:#}"))?;
        let severity = log["runs"][0]["results"][0]["level"].take();
        assert!(sarif.validate(&log).is_err(), "the schema takes anything");
        log["runs"][0]["results"][0]["level"] = severity;
        assert_eq!(
            (&log["version"], &log["runs"][0]["tool"]["driver"]["name"]),
            (&"2.1.0".into(), &"bulkhead".into())
        );
        let results = log["runs"][0]["results"].as_array().context("no results")?;
        assert!(!results.is_empty() && results.iter().any(|result| result["level"] == level), "{log:#}");
        for result in results {
            let place = &result["locations"][0]["physicalLocation"];
            let file = place["artifactLocation"]["uri"].as_str().context("no file")?;
            assert!(file.ends_with(name) && place["region"]["startLine"].as_u64() >= Some(1), "{result:#}");
            assert!(result["message"]["text"].as_str().is_some_and(|text| text.contains("; ")), "{result:#}");
            let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().context("no rules")?;
            assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]), "{result:#}");
        }
    }
    Ok(())
}

#[test]
fn check_names_the_rule_that_decided_where_a_test_in_a_file_fails() -> Result<()> {
    let page = format!("{}/fixtures/policies/compiled/failed-tests.yaml", env!("CARGO_MANIFEST_DIR"));
    for form in ["text", "json", "sarif"] {
        let done = run(&["check", "-f", &page, "-o", form])?;
        assert_eq!(done.code, Some(1), "{done:?}");
        for part in ["expected deny, got ALLOW by p/old", "p/old is written at", "nearest p/web"] {
            assert!(
                [&done.out, &done.err].iter().any(|text| text.contains(part)),
                "{form}: {part}: {done:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_schema_is_printed_as_it_is() -> Result<()> {
    let done = run(&["schema"])?;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    let printed: Value = serde_json::from_str(&done.out)?;
    assert_eq!(printed, serde_json::from_str::<Value>(bulkhead::policy::SCHEMA)?);
    Ok(())
}

#[test]
fn check_cannot_run_on_what_it_cannot_read() -> Result<()> {
    let done = run(&["check", "-f", "/nonexistent/ev.yaml"])?;
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{done:?}");
    assert!(done.err.contains("/nonexistent/ev.yaml"), "{done:?}");
    Ok(())
}

/// Explains by the demo's policies; every part must be in the answer.
fn explains(from: &str, to: &str, port: &str, parts: &[&str]) -> Result<()> {
    let done = run_on_demo(&["explain", "--from", from, "--to", to, "--port", port])?;
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    for part in parts {
        assert!(done.out.contains(part), "{part:?} is not in\n{}", done.out);
    }
    Ok(())
}

#[test]
fn explain_names_the_rule_that_allows() -> Result<()> {
    let parts = ["ALLOW by chargers/ocpp · fleet · up acc0 · ", "40-chargers.yaml:10", "never no"];
    explains("charger-1", "203.0.113.10", "tcp/443", &parts)?;
    explains(
        "fd00:45:0:11::77",
        "2001:db8:cafe::10",
        "icmp/echo",
        &["ALLOW by chargers/ocpp", "fd00:45:0:11::77 →"],
    )?;
    explains("10.45.0.21", "10.99.0.53", "udp/53", &["ALLOW by pumps/base", "to service dns"])
}

#[test]
fn explain_names_the_nearest_rule_and_where_to_add_one() -> Result<()> {
    let parts = [
        "DENY no_rule · fleet · up acc0 · ",
        "no rule allows this destination and port",
        "address yes (to cloud [203.0.113.10, 2001:db8:cafe::10]) · port no (tcp/443, icmp/echo)  ← nearest, ",
        "to allow: add a rule to policy chargers, file ",
        "40-chargers.yaml:5\n",
    ];
    explains("charger-1", "203.0.113.10", "tcp/22", &parts)?;
    explains("camera-1", "203.0.113.10", "tcp/23", &["DENY never", "network fleet", "← would allow it"])?;
    explains("charger-1", "10.99.0.9", "tcp/443", &["DENY no_rule", "`reaches: infrastructure`"])
}

#[test]
fn explain_tells_inbound_from_outbound() -> Result<()> {
    explains("198.51.100.7", "pump-1", "tcp/502", &["ALLOW by pumps/scada", "down n6", "from control-room"])?;
    let parts = [
        "DENY unsolicited",
        "rules about these two, this way: none",
        "add an inbound rule to policy chargers",
    ];
    explains("192.0.2.66", "charger-1", "tcp/22", &parts)
}

#[test]
fn explain_tells_device_to_device() -> Result<()> {
    explains(
        "nvr-1",
        "camera-1",
        "tcp/554",
        &["ALLOW by recording/rtsp", "nvr-1 (recorders) 10.45.0.32 → camera-1"],
    )?;
    let parts = ["DENY segment_denied", "no policy lets charger-1 open anything to charger-2", "between:"];
    explains("charger-1", "10.45.0.12", "tcp/22", &parts)
}

#[test]
fn explain_says_what_lies_behind_a_device_and_names_tunnels() -> Result<()> {
    for (policy, from, to, port, parts) in [
        ("framed-routes", "198.51.100.7", "192.168.50.20", "tcp/502", ["ALLOW by lan/plc", "gateway"]),
        (
            "framed-routes",
            "198.51.100.7",
            "192.168.50.40",
            "tcp/502",
            ["DENY unsolicited", "`behind: [192.168.50.40]`"],
        ),
        (
            "framed-routes",
            "192.168.50.40",
            "203.0.113.10",
            "tcp/443",
            ["ALLOW by lan/cloud", "192.168.50.40"],
        ),
        ("inner-tunnels", "a", "198.51.100.1", "gre", ["ALLOW by wide/some", "gre"]),
        ("inner-tunnels", "a", "203.0.113.10", "gre", ["DENY no_rule", "wide/any"]),
    ] {
        let file = format!("{}/fixtures/policies/compiled/{policy}.yaml", env!("CARGO_MANIFEST_DIR"));
        let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies/agent.yaml");
        let done = run(&["explain", "-f", &file, "-c", agent, "--from", from, "--to", to, "--port", port])?;
        for part in parts {
            assert!(done.out.contains(part), "{part:?} is not in\n{done:?}");
        }
    }
    Ok(())
}

#[test]
fn explain_says_which_condition_failed_and_what_it_saw() -> Result<()> {
    let conditions = format!("{}/fixtures/policies/compiled/conditions.yaml", env!("CARGO_MANIFEST_DIR"));
    let explained = |from: &str, to: &str, port: &str, more: &[&str]| {
        run(&[&["explain", "-f", &conditions, "--from", from, "--to", to, "--port", port], more].concat())
    };
    let closed = explained("old", "203.0.113.1", "tcp/8883", &[])?;
    let shown = [
        "DENY condition_posture · acme · up acc0",
        "p/new  address yes (to 203.0.113.0/24) · port yes (tcp/443, tcp/8883) · when no (firmware must be at least \
         2.4 and is 2.3 (policy))  ← nearest, ",
        "p/new would allow it, and its `when` is not met:\n  firmware must be at least 2.4 and is 2.3 (policy)\n",
        "if it is wrong: bulkhead device set old firmware=…; else change the rule, ",
    ];
    shown.iter().for_each(|part| assert!(closed.out.contains(part), "{part}: {closed:?}"));
    let assumed = explained("old", "203.0.113.1", "tcp/8883", &["--given", "firmware=2.5"])?;
    assert!(assumed.out.starts_with("ALLOW by p/new") && assumed.out.contains("when yes"), "{assumed:?}");
    let inbound = ["--given", "plmn=24001", "rat=lte-m"];
    let abroad = explained("198.51.100.7", "new", "tcp/22", &inbound)?;
    assert!(abroad.out.starts_with("DENY condition_place"), "{abroad:?}");
    assert!(abroad.out.contains("plmn must be in NO and is 24001 in SE (given)"), "{abroad:?}");
    for (given, told) in
        [("firmware", "assigns nothing"), ("country=NO", "set plmn"), ("plmn=242", "5 or 6 digits")]
    {
        let refused = explained("old", "203.0.113.1", "tcp/8883", &["--given", given])?;
        assert!(refused.code == Some(2) && refused.err.contains(told), "{refused:?}");
    }
    Ok(())
}

#[test]
fn explain_knows_addresses_of_nobody() -> Result<()> {
    explains(
        "10.45.0.99",
        "203.0.113.10",
        "tcp/443",
        &["DENY unknown_device · fleet · up acc0", "whose SIM it is"],
    )?;
    explains("charger-1", "10.45.0.99", "tcp/443", &["DENY unknown_peer", "nobody is at 10.45.0.99"])?;
    let done = run_on_demo(&["explain", "--from", "192.0.2.1", "--to", "192.0.2.2", "--port", "tcp/1"])?;
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("neither 192.0.2.1 nor 192.0.2.2 is a device"), "{done:?}");
    let done = run_on_demo(&["explain", "--from", "chargr-1", "--to", "192.0.2.2", "--port", "tcp/1"])?;
    assert!(done.err.contains("did you mean charger-1?"), "{done:?}");
    Ok(())
}

#[test]
fn explain_answers_programs_too() -> Result<()> {
    let question =
        ["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/22", "-o", "json"];
    let answer: Value = serde_json::from_str(&run_on_demo(&question)?.out)?;
    assert_eq!((&answer["verdict"], &answer["reason"]), (&"deny".into(), &"no_rule".into()));
    let rules = answer["considered"].as_array().context("no rules")?;
    let nearest: Vec<&Value> = rules.iter().filter(|rule| rule["nearest"] == true).collect();
    assert_eq!(nearest.len(), 1, "{answer:#}");
    assert_eq!((&nearest[0]["address"], &nearest[0]["port"]), (&true.into(), &false.into()));
    Ok(())
}

#[test]
fn completions_are_scripts() -> Result<()> {
    for (shell, sign) in
        [("bash", "complete "), ("zsh", "#compdef bulkhead"), ("fish", "complete -c bulkhead")]
    {
        let done = run(&["completions", shell])?;
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{shell}");
        assert!(done.out.contains(sign) && done.out.contains("explain"), "{shell}");
    }
    let script = run(&["completions", "bash"])?.out;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().context("run bash")?;
    bash.stdin.take().context("bash reads nothing")?.write_all(script.as_bytes())?;
    assert!(bash.wait()?.success(), "bash refuses the script");
    Ok(())
}

#[test]
fn without_an_agent_nothing_is_enforced_and_everybody_says_so() -> Result<()> {
    let (_folder, settings) = idle_host()?;
    let done = run(&["status", "-c", &settings])?;
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.out.starts_with("NOT ENFORCING"), "{done:?}");
    let policies = demo().display().to_string();
    let asked: [&[&str]; 11] = [
        &["revisions"],
        &["revisions", "show", "r1"],
        &["rollback"],
        &["confirm"],
        &["resume"],
        &["apply", "-f", &policies],
        &["get", "devices"],
        &["describe", "device", "charger-1"],
        &["explain", "d7kq2"],
        &["explain", "--from", "charger-1", "--to", "203.0.113.10", "--port", "tcp/443"],
        &["drops"],
    ];
    for asked in asked {
        let done = run(&[asked, &["-c", &settings]].concat())?;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{asked:?}: {done:?}");
        assert!(done.err.starts_with("error: no agent listens at "), "{asked:?}: {done:?}");
        assert_eq!(done.err.lines().count(), 1, "{asked:?}: {done:?}");
    }
    Ok(())
}

#[test]
fn a_history_is_verified_without_an_agent() -> Result<()> {
    let (folder, settings) = idle_host()?;
    let verify = |more: &[&str]| run(&[&["audit", "verify", "-c", &settings], more].concat());
    let done = verify(&[])?;
    assert_eq!((done.code, done.out.as_str()), (Some(0), "OK no revision was accepted yet\n"), "{done:?}");
    // What was told outside once does not go away with the files.
    let anchors = folder.path().join("told");
    fs::write(&anchors, format!("bulkhead: anchor r412 {}\n", "3f".repeat(32)))?;
    let anchors = anchors.display().to_string();
    let done = verify(&["--against", &anchors])?;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.out.contains("r412 was anchored, and no revision is kept"), "{done:?}");
    let report: Value = serde_json::from_str(&verify(&["--against", &anchors, "-o", "json"])?.out)?;
    assert_eq!((&report["whole"], &report["anchors"]), (&false.into(), &1.into()));
    let done = verify(&["--against", "/nonexistent"])?;
    assert_eq!((done.code, done.err.starts_with("error: read /nonexistent")), (Some(2), true), "{done:?}");
    Ok(())
}

#[test]
fn what_is_not_understood_could_not_run() -> Result<()> {
    let typed: [&[&str]; 10] = [
        &["rollback", "yesterday"],
        &["revisions", "show", "-1"],
        &["apply", "-f", "a.yaml", "--confirm-within", "5"],
        &["audit", "frobnicate"],
        &["check", "--frobnicate"],
        &["frobnicate"],
        &["get", "gadgets"],
        &["explain"],
        &["explain", "not-an-id"],
        &["explain", "d7kq2", "--from", "charger-1"],
    ];
    for typed in typed {
        let done = run(typed)?;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{typed:?}: {done:?}");
        assert!(done.err.starts_with("error: "), "{typed:?}: {done:?}");
    }
    Ok(())
}

/// What `bulkhead completions bash | head -1` does under `set -o pipefail`, without the race.
#[test]
fn a_closed_pipe_is_success() -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let done = command(&["completions", "bash"]).stdout(writer).output()?;
    assert!(done.status.success(), "{done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
    Ok(())
}

#[test]
fn colour_is_only_for_those_who_want_it() -> Result<()> {
    let coloured = |settings: &[(&str, &str)]| -> Result<bool> {
        let mut command = command(&["check", "-f", "/nonexistent"]);
        let output = command.envs(settings.iter().copied()).output()?;
        Ok(output.stderr.contains(&0x1b))
    };
    assert!(!coloured(&[])?, "a pipe is no terminal");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")])?, "there is colour to turn off");
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])?);
    Ok(())
}
