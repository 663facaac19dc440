//! The history held against what was told outside, where the host cannot take it back: a system log and a web hook.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::host::{Host, PATIENCE, words};
use super::revisions::{as_typed, done, move_port};

/// Where programs of this machine send what is to be logged, while a test listens there instead.
const LOG: &str = "/dev/log";

struct SystemLog {
    socket: UnixDatagram,
    /// There was a log, which is covered and not replaced.
    covers: bool,
}

impl SystemLog {
    fn take_over(folder: &Path) -> Result<Self> {
        let path = folder.join("log");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // A killed run may have left a link that leads nowhere.
        let covers = fs::exists(LOG)?;
        if covers {
            mount(Some(&path), LOG, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        } else {
            let _ = fs::remove_file(LOG);
            symlink(&path, LOG)?;
        }
        Ok(Self { socket, covers })
    }

    /// All that was logged until this was.
    fn until(&self, wanted: &str) -> Result<String> {
        let mut heard = String::new();
        while !heard.contains(wanted) {
            let mut line = [0; 1024];
            let length = self.socket.recv(&mut line).with_context(|| format!("no {wanted} in {heard}"))?;
            heard += &format!("Nov 27 12:00:00 core {}\n", String::from_utf8_lossy(&line[..length]));
        }
        Ok(heard)
    }
}

impl Drop for SystemLog {
    fn drop(&mut self) {
        if self.covers {
            let _ = umount2(LOG, MntFlags::MNT_DETACH);
        } else {
            let _ = fs::remove_file(LOG);
        }
    }
}

/// Somebody else's server, which keeps what is posted to it.
struct Hook(TcpListener);

impl Hook {
    fn listen(host: &Host) -> Result<Self> {
        let listener = host.lab.namespace("core")?.run(|| TcpListener::bind("127.0.0.1:0"))??;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    fn url(&self) -> Result<String> {
        Ok(format!("http://{}/anchor", self.0.local_addr()?))
    }

    /// All that was posted until this was.
    fn until(&self, wanted: &str) -> Result<String> {
        let (mut heard, until) = (String::new(), Instant::now() + PATIENCE);
        while !heard.contains(wanted) {
            match self.0.accept() {
                Ok((stream, _)) => heard += &taken(stream)?,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                Err(_) if Instant::now() >= until => bail!("no {wanted} in {heard}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(heard)
    }
}

/// Reads a request, and says that it was taken.
fn taken(mut stream: TcpStream) -> Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = String::new();
    // An anchor and the quote behind it end the body.
    while !request.trim_end().ends_with('}') {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes)?;
        anyhow::ensure!(read > 0, "it was cut off: {request}");
        request += &String::from_utf8_lossy(&bytes[..read]);
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(request + "\n")
}

/// What somebody does to the journal of four revisions.
type Damage = fn(&Path) -> Result<()>;

/// Each, what is told of it, and if the host would have noticed alone.
const DAMAGES: [(Damage, &str, bool); 3] = [
    (miss, "r2", true),
    (exchange, "reordered", true),
    (cut_off, "r4 was anchored, and the newest entry is r3", false),
];

fn entry(state: &Path, number: u32) -> PathBuf {
    state.join(format!("revisions/{number}"))
}

fn miss(state: &Path) -> Result<()> {
    Ok(fs::remove_file(entry(state, 2))?)
}

fn exchange(state: &Path) -> Result<()> {
    let [two, three] = [2, 3].map(|number| fs::read(entry(state, number)));
    fs::write(entry(state, 2), three?)?;
    Ok(fs::write(entry(state, 3), two?)?)
}

/// With the state that told of it, so that nothing on this host knows of it.
fn cut_off(state: &Path) -> Result<()> {
    fs::remove_file(entry(state, 4))?;
    Ok(fs::rename(state.join("previous"), state.join("accepted"))?)
}

#[test]
fn missing_exchanged_and_cut_off_entries_are_found_by_what_a_log_and_a_web_hook_were_told() -> Result<()> {
    let Some(mut host) = Host::new()? else { return Ok(()) };
    let (log, hook) = (SystemLog::take_over(&host.lab.directory())?, Hook::listen(&host)?);
    let anchors = format!("  audit: {{anchor: {{syslog: true, webhook: \"{}\"}}}}\n", hook.url()?);
    fs::write(&host.config, fs::read_to_string(&host.config)? + &anchors)?;
    host.start()?;
    host.apply()?;
    for port in [9443, 8443, 9443] {
        done(&host, &as_typed(&move_port(&host, port, &[])?))?;
    }
    // The agent waits for the hook's answers, and has told the log before.
    let posted = hook.until("\"r4 ")?;
    let logged = log.until(" r4 ")?;
    host.kill()?;
    for (name, text) in [("hook", posted), ("log", logged)] {
        let outside = host.lab.directory().join(format!("told-to-the-{name}"));
        fs::write(&outside, text)?;
        against(&host, &outside).with_context(|| format!("by the {name}"))?;
    }
    Ok(())
}

fn against(host: &Host, outside: &Path) -> Result<()> {
    let outside = outside.to_string_lossy();
    let said = done(host, &["audit", "verify", "--against", &outside])?;
    assert!(said.contains("OK 4 revisions, r1 to r4, one chain"), "{said}");
    assert!(said.contains("r4 is as it was told outside"), "{said}");
    for (damage, told, noticed) in DAMAGES {
        let kept = Kept::of(&host.state)?;
        damage(&host.state)?;
        let output = host.bulkhead(&["audit", "verify", "--against", &outside])?;
        assert_eq!(output.status.code(), Some(1), "{told}: {}", words(&output));
        assert!(words(&output).contains(told) && words(&output).contains("NOT WHOLE"), "{}", words(&output));
        let alone = host.bulkhead(&["audit", "verify"])?;
        assert_eq!(alone.status.success(), !noticed, "{told}: {}", words(&alone));
        kept.put_back()?;
    }
    Ok(())
}

/// The state as it was.
struct Kept(Vec<(PathBuf, Vec<u8>)>);

impl Kept {
    fn of(state: &Path) -> Result<Self> {
        let files = ["accepted", "previous"].map(|name| state.join(name));
        let all = files.into_iter().chain((1..=4).map(|number| entry(state, number)));
        all.map(|path| Ok((path.clone(), fs::read(&path)?))).collect::<Result<_>>().map(Self)
    }

    fn put_back(self) -> Result<()> {
        self.0.into_iter().try_for_each(|(path, bytes)| Ok(fs::write(path, bytes)?))
    }
}
