//! What a command is busy with, in one line that goes away: for whoever waits at a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Whoever has his answer sooner is shown nothing.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often the seconds are counted.
const EVERY: Duration = Duration::from_millis(200);
/// To the line's beginning, and everything behind it away (ECMA-48: CR, EL 2).
const CLEAR: &[u8] = b"\r\x1b[2K";

/// Shows what goes on until it is dropped.
pub(super) struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// Says on standard error what goes on, if that is a terminal.
    pub(super) fn of(what: impl Into<String>) -> Self {
        match io::stderr().is_terminal() {
            true => Self::on(io::stderr(), what.into()),
            false => Self(None),
        }
    }

    fn on(mut to: impl Write + Send + 'static, what: String) -> Self {
        let (done, ended) = mpsc::channel();
        let shown = thread::Builder::new().spawn(move || {
            let started = Instant::now();
            let mut wait = PATIENCE;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = EVERY;
                // A terminal that cannot be written to needs no progress.
                let _ = show(&mut to, &what, started.elapsed());
            }
            if wait == EVERY {
                let _ = to.write_all(CLEAR).and_then(|()| to.flush());
            }
        });
        // Without a thread the answer comes all the same.
        Self(shown.ok().map(|shown| (done, shown)))
    }
}

fn show(to: &mut impl Write, what: &str, taken: Duration) -> io::Result<()> {
    to.write_all(CLEAR)?;
    write!(to, "{what} … {:.1} s", taken.as_secs_f64())?;
    to.flush()
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, shown)) = self.0.take() {
            drop(done);
            let _ = shown.join();
        }
    }
}

/// `3 files, 68 MiB`.
pub(super) fn amount(files: &[crate::policy::SourceFile]) -> String {
    let bytes: usize = files.iter().map(|file| file.text().len()).sum();
    let size = if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", bytes >> 20)
    };
    match files.len() {
        1 => format!("1 file, {size}"),
        count => format!("{count} files, {size}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(screen: &Screen) -> String {
        String::from_utf8(screen.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn whoever_waits_is_told_and_the_line_goes_away() {
        let screen = Screen::default();
        let progress = Progress::on(screen.clone(), "check 1 file, 1 KiB".to_owned());
        while shown(&screen).is_empty() {
            thread::sleep(Duration::from_millis(10));
        }
        drop(progress);
        let shown = shown(&screen);
        assert!(shown.contains("check 1 file, 1 KiB … "), "{shown:?}");
        assert!(shown.ends_with("\r\u{1b}[2K"), "{shown:?}");
    }

    #[test]
    fn files_are_told_by_their_size() {
        let file = |bytes| crate::policy::SourceFile::new("a", "x".repeat(bytes));
        assert_eq!(amount(&[file(1)]), "1 file, 1 KiB");
        assert_eq!(amount(&[file(1), file(3 << 20)]), "2 files, 3 MiB");
    }
}
