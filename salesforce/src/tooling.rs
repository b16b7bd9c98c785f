//! What a describe does not say: descriptions, classification and owners of fields, record counts.
//!
//! EntityDefinition and FieldDefinition are read through `/tooling/composite`, five queries a call, each of as many
//! objects as an answer holds; nothing of it has a stamp, so it is read in every run (research: salesforce_api.md §1.4).
//! [`Annotator`] decides what to ask and what follows from the answers, without I/O; [`perform()`] sends a call.
//!
//! ```text
//! add(object, fields) ─▶ pool ─▶ next_call ─▶ perform ─▶ settle ─▶ take_known
//!                          ▲                               │
//!                          └── halves, what may pass ──────┘
//! ```
//!
//! **Limits.** What was added and not answered is the caller's to bound ([`Annotator::waiting_rows`]). Descriptions of
//! objects are all kept from the first calls on (1,000 characters each at most, in Salesforce).
//!
//! **Recovery.** An answer that may have been cut, and a query that is too long, is asked for in halves. What may pass is
//! asked for again, in halves from the second time on, and when it does not pass its objects fail: a description that was
//! not read is not the same as none. A user without *View Setup and Configuration* gets no annotations and one warning.

mod answer;
mod call;
mod ledger;
mod owners;
mod pack;
mod perform;
mod settle;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::annotations::{Annotations, Vocabulary};
use crate::composite::ObjectFailure;
use crate::config::ApiVersion;
use crate::listing::ListedObject;
use call::{Columns, Of, Part, Request};
use ledger::Ledger;
use pack::{Asked, MAX_ROWS, Pool};

pub(crate) use call::ToolingCall;
pub(crate) use perform::{ToolingOutcome, perform};

/// Queries in a call (Salesforce's limit).
const MAX_QUERIES: usize = 5;

/// The longest list of names in a query, in bytes with quotes and commas. A SOQL statement ends at 100,000 characters;
/// that the limit of a URI (16 KiB) does not hold for one inside a composite is only inferred, so whatever is refused
/// for its length is halved, and later queries are no longer than its halves.
const MAX_TEXT: usize = 90_000;

/// Rows that FieldDefinition has for an object beyond its describe (research: salesforce_api.md §1.4).
const MORE_ROWS: usize = 3;

/// The first version with the classification of fields.
const FIRST_CLASSIFIED: ApiVersion = ApiVersion::new(45);

/// What is read beside descriptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// The names of the business owners of fields.
    pub(crate) owners: bool,
    /// The record counts of objects.
    pub(crate) records: bool,
    /// The classification of fields.
    pub(crate) tags: bool,
}

/// Decides what is asked about the objects of a run, and collects the answers. No I/O.
#[derive(Debug)]
pub(crate) struct Annotator {
    version: ApiVersion,
    wants: Wants,
    ledger: Ledger,
    pool: Pool,
    /// Queries that go before new ones.
    again: VecDeque<Part>,
    vocabulary: Question<Vocabulary>,
    counts: Question<()>,
    columns: Columns,
    /// How many rows there are for a hundred that were expected.
    percent: usize,
    max_text: usize,
    /// Queries are not permitted.
    ended: bool,
    /// Calls in a row without one useful answer.
    useless: u32,
    owner_tries: u32,
    /// Objects that are taken without annotations.
    without: u64,
    /// Objects with more rows than an answer has.
    cut: u64,
}

/// Something that is asked once.
#[derive(Debug)]
enum Question<T> {
    Unasked { tries: u32 },
    Asked,
    Known(T),
}

impl Annotator {
    /// Asks about the objects in scope from number `from` on, through the newest version that the org offers.
    pub(crate) fn new(wants: Wants, version: ApiVersion, objects: &[ListedObject], from: usize) -> Self {
        let classification = wants.tags && version >= FIRST_CLASSIFIED;
        // The owner came together with the classification.
        let owner = wants.owners && version >= FIRST_CLASSIFIED;
        let ledger = Ledger::new(objects, from, wants.records, owner);
        let again = entity_queries(ledger.askable());
        let nothing = objects.len() <= from;
        let known_vocabulary = !classification || nothing;
        Self {
            version,
            wants: Wants { owners: owner, records: wants.records, tags: classification },
            ledger,
            pool: Pool::default(),
            again,
            vocabulary: if known_vocabulary {
                Question::Known(Vocabulary::default())
            } else {
                Question::Unasked { tries: 0 }
            },
            counts: if wants.records && !nothing { Question::Unasked { tries: 0 } } else { Question::Known(()) },
            columns: Columns { classification, owner },
            percent: 100,
            max_text: MAX_TEXT,
            ended: false,
            useless: 0,
            owner_tries: 0,
            without: 0,
            cut: 0,
        }
    }

    /// The number of fields of an object's describe is known, now or from an earlier run: the object's fields are asked
    /// for. A second time has no effect.
    pub(crate) fn add(&mut self, index: usize, fields: usize) {
        if let Some(name) = self.ledger.add(index) {
            let rows = (fields + MORE_ROWS) * self.percent / 100;
            self.pool.push(Asked { index, name, rows });
        }
    }

    /// The next call. Until `flush` only a full one (record counts and owners apart, which are asked for at once);
    /// `None` then means that more objects have to be added first, or outcomes settled. With some 12,000
    /// [`Annotator::waiting_rows`] a full one is always ready. `None` with `flush`: there is nothing to ask now.
    pub(crate) fn next_call(&mut self, flush: bool) -> Option<ToolingCall> {
        let version = self.version;
        let call = |request| Some(ToolingCall { version, request });
        if let Question::Unasked { tries } = self.counts {
            self.counts = Question::Asked;
            return call(Request::Counts { tries });
        }
        if let Some((users, groups)) = self.ledger.owners.take_unasked() {
            return call(Request::Owners { users, groups, tries: self.owner_tries });
        }
        let ready = self.again.len().min(MAX_QUERIES);
        let room = MAX_QUERIES - ready;
        let fresh = match self.pool.take_full(room, self.max_text) {
            Some(full) => full,
            None if flush => std::iter::from_fn(|| self.pool.take(self.max_text)).take(room).collect(),
            None => return None,
        };
        let mut parts: Vec<Part> = self.again.drain(..ready).collect();
        let of = Of::Fields(self.columns);
        parts.extend(fresh.into_iter().map(|objects| Part { of, objects, tries: 0 }));
        // Last: when definitions may not be read, the queries before it say why.
        if let Question::Unasked { tries } = self.vocabulary {
            self.vocabulary = Question::Asked;
            parts.push(Part { of: Of::Vocabulary, objects: Vec::new(), tries });
        }
        if parts.is_empty() { None } else { call(Request::Tooling(parts)) }
    }

    /// A call that was not answered, because its session had expired, is asked again.
    pub(crate) fn put_back(&mut self, call: ToolingCall) {
        match call.request {
            Request::Counts { tries } => self.counts = Question::Unasked { tries },
            Request::Owners { users, groups, .. } => self.ledger.owners.put_back(users.into_iter().chain(groups)),
            Request::Tooling(_) if self.ended => {}
            Request::Tooling(parts) => {
                for part in parts.into_iter().rev() {
                    match part.of {
                        Of::Vocabulary => self.vocabulary = Question::Unasked { tries: part.tries },
                        Of::Entities | Of::Fields(_) => self.again.push_front(part),
                    }
                }
            }
        }
    }

    /// The objects that were added and about which everything was heard since the last time.
    pub(crate) fn take_known(&mut self) -> Vec<(usize, Result<Annotations, ObjectFailure>)> {
        self.ledger.take_known()
    }

    /// The values that fields are classified with; `None` until they are known. Empty when they are not wanted, or cannot
    /// be read.
    pub(crate) fn vocabulary(&self) -> Option<&Vocabulary> {
        match &self.vocabulary {
            Question::Known(vocabulary) => Some(vocabulary),
            Question::Unasked { .. } | Question::Asked => None,
        }
    }

    /// Rows expected of the objects that were added and not asked for yet.
    pub(crate) fn waiting_rows(&self) -> usize {
        self.pool.rows()
    }
}

/// The queries for the descriptions of objects: as many names as an answer has rows.
fn entity_queries(objects: impl Iterator<Item = (usize, Arc<str>)>) -> VecDeque<Part> {
    let mut queries: VecDeque<Part> = VecDeque::new();
    let mut text = 0;
    for (index, name) in objects {
        let object = Asked { index, name, rows: 1 };
        text += object.text();
        match queries.back_mut() {
            Some(query) if query.objects.len() < MAX_ROWS && text <= MAX_TEXT => query.objects.push(object),
            _ => {
                text = object.text();
                queries.push_back(Part { of: Of::Entities, objects: vec![object], tries: 0 });
            }
        }
    }
    queries
}
