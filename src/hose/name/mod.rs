//! Prefixes with expressions in them, and the names of objects.

pub mod java_time;
mod zone;

pub use zone::{Span, Zone};
