//! The standard output, or whatever else takes bytes.
//!
//! **Guarantee: at least once.** A batch is delivered when its bytes have been taken: by a pipe, which does not mean
//! that anybody has read them. A batch whose run was killed before its commit is written again from its beginning.
//!
//! A reader that has closed its end is a normal end ([`DeliveryError::Closed`]), not a fault.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::BoxFuture;

use super::super::cancel::Cancel;
use super::super::format::body::Body;
use super::metrics::Metrics;
use super::rows::oldest_us;
use super::{Batch, DeliveryError, Destination, Refused};

/// Bytes that are read from a body and written at once: a few fillings of a pipe.
const PART_BYTES: usize = 256 << 10;

/// Writes the objects of batches one behind the other.
pub struct Stdout {
    out: Box<dyn Write + Send>,
    cancel: Cancel,
    metrics: Arc<Metrics>,
}

impl Stdout {
    /// Writes to `out`. It is flushed after each batch.
    pub fn new(out: Box<dyn Write + Send>, cancel: &Cancel) -> Self {
        Self { out, cancel: cancel.clone(), metrics: Arc::new(Metrics::new("DeliveryToStdout")) }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        for parcel in &batch.parcels {
            self.metrics.attempt(parcel.records, parcel.body.len());
            let mut offset = 0;
            while offset < parcel.body.len() {
                // A batch that was begun is finished, unless nobody seems to want it.
                let part = read(&parcel.body, offset, &parcel.name)?;
                self.out.write_all(&part).map_err(|error| self.failed(&error))?;
                offset += part.len() as u64;
            }
            self.metrics.success();
            self.metrics.delivered(parcel.records, parcel.body.len());
        }
        self.out.flush().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> DeliveryError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => DeliveryError::Closed,
            // The caller's writer gives up like this when it is told to while nobody reads.
            _ if self.cancel.is_cancelled() => DeliveryError::Interrupted,
            _ => DeliveryError::Permanent(format!("output: {error}")),
        }
    }
}

fn read(body: &Body, offset: u64, name: &str) -> Result<Vec<u8>, DeliveryError> {
    body.read(offset, PART_BYTES).map_err(|error| DeliveryError::Permanent(format!("{name}: {error}")))
}

impl Destination for Stdout {
    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Refused>, DeliveryError>> {
        Box::pin(async move {
            self.metrics.oldest_us.store(oldest_us(batch), Relaxed);
            let written = self.write(batch);
            self.metrics.oldest_us.store(0, Relaxed);
            written.map(|()| Vec::new())
        })
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(Arc::clone(&self.metrics))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::Parcel;
    use super::*;
    use crate::hose::format::body::Scratch;
    use crate::sys::System;

    fn run(to: &mut Stdout, batch: &Batch) -> Result<Vec<Refused>, DeliveryError> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(to.deliver(batch))
    }

    fn batch(bodies: Vec<Body>) -> Batch {
        let parcels = bodies.into_iter().map(|body| Parcel {
            name: "x".to_owned(),
            body,
            chunks: Vec::new(),
            records: 2,
            oldest_us: 5,
        });
        Batch { number: 1, id: uuid::Uuid::nil(), parcels: parcels.collect() }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.0.lock().unwrap();
            // A pipe takes what it has room for.
            let taken = bytes.len().min(1000);
            all.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn objects_come_out_in_their_order_however_large() {
        let dir = tempfile::tempdir().unwrap();
        let mut large = Scratch::new(&System::real(), dir.path()).begin();
        large.write_all(&vec![b'b'; 3 * PART_BYTES + 7]).unwrap();
        let large = large.finish().unwrap();
        assert!(matches!(large, Body::File(..)));
        let out = Shared::default();
        let mut to = Stdout::new(Box::new(out.clone()), &Cancel::new());
        let bodies =
            vec![Body::from(b"aa".to_vec()), large, Body::from(Vec::new()), Body::from(b"c".to_vec())];
        assert!(run(&mut to, &batch(bodies)).unwrap().is_empty());
        let all = out.0.lock().unwrap();
        assert_eq!(all.len(), 3 * PART_BYTES + 10);
        assert!(all.starts_with(b"aab") && all.ends_with(b"bc"));
        assert_eq!(to.metrics().unwrap().records.load(Relaxed), 8);
    }

    #[test]
    fn a_closed_reader_is_a_normal_end() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut to = Stdout::new(Box::new(writer), &Cancel::new());
        assert!(matches!(run(&mut to, &batch(vec![Body::from(b"x".to_vec())])), Err(DeliveryError::Closed)));
        let full: Box<dyn Write + Send> =
            Box::new(std::fs::File::options().write(true).open("/dev/full").unwrap());
        let error = run(&mut Stdout::new(full, &Cancel::new()), &batch(vec![Body::from(b"x".to_vec())]));
        assert!(matches!(error, Err(DeliveryError::Permanent(_))));
    }
}
