//! Objects into their fields.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use arrow::error::ArrowError;

use super::Column;
use crate::table::json::Scanner;
use crate::table::rows::fault::{Fault, Result, Step, mismatch, quoted};
use crate::table::rows::names::Names;
use crate::table::rows::{Context, RowOptions, Unknown};
use crate::table::schema::{Column as Named, SchemaError};

/// The fields of an object.
#[derive(Debug, Clone)]
pub(in crate::table::rows) struct Struct {
    pub(in crate::table::rows) fields: Vec<Member>,
    names: Names,
    pub(super) len: usize,
}

#[derive(Debug, Clone)]
pub(in crate::table::rows) struct Member {
    pub(in crate::table::rows) name: Box<str>,
    nullable: bool,
    pub(in crate::table::rows) column: Column,
}

impl Struct {
    pub(in crate::table::rows) fn new(
        fields: &[Named],
        options: &RowOptions,
        is_row: bool,
    ) -> std::result::Result<Self, SchemaError> {
        let names = Names::new(fields, options, is_row)?;
        let fields = fields
            .iter()
            .map(|field| {
                let column = Column::new(&field.kind, field.format.as_deref(), options)?;
                Ok(Member { name: field.name.as_str().into(), nullable: field.nullable, column })
            })
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { fields, names, len: 0 })
    }

    pub(in crate::table::rows) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::table::rows) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        for member in &mut self.fields {
            member.column.truncate(len);
        }
    }

    pub(super) fn push_null(&mut self) {
        self.len += 1;
        for member in &mut self.fields {
            member.column.push_null();
        }
    }

    /// Takes an object, at whose brace the text stands.
    #[inline]
    pub(in crate::table::rows) fn object(
        &mut self,
        json: &mut Scanner<'_>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        json.enter()?;
        self.names.begin();
        let (mut first, mut filled) = (true, 0);
        while json.more(first, b'}')? {
            first = false;
            let key = json.clone();
            let Some(i) = self.names.take(json, &mut context.scratch, context.options)? else {
                match context.unknown {
                    Unknown::Ignored => json.skip()?,
                    Unknown::Noted => unknown(key, json, context)?,
                }
                continue;
            };
            let member = &mut self.fields[i];
            // Where a key is there twice, the last one counts.
            if member.column.len() > self.len {
                member.column.truncate(self.len);
                filled -= 1;
            }
            if let Err(fault) = member.column.value(json, context) {
                return Err(fault.within(Step::Field(member.name.clone())));
            }
            if !member.nullable && member.column.valid.last() == Some(&false) {
                return Err(member.null("null"));
            }
            filled += 1;
        }
        self.complete(filled)
    }

    /// Ends a row, `filled` of whose fields have a value.
    pub(in crate::table::rows) fn complete(&mut self, filled: usize) -> Result<()> {
        if filled < self.fields.len() {
            for member in &mut self.fields {
                if member.column.len() == self.len {
                    if !member.nullable {
                        return Err(member.null("nothing"));
                    }
                    member.column.push_null();
                }
            }
        }
        self.len += 1;
        Ok(())
    }

    pub(in crate::table::rows) fn finish(
        &mut self,
        fields: &[Arc<Field>],
    ) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
        self.len = 0;
        self.fields.iter_mut().zip(fields).map(|(member, field)| member.column.finish(field)).collect()
    }
}

impl Member {
    /// Takes the text of a field of CSV; `null` is none.
    pub(in crate::table::rows) fn cell(
        &mut self,
        text: Option<&str>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let Some(text) = text else {
            if !self.nullable {
                return Err(self.null("nothing"));
            }
            self.column.push_null();
            return Ok(());
        };
        let taken = if self.column.is_nested() {
            let mut json = Scanner::new(text);
            self.column.value(&mut json, context).and_then(|()| Ok(json.end()?))
        } else {
            self.column.text(text, || format!("string {}", quoted(text)))
        };
        taken.map_err(|fault| fault.within(Step::Field(self.name.clone())))
    }

    #[cold]
    fn null(&self, what: &str) -> Fault {
        Fault::value(mismatch(&self.column.kind, what)).within(Step::Field(self.name.clone()))
    }
}

/// Goes over the value of a key that is no field. What says nothing makes no column: null, {} and [] have no type.
fn unknown(mut key: Scanner<'_>, json: &mut Scanner<'_>, context: &mut Context<'_>) -> Result<()> {
    if !json.says_something()? {
        return Ok(());
    }
    Err(unknown_column(key.key(&mut context.scratch)?, context.watch))
}

/// Why a row has a value too many.
#[cold]
pub(in crate::table::rows) fn unknown_column(key: &str, watch: bool) -> Fault {
    if watch {
        return Fault::drift();
    }
    Fault::value("the schema has no such column".to_owned()).within(Step::Field(key.into()))
}
