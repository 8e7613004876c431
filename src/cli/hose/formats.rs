//! From arguments to the format of objects, and its columns.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use super::args::HoseArgs;
use crate::hose::courier::Runtime;
use crate::hose::format::Format;
use crate::hose::format::spec::{ColumnSource, FormatName, FormatSpec, open_format};
use crate::hose::name::Extension;
use crate::hose::store::{Store, StoreError};
use crate::table::{RowOptions, Schema, TimestampFormat};

/// A schema is written by hand, or is one that was inferred: ten thousand columns are a megabyte.
const SCHEMA_BYTES_MAX: u64 = 16 << 20;

/// A format that is ready.
pub(super) struct Opened {
    pub(super) format: Arc<dyn Format>,
    pub(super) extension: Extension,
    /// Whether its columns are inferred, and so are kept beside the destination.
    pub(super) inferred: bool,
}

/// Opens the format that was asked for. `kept` is where an earlier run has kept what it inferred.
pub(super) fn open(
    args: &HoseArgs,
    kept: Option<(&Runtime, &Arc<dyn Store>, &str)>,
    file: Option<&str>,
) -> anyhow::Result<Opened> {
    let has_columns = spec(args, file)?.format.has_columns() && args.table.schema.is_none();
    let known = match kept.filter(|_| has_columns) {
        Some((runtime, store, name)) => known(runtime, store, name)?,
        None => Schema::default(),
    };
    open_with(args, known, file)
}

/// Whether columns are inferred.
pub(super) fn infers(args: &HoseArgs) -> anyhow::Result<bool> {
    Ok(args.table.schema.is_none() && spec(args, None)?.format.has_columns())
}

/// Opens the format that was asked for. Where columns are inferred these are known already.
pub(super) fn open_with(args: &HoseArgs, known: Schema, file: Option<&str>) -> anyhow::Result<Opened> {
    let spec = spec(args, file)?;
    let rows = row_options(args)?;
    let (source, inferred) = match &args.table.schema {
        Some(text) => (ColumnSource::Fixed(given(text)?), false),
        None => (ColumnSource::Inferred(known), spec.format.has_columns()),
    };
    let format = open_format(&spec, source, rows).map_err(|reason| anyhow!(reason))?;
    let text = args.objects.extension.clone().unwrap_or_else(|| format.extension());
    let extension = text.parse().map_err(|reason: String| anyhow!("--extension: {reason}"))?;
    Ok(Opened { format, extension, inferred })
}

/// The schema that an earlier run inferred.
pub(super) fn known(runtime: &Runtime, store: &Arc<dyn Store>, name: &str) -> anyhow::Result<Schema> {
    match runtime.block_on(store.get(name, SCHEMA_BYTES_MAX)) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).context("it is not UTF-8");
            text.and_then(|text| Ok(Schema::parse(&text)?)).with_context(|| store.url(name))
        }
        Err(StoreError::NotFound { .. }) => Ok(Schema::default()),
        Err(error) => Err(error.into()),
    }
}

/// A schema as it was given: text, or the name of a file that holds it.
fn given(text: &str) -> anyhow::Result<Schema> {
    let from_file = std::fs::metadata(text).ok().filter(std::fs::Metadata::is_file);
    match from_file {
        Some(meta) => {
            anyhow::ensure!(
                meta.len() <= SCHEMA_BYTES_MAX,
                "--schema {text}: {} bytes are no schema",
                meta.len()
            );
            let content = std::fs::read_to_string(text).with_context(|| format!("--schema {text}"))?;
            Schema::parse(&content).with_context(|| format!("--schema {text}"))
        }
        None if [".json", ".sql"].iter().any(|end| text.to_lowercase().ends_with(end)) => {
            Err(anyhow!("--schema {text}: there is no such file"))
        }
        None => Schema::parse(text).context("--schema"),
    }
}

/// The format, and its settings.
pub(super) fn spec(args: &HoseArgs, file: Option<&str>) -> anyhow::Result<FormatSpec> {
    let (objects, table) = (&args.objects, &args.table);
    let by_name = file.and_then(FormatName::of_object);
    let format = match (&objects.output, &by_name) {
        (Some(name), _) => name.parse().map_err(|reason: String| anyhow!("--output: {reason}"))?,
        (None, Some((format, _))) => *format,
        (None, None) => FormatName::Ndjson,
    };
    let mut spec = FormatSpec::new(format);
    spec.compression = objects.compression.clone().or_else(|| {
        by_name
            .filter(|(named, _)| *named == format)
            .and_then(|(_, compression)| compression)
            .map(|c| c.name().to_owned())
    });
    spec.csv.header = !table.no_header;
    if let Some(null) = &table.csv_null {
        spec.csv.null.clone_from(null);
    }
    if let Some(quote) = &table.csv_quote {
        spec.csv.quote = quote.parse().map_err(|reason: String| anyhow!("--csv-quote: {reason}"))?;
    }
    let parquet = &mut spec.parquet;
    if let Some(text) = &table.parquet_compression {
        parquet.compression =
            Some(text.parse().map_err(|reason: String| anyhow!("--parquet-compression: {reason}"))?);
    }
    parquet.row_group_bytes = table.row_group_size.unwrap_or(parquet.row_group_bytes);
    if let Some(size) = table.page_size {
        parquet.page_bytes = size as usize;
    }
    for column in &table.no_dictionary {
        if column == "*" {
            parquet.dictionary = false;
        } else {
            parquet.no_dictionary.push(column.clone());
        }
    }
    for column in &table.bloom {
        parquet.bloom.push(column.parse().map_err(|reason: String| anyhow!("--bloom: {reason}"))?);
    }
    for column in &table.sort {
        parquet.sort.push(column.parse().map_err(|reason: String| anyhow!("--sort: {reason}"))?);
    }
    parquet.compat = table.parquet_compat;
    spec.check().map_err(|reason| anyhow!(reason))?;
    Ok(spec)
}

fn row_options(args: &HoseArgs) -> anyhow::Result<RowOptions> {
    let table = &args.table;
    let mapping = |text: &String| {
        let (column, key) = text.split_once('=').ok_or_else(|| anyhow!("--map {text}: give COLUMN=KEY"))?;
        Ok((column.to_owned(), key.to_owned()))
    };
    let format = |text: &String| {
        TimestampFormat::parse(text).map_err(|reason| anyhow!("--timestamp-format: {reason}"))
    };
    Ok(RowOptions {
        case_sensitive: table.case_sensitive,
        dots_to_underscores: table.dots_to_underscores,
        mappings: table.map.iter().map(mapping).collect::<anyhow::Result<_>>()?,
        timestamps: table.timestamp_format.iter().map(format).collect::<anyhow::Result<_>>()?,
        coerce: table.coerce,
    })
}
