//! What is known of each object so far, and which objects are complete.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::answer::FieldsOf;
use super::owners::Owners;
use crate::annotations::{Annotations, FieldAnnotations};
use crate::composite::{ObjectFailure, is_api_name};
use crate::listing::ListedObject;

/// What came of an object.
pub(super) type Known = (usize, Result<Annotations, ObjectFailure>);

/// The objects from a first number on. An object is complete when it was added and everything about it was heard.
#[derive(Debug)]
pub(super) struct Ledger {
    from: usize,
    objects: Vec<Object>,
    open: BTreeMap<usize, Open>,
    known: Vec<Known>,
    /// By name in lower case; `None` until heard.
    counts: Option<HashMap<String, u64>>,
    pub(super) owners: Owners,
    /// Nothing more is heard of definitions.
    ended: bool,
}

#[derive(Debug)]
struct Object {
    name: Arc<str>,
    description: Heard,
    added: bool,
}

/// What was heard of an object itself.
#[derive(Debug)]
enum Heard {
    Nothing,
    Description(Option<String>),
    Failure(ObjectFailure),
}

/// An object that was added and is not complete.
#[derive(Debug, Default)]
struct Open {
    fields: Option<BTreeMap<String, FieldAnnotations>>,
    /// Fields whose owner's name is not known, and the owners' ids.
    owed: Vec<(String, String)>,
    failure: Option<ObjectFailure>,
}

impl Ledger {
    pub(super) fn new(objects: &[ListedObject], from: usize, counts: bool, owners: bool) -> Self {
        let object = |object: &ListedObject| Object {
            name: object.name.as_str().into(),
            // Nothing is asked about a name that is none, so nothing is heard.
            description: if is_api_name(&object.name) { Heard::Nothing } else { Heard::Description(None) },
            added: false,
        };
        Self {
            from,
            objects: objects.iter().skip(from).map(object).collect(),
            open: BTreeMap::new(),
            known: Vec::new(),
            counts: (!counts).then(HashMap::new),
            owners: Owners::new(owners),
            ended: false,
        }
    }

    /// All objects that can be asked about.
    pub(super) fn askable(&self) -> impl Iterator<Item = (usize, Arc<str>)> {
        let objects = self.objects.iter().enumerate().filter(|(_, object)| is_api_name(&object.name));
        objects.map(|(place, object)| (self.from + place, Arc::clone(&object.name)))
    }

    /// Opens an object. Its name, if its fields are to be asked for.
    pub(super) fn add(&mut self, index: usize) -> Option<Arc<str>> {
        let ended = self.ended;
        let object = self.object_mut(index).filter(|object| !object.added)?;
        object.added = true;
        let name = Arc::clone(&object.name);
        let asked = !ended && is_api_name(&name);
        self.open.insert(index, Open { fields: (!asked).then(BTreeMap::new), ..Open::default() });
        self.conclude(index);
        asked.then_some(name)
    }

    pub(super) fn describe(&mut self, index: usize, description: Option<String>) {
        if let Some(object) = self.object_mut(index) {
            object.description = Heard::Description(description);
        }
        self.conclude(index);
    }

    pub(super) fn fields(&mut self, index: usize, heard: FieldsOf) {
        let Some(open) = self.open.get_mut(&index) else { return };
        open.fields = Some(heard.fields);
        open.owed = heard.owners;
        open.owed.iter().for_each(|(_, id)| self.owners.need(id));
        self.conclude(index);
    }

    /// The object's fields cannot be read.
    pub(super) fn fail_fields(&mut self, index: usize, failure: ObjectFailure) {
        if let Some(open) = self.open.get_mut(&index) {
            open.failure = Some(failure);
        }
        self.conclude(index);
    }

    /// The object itself cannot be read.
    pub(super) fn fail_object(&mut self, index: usize, failure: ObjectFailure) {
        if let Some(object) = self.object_mut(index) {
            object.description = Heard::Failure(failure);
        }
        self.conclude(index);
    }

    pub(super) fn count(&mut self, counts: HashMap<String, u64>) {
        self.counts = Some(counts);
        self.conclude_all();
    }

    /// Names of owners were heard, or are given up.
    pub(super) fn named(&mut self) {
        self.conclude_all();
    }

    /// Definitions are not heard of any more: what was not heard is not said.
    pub(super) fn end(&mut self) {
        self.ended = true;
        for object in &mut self.objects {
            if matches!(object.description, Heard::Nothing) {
                object.description = Heard::Description(None);
            }
        }
        for open in self.open.values_mut() {
            open.fields.get_or_insert_default();
        }
        self.conclude_all();
    }

    pub(super) fn take_known(&mut self) -> Vec<Known> {
        std::mem::take(&mut self.known)
    }

    fn object_mut(&mut self, index: usize) -> Option<&mut Object> {
        self.objects.get_mut(index.checked_sub(self.from)?)
    }

    fn conclude_all(&mut self) {
        for index in self.open.keys().copied().collect::<Vec<_>>() {
            self.conclude(index);
        }
    }

    fn conclude(&mut self, index: usize) {
        if let Some(known) = self.concluded(index) {
            self.open.remove(&index);
            self.known.push((index, known));
        }
    }

    /// What an open object came to, if everything about it was heard.
    fn concluded(&mut self, index: usize) -> Option<Result<Annotations, ObjectFailure>> {
        let open = self.open.get_mut(&index)?;
        let object = self.objects.get_mut(index.checked_sub(self.from)?)?;
        if let Some(failure) = open.failure.take() {
            return Some(Err(failure));
        }
        if let Heard::Failure(failure) = &object.description {
            return Some(Err(failure.clone()));
        }
        let Heard::Description(description) = &mut object.description else { return None };
        let counts = self.counts.as_ref()?;
        let owners = &self.owners;
        let all_named = open.owed.iter().all(|(_, id)| owners.is_settled(id));
        let mut fields = open.fields.take_if(|_| all_named)?;
        for (field, id) in std::mem::take(&mut open.owed) {
            if let Some(name) = owners.name(&id) {
                fields.entry(field).or_default().owner = Some(name.to_owned());
            }
        }
        let records = counts.get(&object.name.to_ascii_lowercase()).copied();
        Some(Ok(Annotations { description: description.take(), records, fields }))
    }
}
