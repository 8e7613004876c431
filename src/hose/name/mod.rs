//! Prefixes with expressions in them, and the names of objects.
//!
//! The promise: the name of an object is a pure function of the prefix, the delivery's settings and the records in
//! it, and whatever the data says, it lies in the destination: no name is absolute, has an empty part, a part `.` or
//! `..`, or a control character.
//!
//! # From a record to a name
//!
//! The service evaluates a prefix for the oldest record of an object. Records that arrived before midnight and behind
//! it would lie in one folder of the day. Here the folder, up to the last `/`, is evaluated for each record, and
//! records of different folders go into different objects; what follows the last `/` is the oldest record's. So:
//!
//! 1. [`Partitioner::partition`] tells for each record which object it goes to: the prefix with the values of this
//!    record, and with holes where the text is not known yet (times behind the last `/`, and random strings).
//! 2. [`object_id`] is derived from that partition and the records of the object.
//! 3. [`Partitioner::complete`] fills the holes, and [`object_name`] appends what the service appends.

mod escape;
mod hive;
pub mod java_time;
mod object;
mod partition;
mod prefix;
mod zone;

pub use escape::{DEFAULT_PARTITION, push_value, unescape};
pub use hive::{HiveColumn, HiveValue, hive_columns, hive_values};
pub use object::{Extension, ObjectName, object_id, object_name};
pub use partition::{Context, Limits, NameError, Partitioner, Values};
pub use prefix::{Prefix, PrefixError, Role, Uses};
pub use zone::{Span, Zone};

#[cfg(test)]
mod tests;
