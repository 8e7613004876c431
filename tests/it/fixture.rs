//! Streams written through the library, for tests that want a certain batch at a certain place.

use std::sync::Arc;

use kpipe::log::{Batch, Fresh, Writer};
use kpipe::record::ShardId;
use kpipe::stream::{NewStream, Stream};
use kpipe::sys::System;

use crate::workdir::Workdir;

/// A stream in the test's directory, and a hand that writes to it.
pub(crate) struct Source {
    pub(crate) stream: Stream,
}

impl Source {
    pub(crate) fn create(wd: &Workdir, name: &str, shards: u32) -> Self {
        Self::create_as(wd, name, &NewStream { shards, ..NewStream::default() })
    }

    pub(crate) fn create_as(wd: &Workdir, name: &str, new: &NewStream) -> Self {
        let stream = Stream::create(&System::real(), &wd.join(name), new).expect("a stream");
        Self { stream }
    }

    pub(crate) fn writer(&self, shard: u32) -> Writer {
        let info = self.stream.manifest().shard(ShardId(shard)).expect("a shard");
        let locks = self.stream.locks().expect("locks");
        Writer::open(self.stream.log_dir(info), Arc::clone(&locks), self.stream.roll(), info.range())
            .expect("a writer")
    }

    /// One batch of lines into one shard.
    pub(crate) fn put(&self, shard: u32, lines: &[&str]) {
        let mut writer = self.writer(shard);
        put(&mut writer, lines);
        writer.pause().expect("a clean close");
    }
}

/// One batch of lines; `key=value` has a partition key.
pub(crate) fn put(writer: &mut Writer, lines: &[&str]) {
    let mut batch = Batch::new(Some(b'\n'));
    for line in lines {
        let (key, payload) = match line.split_once('=') {
            Some((key, payload)) => (Some(key.as_bytes()), payload),
            None => (None, *line),
        };
        batch.push(Fresh { payload: payload.as_bytes(), key, ..Fresh::default() });
    }
    writer.append(&[batch.draft(kpipe::log::Codec::None, None)]).expect("an append");
    let ticket = writer.full_ticket();
    ticket.wait().expect("a sync");
    writer.synced(&ticket);
}
