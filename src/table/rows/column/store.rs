//! Values of variable length, back to back.

use arrow::buffer::OffsetBuffer;

/// Where the values of variable length end. The first is 0.
#[derive(Debug, Clone)]
pub(super) struct Offsets(Vec<i32>);

#[derive(Debug, Clone)]
pub(super) struct Bytes {
    pub(super) ends: Offsets,
    pub(super) bytes: Vec<u8>,
}

/// Why a text is not a value of a column.
pub(super) enum Miss {
    /// It is none of this type.
    Kind,
    /// What is said instead.
    Reason(String),
}

impl Offsets {
    pub(super) fn new() -> Self {
        Self(vec![0])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() - 1
    }

    pub(super) fn last(&self) -> usize {
        self.0.last().copied().unwrap_or_default() as usize
    }

    #[inline]
    pub(super) fn push(&mut self, end: usize) -> Result<(), Miss> {
        let full = || Miss::Reason("the block has more than 2 GiB in this column".to_owned());
        self.0.push(i32::try_from(end).map_err(|_| full())?);
        Ok(())
    }

    pub(super) fn repeat(&mut self) {
        self.0.push(self.last() as i32);
    }

    /// Cuts it to `len` values, and says where the last of them ends.
    pub(super) fn truncate(&mut self, len: usize) -> usize {
        self.0.truncate(len + 1);
        self.last()
    }

    pub(super) fn take(&mut self) -> OffsetBuffer<i32> {
        let capacity = self.0.len();
        let taken = std::mem::replace(&mut self.0, Vec::with_capacity(capacity));
        self.0.push(0);
        OffsetBuffer::new(taken.into())
    }
}

impl Bytes {
    pub(super) fn new() -> Self {
        Self { ends: Offsets::new(), bytes: Vec::new() }
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> Result<(), Miss> {
        self.ends.push(self.bytes.len() + value.len())?;
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    pub(super) fn truncate(&mut self, len: usize) {
        let end = self.ends.truncate(len);
        self.bytes.truncate(end);
    }
}
