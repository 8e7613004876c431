//! What was asked for, looked at before anything is opened or made: a stream's consumer is made once, and stays where
//! it began.

use std::ffi::OsString;

use anyhow::ensure;
use uuid::Uuid;

use super::args::HoseArgs;
use super::target::{Service, Target};
use super::{formats, setup, stages};
use crate::hose::dest::postgres::{self, Address};
use crate::hose::dest::redshift;
use crate::hose::format::spec::FormatName;
use crate::hose::naming::Signature;

/// Refuses what contradicts itself, and what would be passed over in silence.
pub(super) fn check(args: &HoseArgs, sources: &[OsString], target: &Target) -> anyhow::Result<()> {
    if !args.mode.replay {
        of_sources(args, sources, target)?;
    }
    of_target(args, target)?;
    match target {
        Target::Service(Service::Postgres, url) => {
            drop(postgres::Options::of(&mut Address::parse(url)?, "")?);
        }
        Target::Service(Service::Redshift, url) => {
            drop(redshift::Options::of(&mut Address::parse(url)?, "")?);
        }
        _ => {}
    }
    stages::chain(args, "")?;
    let file = match target {
        Target::File(_, name) => Some(name.as_str()),
        _ => None,
    };
    if !target.takes_objects() {
        return Ok(());
    }
    of_format(args, formats::spec(args, file)?.format)?;
    let opened = formats::open(args, None, file)?;
    if matches!(target, Target::Objects(_) | Target::Service(Service::Redshift, _)) {
        let signature =
            Signature { stream: String::new(), stream_id: Uuid::nil(), delivery: String::new(), version: 1 };
        setup::namer(args, &signature, &opened.extension, None)?;
    }
    Ok(())
}

fn of_sources(args: &HoseArgs, sources: &[OsString], target: &Target) -> anyhow::Result<()> {
    let is_pipe = sources.iter().all(|source| source == "-");
    let is_spooled = args.input.spool.is_some();
    let is_file = matches!(target, Target::File(..));
    for (given, option) in [(args.input.input.is_some(), "--input"), (is_spooled, "--spool")] {
        ensure!(!given || is_pipe, "{option} is for standard input: the source is a stream");
    }
    for (given, option) in [(args.from.is_some(), "--from"), (args.until.is_some(), "--until")] {
        ensure!(!given || !is_pipe || is_spooled, "{option} is for streams: the source is standard input");
    }
    ensure!(
        !is_spooled || !is_file,
        "--spool is for a delivery that goes on, and {} is one file",
        target.show()
    );
    ensure!(!is_file || sources.len() == 1, "{} is one file, and takes one source", target.show());
    Ok(())
}

fn of_target(args: &HoseArgs, target: &Target) -> anyhow::Result<()> {
    let HoseArgs { stages, objects, service: given, .. } = args;
    let is = |service: Service| matches!(target, Target::Service(known, _) if *known == service);
    let is_file = matches!(target, Target::File(..));
    let has_names = matches!(target, Target::Objects(_)) || is(Service::Redshift);
    let by_http = is(Service::Http) || is(Service::OpenSearch) || is(Service::Splunk);
    let takes_objects = target.takes_objects();
    let (places, encoded) = (
        "directories, buckets and Redshift",
        "objects: directories, buckets, files, standard output and Redshift",
    );
    let services = "HTTP endpoints, OpenSearch and Splunk";
    for (has, option, fits, what) in [
        (args.if_changed, "--if-changed", is_file, "a destination that is one file"),
        (args.consumer.is_some(), "--consumer", !is_file, "deliveries that go on"),
        (objects.backup.is_some(), "--backup", !is_file, "deliveries that go on"),
        (args.tee, "--tee", !matches!(target, Target::Stdout), "what is not printed anyway"),
        (objects.prefix.is_some(), "--prefix", has_names, places),
        (stages.partition_query.is_some(), "--partition-query", has_names, places),
        (objects.extension.is_some(), "--extension", has_names, places),
        (objects.output.is_some(), "--output", takes_objects, encoded),
        (objects.compression.is_some(), "--compression", takes_objects, encoded),
        (args.table != super::args::TableArgs::default(), "a table option", takes_objects, encoded),
        (given.gzip, "--gzip", by_http, services),
        (given.ca_file.is_some(), "--ca-file", by_http, services),
        (given.access_key_file.is_some(), "--access-key-file", by_http, services),
        (!given.common.is_empty(), "--common", is(Service::Http), "HTTP endpoints"),
        (given.index.is_some(), "--index", is(Service::OpenSearch), "OpenSearch"),
        (given.index_rotation.is_some(), "--index-rotation", is(Service::OpenSearch), "OpenSearch"),
        (given.add_timestamp, "--add-timestamp", is(Service::OpenSearch), "OpenSearch"),
        (given.auth.is_some(), "--auth", is(Service::OpenSearch), "OpenSearch"),
        (given.splunk_raw, "--splunk-raw", is(Service::Splunk), "Splunk"),
        (given.splunk_no_ack, "--splunk-no-ack", is(Service::Splunk), "Splunk"),
    ] {
        ensure!(!has || fits, "{option} is for {what}: the destination is {}", target.show());
    }
    Ok(())
}

fn of_format(args: &HoseArgs, format: FormatName) -> anyhow::Result<()> {
    let table = &args.table;
    let is_csv = matches!(format, FormatName::Csv | FormatName::Tsv);
    let is_parquet = format == FormatName::Parquet;
    for (given, option) in [
        (table.schema.is_some(), "--schema"),
        (table.case_sensitive, "--case-sensitive"),
        (table.dots_to_underscores, "--dots-to-underscores"),
        (!table.map.is_empty(), "--map"),
        (!table.timestamp_format.is_empty(), "--timestamp-format"),
        (table.coerce, "--coerce"),
    ] {
        ensure!(
            !given || format.has_columns(),
            "{option}: {} has no columns: give -o parquet, arrow, csv or tsv",
            format.name()
        );
    }
    for (given, option, fits, what) in [
        (table.parquet_compression.is_some(), "--parquet-compression", is_parquet, "parquet"),
        (table.row_group_size.is_some(), "--row-group-size", is_parquet, "parquet"),
        (table.page_size.is_some(), "--page-size", is_parquet, "parquet"),
        (!table.no_dictionary.is_empty(), "--no-dictionary", is_parquet, "parquet"),
        (!table.bloom.is_empty(), "--bloom", is_parquet, "parquet"),
        (!table.sort.is_empty(), "--sort", is_parquet, "parquet"),
        (table.parquet_compat, "--parquet-compat", is_parquet, "parquet"),
        (table.no_header, "--no-header", is_csv, "csv and tsv"),
        (table.csv_null.is_some(), "--csv-null", is_csv, "csv and tsv"),
        (table.csv_quote.is_some(), "--csv-quote", is_csv, "csv and tsv"),
    ] {
        ensure!(!given || fits, "{option} is for {what}: the format is {}", format.name());
    }
    Ok(())
}
