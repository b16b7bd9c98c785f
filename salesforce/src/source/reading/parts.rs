//! What is there of objects that are not settled: a describe, annotations, or both.

use std::collections::{BTreeMap, BTreeSet};

use hybrid_runner_connector::Entity;

use super::super::count;
use super::super::memo::Memo;
use super::{Mapping, Shared};
use crate::annotations::Annotations;
use crate::composite::ObjectFailure;
use crate::digest::Digest;
use crate::map::{Draft, Mapped};

/// What a describe came to.
pub(super) enum Described {
    Drafted { draft: Box<Draft>, stamp: Option<String> },
    NotModified,
}

/// A draft and what belongs to it.
pub(super) struct Unfinished {
    pub(super) index: usize,
    pub(super) draft: Box<Draft>,
    pub(super) stamp: Option<String>,
    pub(super) annotations: Annotations,
}

/// A table to emit.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) entity: Entity,
    pub(super) columns: u64,
    pub(super) keys: u64,
}

/// By number: what is there.
#[derive(Default)]
pub(super) struct Parts {
    open: BTreeMap<usize, Part>,
    /// Objects of which a draft and annotations are there.
    drafted: BTreeSet<usize>,
    /// Objects of which annotations are there, and that their describe is not modified.
    kept: Vec<usize>,
    fields: u64,
}

#[derive(Default)]
struct Part {
    described: Option<Described>,
    annotations: Option<Annotations>,
}

impl Parts {
    /// Fields in all drafts that wait.
    pub(super) fn fields(&self) -> u64 {
        self.fields
    }

    pub(super) fn describe(&mut self, index: usize, described: Described) {
        self.fields += described.fields();
        let part = self.open.entry(index).or_default();
        self.fields -= part.described.replace(described).map_or(0, |earlier| earlier.fields());
        self.join(index);
    }

    pub(super) fn annotate(&mut self, index: usize, annotations: Annotations) {
        self.open.entry(index).or_default().annotations = Some(annotations);
        self.join(index);
    }

    fn join(&mut self, index: usize) {
        match self.open.get(&index) {
            Some(Part { described: Some(Described::Drafted { .. }), annotations: Some(_) }) => {
                self.drafted.insert(index);
            }
            Some(Part { described: Some(Described::NotModified), annotations: Some(_) }) => self.kept.push(index),
            _ => {}
        }
    }

    /// Takes an object of which both parts are there: any that is not modified, or the first draft, if it is `before`
    /// that number. A table is three times its draft, so none is made long before its turn.
    pub(super) fn take_joined(&mut self, before: usize) -> Option<(usize, Described, Annotations)> {
        loop {
            let index = match self.kept.pop() {
                Some(kept) => kept,
                None => {
                    self.drafted.first().filter(|index| **index < before)?;
                    self.drafted.pop_first()?
                }
            };
            if let Some(Part { described: Some(described), annotations: Some(annotations) }) = self.open.remove(&index)
            {
                self.fields -= described.fields();
                return Some((index, described, annotations));
            }
        }
    }

    /// Drops what is there of an object.
    pub(super) fn forget(&mut self, index: usize) {
        let described = self.open.remove(&index).and_then(|part| part.described);
        self.fields -= described.map_or(0, |described| described.fields());
    }
}

impl Described {
    fn fields(&self) -> u64 {
        match self {
            Self::Drafted { draft, .. } => count(draft.fields()),
            Self::NotModified => 0,
        }
    }
}

impl Finished {
    /// Columns that it holds in memory: none when it is unchanged.
    pub(super) fn held_columns(&self) -> u64 {
        if self.entity.body().is_some() { self.columns } else { 0 }
    }
}

impl Unfinished {
    /// The table, with the memo for the next run.
    pub(super) fn finish(self, shared: &Shared, mapping: &Mapping) -> Result<Finished, ObjectFailure> {
        let Self { index: _, draft, stamp, annotations } = self;
        let fields = figure(draft.fields());
        let mapped = shared.mapper.finish(*draft, &annotations, &mapping.vocabulary);
        let Mapped { mut entity, columns, keys, .. } =
            mapped.map_err(|error| ObjectFailure { reason: error.reason(), detail: error.to_string() })?;
        if let Some(stamp) = stamp {
            let memo = Memo {
                context: shared.context,
                annotations: digest(&annotations, mapping.digest),
                // Without a date the memo is as old as can be: the next run reads without condition.
                day: shared.today.unwrap_or(0),
                fields,
                columns: figure(columns),
                keys: figure(keys),
                stamp,
            };
            entity.memo = memo.to_bytes();
        }
        Ok(Finished { entity, columns, keys })
    }
}

/// Of everything in a table that is not from its describe; `mapping` is [`crate::map::Mapper::digest`].
pub(super) fn digest(annotations: &Annotations, mapping: [u8; 16]) -> [u8; 16] {
    let mut digest = Digest::default();
    digest.bytes(&annotations.digest());
    digest.bytes(&mapping);
    digest.finish()
}

fn figure<T: TryInto<u32>>(figure: T) -> u32 {
    figure.try_into().unwrap_or(u32::MAX)
}
