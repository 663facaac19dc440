//! One run of QEMU: its console, read as it comes.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    directory,
    initramfs::{BEGIN, END},
};
use crate::{progress::say, test::tally::Tally};

/// The emulator.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Quiet, so that the kernel's words do not break into a test's lines; `panic=-1` ends QEMU when init dies. On a busy
/// machine an emulated timer is late at the moment when the kernel looks whether it works ("IO-APIC + timer doesn't work").
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 quiet loglevel=1 no_timer_check";

/// What became of a guest.
pub(super) struct Report {
    pub(super) end: End,
    pub(super) log: PathBuf,
}

/// How a guest ended.
pub(super) enum End {
    /// It ran to its end and closed every test.
    Finished,
    /// It was given up.
    Late,
    /// It ended before its tests had, or without any; QEMU's own words are on the terminal.
    Early(ExitStatus),
}

/// Boots a kernel, and counts and shows what its tests print.
pub(super) fn run(
    series: &str,
    kernel: &Path,
    image: &Path,
    patience: Duration,
    tally: &mut Tally,
) -> Result<Report> {
    let log = directory()?.join(format!("{series}.log"));
    let mut console = Console::new(series, File::create(&log)?);
    let mut qemu = start(kernel, image)?;
    let lines = lines_of(&mut qemu)?;
    let deadline = Instant::now() + patience;
    let by_itself = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => console.read(&line, tally)?,
            Err(RecvTimeoutError::Timeout) => break false,
            Err(RecvTimeoutError::Disconnected) => break true,
        }
    };
    let complete = console.is_between_tests(tally);
    let end = if by_itself { ended(&mut qemu, complete)? } else { given_up(&mut qemu) };
    Ok(Report { end, log })
}

fn ended(qemu: &mut Child, complete: bool) -> Result<End> {
    let status = qemu.wait().with_context(|| format!("wait for {QEMU}"))?;
    Ok(if complete { End::Finished } else { End::Early(status) })
}

fn given_up(qemu: &mut Child) -> End {
    let _ = qemu.kill();
    let _ = qemu.wait();
    End::Late
}

fn start(kernel: &Path, image: &Path) -> Result<Child> {
    Command::new(QEMU)
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-smp", "2"])
        .args(["-nographic", "-no-reboot", "-net", "none", "-append", KERNEL_ARGUMENTS])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {QEMU}"))
}

/// Reads on a thread of its own, so that a guest that has gone silent can be given up.
fn lines_of(qemu: &mut Child) -> Result<Receiver<String>> {
    let output = qemu.stdout.take().context("QEMU has no console")?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// Tells the lines of tests from those of firmware and kernel.
struct Console<'a> {
    series: &'a str,
    log: File,
    in_test: bool,
    tests: usize,
}

impl<'a> Console<'a> {
    fn new(series: &'a str, log: File) -> Self {
        Self { series, log, in_test: false, tests: 0 }
    }

    fn read(&mut self, line: &str, tally: &mut Tally) -> Result<()> {
        writeln!(self.log, "{line}").context("write the guest's log")?;
        // Firmware leaves control sequences before the first line.
        if let Some((_, test)) = line.split_once(BEGIN) {
            self.in_test = true;
            self.tests += 1;
            say(&format!("\n=== {}: {test}", self.series));
            tally.begin_target(&format!("{}: {test}", self.series));
        } else if let Some(status) = line.strip_prefix(END) {
            self.in_test = false;
            tally.end_target(status == "0");
        } else if self.in_test && tally.read(line) {
            say(line);
        }
        Ok(())
    }

    /// A test that was cut short is ended as one without a result.
    fn is_between_tests(&mut self, tally: &mut Tally) -> bool {
        if self.in_test {
            tally.end_target(false);
        }
        self.tests > 0 && !self.in_test
    }
}
