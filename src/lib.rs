//! kpipe: Amazon Kinesis as Unix pipes.

pub mod codec;
pub mod hash;
pub mod record;

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "kpipe counts bytes and records in u64 and holds them in usize: it is built for 64-bit targets only"
);
