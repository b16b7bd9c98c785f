//! Which objects' fields are asked for together. Pure.
//!
//! An answer ends at 2,000 rows without saying so, so a query may expect 1,999 at most, and every call that is saved
//! counts. What waits longest goes first; the rest of a query is filled up with whichever objects come closest to its
//! end, found as a sum of a subset: with some dozen objects to choose from it is nearly always met to the row.

use std::sync::Arc;

/// The most rows that a query may expect. An answer of 2,000 rows may have been cut (research: salesforce_api.md §1.4).
pub(super) const MAX_ROWS: usize = 1_999;

/// A query with this many is full; the rest, 1 %, is what no combination may fill.
const FULL_ROWS: usize = 1_980;

/// Rows at the end of a query that are filled by choice instead of by age: some objects of 100 fields.
const CHOSEN_ROWS: usize = 600;

/// Objects that are chosen from, the oldest: a sum of any of 48 meets nearly every number, in 29,000 steps at most.
const CHOICE: usize = 48;

/// An object in a query, or waiting to be in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) index: usize,
    pub(super) name: Arc<str>,
    /// Rows that FieldDefinition is expected to have for it.
    pub(super) rows: usize,
}

impl Asked {
    /// Bytes of its name in a query, with quotes and comma.
    pub(super) fn text(&self) -> usize {
        self.name.len() + 3
    }
}

/// The objects that wait, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    waiting: Vec<Asked>,
    rows: usize,
}

impl Pool {
    pub(super) fn push(&mut self, object: Asked) {
        self.rows += object.rows;
        self.waiting.push(object);
    }

    /// Rows expected of all that wait.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The objects of `count` full queries, or nothing if there are not as many.
    pub(super) fn take_full(&mut self, count: usize, max_text: usize) -> Option<Vec<Vec<Asked>>> {
        if self.rows < count * FULL_ROWS {
            return None;
        }
        // With a query more than is needed nothing better can be waited for.
        let any = self.rows > (count + 1) * MAX_ROWS;
        let mut rest = self.clone();
        let mut queries = Vec::with_capacity(count);
        while queries.len() < count {
            let query = rest.take(max_text)?;
            let (rows, text) =
                query.iter().fold((0, 0), |(rows, text), object| (rows + object.rows, text + object.text()));
            // A name has at most 80 bytes: with less room than that the text is what is full.
            if rows < FULL_ROWS && text + 128 < max_text && !any {
                return None;
            }
            queries.push(query);
        }
        *self = rest;
        Some(queries)
    }

    /// The objects of the next query, full or not.
    pub(super) fn take(&mut self, max_text: usize) -> Option<Vec<Asked>> {
        let chosen = pick(&self.waiting, max_text);
        let mut next = chosen.iter().copied().peekable();
        let (mut query, mut rest) = (Vec::with_capacity(chosen.len()), Vec::with_capacity(self.waiting.len()));
        for (at, object) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            if next.next_if_eq(&at).is_some() { query.push(object) } else { rest.push(object) }
        }
        self.waiting = rest;
        self.rows -= query.iter().map(|object| object.rows).sum::<usize>();
        (!query.is_empty()).then_some(query)
    }
}

/// Which of the waiting objects make the next query, in order: the oldest always, alone if it is too large itself.
fn pick(waiting: &[Asked], max_text: usize) -> Vec<usize> {
    let (mut rows, mut text) = (0, 0);
    let mut chosen = Vec::new();
    for (at, object) in waiting.iter().enumerate() {
        let left = MAX_ROWS.saturating_sub(rows);
        let fits = object.rows <= left && text + object.text() <= max_text;
        if at > 0 && (!fits || left <= CHOSEN_ROWS) {
            let rest = waiting.get(at..).unwrap_or_default();
            chosen.extend(fill(rest, left, max_text.saturating_sub(text)).into_iter().map(|more| at + more));
            return chosen;
        }
        chosen.push(at);
        rows += object.rows;
        text += object.text();
    }
    chosen
}

/// Which of the first objects come closest to that many rows without exceeding them.
fn fill(waiting: &[Asked], rows: usize, max_text: usize) -> Vec<usize> {
    // By a sum that can be reached: the last object of it. Objects are taken in order and sums from the top, so the
    // objects of a sum are all different.
    let mut last: Vec<Option<usize>> = vec![None; rows + 1];
    for (at, object) in waiting.iter().take(CHOICE).enumerate() {
        let Some(highest) = rows.checked_sub(object.rows) else { continue };
        for below in (0..=highest).rev() {
            let reached = below == 0 || last.get(below).is_some_and(Option::is_some);
            if let Some(slot) = last.get_mut(below + object.rows)
                && reached
                && slot.is_none()
            {
                *slot = Some(at);
            }
        }
    }
    let mut sum = last.iter().rposition(Option::is_some).unwrap_or(0);
    let mut chosen = Vec::new();
    let mut text = 0;
    while let Some(at) = last.get(sum).copied().flatten()
        && let Some(object) = waiting.get(at)
    {
        sum -= object.rows;
        text += object.text();
        if text <= max_text {
            chosen.push(at);
        }
    }
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY_TEXT: usize = usize::MAX;

    fn object(index: usize, rows: usize) -> Asked {
        Asked { index, name: format!("Object_{index}__c").into(), rows }
    }

    fn pool(rows: &[usize]) -> Pool {
        let mut pool = Pool::default();
        rows.iter().enumerate().for_each(|(index, rows)| pool.push(object(index, *rows)));
        pool
    }

    fn sum(query: &[Asked]) -> usize {
        query.iter().map(|object| object.rows).sum()
    }

    /// The queries of five a call, with new objects coming 25 at a time, as describes do.
    fn queries_as_they_come(rows: &[usize]) -> Vec<Vec<Asked>> {
        let (mut pool, mut queries) = (Pool::default(), Vec::new());
        for (at, batch) in rows.chunks(25).enumerate() {
            batch.iter().enumerate().for_each(|(index, rows)| pool.push(object(at * 25 + index, *rows)));
            while let Some(full) = pool.take_full(5, ANY_TEXT) {
                queries.extend(full);
            }
        }
        queries.extend(std::iter::from_fn(|| pool.take(ANY_TEXT)));
        queries
    }

    #[test]
    fn the_oldest_object_is_in_the_next_query() {
        let mut waiting = pool(&[1_500, 1_999, 499, 300, 200]);
        let first: Vec<_> = waiting.take(ANY_TEXT).unwrap().iter().map(|object| object.index).collect();
        assert_eq!(first, [0, 2], "1,999 rows with the third, 1,800 or 1,700 with a later one");
        assert_eq!(waiting.take(ANY_TEXT).unwrap()[0].index, 1);
        assert_eq!((waiting.take(ANY_TEXT).unwrap().len(), waiting.rows()), (2, 0));
        assert!(waiting.take(ANY_TEXT).is_none());
    }

    #[test]
    fn an_object_that_is_too_large_is_asked_for_alone() {
        let mut waiting = pool(&[2_500, 3, 4]);
        assert_eq!(waiting.take(ANY_TEXT).unwrap(), [object(0, 2_500)]);
        assert_eq!(waiting.take(ANY_TEXT).unwrap().len(), 2);
    }

    #[test]
    fn a_query_is_not_longer_than_permitted() {
        let mut waiting = pool(&[3; 100]);
        let queries: Vec<_> = std::iter::from_fn(|| waiting.take(100)).collect();
        assert!(queries.iter().all(|query| query.iter().map(Asked::text).sum::<usize>() <= 100));
        assert_eq!(queries.iter().map(Vec::len).sum::<usize>(), 100);
    }

    #[test]
    fn queries_that_are_not_full_wait_until_waiting_is_of_no_use() {
        assert!(pool(&[1_000; 9]).take_full(5, ANY_TEXT).is_none(), "too few");
        // Nothing fills up beside 1,200 rows.
        assert!(pool(&[1_200; 9]).take_full(5, ANY_TEXT).is_none(), "the queries may yet be filled");
        assert_eq!(pool(&[1_200; 10]).take_full(5, ANY_TEXT).unwrap().len(), 5, "a query more than needed waits");
    }

    proptest! {
        #[test]
        fn every_object_is_asked_for_once_and_no_query_expects_too_much(
            rows in prop::collection::vec(3_usize..2_400, 1..300)
        ) {
            let queries = queries_as_they_come(&rows);
            for query in &queries {
                prop_assert!(sum(query) <= MAX_ROWS || query.len() == 1);
            }
            let mut indexes: Vec<_> = queries.iter().flatten().map(|object| object.index).collect();
            indexes.sort_unstable();
            prop_assert_eq!(indexes, (0..rows.len()).collect::<Vec<_>>());
        }

        #[test]
        fn objects_of_60_to_200_fields_need_hardly_more_queries_than_their_rows_do(
            rows in prop::collection::vec(63_usize..=203, 100..1_200)
        ) {
            let total: usize = rows.iter().sum();
            let queries = queries_as_they_come(&rows).len();
            // 1,999 rows is what fits; two more are the last one and what the others left open.
            prop_assert!(queries <= total.div_ceil(MAX_ROWS) + 1, "{queries} queries for {total} rows");
        }
    }
}
