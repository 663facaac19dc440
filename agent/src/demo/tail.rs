//! `bulkhead flows -f` and `bulkhead drops -f` beside the demo.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::agent::Agent;

/// A line of one of the tails.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// For people; shown as it is.
    Shown(String),
    /// Evidence, from `drops -f -o json`.
    Drop(DropLine),
}

/// What the demo reads of a drop's JSON object.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DropLine {
    /// The reason's label.
    pub(crate) reason: String,
    /// The device the packet was about.
    pub(crate) device: Option<String>,
    source: String,
    destination: String,
}

impl DropLine {
    /// Says whether the dropped packet went from `source` to `target`.
    pub(crate) fn is_about(&self, source: IpAddr, target: IpAddr) -> bool {
        address(&self.source) == Some(source) && address(&self.destination) == Some(target)
    }
}

/// Reads an address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

/// Running tails; they end when this value is dropped.
#[derive(Debug)]
pub(crate) struct Tails {
    children: Vec<Child>,
    lines: Receiver<Line>,
}

impl Tails {
    /// Starts the tails of `agent`.
    pub(crate) fn start(agent: &Agent<'_>) -> Result<Self> {
        let (sender, lines) = channel();
        let mut tails = Self { children: Vec::new(), lines };
        tails.add(agent, &["flows", "-f"], sender.clone(), |line| Some(Line::Shown(line)))?;
        tails.add(agent, &["drops", "-f"], sender.clone(), |line| Some(Line::Shown(line)))?;
        tails.add(agent, &["drops", "-f", "-o", "json"], sender, |line| {
            serde_json::from_str(&line).ok().map(Line::Drop)
        })?;
        Ok(tails)
    }

    /// Returns the next line, if one comes within `patience`.
    pub(crate) fn next(&self, patience: Duration) -> Option<Line> {
        self.lines.recv_timeout(patience).ok()
    }

    fn add(
        &mut self,
        agent: &Agent<'_>,
        arguments: &[&str],
        sender: Sender<Line>,
        read: impl Fn(String) -> Option<Line> + Send + 'static,
    ) -> Result<()> {
        let mut command = agent.command(arguments);
        let mut child = agent.spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let stdout = child.stdout.take().context("read a tail's output")?;
        self.children.push(child);
        let pass_on = move || {
            let lines = BufReader::new(stdout).lines().map_while(|line| line.ok());
            // Ends with the tail, or when nobody listens any more.
            drop(lines.filter_map(read).try_for_each(|line| sender.send(line)));
        };
        std::thread::Builder::new()
            .name("demo-tail".into())
            .spawn(pass_on)
            .context("start a tail's thread")?;
        Ok(())
    }
}

impl Drop for Tails {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself, with the agent.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_with_and_without_a_port() {
        let expected = Some(IpAddr::from([10, 45, 0, 11]));
        assert_eq!((address("10.45.0.11"), address("10.45.0.11:80")), (expected, expected));
        assert_eq!(address("[fd00:45::1]:80"), address("fd00:45::1"));
        assert_eq!(address("charger-1"), None);
    }
}
