//! Schemas as JSON, in one of three forms:
//!
//! * `{"columns":[{"name":"id","type":"bigint","nullable":false,"format":"millis"}]}`, which is also what is printed;
//! * the columns of the Glue or Hive catalogue, `[{"Name":"id","Type":"bigint","Comment":""}]`, alone or inside what
//!   `aws glue get-table` prints;
//! * JSON Schema: an object with `properties`, in their order.

use std::cell::Cell;

use super::ddl;
use super::{COLUMNS_MAX, Column, DEPTH_MAX, Type};
use crate::table::json::Value;

pub(super) fn parse(text: &str) -> Result<Vec<Column>, String> {
    let root = Value::parse(text).map_err(|fault| format!("it is not JSON: {fault}"))?;
    if let Some(list) = root.as_array() {
        return columns(list);
    }
    for key in ["columns", "Columns"] {
        if let Some(list) = root.get(key).and_then(Value::as_array) {
            return columns(list);
        }
    }
    if root.get("properties").is_some() || root.get("$ref").is_some() {
        return JsonSchema { root: &root, left: Cell::new(COLUMNS_MAX) }.columns();
    }
    // What the command line of AWS prints of a table.
    let table = root.get("Table").unwrap_or(&root);
    if let Some(list) =
        table.get("StorageDescriptor").and_then(|storage| storage.get("Columns")).and_then(Value::as_array)
    {
        return columns(list);
    }
    Err("it has no `columns`, and no `properties` as a JSON Schema has them".to_owned())
}

/// The columns of a list, their names for things in small or capital letters.
fn columns(list: &[Value<'_>]) -> Result<Vec<Column>, String> {
    if list.is_empty() {
        return Err("it has no columns".to_owned());
    }
    list.iter()
        .enumerate()
        .map(|(i, item)| {
            let get = |small: &str, capital: &str| item.get(small).or_else(|| item.get(capital));
            let text = |small, capital| get(small, capital).and_then(Value::as_str);
            let Some(name) = text("name", "Name") else {
                return Err(format!("column {} has no `name`", i + 1));
            };
            let at = |reason: String| format!("column {name:?}: {reason}");
            let Some(kind) = text("type", "Type") else {
                return Err(at("it has no `type`".to_owned()));
            };
            let nullable = match get("nullable", "Nullable") {
                None => true,
                Some(Value::Bool(nullable)) => *nullable,
                Some(_) => return Err(at("`nullable` is true or false".to_owned())),
            };
            let kind = ddl::parse_type(kind).map_err(at)?;
            let format = text("format", "Format").map(str::to_owned);
            Ok(Column { name: name.to_owned(), kind, nullable, format })
        })
        .collect()
}

pub(super) fn print(columns: &[Column]) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let lines: Vec<_> = columns
        .iter()
        .map(|column| {
            let format = column
                .format
                .as_ref()
                .map_or(String::new(), |format| format!(",\"format\":{}", text(format)));
            format!(
                "{{\"name\":{},\"type\":{},\"nullable\":{}{format}}}",
                text(&column.name),
                text(&column.kind.to_string()),
                column.nullable
            )
        })
        .collect();
    if lines.is_empty() {
        return "{\"columns\":[]}\n".to_owned();
    }
    format!("{{\"columns\":[\n  {}\n]}}\n", lines.join(",\n  "))
}

/// A JSON Schema, as far as it says what type a value has.
struct JsonSchema<'a> {
    root: &'a Value<'a>,
    /// How many types more: a few lines of references to references can describe more than fits the memory.
    left: Cell<usize>,
}

impl<'a> JsonSchema<'a> {
    fn columns(&self) -> Result<Vec<Column>, String> {
        let (kind, _) = self.kind(self.root, 0)?;
        match kind {
            Type::Struct(columns) => Ok(columns),
            other => Err(format!("the JSON Schema is of {other}, and a row is an object")),
        }
    }

    /// The type of what a schema describes, and whether null is allowed.
    fn kind(&self, schema: &'a Value<'a>, depth: usize) -> Result<(Type, bool), String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} levels deep, or refers to itself"));
        }
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| format!("it has more than {COLUMNS_MAX} columns"))?);
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.kind(self.find(reference)?, depth + 1);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.get(key).and_then(Value::as_array) {
                let is_null = |choice: &Value<'_>| choice.get("type").and_then(Value::as_str) == Some("null");
                return match choices.iter().filter(|choice| !is_null(choice)).collect::<Vec<_>>().as_slice() {
                    [one] => {
                        let (kind, nullable) = self.kind(one, depth + 1)?;
                        Ok((kind, nullable || choices.len() > 1))
                    }
                    _ => Err(format!("`{key}` of several types is no type of a column")),
                };
            }
        }
        let (name, nullable) = type_name(schema)?;
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let kind = match name {
            "boolean" => Type::Boolean,
            "integer" if format == "int32" => Type::Int,
            "integer" => Type::BigInt,
            "number" if format == "float" => Type::Float,
            "number" => Type::Double,
            "string" if format == "date-time" => Type::TIMESTAMP,
            "string" if format == "date" => Type::Date,
            "string" if schema.get("contentEncoding").and_then(Value::as_str) == Some("base64") => {
                Type::Binary
            }
            "string" => Type::String,
            "array" => {
                let items = schema.get("items").ok_or("an array has no `items`")?;
                Type::Array(Box::new(self.kind(items, depth + 1)?.0))
            }
            "object" => self.object(schema, depth)?,
            other => return Err(format!("{other:?} is not a type of JSON Schema")),
        };
        Ok((kind, nullable))
    }

    fn object(&self, schema: &'a Value<'a>, depth: usize) -> Result<Type, String> {
        let required: Vec<_> = schema
            .get("required")
            .and_then(Value::as_array)
            .map_or(Vec::new(), |names| names.iter().filter_map(Value::as_str).collect());
        match schema.get("properties") {
            Some(Value::Object(properties)) if !properties.is_empty() => {
                let fields = properties.iter().map(|(name, property)| {
                    let (kind, nullable) = self
                        .kind(property, depth + 1)
                        .map_err(|reason| format!("property {:?}: {reason}", name.as_ref()))?;
                    let nullable = nullable || !required.contains(&name.as_ref());
                    Ok(Column { name: name.clone().into_owned(), kind, nullable, format: None })
                });
                Ok(Type::Struct(fields.collect::<Result<_, String>>()?))
            }
            _ => {
                match schema.get("additionalProperties") {
                    Some(values @ Value::Object(_)) => {
                        let (value, _) = self.kind(values, depth + 1)?;
                        Ok(Type::Map(Box::new(Type::String), Box::new(value)))
                    }
                    _ => Err("an object has neither `properties` nor a schema as `additionalProperties`"
                        .to_owned()),
                }
            }
        }
    }

    /// What `#/$defs/name` refers to.
    fn find(&self, reference: &str) -> Result<&'a Value<'a>, String> {
        let unknown =
            || format!("`$ref` {reference:?} leads nowhere: it begins with `#/` and stays in the file");
        let path = reference.strip_prefix('#').ok_or_else(unknown)?;
        path.split('/')
            .skip(1)
            .try_fold(self.root, |value, part| value.get(&part.replace("~1", "/").replace("~0", "~")))
            .ok_or_else(unknown)
    }
}

/// The name of the type that a schema allows besides null.
fn type_name<'a>(schema: &'a Value<'a>) -> Result<(&'a str, bool), String> {
    let implied = || {
        let all_strings = |list: &[Value<'_>]| list.iter().all(|item| item.as_str().is_some());
        if schema.get("properties").is_some() || schema.get("additionalProperties").is_some() {
            Ok("object")
        } else if schema.get("items").is_some() {
            Ok("array")
        } else if schema.get("enum").and_then(Value::as_array).is_some_and(all_strings) {
            Ok("string")
        } else {
            Err("it has no `type`".to_owned())
        }
    };
    match schema.get("type") {
        Some(Value::String(name)) => Ok((name, false)),
        Some(Value::Array(names)) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            let nullable = names.contains(&"null");
            match names.iter().filter(|name| **name != "null").collect::<Vec<_>>().as_slice() {
                [name] => Ok((**name, nullable)),
                // An integer is a number.
                [a, b] if [**a, **b].contains(&"integer") && [**a, **b].contains(&"number") => {
                    Ok(("number", nullable))
                }
                _ => Err(format!("the types {} are not one type of a column", names.join(", "))),
            }
        }
        _ => implied().map(|name| (name, false)),
    }
}
