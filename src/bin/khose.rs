//! `khose`: a stream or stdin to object stores and services, batched, converted, partitioned, exactly once.

fn main() {}
