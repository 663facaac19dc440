//! A TCP connection that stays open, to prove that a change cut it or left it alone.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::client::Outcome;

/// What shows that a connection carries payload.
const PROBE: &[u8] = b"still there?";

/// An open connection to an echo server.
#[derive(Debug)]
pub struct LiveConnection {
    stream: TcpStream,
}

impl LiveConnection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream }
    }

    /// Sends `payload` and reads as many bytes back, within the client's timeout.
    ///
    /// After a timeout the kernel goes on retransmitting, so a later exchange may see late bytes: a connection that
    /// has failed once is not used again.
    pub fn exchange(&mut self, payload: &[u8]) -> Result<Outcome> {
        let (sent, reply) = std::thread::scope(|scope| {
            // Beside the reading: an echo server that is not read from stops reading, and both would wait for ever.
            let sending =
                std::thread::Builder::new().spawn_scoped(scope, || (&self.stream).write_all(payload));
            let reply = self.read_reply(payload.len());
            (sending.map(|sending| sending.join()), reply)
        });
        let sent = sent
            .context("start a thread that sends")?
            .map_err(|_| anyhow!("the thread that sends panicked"))?;
        sent.and(reply).map_or_else(Outcome::from_error, |reply| Ok(Outcome::Replied(reply)))
    }

    fn read_reply(&self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut reply = vec![0; length];
        (&self.stream).read_exact(&mut reply)?;
        Ok(reply)
    }

    /// Says whether the connection still carries a payload both ways.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.exchange(PROBE)?.echoed(PROBE))
    }

    /// After one [`Self::is_alive`] that got no answer: waits for the answer to what the kernel goes on retransmitting.
    ///
    /// # Errors
    /// The timeout cannot be set.
    pub fn is_alive_again(&mut self, within: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(within)).context("set a connection's timeout")?;
        Ok(self.read_reply(PROBE.len()).is_ok_and(|reply| reply == PROBE))
    }

    /// Exchanges small payloads until told to stop, and returns how many came back; ends at the first that did not.
    pub fn exchange_until(&mut self, stop: &AtomicBool) -> Result<(u64, Option<Outcome>)> {
        let mut count: u64 = 0;
        while !stop.load(Ordering::Relaxed) {
            let payload = count.to_be_bytes();
            let outcome = self.exchange(&payload)?;
            if !outcome.echoed(&payload) {
                return Ok((count, Some(outcome)));
            }
            count += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((count, None))
    }

    /// Waits for `timeout` for the other side to close or reset; a silent connection stays open.
    pub fn is_open(&mut self, timeout: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(timeout)).context("set a connection's timeout")?;
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) => Ok(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        }
    }
}
