//! How far an import has come, for whoever waits for it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far an import has come. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    rows: AtomicU64,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
}

impl Progress {
    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.counts.rows.load(Ordering::Relaxed)
    }

    /// How much of the file is read, in hundredths; `None` before it is known how long the file is.
    pub fn percent(&self) -> Option<u64> {
        let total = self.counts.bytes_total.load(Ordering::Relaxed);
        (self.counts.bytes.load(Ordering::Relaxed) * 100).checked_div(total).map(|percent| percent.min(100))
    }

    pub(super) fn begin(&self, bytes_total: u64) {
        self.counts.bytes_total.store(bytes_total, Ordering::Relaxed);
    }

    pub(super) fn row(&self) {
        self.counts.rows.fetch_add(1, Ordering::Relaxed);
    }
}

/// A file that counts what is read of it.
pub(super) struct Counted<R> {
    pub(super) reader: R,
    pub(super) progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.progress.counts.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
