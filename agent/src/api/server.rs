//! The socket and the server on it.

use std::fs;
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::peer::Peer;
use super::routes;
use crate::runtime::Shared;
use crate::telemetry::Telemetry;

/// Makes the socket, readable and writable by root alone.
///
/// # Errors
/// Another agent answers on it, or something that is no socket lies there.
pub fn bind(path: &Path) -> Result<UnixListener> {
    if let Some(folder) = path.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(folder);
        made.with_context(|| format!("create {}", folder.display()))?;
    }
    clear(path)?;
    // Nobody may connect between bind and chmod.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    nix::sys::stat::umask(mask);
    let listener = bound.with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protect {}", path.display()))?;
    Ok(listener)
}

/// Removes the socket of an agent that is gone.
fn clear(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        bail!("{} exists and is no socket: remove it, or name another with spec.socket", path.display());
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another agent answers on {}: stop it first", path.display());
    }
    fs::remove_file(path).with_context(|| format!("remove the old socket {}", path.display()))
}

/// Serves until told to stop; then lets requests end, and cuts streams.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: UnixListener,
    engine: Shared,
    telemetry: Arc<Telemetry>,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let app = routes::all(engine, telemetry, stopped.clone());
    let service = app.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).with_graceful_shutdown(stop(&mut stopped)).await.context("serve the API")
}

fn stop(stopped: &mut watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stopped.clone();
    async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}
