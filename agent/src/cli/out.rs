//! Standard output: buffered, and aware of a reader that went away.

use std::io::{self, BufWriter, Stdout, Write};

/// Where a command writes its answer.
#[derive(Debug)]
pub struct Out {
    to: BufWriter<Stdout>,
    closed: bool,
}

impl Out {
    /// The process's standard output.
    pub fn stdout() -> Self {
        Self { to: BufWriter::new(io::stdout()), closed: false }
    }

    /// True if the reader closed the pipe.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes what is left in the buffer.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.flush().map_err(|error| anyhow::Error::new(error).context("write to standard output"))
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            self.closed = true;
        }
        result
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.to.flush();
        self.note(flushed)
    }
}
