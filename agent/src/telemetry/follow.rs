//! A reader of the live stream.

use std::sync::Arc;

use futures_util::Stream;
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::filter::Filter;
use super::record::{Gap, Record};

/// Records as they come. Nobody waits for a reader: one that is too slow loses the oldest, and is told so.
#[derive(Debug)]
pub struct Follow {
    records: Receiver<Arc<Record>>,
    filter: Filter,
}

impl Follow {
    pub(super) fn new(records: Receiver<Arc<Record>>, filter: Filter) -> Self {
        Self { records, filter }
    }

    /// The next record that the filter lets through; nothing once telemetry has ended.
    pub async fn next(&mut self) -> Option<Arc<Record>> {
        loop {
            match self.records.recv().await {
                Ok(record) if self.filter.matches(&record) => return Some(record),
                Ok(_) => {}
                Err(RecvError::Lagged(skipped)) => return Some(Arc::new(too_slow(skipped))),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Arc<Record>> + Send {
        futures_util::stream::unfold(self, async |mut follow| {
            let record = follow.next().await?;
            Some((record, follow))
        })
    }
}

/// What was skipped may have been nothing that the filter lets through; nobody looked.
fn too_slow(skipped: u64) -> Record {
    Record::of_gap(Timestamp::now(), Gap { not_shown: skipped, skipped, ..Gap::default() })
}
