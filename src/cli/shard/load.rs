//! `kshard load`.

use std::ffi::OsString;
use std::io::{self, BufReader, IsTerminal, Read};

use anyhow::anyhow;

use super::moved;
use crate::cli::about::About;
use crate::cli::args::CommonArgs;
use crate::cli::input::{BlockReader, Filled};
use crate::cli::report::HintExt;
use crate::cli::signal::Shutdown;
use crate::cli::{Outcome, signal, stream_name};
use crate::stream::transport::load;
use crate::sys::System;

/// Make a stream from what `kshard dump` wrote, on standard input
///
/// Everything is verified. The stream is there whole in the end or not at all: input that is cut short leaves nothing.
/// It gets a UUID of its own; sequence numbers, times and consumers' places stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stream to make: a path if it has a `/`, else a name under `$KPIPE_ROOT` or the current directory
    #[arg(value_name = "STREAM")]
    stream: OsString,

    /// Keep the UUID of the stream that was dumped: for one that is to take its place
    #[arg(long)]
    same_id: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Makes it.
#[expect(clippy::needless_pass_by_value, reason = "what every subcommand's run looks like")]
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if io::stdin().is_terminal() {
        return Err(anyhow!("a dump is read from standard input")).hint("kshard load STREAM <stream.dump");
    }
    let shutdown = signal::install()?;
    let path = stream_name::resolve(&args.stream)?;
    let input = BlockReader::stdin(1 << 20, Some(shutdown))?;
    let meter = args.common.meter("kshard", input.len());
    let mut input = BufReader::with_capacity(512 << 10, Guarded { input, shutdown });
    let done = load(&System::real(), &mut input, &path, args.same_id, &mut |records, bytes| {
        meter.add(records, bytes);
        Ok(shutdown.check()?)
    });
    meter.finish();
    let done = done.about(&path)?;
    args.common.note("kshard", &format!("loaded {} into {}", moved(&done), path.display()));
    Ok(Outcome::Done)
}

/// Standard input that ends with a signal.
struct Guarded {
    input: BlockReader,
    shutdown: &'static Shutdown,
}

impl Read for Guarded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.shutdown.check()?;
        while self.input.block().is_empty() {
            match self.input.fill(None)? {
                Filled::Eof => return Ok(0),
                Filled::Interrupted => self.shutdown.check()?,
                _ => {}
            }
        }
        let len = buf.len().min(self.input.block().len());
        buf[..len].copy_from_slice(&self.input.block()[..len]);
        self.input.consume(len);
        Ok(len)
    }
}
