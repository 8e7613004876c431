//! Why a record could not be delivered, in the service's words.

use std::fmt;

/// The stage that a record failed at: what `!{firehose:error-output-type}` says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorType {
    /// Decompression, or the transformation.
    Processing,
    /// The partition keys.
    MetadataExtraction,
    /// The conversion to the format of the objects.
    FormatConversion,
    /// An HTTP endpoint would not take it.
    HttpEndpoint,
    /// OpenSearch or Elasticsearch would not take it.
    OpenSearch,
    /// Splunk would not take it.
    Splunk,
    /// A database would not take it.
    Database,
    /// A stream would not take it.
    Stream,
}

impl ErrorType {
    /// Every one, in the order of the pipeline.
    pub const ALL: [Self; 8] = [
        Self::Processing,
        Self::MetadataExtraction,
        Self::FormatConversion,
        Self::HttpEndpoint,
        Self::OpenSearch,
        Self::Splunk,
        Self::Database,
        Self::Stream,
    ];

    /// The word for it, the service's where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processing => "processing-failed",
            Self::MetadataExtraction => "metadata-extraction-failed",
            Self::FormatConversion => "format-conversion-failed",
            Self::HttpEndpoint => "http-endpoint-failed",
            Self::OpenSearch => "AmazonOpenSearchService-failed",
            Self::Splunk => "splunk-failed",
            Self::Database => "database-failed",
            Self::Stream => "stream-failed",
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one record failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// At which stage.
    pub error_type: ErrorType,
    /// The service's code, as `Lambda.MissingRecordId`.
    pub code: String,
    /// What is wrong, for a person.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
}

impl Failure {
    /// A failure at the first attempt.
    pub fn new(error_type: ErrorType, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { error_type, code: code.into(), message: message.into(), attempts: 1 }
    }
}

/// A row of a chunk that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Its number in the chunk, from 0.
    pub row: usize,
    /// Why.
    pub failure: Failure,
}
