//! Values into a column: from JSON where it lies, from values that were read before, from texts.

use super::map::entries;
use super::store::Miss;
use super::text::{base64, decimal, not_finite, plain_number};
use super::{Column, Data};
use crate::table::json::{Scanner, Value};
use crate::table::number::Number;
use crate::table::rows::fault::{Fault, Result, Step, found, mismatch, quoted};
use crate::table::rows::{Context, Unknown};
use crate::table::schema::Type;
use crate::table::{time, widen};

impl Column {
    /// Takes the next value of a JSON text.
    #[inline]
    pub(in crate::table::rows) fn value(
        &mut self,
        json: &mut Scanner<'_>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let Some(first) = json.peek() else { return Ok(json.fault("a value is missing")?) };
        match (&mut self.data, first) {
            (_, b'n') => {
                json.word("null")?;
                self.push_null();
                return Ok(());
            }
            (Data::Text(text), b'"') if matches!(self.kind, Type::String) => {
                let value = json.string(&mut context.scratch)?;
                if text.push(value.as_bytes()).is_err() {
                    return Err(too_much());
                }
            }
            (Data::BigInt(values), b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                match number.to_i64() {
                    Ok(value) => values.push(value),
                    Err(_) => return Err(self.wrong_number(number, context)),
                }
            }
            (Data::Double(values), b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                match number.to_f64() {
                    Some(value) => values.push(value),
                    None => return Err(self.wrong_number(number, context)),
                }
            }
            (Data::Boolean(values), b't' | b'f') => {
                json.word(if first == b't' { "true" } else { "false" })?;
                values.push(first == b't');
            }
            (Data::Struct(fields), b'{') => fields.object(json, context)?,
            (Data::List(ends, item), b'[') => {
                json.enter()?;
                let (start, mut first) = (ends.last(), true);
                while json.more(first, b']')? {
                    first = false;
                    let at = item.len() - start;
                    item.value(json, context).map_err(|fault| fault.within(Step::Item(at)))?;
                }
                ends.push(item.len()).map_err(|_| too_much())?;
            }
            (Data::Map(ends, keys, values), b'{') => {
                entries(ends.last(), (keys, values), json, context)?;
                ends.push(keys.len()).map_err(|_| too_much())?;
            }
            (_, b'"') => return self.string(json, context),
            (_, b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                return self.number(number, context);
            }
            _ => return self.other(json, context),
        }
        self.taken();
        Ok(())
    }

    /// Takes a number that is not of the most frequent kinds.
    fn number(&mut self, number: Number<'_>, context: &Context<'_>) -> Result<()> {
        fn narrow<T: TryFrom<i64>>(values: &mut Vec<T>, number: Number<'_>) -> bool {
            let value = number.to_i64().ok().and_then(|value| T::try_from(value).ok());
            value.map(|value| values.push(value)).is_some()
        }
        let fits = match (&mut self.data, &self.kind) {
            (Data::TinyInt(values), _) => narrow(values, number),
            (Data::SmallInt(values), _) => narrow(values, number),
            (Data::Int(values), _) => narrow(values, number),
            (Data::BigInt(values), _) => narrow(values, number),
            (Data::Float(values), _) => number.to_f32().map(|value| values.push(value)).is_some(),
            (Data::Double(values), _) => number.to_f64().map(|value| values.push(value)).is_some(),
            (Data::Decimal(values), Type::Decimal { precision, scale }) => {
                decimal(number, *precision, *scale).map(|value| values.push(value)).is_some()
            }
            (Data::Timestamp(values), Type::Timestamp { digits, .. }) => {
                let moment =
                    time::since_epoch(number, &self.formats).and_then(|moment| moment.units(*digits));
                moment.map(|value| values.push(value)).is_some()
            }
            (Data::Text(_), _) if context.options.coerce => {
                return self.text(number.text, || found(number.text));
            }
            _ => false,
        };
        if !fits {
            return Err(self.wrong_number(number, context));
        }
        self.taken();
        Ok(())
    }

    #[cold]
    fn wrong_number(&self, number: Number<'_>, context: &Context<'_>) -> Fault {
        if context.watch && widen::for_number(&self.kind, number).is_some() {
            return Fault::drift();
        }
        Fault::value(mismatch(&self.kind, &found(number.text)))
    }

    /// Takes a string into a column that is not plainly of strings.
    fn string(&mut self, json: &mut Scanner<'_>, context: &mut Context<'_>) -> Result<()> {
        let takes = self.takes_strings(context);
        let value = json.string(&mut context.scratch)?;
        let show = || format!("string {}", quoted(value));
        if takes {
            return self.text(value, show);
        }
        Err(Fault::value(mismatch(&self.kind, &show())))
    }

    /// Takes a string, a number or a boolean that has been read already. Objects and arrays go only where they are text.
    pub(in crate::table) fn take(&mut self, value: &Value<'_>, context: &Context<'_>) -> Result<()> {
        let takes_strings = self.takes_strings(context);
        match (value, &mut self.data) {
            (Value::Null, _) => {
                self.push_null();
                Ok(())
            }
            (Value::Number(number), _) => self.number(*number, context),
            (Value::String(text), _) if takes_strings => {
                self.text(text, || format!("string {}", quoted(text)))
            }
            (Value::Bool(value), Data::Boolean(values)) => {
                values.push(*value);
                self.taken();
                Ok(())
            }
            // What it is written as is not known here, and makes no difference.
            (Value::Bool(_) | Value::Array(_) | Value::Object(_), Data::Text(_))
                if context.options.coerce =>
            {
                self.text("", String::new)
            }
            _ => Err(Fault::value(mismatch(&self.kind, &value.describe()))),
        }
    }

    /// Whether a string can be a value.
    fn takes_strings(&self, context: &Context<'_>) -> bool {
        // What a text stands for in these is nothing that coercion is for.
        let own = matches!(
            self.data,
            Data::Text(_) | Data::Binary(_) | Data::Date(_) | Data::Timestamp(_) | Data::Decimal(_)
        );
        own || context.options.coerce
    }

    /// Takes what is neither a string nor a number, or reports it.
    #[cold]
    fn other(&mut self, json: &mut Scanner<'_>, context: &Context<'_>) -> Result<()> {
        let raw = json.raw()?;
        if context.options.coerce && matches!(self.data, Data::Text(_)) {
            return self.text(raw, || found(raw));
        }
        // It would have made no column: so it fits the one that others made.
        if context.unknown == Unknown::Noted && !Scanner::new(raw).says_something()? {
            self.push_null();
            return Ok(());
        }
        Err(Fault::value(mismatch(&self.kind, &found(raw))))
    }

    /// Takes a value that is written as a text: in a string, as the key of a map, in a field of CSV. `show` says what it
    /// is where it does not fit.
    pub(in crate::table) fn text(&mut self, text: &str, show: impl Fn() -> String) -> Result<()> {
        let missed = match self.take_text(text) {
            Ok(()) => {
                self.taken();
                return Ok(());
            }
            Err(missed) => missed,
        };
        Err(Fault::value(match missed {
            Miss::Kind => mismatch(&self.kind, &show()),
            Miss::Reason(reason) => reason,
        }))
    }

    fn take_text(&mut self, text: &str) -> std::result::Result<(), Miss> {
        fn push<T>(values: &mut Vec<T>, value: Option<T>) -> std::result::Result<(), Miss> {
            values.push(value.ok_or(Miss::Kind)?);
            Ok(())
        }
        fn integer<T: TryFrom<i64>>(text: &str) -> Option<T> {
            plain_number(text)?.to_i64().ok()?.try_into().ok()
        }
        match (&mut self.data, &self.kind) {
            (Data::Text(values), Type::Varchar(most) | Type::Char(most)) => {
                let most = *most as usize;
                if text.len() > most && text.chars().count() > most {
                    let count = text.chars().count();
                    return Err(Miss::Reason(format!("{count} characters do not fit {}", self.kind)));
                }
                values.push(text.as_bytes())
            }
            (Data::Text(values), _) => values.push(text.as_bytes()),
            (Data::Binary(values), _) => {
                let bytes = base64(text).ok_or_else(|| {
                    Miss::Reason(format!("expected binary as base64, found string {}", quoted(text)))
                })?;
                values.push(&bytes)
            }
            (Data::Boolean(values), _) => {
                let value = if text.eq_ignore_ascii_case("true") {
                    Some(true)
                } else {
                    text.eq_ignore_ascii_case("false").then_some(false)
                };
                push(values, value)
            }
            (Data::TinyInt(values), _) => push(values, integer(text)),
            (Data::SmallInt(values), _) => push(values, integer(text)),
            (Data::Int(values), _) => push(values, integer(text)),
            (Data::BigInt(values), _) => push(values, integer(text)),
            (Data::Float(values), _) => push(
                values,
                plain_number(text).map_or_else(|| not_finite(text).map(|v| v as f32), Number::to_f32),
            ),
            (Data::Double(values), _) => {
                push(values, plain_number(text).map_or_else(|| not_finite(text), Number::to_f64))
            }
            (Data::Decimal(values), Type::Decimal { precision, scale }) => {
                push(values, plain_number(text).and_then(|number| decimal(number, *precision, *scale)))
            }
            (Data::Date(values), _) => push(values, time::parse_date(text, &self.formats)),
            (Data::Timestamp(values), Type::Timestamp { digits, .. }) => {
                push(values, time::parse(text, &self.formats).and_then(|moment| moment.units(*digits)))
            }
            _ => Err(Miss::Kind),
        }
    }
}

#[cold]
fn too_much() -> Fault {
    Fault::value("the block has more than 2 GiB in this column".to_owned())
}
