//! A schema that can still grow, value by value.

use std::collections::HashMap;

use crate::table::json::Value;
use crate::table::rows::{Context, Fault, Result, RowOptions, Step, Values, mismatch, quoted};
use crate::table::schema::{COLUMNS_MAX, Column, DEPTH_MAX, NAME_BYTES_MAX, Schema, SchemaError, Type};
use crate::table::{time, widen};

/// What is known of a place in the rows.
#[derive(Debug)]
pub(super) struct Node {
    kind: Kind,
    /// Whether it was so before the rows of this inference: then there may be data that was written as it is.
    settled: bool,
    format: Option<String>,
}

#[derive(Debug)]
enum Kind {
    /// Nothing yet.
    Unknown,
    /// A type, and a column that says which values it takes.
    Leaf(Type, Box<Values>),
    Array(Box<Node>),
    Struct(Fields),
    Map(Type, Box<Values>, Box<Node>),
}

#[derive(Debug, Default)]
pub(super) struct Fields {
    list: Vec<(Column, Node)>,
    /// By what names are compared by.
    index: HashMap<Box<str>, usize>,
    /// How many of them have to have a value.
    required: usize,
}

/// The root of all rows, and how to go back.
#[derive(Debug)]
pub(super) struct Shape {
    root: Fields,
    /// How many types there are in it, as [`Type::extent`] counts them.
    count: usize,
}

/// A step in the tree of nodes: a field, or the one node that is in an array or map.
type Path = Vec<usize>;
const INNER: usize = usize::MAX;

/// What has been done for the present row, to be undone if the row turns out bad.
enum Change {
    /// The last field of the object there is new.
    Field(Path),
    /// The node there was this before.
    Kind(Path, Kind),
}

/// The growing for one row.
struct Growth<'c, 'o> {
    context: &'c Context<'o>,
    path: Path,
    changes: Vec<Change>,
    count: usize,
}

impl Shape {
    pub(super) fn new(schema: &Schema, options: &RowOptions) -> std::result::Result<Self, SchemaError> {
        let root = Fields::new(schema.columns(), options, true)?;
        let count = schema.columns().iter().map(|column| column.kind.extent().0).sum();
        Ok(Self { root, count })
    }

    /// Takes in a row. A row that conflicts leaves nothing behind. Returns whether the schema has changed.
    pub(super) fn row(
        &mut self,
        members: &[(std::borrow::Cow<'_, str>, Value<'_>)],
        context: &Context<'_>,
    ) -> Result<bool> {
        self.try_row(context, |root, growth| growth.object(root, members, true))
    }

    /// The same for a row of CSV: the fields by name, those that are null left out.
    pub(super) fn text_row(&mut self, fields: &[(&str, &str)], context: &Context<'_>) -> Result<bool> {
        self.try_row(context, |root, growth| {
            let present = |name: &str| fields.iter().any(|(key, _)| is_column(key, name, context.options));
            root.check_required(present)?;
            for (name, text) in fields {
                growth.text_field(root, name, text)?;
            }
            Ok(())
        })
    }

    fn try_row(
        &mut self,
        context: &Context<'_>,
        grow: impl Fn(&mut Fields, &mut Growth<'_, '_>) -> Result<()>,
    ) -> Result<bool> {
        let mut growth = Growth { context, path: Vec::new(), changes: Vec::new(), count: self.count };
        match grow(&mut self.root, &mut growth) {
            Ok(()) => {
                self.count = growth.count;
                Ok(!growth.changes.is_empty())
            }
            Err(fault) => {
                growth.changes.into_iter().rev().for_each(|change| self.undo(change));
                Err(fault)
            }
        }
    }

    fn undo(&mut self, change: Change) {
        match change {
            Change::Field(path) => {
                if let Some(fields) = self.root.at(&path)
                    && let Some((column, _)) = fields.list.pop()
                {
                    fields.index.remove(column.name.as_str());
                }
            }
            Change::Kind(path, kind) => {
                if let Some(node) = self.root.node(&path) {
                    node.kind = kind;
                }
            }
        }
    }

    pub(super) fn schema(&self) -> Schema {
        Schema::unchecked(self.root.columns())
    }
}

fn is_column(key: &str, name: &str, options: &RowOptions) -> bool {
    options.column(key).is_some_and(|column| column == options.normal(name))
}

impl Fields {
    fn new(columns: &[Column], options: &RowOptions, is_row: bool) -> std::result::Result<Self, SchemaError> {
        let mut fields = Self::default();
        for column in columns {
            let node = Node::new(&column.kind, column.format.as_deref(), options)?;
            let name = options.normal(&column.name);
            if fields.index.insert(name.into(), fields.list.len()).is_some() {
                let place = if is_row { "columns" } else { "fields of one column" };
                return Err(SchemaError::Columns(format!(
                    "two {place} are named {:?} by the options for names",
                    column.name
                )));
            }
            fields.required += usize::from(!column.nullable);
            let column = Column { kind: Type::Boolean, ..column.clone() };
            fields.list.push((column, node));
        }
        Ok(fields)
    }

    fn columns(&self) -> Vec<Column> {
        self.list
            .iter()
            .filter_map(|(column, node)| Some(Column { kind: node.kind()?, ..column.clone() }))
            .collect()
    }

    fn check_required(&self, present: impl Fn(&str) -> bool) -> Result<()> {
        if self.required == 0 {
            return Ok(());
        }
        let missing = self.list.iter().find(|(column, _)| !column.nullable && !present(&column.name));
        missing.map_or(Ok(()), |(column, node)| {
            let expected = node.kind().map_or(String::new(), |kind| mismatch(&kind, "nothing"));
            Err(Fault::value(expected).within(Step::Field(column.name.as_str().into())))
        })
    }

    fn node(&mut self, path: &[usize]) -> Option<&mut Node> {
        let (first, rest) = path.split_first()?;
        let mut node = &mut self.list.get_mut(*first)?.1;
        for &step in rest {
            node = match &mut node.kind {
                Kind::Array(inner) | Kind::Map(_, _, inner) if step == INNER => inner,
                Kind::Struct(fields) => &mut fields.list.get_mut(step)?.1,
                _ => return None,
            };
        }
        Some(node)
    }

    fn at(&mut self, path: &[usize]) -> Option<&mut Fields> {
        if path.is_empty() {
            return Some(self);
        }
        match &mut self.node(path)?.kind {
            Kind::Struct(fields) => Some(fields),
            _ => None,
        }
    }
}

impl Node {
    fn new(
        kind: &Type,
        format: Option<&str>,
        options: &RowOptions,
    ) -> std::result::Result<Self, SchemaError> {
        let inner = |kind| Self::new(kind, None, options).map(Box::new);
        let tester = |kind| Values::new(kind, format, options).map(Box::new);
        let node = match kind {
            Type::Array(item) => Kind::Array(inner(item)?),
            Type::Struct(fields) => Kind::Struct(Fields::new(fields, options, false)?),
            Type::Map(key, value) => Kind::Map((**key).clone(), tester(key)?, inner(value)?),
            leaf => Kind::Leaf(leaf.clone(), tester(leaf)?),
        };
        Ok(Self { kind: node, settled: true, format: format.map(str::to_owned) })
    }

    fn unknown() -> Self {
        Self { kind: Kind::Unknown, settled: false, format: None }
    }

    /// Its type, if something is known of it.
    fn kind(&self) -> Option<Type> {
        Some(match &self.kind {
            Kind::Unknown => return None,
            Kind::Leaf(kind, _) => kind.clone(),
            Kind::Array(item) => Type::Array(Box::new(item.kind()?)),
            Kind::Map(key, _, value) => Type::Map(Box::new(key.clone()), Box::new(value.kind()?)),
            Kind::Struct(fields) => {
                let columns = fields.columns();
                if columns.is_empty() {
                    return None;
                }
                Type::Struct(columns)
            }
        })
    }

    /// Its type for people, where it is known only that it is an object or an array too.
    fn expected(&self) -> Type {
        self.kind().unwrap_or_else(|| match self.kind {
            Kind::Array(_) => Type::Array(Box::new(Type::String)),
            _ => Type::Struct(Vec::new()),
        })
    }
}

impl Growth<'_, '_> {
    fn object(
        &mut self,
        fields: &mut Fields,
        members: &[(std::borrow::Cow<'_, str>, Value<'_>)],
        is_row: bool,
    ) -> Result<()> {
        let options = self.context.options;
        let name_of = |key| if is_row { options.column(key) } else { Some(options.normal(key)) };
        fields.check_required(|name| {
            let name = options.normal(name);
            members
                .iter()
                .any(|(key, value)| *value != Value::Null && name_of(key).is_some_and(|key| key == name))
        })?;
        for (key, value) in members {
            let known = name_of(key).and_then(|name| fields.index.get(name.as_ref()).copied());
            let i = match known {
                Some(i) => i,
                None if value.says_something() => self.add(fields, key, is_row)?,
                None => continue,
            };
            let (column, node) = &mut fields.list[i];
            self.path.push(i);
            let step = || Step::Field(column.name.as_str().into());
            self.value(node, value).map_err(|fault| fault.within(step()))?;
            self.path.pop();
        }
        Ok(())
    }

    /// Adds a field for a key.
    fn add(&mut self, fields: &mut Fields, key: &str, is_row: bool) -> Result<usize> {
        let options = self.context.options;
        let refuse = |why: String| Err(Fault::value(why).within(Step::Field(key.into())));
        let Some(name) = (if is_row { options.column(key) } else { Some(options.normal(key)) }) else {
            return refuse("the column has another key".to_owned());
        };
        if name.is_empty() {
            return Err(Fault::value("a key is empty".to_owned()));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Fault::value(format!(
                "the key {} is longer than {NAME_BYTES_MAX} bytes",
                quoted(key)
            )));
        }
        self.count_one().map_err(|fault| fault.within(Step::Field(key.into())))?;
        let i = fields.list.len();
        fields.index.insert(name.as_ref().into(), i);
        fields.list.push((Column::new(name, Type::Boolean), Node::unknown()));
        self.changes.push(Change::Field(self.path.clone()));
        Ok(i)
    }

    fn count_one(&mut self) -> Result<()> {
        if self.count >= COLUMNS_MAX {
            return Err(Fault::value(format!("the schema would have more than {COLUMNS_MAX} columns")));
        }
        self.count += 1;
        Ok(())
    }

    fn set(&mut self, node: &mut Node, kind: Kind) {
        let before = std::mem::replace(&mut node.kind, kind);
        self.changes.push(Change::Kind(self.path.clone(), before));
    }

    fn set_leaf(&mut self, node: &mut Node, kind: Type) -> Result<()> {
        let tester = Values::new(&kind, node.format.as_deref(), self.context.options);
        let tester = tester.map_err(|error| Fault::value(error.to_string()))?;
        self.set(node, Kind::Leaf(kind, Box::new(tester)));
        Ok(())
    }

    fn value(&mut self, node: &mut Node, value: &Value<'_>) -> Result<()> {
        if !value.says_something() {
            return Ok(());
        }
        if matches!(node.kind, Kind::Unknown) {
            self.begin(node, value)?;
        }
        match (&mut node.kind, value) {
            (Kind::Leaf(kind, tester), value) => {
                // Before there is data it may still turn out to be another kind of text, unless there are numbers too.
                if *kind == Type::TIMESTAMP && !node.settled {
                    let Value::String(text) = value else {
                        node.settled = true;
                        return self.value(node, value);
                    };
                    if time::is_timestamp(text, &self.context.options.timestamps) {
                        return Ok(());
                    }
                    return self.set_leaf(node, Type::String);
                }
                let taken = tester.take(value, self.context);
                tester.truncate(0);
                let Err(fault) = taken else { return Ok(()) };
                let Value::Number(number) = value else { return Err(fault) };
                match widen::for_number(kind, *number) {
                    Some(wider) => self.set_leaf(node, wider),
                    None => Err(fault),
                }
            }
            (Kind::Struct(fields), Value::Object(members)) => self.object(fields, members, false),
            (Kind::Array(item), Value::Array(items)) => {
                self.path.push(INNER);
                for (i, value) in items.iter().enumerate() {
                    self.value(item, value).map_err(|fault| fault.within(Step::Item(i)))?;
                }
                self.path.pop();
                Ok(())
            }
            (Kind::Map(_, keys, inner), Value::Object(members)) => {
                self.path.push(INNER);
                for (key, value) in members {
                    keys.text(key, || format!("the key {}", quoted(key)))?;
                    keys.truncate(0);
                    let step = || Step::Field(key.as_ref().into());
                    self.value(inner, value).map_err(|fault| fault.within(step()))?;
                }
                self.path.pop();
                Ok(())
            }
            _ => Err(Fault::value(mismatch(&node.expected(), &value.describe()))),
        }
    }

    /// Gives a type to a place of which nothing was known.
    fn begin(&mut self, node: &mut Node, value: &Value<'_>) -> Result<()> {
        let deeper = || {
            let depth = self.path.len();
            if depth > DEPTH_MAX {
                return Err(Fault::value(format!("it is nested more than {DEPTH_MAX} levels deep")));
            }
            Ok(())
        };
        match value {
            Value::Null => Ok(()),
            Value::Bool(_) => self.set_leaf(node, Type::Boolean),
            Value::Number(number) if number.is_plain_integer() && number.to_i64().is_ok() => {
                self.set_leaf(node, Type::BigInt)
            }
            Value::Number(_) => self.set_leaf(node, Type::Double),
            Value::String(text) if time::is_timestamp(text, &self.context.options.timestamps) => {
                self.set_leaf(node, Type::TIMESTAMP)
            }
            Value::String(_) => self.set_leaf(node, Type::String),
            Value::Array(_) => {
                deeper()?;
                self.count_one()?;
                self.set(node, Kind::Array(Box::new(Node::unknown())));
                Ok(())
            }
            Value::Object(_) => {
                deeper()?;
                self.set(node, Kind::Struct(Fields::default()));
                Ok(())
            }
        }
    }

    /// Takes in a field of CSV.
    fn text_field(&mut self, fields: &mut Fields, key: &str, text: &str) -> Result<()> {
        let options = self.context.options;
        let known = options.column(key).and_then(|name| fields.index.get(name.as_ref()).copied());
        let i = match known {
            Some(i) => i,
            None => self.add(fields, key, true)?,
        };
        let (column, node) = &mut fields.list[i];
        self.path.push(i);
        self.text(node, text).map_err(|fault| fault.within(Step::Field(column.name.as_str().into())))?;
        self.path.pop();
        Ok(())
    }

    fn text(&mut self, node: &mut Node, text: &str) -> Result<()> {
        let guess = guess(text, self.context.options);
        let (kind, tester) = match &mut node.kind {
            Kind::Unknown => return self.set_leaf(node, guess),
            Kind::Leaf(kind, tester) => (kind, tester),
            _ => {
                let value = Value::parse(text)?;
                return self.value(node, &value);
            }
        };
        if !node.settled {
            // All of it is text, so whatever it looked like before, as a string it is what it was.
            return match (&*kind, guess) {
                (Type::Double, Type::BigInt) | (Type::String, _) => Ok(()),
                (known, guess) if *known == guess => Ok(()),
                (Type::BigInt, Type::Double) => self.set_leaf(node, Type::Double),
                _ => self.set_leaf(node, Type::String),
            };
        }
        let taken = tester.text(text, || format!("string {}", quoted(text)));
        tester.truncate(0);
        let Err(fault) = taken else { return Ok(()) };
        match crate::table::number::Number::parse(text).and_then(|number| widen::for_number(kind, number)) {
            Some(wider) => self.set_leaf(node, wider),
            None => Err(fault),
        }
    }
}

/// The type that a text looks like. Zeros before a number say that it is none: a postal code, say.
fn guess(text: &str, options: &RowOptions) -> Type {
    match crate::table::number::Number::parse(text) {
        Some(number) if number.is_plain_integer() && number.to_i64().is_ok() => Type::BigInt,
        Some(number) if number.to_f64().is_some() => Type::Double,
        _ if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") => Type::Boolean,
        _ if time::is_timestamp(text, &options.timestamps) => Type::TIMESTAMP,
        _ => Type::String,
    }
}
