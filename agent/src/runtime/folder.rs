//! The policy folder: somebody changed something in it.

use std::path::Path;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors and configuration tools write several times; one look after the last is enough.
const SETTLE: Duration = Duration::from_millis(300);

/// Tells when the folder's content may have changed.
pub(super) struct Changes {
    events: mpsc::Receiver<()>,
    /// Told, and not settled yet: kept here, so that who stops waiting loses nothing.
    is_told: bool,
    _watcher: Option<notify::RecommendedWatcher>,
}

/// Watches a folder. Without one, or where the kernel has no watch left, the timer alone looks.
pub(super) fn watch(folder: &Path) -> Changes {
    let (tell, events) = mpsc::channel(1);
    let told = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full is as good as told.
            let _ = tell.try_send(());
        }
    };
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    if let Err(error) = &watcher {
        tracing::debug!("{} is looked at every few seconds instead of watched: {error}", folder.display());
    }
    Changes { events, is_told: false, _watcher: watcher.ok() }
}

impl Changes {
    /// Waits for a change that has settled; for ever if nothing is watched.
    pub(super) async fn next(&mut self) {
        if !self.is_told && self.events.recv().await.is_none() {
            return std::future::pending().await;
        }
        self.is_told = true;
        while tokio::time::timeout(SETTLE, self.events.recv()).await.is_ok_and(|told| told.is_some()) {}
        self.is_told = false;
    }
}
