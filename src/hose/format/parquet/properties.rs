//! What the writer of a file is told of its columns.

use std::sync::Arc;

use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type, TypePtr};

use super::ParquetOptions;
use crate::table::{Schema, Type as Kind};

/// Rows of a page at most, so that a reader that looks for one row reads few others. The writer's own default.
const PAGE_ROWS: usize = 20_000;

/// The Parquet schema of these columns.
pub(super) fn parquet_schema(options: &ParquetOptions, schema: &Schema) -> Result<SchemaDescriptor> {
    let descriptor = ArrowSchemaConverter::new().with_coerce_types(true).convert(schema.arrow())?;
    if !options.compat {
        return Ok(descriptor);
    }
    let root = descriptor.root_schema();
    let fields = root.get_fields().iter().map(|field| for_old_readers(field, true));
    let fields = fields.collect::<Result<Vec<_>>>()?;
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

/// The same column with the physical types that old readers know.
fn for_old_readers(column: &TypePtr, is_top: bool) -> Result<TypePtr> {
    let info = column.get_basic_info();
    let repetition = if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED };
    if let Type::GroupType { fields, .. } = column.as_ref() {
        let fields = fields.iter().map(|field| for_old_readers(field, false)).collect::<Result<Vec<_>>>()?;
        let group = Type::group_type_builder(info.name())
            .with_repetition(repetition)
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(fields);
        return Ok(Arc::new(group.build()?));
    }
    let primitive =
        |physical| Type::primitive_type_builder(info.name(), physical).with_repetition(repetition);
    Ok(match info.logical_type_ref() {
        Some(LogicalType::Timestamp(_)) if is_top => Arc::new(primitive(Physical::INT96).build()?),
        Some(LogicalType::Decimal(kind)) => {
            let decimal = primitive(Physical::FIXED_LEN_BYTE_ARRAY)
                .with_length(decimal_bytes(kind.precision))
                .with_logical_type(info.logical_type_ref().cloned())
                .with_precision(kind.precision)
                .with_scale(kind.scale);
            Arc::new(decimal.build()?)
        }
        _ => column.clone(),
    })
}

/// How many bytes a number of so many digits needs.
fn decimal_bytes(precision: i32) -> i32 {
    // A bit for the sign; three and a third for each digit.
    ((1.0 + f64::from(precision) * 10_f64.log2()) / 8.0).ceil() as i32
}

/// How the file is written.
pub(super) fn properties(
    options: &ParquetOptions,
    schema: &Schema,
    descriptor: &SchemaDescriptor,
) -> std::result::Result<WriterProperties, String> {
    let statistics = if options.statistics { EnabledStatistics::Page } else { EnabledStatistics::None };
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("kpipe version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(options.compression().to_parquet()?)
        .set_max_row_group_row_count(None)
        .set_dictionary_enabled(options.dictionary)
        .set_data_page_size_limit(options.page_bytes)
        .set_dictionary_page_size_limit(options.page_bytes)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(statistics)
        .set_offset_index_disabled(!options.page_index)
        .set_coerce_types(true);
    if options.statistics && !options.page_index {
        builder = builder.set_statistics_enabled(EnabledStatistics::Chunk);
    }
    for column in descriptor.columns() {
        let path = column.path();
        let is_named = |name: &str| is_inside(path, name);
        if column.physical_type() == Physical::INT96
            || options.no_dictionary.iter().any(|name| is_named(name))
        {
            builder = builder.set_column_dictionary_enabled(path.clone(), false);
        }
        if let Some(bloom) = options.bloom.iter().find(|bloom| is_named(&bloom.column)) {
            builder = builder
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), bloom.fpp);
        }
    }
    let sorting = sorting_columns(options, descriptor);
    let mut properties = builder.set_sorting_columns((!sorting.is_empty()).then_some(sorting)).build();
    if !options.compat {
        add_encoded_arrow_schema_to_metadata(schema.arrow(), &mut properties);
    }
    Ok(properties)
}

/// Whether a column has this name or is inside of one that has.
fn is_inside(path: &ColumnPath, name: &str) -> bool {
    let path = path.string();
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn sorting_columns(options: &ParquetOptions, descriptor: &SchemaDescriptor) -> Vec<SortingColumn> {
    let sorting = options.sort.iter().map_while(|sort| {
        let found =
            descriptor.columns().iter().position(|column| column.path().parts() == [sort.column.clone()]);
        found.map(|found| SortingColumn {
            column_idx: found as i32,
            descending: sort.descending,
            nulls_first: false,
        })
    });
    sorting.collect()
}

/// Holds the columns that the options name against a schema that will not change.
pub(super) fn check_names(options: &ParquetOptions, schema: &Schema) -> std::result::Result<(), String> {
    let descriptor = parquet_schema(options, schema).map_err(|e| e.to_string())?;
    let blooms = options.bloom.iter().map(|bloom| (&bloom.column, "a bloom filter"));
    let plain = options.no_dictionary.iter().map(|column| (column, "no dictionary"));
    for (name, what) in blooms.chain(plain) {
        if !descriptor.columns().iter().any(|column| is_inside(column.path(), name)) {
            return Err(format!("{what} for `{name}`: {}", no_column(schema)));
        }
    }
    for sort in &options.sort {
        match schema.columns().iter().find(|column| column.name == sort.column) {
            None => return Err(format!("sorting by `{}`: {}", sort.column, no_column(schema))),
            Some(column) if matches!(column.kind, Kind::Array(_) | Kind::Struct(_) | Kind::Map(..)) => {
                return Err(format!("sorting by `{}`: {} has no order", sort.column, column.kind));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn no_column(schema: &Schema) -> String {
    let names: Vec<&str> = schema.columns().iter().map(|column| column.name.as_str()).collect();
    format!("there is no such column, only {}", names.join(", "))
}
