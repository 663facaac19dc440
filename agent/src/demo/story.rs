//! What the demo tells while it runs: its own steps, and the live lines of the agent between them.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::tail::{DropLine, Line, Tails};

/// How long a drop may take from the kernel's ring to a line: events are polled and folded.
const REPORT: Duration = Duration::from_secs(3);

/// The teller.
pub(crate) struct Story<'a> {
    out: &'a mut dyn Write,
    quiet: bool,
    tails: Option<Tails>,
    drops: Vec<DropLine>,
}

impl<'a> Story<'a> {
    /// Tells to `out`; a quiet story only listens.
    pub(crate) fn new(out: &'a mut dyn Write, quiet: bool) -> Self {
        Self { out, quiet, tails: None, drops: Vec::new() }
    }

    /// Tells one line.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        if !self.quiet {
            writeln!(self.out, "{line}")?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// Tells what a command or a file said, a little aside.
    pub(crate) fn quote(&mut self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| self.say(&format!("    {line}")))
    }

    /// Listens to these tails from here on, and no longer to those before.
    pub(crate) fn follow(&mut self, tails: Option<Tails>) {
        self.tails = tails;
    }

    /// Returns where the list of drops ends, to look later only at what came after.
    pub(crate) fn mark(&self) -> usize {
        self.drops.len()
    }

    /// Tells the agent's lines for `duration`.
    pub(crate) fn listen(&mut self, duration: Duration) -> Result<()> {
        self.listen_until(duration, |_| false)
    }

    /// Waits until a drop from `source` to `target` since `mark` is reported; returns the last such line.
    ///
    /// A line with the wanted `reason` ends the wait; others are kept, to say what was reported instead.
    pub(crate) fn drop_line(
        &mut self,
        mark: usize,
        pair: (IpAddr, IpAddr),
        reason: &str,
    ) -> Result<Option<DropLine>> {
        let fits = |line: &DropLine| line.is_about(pair.0, pair.1);
        let wanted = |line: &DropLine| fits(line) && line.reason == reason;
        self.listen_until(REPORT, |drops| drops[mark..].iter().any(wanted))?;
        let since = &self.drops[mark..];
        Ok(since.iter().find(|line| wanted(line)).or_else(|| since.iter().rfind(|line| fits(line))).cloned())
    }

    fn listen_until(&mut self, limit: Duration, done: impl Fn(&[DropLine]) -> bool) -> Result<()> {
        let until = Instant::now() + limit;
        while !done(&self.drops) {
            let left = until.saturating_duration_since(Instant::now());
            let next = self.tails.as_ref().and_then(|tails| tails.next(left));
            match next {
                Some(Line::Shown(text)) => self.say(&format!("    {text}"))?,
                Some(Line::Drop(line)) => self.drops.push(line),
                None => return Ok(()),
            }
        }
        Ok(())
    }
}
