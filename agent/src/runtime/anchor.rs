//! Tells the newest checksums of revisions and grants outside, where nobody who owns this host can take them back.
//!
//! It is told after the fact and beside the engine: a place that does not answer must not stop an
//! apply, and is tried again until it does. The newest checksum vouches for all before it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::sync::watch;

use crate::policy::Anchors;
use crate::state::{Anchor, Chain};

/// Where the system log listens.
const LOG: &str = "/dev/log";
/// Facility authpriv, severity notice (RFC 5424 section 6.2.1).
const PRIORITY: u8 = 10 * 8 + 5;
/// The name of this host.
const HOST: &str = "/proc/sys/kernel/hostname";
/// How long a web server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// When what failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// The anchors of one agent.
#[derive(Debug)]
pub(super) struct Anchoring {
    newest: watch::Sender<Newest>,
    fault: Arc<Mutex<Option<String>>>,
}

/// The newest entry of each chain.
type Newest = BTreeMap<Chain, Anchor>;
/// Where which of them is still to be told.
type Left = Vec<(Place, Chain)>;

/// One place outside.
#[derive(Clone, Debug)]
enum Place {
    File(PathBuf),
    Syslog,
    Webhook(String),
}

impl Anchoring {
    /// Starts to tell, on the runtime of the calling thread.
    pub(super) fn start(anchors: &Anchors) -> Self {
        let (newest, told) = watch::channel(Newest::new());
        let fault = Arc::new(Mutex::new(None));
        let places = places(anchors);
        if !places.is_empty() {
            tokio::runtime::Handle::current().spawn(keep_telling(places, told, Arc::clone(&fault)));
        }
        Self { newest, fault }
    }

    /// There is a newer entry.
    pub(super) fn tell(&self, anchor: Anchor) {
        self.newest.send_modify(|newest| drop(newest.insert(anchor.chain, anchor)));
    }

    /// Which entry could not be told, and why.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn places(anchors: &Anchors) -> Vec<Place> {
    let file = anchors.file.clone().map(Place::File);
    let syslog = anchors.syslog.then_some(Place::Syslog);
    file.into_iter().chain(syslog).chain(anchors.webhook.clone().map(Place::Webhook)).collect()
}

/// Ends with the engine that holds the other end.
async fn keep_telling(
    places: Vec<Place>,
    mut newest: watch::Receiver<Newest>,
    fault: Arc<Mutex<Option<String>>>,
) {
    let (mut known, mut left) = (Newest::new(), Left::new());
    loop {
        if let Ok(Err(_)) = tokio::time::timeout(AGAIN, newest.changed()).await {
            return;
        }
        let now = newest.borrow_and_update().clone();
        for chain in now.values().filter(|anchor| known.get(&anchor.chain) != Some(anchor)).map(|a| a.chain) {
            left.retain(|(_, other)| *other != chain);
            left.extend(places.iter().map(|place| (place.clone(), chain)));
        }
        known = now;
        if !left.is_empty() {
            let (failed, why) = tell_all(left, &known).await;
            left = failed;
            *fault.lock().unwrap_or_else(PoisonError::into_inner) = why;
        }
    }
}

/// What was not told, and a sentence about the first.
async fn tell_all(left: Left, newest: &Newest) -> (Left, Option<String>) {
    let (mut failed, mut why) = (Left::new(), None);
    for (place, chain) in left {
        let Some(anchor) = newest.get(&chain) else { continue };
        if let Err(error) = tell(&place, anchor).await {
            let sentence = format!(
                "{} is not anchored: {error:#}; it is tried again every {} s",
                anchor.entry(),
                AGAIN.as_secs()
            );
            tracing::warn!("{sentence}");
            why.get_or_insert(sentence);
            failed.push((place, chain));
        }
    }
    (failed, why)
}

async fn tell(place: &Place, anchor: &Anchor) -> Result<()> {
    match place {
        Place::File(path) => {
            let (path, anchor) = (path.clone(), anchor.clone());
            // A file system elsewhere may take its time.
            tokio::task::spawn_blocking(move || append(&path, &anchor)).await.context("append")?
        }
        Place::Syslog => log(Path::new(LOG), anchor),
        Place::Webhook(url) => post(url, anchor).await,
    }
}

fn append(path: &Path, anchor: &Anchor) -> Result<()> {
    let act = || format!("append to {}", path.display());
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).append(true).mode(0o600).open(path).with_context(act)?;
    let line = format!("{} {} {anchor}\n", jiff::Timestamp::now(), host());
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).with_context(act)
}

fn log(at: &Path, anchor: &Anchor) -> Result<()> {
    let act = || format!("write to the system log at {}", at.display());
    let socket = UnixDatagram::unbound().with_context(act)?;
    socket.connect(at).with_context(act)?;
    let line = format!("<{PRIORITY}>bulkhead[{}]: anchor {anchor}", std::process::id());
    socket.send(line.as_bytes()).map(|_| ()).with_context(act)
}

/// What a web hook receives.
#[derive(Serialize)]
struct Told {
    host: String,
    time: String,
    anchor: String,
}

async fn post(url: &str, anchor: &Anchor) -> Result<()> {
    let act = || format!("post to {url}");
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().with_context(act)?;
    let told = Told { host: host(), time: jiff::Timestamp::now().to_string(), anchor: anchor.to_string() };
    let answer = http.post(url).json(&told).send().await.map_err(reqwest::Error::without_url);
    let status = answer.with_context(act)?.status();
    ensure!(status.is_success(), "post to {url}: the answer was {status}");
    Ok(())
}

fn host() -> String {
    fs::read_to_string(HOST).map_or_else(|_| "-".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::state::anchors_in;

    fn anchor(number: u64) -> Anchor {
        Anchor { chain: Chain::Revisions, number, hash: "0123456789abcdef".repeat(4) }
    }

    /// Answers one request with a status line, and returns what came.
    async fn answer(listener: &TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while anchors_in(&String::from_utf8_lossy(&request)).is_empty() {
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).await.unwrap();
            request.extend_from_slice(&bytes[..read]);
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn the_newest_is_told_in_a_file_and_to_a_web_hook_and_a_failure_is_told_here() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/anchor", listener.local_addr().unwrap());
        let file = folder.path().join("anchors");
        let anchors = Anchors { file: Some(file.clone()), webhook: Some(url), ..Anchors::default() };
        let anchoring = Anchoring::start(&anchors);
        anchoring.tell(anchor(1));
        let request = answer(&listener, "500 Internal Server Error").await;
        assert!(request.starts_with("POST /anchor HTTP/1.1\r\n"), "{request}");
        assert_eq!(anchors_in(&request), [anchor(1)]);
        let fault = async {
            while anchoring.fault().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, fault).await.unwrap();
        assert!(anchoring.fault().unwrap().contains("r1 is not anchored: post to http://127.0.0.1:"));
        // That of another chain is told beside it; what failed is told with it.
        let grant = Anchor { chain: Chain::Grants, ..anchor(17) };
        anchoring.tell(grant.clone());
        assert_eq!(anchors_in(&answer(&listener, "204 No Content").await), [anchor(1)]);
        assert_eq!(anchors_in(&answer(&listener, "204 No Content").await), std::slice::from_ref(&grant));
        // A newer one need not wait for the next attempt, and is told to all.
        anchoring.tell(anchor(2));
        assert_eq!(anchors_in(&answer(&listener, "204 No Content").await), [anchor(2)]);
        let settled = async {
            while anchoring.fault().is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.unwrap();
        assert_eq!(anchors_in(&fs::read_to_string(&file).unwrap()), [anchor(1), grant, anchor(2)]);
    }

    #[test]
    fn what_the_file_and_the_log_hold_is_found_by_an_audit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("anchors");
        append(&file, &anchor(412)).unwrap();
        append(&file, &anchor(413)).unwrap();
        assert_eq!(anchors_in(&fs::read_to_string(&file).unwrap()), [anchor(412), anchor(413)]);
        let error = append(&folder.path().join("no/where"), &anchor(1)).unwrap_err().to_string();
        assert!(error.starts_with("append to "), "{error}");
        let socket = folder.path().join("log");
        let listener = UnixDatagram::bind(&socket).unwrap();
        log(&socket, &anchor(414)).unwrap();
        let mut line = [0; 256];
        let length = listener.recv(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        assert!(line.starts_with("<85>bulkhead["), "{line}");
        assert_eq!(anchors_in(&line), [anchor(414)]);
    }
}
