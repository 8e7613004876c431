//! What was found.

use serde::Serialize;

use crate::hose::ledger::Totals;

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A committed object is not there.
    ObjectMissing,
    /// A committed object has another size.
    ObjectSize,
    /// An object has other rows in it than records were put in.
    ObjectRows,
    /// An object cannot be read.
    ObjectUnreadable,
    /// An object that no commit names: its records are there twice.
    ObjectUnknown,
    /// Two commits name the same object.
    ObjectTwice,
    /// A commit is missing.
    CommitMissing,
    /// A commit stands behind the one before it.
    CommitBackwards,
    /// Records of the stream were not delivered.
    RecordsMissing,
    /// More was delivered than there was.
    RecordsDoubled,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The object, or the ledger's entry.
    pub place: String,
    /// What is wrong with it.
    pub text: String,
}

/// A batch that was planned and not committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// Its number.
    pub number: u64,
    /// When it was planned, microseconds since the epoch.
    pub planned_us: i64,
    /// Objects that it names.
    pub objects: u64,
    /// Those that lie there already.
    pub there: u64,
}

/// Objects and their rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// That commits name.
    pub committed: u64,
    /// Of these, those that are there with their bytes.
    pub whole: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects of other deliveries.
    pub of_others: u64,
    /// Objects with names as other deliveries make them, whose ledgers are not here.
    pub of_unknown: u64,
    /// Other files.
    pub foreign: u64,
    /// Objects whose rows were counted.
    pub counted: u64,
    /// Their rows.
    pub rows: u64,
    /// Objects whose rows cannot be told apart, or whose format is not known.
    pub uncounted: u64,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Its name.
    pub shard: String,
    /// The first index that was the delivery's business; none where it has not come to this shard.
    pub began: Option<u64>,
    /// The index up to which it has been read.
    pub to: u64,
    /// Whether all of the shard, which is closed, was delivered.
    pub done: bool,
    /// Records of the stream that were compared.
    pub compared: u64,
    /// Records that were delivered, or sent to the error output.
    pub delivered: u64,
    /// Records that are not delivered yet.
    pub undelivered: u64,
    /// Bytes of their data.
    pub undelivered_bytes: u64,
    /// Whether some that were delivered are not in the stream any more.
    pub has_holes: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Commits.
    pub batches: u64,
    /// The number of the last, and when it was written, microseconds since the epoch.
    pub last: Option<(u64, i64)>,
    /// What was delivered from the beginning, by the last commit.
    pub totals: Totals,
    /// A batch that was not finished.
    pub unfinished: Option<Unfinished>,
    /// Objects; none where the destination cannot be listed.
    pub objects: Option<Objects>,
    /// Objects of failed records.
    pub errors: Objects,
    /// Shards; none where there is no stream.
    pub shards: Vec<Shard>,
    /// Batches whose records were compared with the stream's.
    pub compared: u64,
    /// Batches with records that are not in the stream any more.
    pub beyond: u64,
    /// Batches whose rows are not the records of the stream.
    pub taken_apart: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn found(&mut self, kind: Kind, place: impl Into<String>, text: impl Into<String>) {
        self.findings.push(Finding { kind, place: place.into(), text: text.into() });
    }

    /// Whether everything is as it should be.
    pub fn is_well(&self) -> bool {
        self.findings.is_empty()
    }
}
