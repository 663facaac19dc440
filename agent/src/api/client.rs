//! The command line's side of the API. Blocking: a command asks one thing and prints the answer.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::types::Refusal;

/// Longest line of a stream that is taken; a record takes about one kilobyte.
const LINE_BYTES: usize = 1 << 20;

/// A connection to one agent.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// Why nobody answered.
#[derive(Debug)]
pub struct Unanswered {
    socket: PathBuf,
    error: io::Error,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        let kind = self.error.kind();
        if kind == io::ErrorKind::PermissionDenied {
            return write!(f, "not allowed to talk to the agent at {socket}: use sudo");
        }
        if kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused {
            let help = "start one with `bulkhead run`, or name its socket with --socket";
            return write!(f, "no agent listens at {socket}: {help}");
        }
        write!(f, "cannot reach the agent at {socket}: {}", self.error)
    }
}

impl std::error::Error for Unanswered {}

/// The agent's refusal is an answer, and an error of the call.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl std::error::Error for Refusal {}

impl Client {
    /// Makes sure that somebody listens.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub fn connect(socket: &Path) -> Result<Self> {
        UnixStream::connect(socket).map_err(|error| Unanswered { socket: socket.to_owned(), error })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let http = reqwest::Client::builder().unix_socket(socket).no_proxy().build();
        Ok(Self {
            socket: socket.to_owned(),
            http: http.context("prepare to talk to the agent")?,
            runtime: runtime.context("prepare to wait for the agent")?,
        })
    }

    /// Asks.
    ///
    /// # Errors
    /// A [`Refusal`], or no understandable answer.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T> {
        let request = self.http.get(url(path)).query(query);
        self.wait(async { self.answer(request).await?.json().await.map_err(plain) })
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// A [`Refusal`], or no understandable answer.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let request = self.http.post(url(path)).json(body);
        self.wait(async { self.answer(request).await?.json().await.map_err(plain) })
    }

    /// Asks for something that may be refused; a refusal is an answer.
    ///
    /// # Errors
    /// No understandable answer.
    pub fn ask_for<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Result<T, Refusal>> {
        match self.post(path, body) {
            Ok(reply) => Ok(Ok(reply)),
            Err(error) => error.downcast().map(Err),
        }
    }

    /// Hands over each line of an answer as it comes, until it ends or Ctrl-C; true if it ended by itself.
    ///
    /// # Errors
    /// A [`Refusal`], a broken connection, or whatever `each` returns.
    pub fn lines(
        &self,
        path: &str,
        query: &impl Serialize,
        mut each: impl FnMut(Lines<'_>) -> Result<()>,
    ) -> Result<bool> {
        let request = self.http.get(url(path)).query(query);
        self.wait(async {
            let mut chunks = self.answer(request).await?.bytes_stream();
            let mut rest = Vec::new();
            loop {
                let chunk = tokio::select! {
                    chunk = chunks.next() => chunk,
                    _ = tokio::signal::ctrl_c() => return Ok(false),
                };
                let Some(chunk) = chunk else { return Ok(true) };
                rest.extend_from_slice(&chunk.map_err(plain)?);
                anyhow::ensure!(
                    rest.len() <= LINE_BYTES || rest.contains(&b'\n'),
                    "the agent sent too long a line"
                );
                let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                each(Lines(&rest[..whole]))?;
                rest.drain(..whole);
            }
        })
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let response = request.send().await.map_err(plain)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(plain)?;
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(refusal.into()),
            Err(_) => anyhow::bail!("the agent answered {status}; is it of another version?"),
        }
    }

    fn wait<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(asked).map_err(|error| match error.is::<Refusal>() {
            true => error,
            false => error.context(format!("talk to the agent at {}", self.socket.display())),
        })
    }
}

/// The host in it is never resolved: every connection goes to the socket.
fn url(path: &str) -> String {
    format!("http://agent{path}")
}

/// The URL that the library names in its errors means nothing to anybody.
fn plain(error: reqwest::Error) -> anyhow::Error {
    error.without_url().into()
}

/// Whole lines.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// Each line without its end; empty ones only keep a connection alive.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }
}
