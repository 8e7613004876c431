//! Decoders for many threads that share one schema, which may grow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::infer::Inference;
use super::rows::{CsvRows, Decoded, Outcome, RowDecoder, RowOptions};
use super::schema::{Schema, SchemaError};

/// Decodes blocks of one table on any number of threads.
///
/// Where the schema may grow, a block that does not fit makes it grow, one block at a time; blocks that fit are not held
/// up by that. In which order columns come then depends on which thread is first: whoever wants it always the same
/// decodes the first block alone.
#[derive(Debug)]
pub struct Decoders {
    options: RowOptions,
    csv: Option<CsvRows>,
    evolving: bool,
    /// Held while the schema grows.
    growing: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    schema: Arc<Schema>,
    version: u64,
    prototype: RowDecoder,
    /// Decoders of this version that nobody uses.
    idle: Vec<RowDecoder>,
}

/// A decoder, and what it is for.
struct Lent {
    schema: Arc<Schema>,
    version: u64,
    decoder: RowDecoder,
}

/// A block that was decoded.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The schema of its batch.
    pub schema: Arc<Schema>,
    /// How often the schema had changed before: of two batches the one with the larger number has the wider schema.
    pub version: u64,
    /// The rows.
    pub decoded: Decoded,
}

impl Decoders {
    /// Decoders for a schema that stays as it is: keys that are no columns are ignored.
    pub fn fixed(schema: Schema, options: RowOptions) -> Result<Self, SchemaError> {
        Self::new(schema, options, None, false)
    }

    /// Decoders for a schema that grows with the rows, from nothing ([`Schema::default`]) or from an earlier run's.
    pub fn evolving(schema: Schema, options: RowOptions) -> Result<Self, SchemaError> {
        Self::new(schema, options, None, true)
    }

    /// The same for payloads that are rows of CSV.
    pub fn with_csv(self, csv: CsvRows) -> Result<Self, SchemaError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        Self::new(Arc::unwrap_or_clone(state.schema), self.options, Some(csv), self.evolving)
    }

    fn new(
        schema: Schema,
        options: RowOptions,
        csv: Option<CsvRows>,
        evolving: bool,
    ) -> Result<Self, SchemaError> {
        if evolving {
            // What cannot grow is told of now, not when it should.
            Inference::new(&schema, &options)?;
        }
        let prototype = decoder(&schema, &options, csv.as_ref())?;
        let state = State { schema: Arc::new(schema), version: 0, prototype, idle: Vec::new() };
        Ok(Self { options, csv, evolving, growing: Mutex::new(()), state: Mutex::new(state) })
    }

    /// The schema as it is now.
    pub fn schema(&self) -> Arc<Schema> {
        self.state().schema.clone()
    }

    /// Decodes a block, laid out as for [`RowDecoder`].
    pub fn decode(&self, bytes: &[u8], ends: &[u32]) -> Converted {
        let mut lent = self.lend();
        let decoded = if self.evolving {
            match lent.decoder.fit(bytes, ends) {
                Outcome::Rows(decoded) => decoded,
                Outcome::Drift => {
                    lent = self.grow(bytes, ends);
                    lent.decoder.settle(bytes, ends)
                }
            }
        } else {
            lent.decoder.decode(bytes, ends)
        };
        let Lent { schema, version, decoder } = lent;
        let mut state = self.state();
        if state.version == version {
            state.idle.push(decoder);
        }
        Converted { schema, version, decoded }
    }

    /// Makes the schema one that takes a block.
    fn grow(&self, bytes: &[u8], ends: &[u32]) -> Lent {
        let _turn = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = self.schema();
        let grown = Inference::new(&schema, &self.options).and_then(|mut inference| {
            if let Some(csv) = &self.csv {
                inference = inference.with_csv(csv.clone());
            }
            inference.add(bytes, ends);
            if !inference.changed() {
                return Ok(None);
            }
            let schema = inference.schema();
            Ok(Some((decoder(&schema, &self.options, self.csv.as_ref())?, schema)))
        });
        // A schema that grew is one that can be decoded by; if it were not, the old one is, and says which rows it
        // does not take.
        if let Ok(Some((prototype, schema))) = grown {
            let mut state = self.state();
            let version = state.version + 1;
            *state = State { schema: Arc::new(schema), version, prototype, idle: Vec::new() };
        }
        self.lend()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(&self) -> Lent {
        let mut state = self.state();
        let decoder = state.idle.pop().unwrap_or_else(|| state.prototype.clone());
        Lent { schema: state.schema.clone(), version: state.version, decoder }
    }
}

fn decoder(schema: &Schema, options: &RowOptions, csv: Option<&CsvRows>) -> Result<RowDecoder, SchemaError> {
    let decoder = RowDecoder::new(schema, options)?;
    Ok(match csv {
        Some(csv) => decoder.with_csv(csv.clone()),
        None => decoder,
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn block(rows: impl Iterator<Item = String>) -> (Vec<u8>, Vec<u32>) {
        let (mut bytes, mut ends) = (String::new(), Vec::new());
        for row in rows {
            bytes.push_str(&row);
            ends.push(bytes.len() as u32);
            writeln!(bytes).unwrap();
        }
        (bytes.into_bytes(), ends)
    }

    #[test]
    fn many_threads_grow_one_schema() {
        let decoders = Decoders::evolving(Schema::default(), RowOptions::default()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let decoders = &decoders;
                scope.spawn(move || {
                    for round in 0..20 {
                        let rows = (0..10).map(|i| match i {
                            9 => "{\"id\":\"x\"}".to_owned(),
                            i => format!("{{\"id\":{i},\"t{thread}\":{round},\"r{round}\":{i}.5}}"),
                        });
                        let (bytes, ends) = block(rows);
                        let converted = decoders.decode(&bytes, &ends);
                        assert_eq!(converted.decoded.batch.num_rows(), 9);
                        assert_eq!(converted.decoded.bad[0].row, 9);
                        assert_eq!(converted.decoded.batch.schema_ref(), converted.schema.arrow());
                        let now = decoders.schema();
                        assert_eq!(now.adapt(&converted.decoded.batch).unwrap().num_rows(), 9);
                    }
                });
            }
        });
        let schema = decoders.schema();
        assert_eq!(schema.columns().len(), 1 + 4 + 20);
        assert_eq!(schema.columns()[0].to_string(), "id bigint");
        assert!(decoders.state().version <= 24);
    }

    #[test]
    fn a_fixed_schema_stays() {
        let decoders = Decoders::fixed(Schema::parse("id int").unwrap(), RowOptions::default()).unwrap();
        let (bytes, ends) = block(["{\"id\":1,\"x\":2}".to_owned(), "{\"id\":1.5}".to_owned()].into_iter());
        let converted = decoders.decode(&bytes, &ends);
        assert_eq!((converted.version, converted.decoded.batch.num_rows()), (0, 1));
        assert_eq!(converted.decoded.bad[0].reason, "column \"id\": expected int, found number 1.5");
        assert_eq!(decoders.state().idle.len(), 1);
    }

    #[test]
    fn rows_of_csv() {
        let decoders = Decoders::evolving(Schema::default(), RowOptions::default()).unwrap();
        let decoders = decoders.with_csv(CsvRows::new(b"id,name", b',').unwrap()).unwrap();
        let (bytes, ends) = block(["1,a", "2", "3,\"b,c\""].map(str::to_owned).into_iter());
        let converted = decoders.decode(&bytes, &ends);
        assert_eq!(converted.schema.to_string(), "id bigint, name string");
        assert_eq!((converted.version, converted.decoded.batch.num_rows()), (1, 2));
        assert_eq!(converted.decoded.bad[0].reason, "expected 2 fields, found 1");
    }
}
