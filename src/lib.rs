//! kpipe: Amazon Kinesis as Unix pipes.

pub mod cli;
pub mod codec;
pub mod hash;
pub mod log;
pub mod record;
pub mod stream;
pub mod sys;

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "kpipe counts bytes and records in u64 and holds them in usize: it is built for 64-bit targets only"
);
