//! What a delivery would do, done for real up to where something would be written.
//!
//! The promise: a run that follows, with the same settings and with nothing new in the stream, makes just the objects
//! that were told, by name, records and bytes. It is the same engine: it reads where the delivery stands
//! ([`Lookahead`]), takes records through the same stages into the same objects, and hands them to a destination that
//! only notes them down ([`Sheet`]). What an object takes on its way lies in a scratch directory, and nowhere else is
//! anything written. Two things cannot be told: objects that a run ends by age, which is that run's own clock, and names
//! of failed records' objects, which have the batch's random id in them.

mod sheet;
mod source;

pub use sheet::{Example, Failures, Planned, Preview, Sheet};
pub use source::{Bounded, Lookahead};
