//! The records of a batch one by one, and how they are cut into requests.
//!
//! Cuts depend on nothing but the records: a batch that is delivered again is cut in the same places, so that its
//! requests are the same and a receiver can tell that it has seen them.

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::super::chunk::{Chunk, Origin, Run};
use super::super::failure::{ErrorType, Failure};
use super::{Batch, DeliveryError, Refused};

/// A record on its way into a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// Its number in the batch, from 0.
    pub(super) ordinal: u64,
    /// Which parcel, which of its chunks, which row.
    pub(super) place: (usize, usize, usize),
    /// Where it came from.
    pub(super) origin: Origin,
    /// Its bytes.
    pub(super) payload: &'a [u8],
}

impl Row<'_> {
    /// It was not delivered, and here is why.
    pub(super) fn refused(&self, verdict: &Verdict) -> Refused {
        let Verdict { error_type, code, message, attempts, gave_up, ended_us } = verdict;
        let failure = Failure {
            error_type: *error_type,
            code: code.clone(),
            message: message.clone(),
            attempts: *attempts,
        };
        Refused { place: self.place, failure, gave_up: *gave_up, ended_us: *ended_us, details: Vec::new() }
    }
}

/// What is said of records that were not delivered.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) error_type: ErrorType,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) attempts: u32,
    pub(super) gave_up: bool,
    pub(super) ended_us: i64,
}

/// What all these payloads have in bytes.
pub(super) fn bytes(rows: &[Row<'_>]) -> u64 {
    rows.iter().map(|row| row.payload.len() as u64).sum()
}

/// When the oldest record of the batch arrived.
pub(super) fn oldest_us(batch: &Batch) -> i64 {
    batch.parcels.iter().map(|parcel| parcel.oldest_us).min().unwrap_or(0)
}

/// The same for the same rows of the same batch, and for no others: what a receiver tells repeats by.
pub(super) fn request_id(batch: &Batch, rows: &[Row<'_>]) -> Uuid {
    let mut hash = Xxh3::new();
    hash.update(batch.id.as_bytes());
    let ordinal = |row: Option<&Row<'_>>| row.map_or(u64::MAX, |row| row.ordinal);
    hash.update(format!("{} {}", ordinal(rows.first()), ordinal(rows.last())).as_bytes());
    // Version 8: made by a rule of our own.
    uuid::Builder::from_custom_bytes(uuid_bytes(hash.digest128())).into_uuid()
}

fn uuid_bytes(hash: u128) -> [u8; 16] {
    *Uuid::from_u128(hash).as_bytes()
}

/// The records of a batch, in their order.
pub(super) fn rows(batch: &Batch) -> impl Iterator<Item = Row<'_>> {
    let chunks = batch
        .parcels
        .iter()
        .enumerate()
        .flat_map(|(p, parcel)| parcel.chunks.iter().enumerate().map(move |(c, chunk)| (p, c, chunk)));
    chunks
        .flat_map(|(p, c, chunk)| {
            origins(chunk).enumerate().map(move |(r, origin)| ((p, c, r), origin, chunk.payload(r)))
        })
        .enumerate()
        .map(|(i, (place, origin, payload))| Row { ordinal: i as u64, place, origin, payload })
}

/// Where each row came from. Unlike [`Chunk::origin`] it does not begin at the first run for every row.
fn origins(chunk: &Chunk) -> impl Iterator<Item = Origin> {
    chunk.runs.iter().flat_map(|Run { first, rows }| {
        (0..u64::from(*rows)).map(move |at| match first.sub {
            Some(sub) => Origin { sub: Some(sub + at), ..*first },
            None => Origin { index: first.index + at, ..*first },
        })
    })
}

/// Every row has an origin, or the batch was not made as it should be.
pub(super) fn check(batch: &Batch) -> Result<(), DeliveryError> {
    for parcel in &batch.parcels {
        for chunk in &parcel.chunks {
            let noted: u64 = chunk.runs.iter().map(|run| u64::from(run.rows)).sum();
            if noted != chunk.len() as u64 {
                return Err(DeliveryError::Permanent(format!(
                    "batch {}: {}: {} records and the origins of {noted}",
                    batch.number,
                    parcel.name,
                    chunk.len()
                )));
            }
        }
    }
    Ok(())
}

/// How much goes into one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Rows in groups, each as large as the limit allows. A row that is above it alone has a group of its own.
pub(super) fn groups<'a>(
    rows: impl Iterator<Item = Row<'a>>,
    limit: Limit,
    cost: impl Fn(&Row<'a>) -> usize,
) -> impl Iterator<Item = Vec<Row<'a>>> {
    let mut rows = rows.peekable();
    std::iter::from_fn(move || {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows
            .next_if(|row| group.is_empty() || (group.len() < limit.rows && bytes + cost(row) <= limit.bytes))
        {
            bytes += cost(&row);
            group.push(row);
        }
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::Parcel;
    use super::*;
    use crate::record::ShardId;

    /// A batch with these payloads in each chunk.
    pub(crate) fn batch(chunks: &[&[&[u8]]]) -> Batch {
        let mut index = 100;
        let chunks: Vec<Chunk> = chunks
            .iter()
            .map(|payloads| {
                let mut chunk = Chunk::default();
                for payload in *payloads {
                    let origin = Origin {
                        shard: ShardId(3),
                        shard_created_s: 5,
                        index,
                        sub: (index % 3 == 0).then_some(index),
                        arrival_us: 1_456_405_200_000_000,
                    };
                    chunk.push(origin, payload);
                    index += 1;
                }
                chunk
            })
            .collect();
        let records = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let body = Vec::new().into();
        Batch {
            number: 7,
            id: Uuid::from_u128(77),
            parcels: vec![Parcel { name: "a".to_owned(), body, chunks, records, oldest_us: 9 }],
        }
    }

    #[test]
    fn rows_know_their_places_and_origins() {
        let batch = batch(&[&[b"a", b"bb"], &[], &[b"ccc"]]);
        let rows: Vec<Row<'_>> = rows(&batch).collect();
        let places: Vec<_> = rows.iter().map(|row| row.place).collect();
        assert_eq!(places, [(0, 0, 0), (0, 0, 1), (0, 2, 0)]);
        for row in &rows {
            let chunk = &batch.parcels[row.place.0].chunks[row.place.1];
            assert_eq!(Some(row.origin), chunk.origin(row.place.2));
            assert_eq!(row.payload, chunk.payload(row.place.2));
        }
        assert_eq!(rows[2].ordinal, 2);
        assert_eq!(bytes(&rows), 6);
        check(&batch).unwrap();
        let mut damaged = batch;
        damaged.parcels[0].chunks[0].runs.clear();
        assert!(check(&damaged).is_err());
    }

    #[test]
    fn a_request_s_id_is_of_its_rows() {
        let one = batch(&[&[b"a", b"b", b"c"]]);
        let rows: Vec<Row<'_>> = rows(&one).collect();
        assert_eq!(request_id(&one, &rows), request_id(&one, &rows));
        assert_ne!(request_id(&one, &rows), request_id(&one, &rows[..2]));
        assert_ne!(request_id(&one, &rows[..1]), request_id(&one, &rows[1..]));
        let other = Batch { id: Uuid::from_u128(78), ..batch(&[]) };
        assert_ne!(request_id(&one, &rows), request_id(&other, &rows));
        assert_eq!(request_id(&one, &rows).get_version_num(), 8);
    }

    proptest! {
        #[test]
        fn groups_keep_every_row_within_the_limit(
            sizes in prop::collection::vec(0usize..50, 0..60),
            most_rows in 1usize..9,
            most_bytes in 1usize..90,
        ) {
            let payloads: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
            let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let batch = batch(&[&slices]);
            let limit = Limit { rows: most_rows, bytes: most_bytes };
            let groups: Vec<_> = groups(rows(&batch), limit, |row| row.payload.len()).collect();
            let ordinals: Vec<u64> = groups.iter().flatten().map(|row| row.ordinal).collect();
            prop_assert_eq!(ordinals, (0..sizes.len() as u64).collect::<Vec<_>>());
            for pair in groups.windows(2) {
                prop_assert!(pair[0].len() <= most_rows);
                let (first, next) = (bytes(&pair[0]) as usize, pair[1][0].payload.len());
                prop_assert!(first <= most_bytes || pair[0].len() == 1);
                prop_assert!(pair[0].len() == most_rows || first + next > most_bytes);
            }
        }
    }
}
