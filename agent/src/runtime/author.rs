//! Who asks: what the kernel says of the peer, and what the peer says of itself.

use std::fs;

use jiff::Timestamp;
use nix::unistd::{Uid, User};

use crate::api::types::{Origin, RevisionInfo, Terms, Who};

/// The process at the other end of the socket.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Author {
    /// User id, from the kernel (SO_PEERCRED).
    pub uid: u32,
    /// Process id, from the kernel; 0 if it does not tell.
    pub pid: i32,
}

impl Author {
    /// The author as a revision keeps it: `kari via sudo`, `root`, `uid 1004`.
    ///
    /// The login uid is set once at login and survives `su` and `sudo` (kernel audit); `SUDO_USER` is
    /// only the client's word.
    pub fn describe(self, sudo_user: Option<&str>) -> String {
        let user = name(self.uid);
        match (self.login(), sudo_user) {
            (Some(login), _) if login != self.uid => format!("{} via {user}", name(login)),
            (_, Some(sudo)) if is_plain(sudo) => format!("{sudo} via sudo"),
            _ => user,
        }
    }

    /// All that is known, for the record.
    pub fn who(self, sudo_user: Option<&str>) -> Who {
        let sudo_user = sudo_user.filter(|name| is_plain(name)).map(str::to_owned);
        Who { uid: self.uid, login_uid: self.login(), sudo_user }
    }

    /// A revision that is made now, on these terms.
    pub(super) fn signs(self, number: u64, terms: &Terms, origin: Origin) -> RevisionInfo {
        let sudo = terms.sudo_user.as_deref();
        RevisionInfo {
            number,
            time: Timestamp::now(),
            author: self.describe(sudo),
            message: terms.message.clone(),
            who: self.who(sudo),
            origin,
        }
    }

    fn login(self) -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{}/loginuid", self.pid)).ok()?;
        // (uid_t) -1: no login, a service or a container.
        text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
    }
}

/// The one person that an author is: who once logged in, or else whom `sudo` names, or else the user.
pub(super) fn person(who: &Who) -> String {
    match (who.login_uid, &who.sudo_user) {
        (Some(login), _) => name(login),
        (None, Some(sudo)) => sudo.clone(),
        (None, None) => name(who.uid),
    }
}

fn name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_s_word_counts_only_if_it_is_a_name() {
        let nobody = Author { uid: 4_000_000_000, pid: 0 };
        assert_eq!(nobody.describe(None), "uid 4000000000");
        assert_eq!(nobody.describe(Some("kari")), "kari via sudo");
        assert_eq!(nobody.describe(Some("a\nb")), "uid 4000000000");
        assert_eq!(Author { uid: 0, pid: 0 }.describe(None), "root");
    }
}
