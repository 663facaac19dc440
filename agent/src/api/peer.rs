//! Who is at the other end of the socket, as the kernel says (SO_PEERCRED).

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use crate::runtime::Author;

/// The peer of one connection; nothing if the kernel does not tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) Option<Author>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self(credentials.map(|c| Author { uid: c.uid(), pid: c.pid().unwrap_or_default() }))
    }
}

impl Peer {
    /// True for root and for the user that the agent runs as.
    pub(super) fn may_ask(self, agent_uid: u32) -> bool {
        self.0.is_some_and(|author| author.uid == 0 || author.uid == agent_uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_agent_s_user_may_ask() {
        let peer = |uid| Peer(Some(Author { uid, pid: 1 }));
        assert!(peer(0).may_ask(990));
        assert!(peer(990).may_ask(990));
        assert!(!peer(1000).may_ask(990));
        assert!(!Peer(None).may_ask(990));
    }
}
