//! Records as Arrow batches: what the columns are, how they come to be known, and rows out of JSON.
//!
//! Its promise: one bad row never takes another along. A row that does not fit its schema is named with its reason and
//! left out; the rest of its block becomes a batch.
