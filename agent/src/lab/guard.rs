//! Takes the labs of this process down when it is interrupted or panics.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::cleanup;

/// The labs of this process that are to go with it.
///
/// Whoever creates something that a lab owns holds this lock, and the last clean-up never lets go of it; so nothing
/// is created behind its back.
static LABS: Mutex<Labs> = Mutex::new(Labs { prefixes: Vec::new(), claimed: 0 });

/// What the shell reports for a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

struct Labs {
    prefixes: Vec<String>,
    claimed: usize,
}

/// Claims a prefix for a new lab and makes sure that it goes with the process.
pub(crate) fn claim() -> Result<String> {
    let mut labs = lock();
    let prefix = cleanup::claim(labs.claimed)?;
    labs.claimed += 1;
    labs.prefixes.push(prefix.clone());
    Ok(prefix)
}

/// Forgets a lab: its owner removes it, or it is kept.
pub(crate) fn release(prefix: &str) {
    lock().prefixes.retain(|other| other != prefix);
}

/// Runs `create` unless the last clean-up has begun; then the process is about to exit and this call does not return.
pub(crate) fn unless_closing<T>(create: impl FnOnce() -> Result<T>) -> Result<T> {
    let _labs = lock();
    create()
}

/// Installs the watcher of signals and the panic hook; once per process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if cfg!(panic = "abort") {
            clean_on_panic();
        }
        if let Err(error) = watch_signals() {
            eprintln!("the lab will outlive Ctrl-C (the next one removes it): {error:#}");
        }
    });
}

/// A panic unwinds nothing here, so `Drop` never runs and the hook does the work.
fn clean_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        // Held by the panicking thread itself, or by a clean-up under way: then the next lab removes this one.
        if let Ok(labs) = LABS.try_lock() {
            labs.prefixes.iter().for_each(|prefix| cleanup::remove(prefix));
        }
    }));
}

/// Watches on a thread with its own runtime, because a lab is used from code with and without one.
fn watch_signals() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("start a runtime")?;
    let _entered = runtime.enter();
    let streams = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [interrupt, terminate, hangup] = streams;
    let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
    drop(_entered);
    let watch = move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
        });
        let labs = lock();
        labs.prefixes.iter().for_each(|prefix| cleanup::remove(prefix));
        std::process::exit(INTERRUPTED);
    };
    std::thread::Builder::new().name("lab-signals".into()).spawn(watch).context("start the signal thread")?;
    Ok(())
}

fn lock() -> MutexGuard<'static, Labs> {
    LABS.lock().unwrap_or_else(PoisonError::into_inner)
}
