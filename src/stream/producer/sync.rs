//! The thread that waits for the disk, so that the next records can be gathered meanwhile.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::log::{Error, SyncTicket};
use crate::record::ShardId;

type Work = Vec<(ShardId, SyncTicket)>;
type Done = Vec<(ShardId, SyncTicket, Result<(), Error>)>;

/// Waits for one set of tickets at a time.
pub(super) struct Syncer {
    thread: Option<(Sender<Work>, Receiver<Done>)>,
    busy: bool,
    /// Results that were ready at once.
    ready: Option<Done>,
}

impl Syncer {
    pub(super) fn new() -> Self {
        Self { thread: None, busy: false, ready: None }
    }

    /// Whether a wait goes on whose result has not been taken.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Begins a wait; the one before it has been collected.
    pub(super) fn begin(&mut self, tickets: Work) {
        debug_assert!(!self.busy, "one wait at a time");
        self.busy = true;
        let (work, _) = self.thread.get_or_insert_with(start);
        // Cannot fail while the thread lives; if it does not, the wait is done here.
        if let Err(back) = work.send(tickets) {
            self.ready = Some(wait(back.0));
        }
    }

    /// Waits on the caller's own thread; the result is collected as any other.
    pub(super) fn wait_here(&mut self, tickets: Work) {
        debug_assert!(!self.busy, "one wait at a time");
        self.busy = true;
        self.ready = Some(wait(tickets));
    }

    /// The result of the wait, if it is there, or after waiting for it.
    pub(super) fn collect(&mut self, block: bool) -> Option<Done> {
        if !self.busy {
            return None;
        }
        let done = match (self.ready.take(), &self.thread) {
            (Some(done), _) => Some(done),
            (None, Some((_, results))) if block => results.recv().ok(),
            (None, Some((_, results))) => results.try_recv().ok(),
            (None, None) => None,
        };
        self.busy = done.is_none();
        done
    }
}

fn start() -> (Sender<Work>, Receiver<Done>) {
    let (work, tickets) = channel::<Work>();
    let (results, done) = channel();
    let body = move || {
        while let Ok(tickets) = tickets.recv() {
            if results.send(wait(tickets)).is_err() {
                break;
            }
        }
    };
    // Without a thread `work` has no receiver, and the waits are done by whoever begins them.
    let _ = thread::Builder::new().name("sync".to_owned()).spawn(body);
    (work, done)
}

fn wait(tickets: Work) -> Done {
    tickets
        .into_iter()
        .map(|(shard, ticket)| {
            let outcome = ticket.wait();
            (shard, ticket, outcome)
        })
        .collect()
}
