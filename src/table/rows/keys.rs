//! The keys of the maps that are being read, to find those that are there twice.

use std::collections::HashMap;

/// Keys back to back; a map inside another begins where the outer one has got to.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    text: String,
    ends: Vec<usize>,
}

/// Up to so many keys are compared each with each: cheaper than a table of hashes.
const FEW: usize = 12;

impl Keys {
    pub(super) fn mark(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn back_to(&mut self, mark: usize) {
        self.ends.truncate(mark);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    pub(super) fn push(&mut self, key: &str) {
        self.text.push_str(key);
        self.ends.push(self.text.len());
    }

    pub(super) fn last(&self) -> &str {
        self.ends.len().checked_sub(1).map_or("", |i| self.get(i))
    }

    fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    /// The numbers, from `mark` on, of the keys that come again later.
    pub(super) fn replaced(&self, mark: usize) -> Vec<usize> {
        let count = self.ends.len() - mark;
        if count <= FEW {
            let again = |i: usize| (i + 1..count).any(|j| self.get(mark + i) == self.get(mark + j));
            return (0..count).filter(|&i| again(i)).collect();
        }
        let mut last = HashMap::with_capacity(count);
        let mut replaced: Vec<_> = (0..count).filter_map(|i| last.insert(self.get(mark + i), i)).collect();
        replaced.sort_unstable();
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_come_again() {
        for many in [0, FEW] {
            let mut keys = Keys::default();
            keys.push("a");
            let mark = keys.mark();
            for key in ["a", "b", "a", "", "a", ""] {
                keys.push(key);
            }
            (0..many).for_each(|i| keys.push(&i.to_string()));
            assert_eq!(keys.replaced(mark), [0, 2, 3]);
            keys.back_to(mark);
            assert_eq!(keys.last(), "a");
        }
    }
}
