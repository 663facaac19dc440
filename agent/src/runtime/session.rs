//! The SSH connection that a process lives in.

use std::fs;

/// What sshd tells its children.
const VARIABLE: &[u8] = b"SSH_CONNECTION=";
/// Processes between a command and its sshd.
const DEPTH: usize = 64;

/// The SSH connection of a process or the nearest of its ancestors that names one: `sudo` cleans the environment of
/// its children and not of itself.
///
/// Nothing if there is none, or the kernel does not let this process look.
pub(crate) fn ssh_connection(mut pid: u32) -> Option<String> {
    for _ in 0..DEPTH {
        if let Some(connection) = fs::read(format!("/proc/{pid}/environ")).ok().and_then(|all| named(&all)) {
            return Some(connection);
        }
        pid = parent(pid).filter(|parent| *parent > 1)?;
    }
    None
}

fn named(environment: &[u8]) -> Option<String> {
    let found = environment.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(VARIABLE));
    found.and_then(|value| String::from_utf8(value.to_vec()).ok())
}

/// The fourth field of `stat`, behind a name that may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_connection_is_found_above_a_process_that_was_not_told() {
        let mut shell = Command::new("sh");
        // As `sudo` does it: the command itself has a clean environment.
        shell.args(["-c", "env -u SSH_CONNECTION sleep 30 & echo $!; wait"]);
        shell.env("SSH_CONNECTION", "198.51.100.7 50123 192.0.2.1 22").stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(shell.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let pid: u32 = line.trim().parse().unwrap();
        assert_eq!(ssh_connection(pid).as_deref(), Some("198.51.100.7 50123 192.0.2.1 22"));
        for pid in [pid, shell.id()] {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        shell.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert_eq!(ssh_connection(u32::MAX), None);
        assert_eq!(named(b"A=1\0SSH_CONNECTION=a b\0"), Some("a b".to_owned()));
        assert_eq!(named(b"XSSH_CONNECTION=a"), None);
    }
}
