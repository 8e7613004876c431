//! Which rows to copy next when a copy takes all of its rows or none.
//!
//! The promise: every row is either copied or has failed all by itself, and the work is bounded. Where the server says
//! which line was bad, a bad row costs three copies: all, those before it, the row itself; behind it the windows are as
//! large as good rows were before it, and double from there. Where it does not say, halving finds the row. Nothing but
//! bad rows cost one copy each.

/// A walk over rows `0..rows`, in windows.
#[derive(Debug)]
pub(super) struct Search {
    rows: usize,
    /// All before it is decided.
    at: usize,
    /// How many rows are tried next, where nothing is suspected.
    window: usize,
    /// There is a bad row before this one.
    suspect_end: Option<usize>,
    /// Good rows since the last bad one.
    good: usize,
    /// The server's lines have been right so far.
    trusts_lines: bool,
    /// A line of the server's stands before `suspect_end`.
    by_line: bool,
}

impl Search {
    pub(super) fn new(rows: usize) -> Self {
        let (suspect_end, good) = (None, 0);
        Self { rows, at: 0, window: rows, suspect_end, good, trusts_lines: true, by_line: false }
    }

    /// The rows to copy now; `None` once all are decided.
    pub(super) fn next(&self) -> Option<std::ops::Range<usize>> {
        if self.at == self.rows {
            return None;
        }
        let count = match self.suspect_end {
            // The line was told: what stands before it, then the row itself.
            Some(end) if self.by_line => (end - self.at).saturating_sub(1).max(1),
            Some(end) => ((end - self.at) / 2).max(1),
            None => self.window.min(self.rows - self.at),
        };
        Some(self.at..self.at + count)
    }

    /// They were copied.
    pub(super) fn copied(&mut self, rows: std::ops::Range<usize>) {
        let count = rows.len();
        self.at = rows.end;
        self.good += count;
        if self.suspect_end == Some(rows.end) {
            // The suspect was good all by itself, or what failed before does not fail now.
            self.suspect_end = None;
            self.trusts_lines &= !self.by_line;
        }
        if self.suspect_end.is_none() {
            self.window = self.window.max(count).saturating_mul(2);
        }
    }

    /// They were not; `line` is the bad one of them, counted from 1, where that was told. Answers the row that is bad for
    /// certain.
    pub(super) fn failed(&mut self, rows: std::ops::Range<usize>, line: Option<usize>) -> Option<usize> {
        if rows.len() == 1 {
            self.at = rows.end;
            self.suspect_end = None;
            // So many good rows stood between two bad ones: about so many will again.
            self.window = (self.good * 2).max(1);
            self.good = 0;
            return Some(rows.start);
        }
        let line = line.filter(|line| self.trusts_lines && (1..=rows.len()).contains(line));
        self.suspect_end = Some(line.map_or(rows.end, |line| rows.start + line));
        self.by_line = line.is_some();
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Walks over rows of which some are bad; the bad ones, how many copies it took, and how many rows were sent.
    fn walk(bad: &[bool], mut line: impl FnMut(usize) -> Option<usize>) -> (Vec<usize>, usize, usize) {
        let mut search = Search::new(bad.len());
        let (mut found, mut copies, mut sent, mut good) = (Vec::new(), 0, 0, 0);
        while let Some(rows) = search.next() {
            assert!(!rows.is_empty() && rows.end <= bad.len());
            copies += 1;
            sent += rows.len();
            if let Some(row) = rows.clone().find(|row| bad[*row]) {
                found.extend(search.failed(rows.clone(), line(row - rows.start + 1)));
            } else {
                assert_eq!(rows.start, good + found.len(), "each row once");
                good += rows.len();
                search.copied(rows);
            }
        }
        assert_eq!(good + found.len(), bad.len());
        (found, copies, sent)
    }

    fn expected(bad: &[bool]) -> Vec<usize> {
        (0..bad.len()).filter(|row| bad[*row]).collect()
    }

    proptest! {
        #[test]
        fn every_bad_row_is_found_and_no_other(bad in prop::collection::vec(prop::bool::weighted(0.1), 0..200)) {
            let (found, copies, sent) = walk(&bad, Some);
            prop_assert_eq!(&found, &expected(&bad));
            // Three copies for each bad row, and those in which the windows grow again.
            prop_assert!(copies <= 10 * found.len() + 1, "{} copies", copies);
            prop_assert!(sent <= 5 * bad.len() + 10, "{} rows sent", sent);
            let (found, copies, _) = walk(&bad, |_| None);
            prop_assert_eq!(&found, &expected(&bad));
            prop_assert!(copies <= 20 * found.len() + 1, "{} copies", copies);
        }

        /// What a trigger writes may look like a line and be none.
        #[test]
        fn wrong_lines_do_no_harm(bad in prop::collection::vec(any::<bool>(), 0..100), lies in any::<u64>()) {
            let mut state = lies;
            let (found, copies, _) = walk(&bad, |line| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match state >> 62 {
                    0 => Some(line),
                    1 => None,
                    _ => Some((state >> 40) as usize % 120),
                }
            });
            prop_assert_eq!(&found, &expected(&bad));
            prop_assert!(copies <= 20 * bad.len() + 10, "{} copies", copies);
        }
    }

    #[test]
    fn one_bad_row_of_a_million_costs_little() {
        let mut bad = vec![false; 1_000_000];
        bad[700_000] = true;
        let (found, copies, sent) = walk(&bad, Some);
        assert_eq!((found, copies), (vec![700_000], 4));
        assert!(sent <= 2_000_001, "{sent}");
        let (_, copies, sent) = walk(&bad, |_| None);
        assert!(copies < 60 && sent < 5_000_000, "{copies} copies, {sent} rows");
    }

    #[test]
    fn nothing_but_bad_rows_cost_one_copy_each() {
        let (found, copies, _) = walk(&[true; 1000], Some);
        assert_eq!(found.len(), 1000);
        assert!(copies <= 1003, "{copies}");
    }
}
