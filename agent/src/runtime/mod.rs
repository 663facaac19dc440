//! The agent: brings the accepted policy into force, keeps it there, and answers on a socket.
//!
//! ```text
//! config → Engine (state, in force, kernel, guard, telemetry) ← tick every 5 s, changes of host, clock, folder, API
//! ```
//!
//! When the agent ends, however it ends, the datapath goes on enforcing.

mod anchor;
mod apply;
mod attributes;
mod author;
mod candidate;
mod clock;
mod engine;
mod few;
mod folder;
mod forwarding;
mod grants;
mod guard;
mod history;
mod host;
mod in_force;
mod kernel;
mod notice;
mod pending;
mod plan;
mod quarantine;
mod report;
mod seldom;
mod session;
mod surroundings;
mod time;
mod translation;
mod warming;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

pub use apply::Refused;
pub use author::Author;
pub use clock::{Keeper, Reading, Steps};
pub use engine::Engine;
pub use in_force::{Facts, InForce};
pub use kernel::{Claim, pins};
pub use report::guard_without_agent;
pub(crate) use session::ssh_connection;

use notice::Notice;

use crate::api;
use crate::api::types::NamedText;
use crate::datapath::require_features;
use crate::policy;

/// Where the agent's configuration is if nobody says otherwise.
pub const CONFIG: &str = "/etc/bulkhead/agent.yaml";

/// How often the kernel is compared with what it should be.
const TICK: Duration = Duration::from_secs(5);

/// How long clients get to let go when the agent stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The engine as tasks share it.
pub type Shared = Arc<Mutex<Engine>>;

/// Runs the agent until SIGTERM or SIGINT; the datapath stays.
///
/// # Errors
/// The agent cannot start: configuration, a kernel that lacks something, state directory, socket.
pub async fn run(config: &Path) -> Result<ExitCode> {
    let (agent, text) = read_config(config)?;
    // Here, and not when the first policy comes: who starts an agent still looks.
    require_features()?;
    let socket = agent.socket.clone();
    let signals = Signals::listen()?;
    // Before anything is touched: it tells whether another agent runs.
    let listener = api::server::bind(&socket)?;
    let ended = enforce(agent, text, listener, signals).await;
    let _ = std::fs::remove_file(&socket);
    ended.map(|()| ExitCode::SUCCESS)
}

async fn enforce(
    agent: policy::AgentConfig,
    text: NamedText,
    listener: UnixListener,
    signals: Signals,
) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let engine = tokio::task::spawn_blocking(move || Engine::start(agent, text, stopped)).await??;
    let telemetry = engine.telemetry();
    let engine: Shared = Arc::new(Mutex::new(engine));
    let serving =
        tokio::spawn(api::server::serve(listener, Arc::clone(&engine), telemetry, stop.subscribe()));
    let ticking = tokio::spawn(tick(Arc::clone(&engine), stop.subscribe()));
    tracing::info!("ready");
    signals.wait().await;
    tracing::info!("stopping; the datapath goes on enforcing");
    let _ = stop.send(true);
    ticking.await.context("stop the reconcile loop")?;
    match tokio::time::timeout(LAST_WORDS, serving).await {
        Ok(served) => served.context("stop the API")?,
        Err(_) => {
            tracing::warn!("a client does not let go and is cut off");
            Ok(())
        }
    }
}

/// Takes the engine, whatever happened to whoever had it before.
pub(crate) fn lock(engine: &Shared) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_config(config: &Path) -> Result<(policy::AgentConfig, NamedText)> {
    let text = std::fs::read_to_string(config).with_context(|| format!("read {}", config.display()))?;
    match policy::load_agent(config) {
        Ok(agent) => Ok((agent, NamedText { name: config.display().to_string(), text })),
        Err(problems) => bail!("{}\nthe agent cannot start with this configuration", problems.render(false)),
    }
}

async fn tick(engine: Shared, mut stopped: watch::Receiver<bool>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let folder: PathBuf = lock(&engine).policy_folder();
    let mut changed = folder::watch(&folder);
    let mut notice = Notice::start();
    let mut steps = Steps::start();
    let wake = lock(&engine).wake();
    loop {
        // Out of the lock before anything is waited for.
        let deadline = lock(&engine).next_deadline();
        let look: fn(&mut Engine) = tokio::select! {
            _ = stopped.changed() => return,
            _ = ticks.tick() => Engine::tick,
            () = changed.next() => Engine::tick,
            () = notice.next() => Engine::look_at_host,
            () = steps.next() => Engine::look_at_clock,
            () = wake.notified() => continue,
            () = pass(deadline) => Engine::tick,
        };
        let engine = Arc::clone(&engine);
        // Grace periods and file reads block.
        let ticked = tokio::task::spawn_blocking(move || look(&mut lock(&engine))).await;
        if let Err(error) = ticked {
            tracing::error!("the reconcile loop failed and goes on: {error}");
        }
    }
}

/// Waits for a deadline; for ever if there is none.
async fn pass(left: Option<Duration>) {
    match left {
        // One that could not be kept is tried again with the ticks.
        Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
        Some(_) | None => std::future::pending().await,
    }
}

/// What ends the agent in order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on neither signal kills.
    fn listen() -> Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
