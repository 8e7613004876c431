//! From arguments to what is done to records.

use anyhow::anyhow;

use super::args::HoseArgs;
use crate::hose::name::Uses;
use crate::hose::stage::{
    Chain, CloudWatch, Compressed, Deaggregate, Decompress, Filter, FilterOptions, Jq, JqStage,
    PartitionKeys, SubRecords, Transform, TransformOptions,
};

/// What the prefix asks of records.
pub(super) fn key_query(args: &HoseArgs, uses: &Uses) -> anyhow::Result<Option<PartitionKeys>> {
    let query = args.stages.partition_query.as_deref();
    if !uses.transform.is_empty() && args.stages.transform.is_none() {
        return Err(anyhow!("--prefix asks for partitionKeyFromTransform, and there is no --transform"));
    }
    if uses.query.is_empty() {
        return match query {
            Some(_) => Err(anyhow!(
                "--partition-query makes keys that --prefix does not use: !{{partitionKeyFromQuery:NAME}}"
            )),
            None => Ok(None),
        };
    }
    let names: Vec<&str> = uses.query.iter().map(String::as_str).collect();
    let keys = PartitionKeys::new(query, &names);
    let option = if query.is_some() { "--partition-query" } else { "--prefix" };
    keys.map(Some).map_err(|reason| anyhow!("{option}: {reason}"))
}

/// The stages. Where records are compressed they are taken apart behind that, and the rest is in the service's order.
pub(super) fn chain(args: &HoseArgs, stream: &str) -> anyhow::Result<Chain> {
    let stages = &args.stages;
    let mut chain = Chain::default();
    if let Some(format) = &stages.decompress {
        let how: Compressed = format.parse().map_err(|reason: String| anyhow!("--decompress: {reason}"))?;
        chain.push(Decompress::new(how));
    }
    if stages.cloudwatch {
        chain.push(CloudWatch { extract: true });
    }
    if let Some(how) = &stages.deaggregate {
        let sub_records = match (how.as_str(), how.strip_prefix("delimited=")) {
            ("json", _) => SubRecords::Json,
            (_, Some(delimiter)) => SubRecords::Delimited(unescaped(delimiter)),
            _ => return Err(anyhow!("--deaggregate: give json, or delimited=TEXT")),
        };
        chain.push(Deaggregate::new(sub_records).map_err(|reason| anyhow!("--deaggregate: {reason}"))?);
    }
    if let Some(command) = &stages.transform {
        chain.push(Transform::new(TransformOptions {
            timeout: stages.transform_timeout,
            retries: stages.transform_retries,
            source_stream: Some(stream.to_owned()),
            ..TransformOptions::new(command)
        }));
    }
    if let Some(command) = &stages.filter {
        chain.push(Filter::new(FilterOptions::new(command)));
    }
    if let Some(query) = &stages.jq {
        chain.push(JqStage::new(Jq::new(query).map_err(|reason| anyhow!("--jq: {reason}"))?));
    }
    Ok(chain)
}

/// A delimiter as it is typed: `\n`, `\t`, `\r`, `\0` and `\\` stand for what they stand for in C.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'0') => 0,
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    bytes
}
