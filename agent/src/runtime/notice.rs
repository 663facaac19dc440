//! The kernel tells that interfaces, addresses or nftables changed.

use std::time::Duration;

use anyhow::Result;
use tokio::io::unix::AsyncFd;

use crate::netlink::{Protocol, Socket};

/// Making an interface is several changes, and our own are told, too: one look after them is enough.
const SETTLE: Duration = Duration::from_millis(100);

/// Told by the kernel; the timer looks where it cannot be asked to tell.
pub(super) struct Notice {
    links: Option<AsyncFd<Socket>>,
    tables: Option<AsyncFd<Socket>>,
}

impl Notice {
    pub(super) fn start() -> Self {
        let addresses = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let tables = 1 << (libc::NFNLGRP_NFTABLES - 1);
        Self {
            links: told(listen(Protocol::Route, (libc::RTMGRP_LINK | addresses) as u32)),
            tables: told(listen(Protocol::Netfilter, tables)),
        }
    }

    /// Waits for a change that has settled.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            () = change(self.links.as_ref()) => {}
            () = change(self.tables.as_ref()) => {}
        }
        tokio::time::sleep(SETTLE).await;
        for socket in [&self.links, &self.tables].into_iter().flatten() {
            socket.get_ref().drain();
        }
    }
}

fn listen(protocol: Protocol, groups: u32) -> Result<AsyncFd<Socket>> {
    let socket = Socket::listening(protocol, groups)?;
    // SAFETY: the socket owns its descriptor: it is the same one, and open, for as long as the socket lives.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(|error| anyhow::Error::new(error.into_parts().1))
}

fn told(socket: Result<AsyncFd<Socket>>) -> Option<AsyncFd<Socket>> {
    socket.inspect_err(|error| tracing::debug!("changes are looked for instead of told: {error:#}")).ok()
}

async fn change(socket: Option<&AsyncFd<Socket>>) {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = socket.readable().await else { return std::future::pending().await };
        if socket.get_ref().drain() {
            return;
        }
        ready.clear_ready();
    }
}
