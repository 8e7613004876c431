//! What a verification finds.

use std::path::PathBuf;

/// Whether something has gone wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something is not what it was.
    Damage,
    /// Good to know.
    Note,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A segment's header does not hold.
    Header,
    /// A segment of another stream or shard.
    Foreign,
    /// A segment that its follower names is not there.
    Missing,
    /// Frames do not hold.
    Stretch(&'static str),
    /// Checksums hold, and yet it cannot be.
    Contradiction(&'static str),
    /// An index file does not fit its segment: it costs time, no record.
    Index(&'static str),
    /// An index file is not there.
    IndexMissing,
    /// Bytes behind the end of a segment that a recovery set aside.
    SetAside,
    /// The last bytes are no whole frame: a write in progress, or what a crash left for the next writer to set aside.
    Tail,
    /// A sync of the segment failed once.
    Condemned,
    /// Records were lost here; a repair put a gap in their place.
    Gap,
}

impl Flaw {
    /// Whether it is damage.
    pub fn severity(self) -> Severity {
        match self {
            Self::Header
            | Self::Foreign
            | Self::Missing
            | Self::Stretch(_)
            | Self::Contradiction(_)
            | Self::Index(_) => Severity::Damage,
            Self::IndexMissing | Self::SetAside | Self::Tail | Self::Condemned | Self::Gap => Severity::Note,
        }
    }

    /// One word for it, for scripts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Header => "segment-header",
            Self::Foreign => "foreign-segment",
            Self::Missing => "missing-segment",
            Self::Stretch(_) => "frames",
            Self::Contradiction(_) => "contradiction",
            Self::Index(_) => "index",
            Self::IndexMissing => "index-missing",
            Self::SetAside => "set-aside",
            Self::Tail => "unfinished-tail",
            Self::Condemned => "failed-sync",
            Self::Gap => "gap",
        }
    }

    /// It in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Header => "the segment's header does not hold",
            Self::Foreign => "is a segment of another stream or shard",
            Self::Missing => "the segment is missing",
            Self::Stretch(reason) | Self::Contradiction(reason) | Self::Index(reason) => reason,
            Self::IndexMissing => "the index is missing: seeks are slower",
            Self::SetAside => "bytes that a recovery set aside",
            Self::Tail => "an unfinished tail: a write in progress, or left by a crash",
            Self::Condemned => "a sync of the segment failed; what was acknowledged is in it",
            Self::Gap => "records were lost here, and a repair left a gap",
        }
    }
}

/// Records that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// The first index.
    pub first: u64,
    /// The index after the last.
    pub next: u64,
    /// When the last good record before them arrived.
    pub before_us: i64,
    /// When the next good one arrived, as far as that is known.
    pub after_us: i64,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub flaw: Flaw,
    /// In which file.
    pub path: PathBuf,
    /// The first byte.
    pub offset: u64,
    /// The byte after the last; `offset` where it has no length.
    pub until: u64,
    /// The records that it takes, perhaps none.
    pub lost: Option<Lost>,
}

impl Finding {
    pub(super) fn new(flaw: Flaw, path: PathBuf, offset: u64, until: u64) -> Self {
        Self { flaw, path, offset, until, lost: None }
    }

    pub(super) fn lost(mut self, lost: Lost) -> Self {
        self.lost = Some(lost);
        self
    }
}
