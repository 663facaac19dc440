//! Ctrl-C ends a replay cleanly.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::capture::{Classic, ETHERNET, Order};
use tests::kernel::privilege;

use super::run::{CLOUD, File, up};

#[test]
fn ctrl_c_leaves_whole_lines_and_a_summary() -> Result<()> {
    if !privilege::granted() {
        return Ok(());
    }
    let call = up(CLOUD).udp(40_000, 5000).build();
    let head = Classic::new(Order::Little, false, ETHERNET);
    let file = File::write(&(0..400_000).fold(head, |file, second| file.whole(second, &call)).bytes())?;
    let mut command = file.command(&["--interface", "acc0", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut text = String::new();
    out.read_line(&mut text)?;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    out.read_to_string(&mut text)?;
    let status = child.wait()?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let (last, packets) = lines.split_last().context("there is no line")?;
    let summary = &last["summary"];
    ensure!(status.code() == Some(130) && text.ends_with('\n'), "{status}");
    ensure!(summary["complete"] == false && summary["packets"] == packets.len(), "{summary}");
    ensure!(packets.len() < 400_000, "it was over before");
    Ok(())
}
