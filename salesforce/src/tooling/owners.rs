//! The names of business owners: users and groups, asked for once each.

use std::collections::BTreeMap;

/// The most ids in a call. A user or a group has a row each, so this is far from where answers end (2,000 rows).
const MAX_IDS: usize = 500;

/// Owners that fields have.
#[derive(Debug)]
pub(super) struct Owners {
    /// Off: nobody has a name.
    wanted: bool,
    names: BTreeMap<String, Name>,
}

#[derive(Debug)]
enum Name {
    Unasked,
    Asked,
    /// `None`: the user may not see it.
    Known(Option<String>),
}

impl Owners {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, names: BTreeMap::new() }
    }

    /// An id that a field has.
    pub(super) fn need(&mut self, id: &str) {
        if let Some(key) = key(id).filter(|_| self.wanted) {
            self.names.entry(key.to_owned()).or_insert(Name::Unasked);
        }
    }

    /// Whether more is not to be expected.
    pub(super) fn is_settled(&self, id: &str) -> bool {
        !self.wanted || key(id).is_none_or(|key| matches!(self.names.get(key), Some(Name::Known(_))))
    }

    pub(super) fn name(&self, id: &str) -> Option<&str> {
        match self.names.get(key(id)?).filter(|_| self.wanted)? {
            Name::Known(name) => name.as_deref(),
            Name::Unasked | Name::Asked => None,
        }
    }

    /// The users and the groups to ask for, if any. They count as asked for.
    pub(super) fn take_unasked(&mut self) -> Option<(Vec<String>, Vec<String>)> {
        let unasked = self.names.iter_mut().filter(|(_, name)| matches!(name, Name::Unasked)).take(MAX_IDS);
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for (id, name) in unasked {
            *name = Name::Asked;
            if id.starts_with(USER) { users.push(id.clone()) } else { groups.push(id.clone()) }
        }
        (self.wanted && users.len() + groups.len() > 0).then_some((users, groups))
    }

    /// These were not answered.
    pub(super) fn put_back(&mut self, ids: impl Iterator<Item = String>) {
        self.names.extend(ids.map(|id| (id, Name::Unasked)));
    }

    /// These were asked for, and those of them that the user may see have names.
    pub(super) fn learn(&mut self, asked: impl Iterator<Item = String>, named: Vec<(String, String)>) {
        self.names.extend(asked.map(|id| (id, Name::Known(None))));
        for (id, name) in named {
            if let Some(known) = key(&id).and_then(|key| self.names.get_mut(key)) {
                *known = Name::Known(Some(name));
            }
        }
    }

    /// Nobody gets a name any more.
    pub(super) fn give_up(&mut self) {
        self.wanted = false;
        self.names.clear();
    }
}

/// The beginnings of the ids of users and groups.
const USER: &str = "005";
const GROUP: &str = "00G";

/// An id's 15 characters that tell it from all others; the three that may follow only check its case. `None` for what is
/// no id of a user or group, and so is not asked for.
fn key(id: &str) -> Option<&str> {
    let of_kind = id.starts_with(USER) || id.starts_with(GROUP);
    let plain = matches!(id.len(), 15 | 18) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    id.get(..15).filter(|_| of_kind && plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_once_whatever_the_length_of_its_id() {
        let mut owners = Owners::new(true);
        for id in ["005000000000001AAA", "005000000000001", "00G000000000001AAA", "a01000000000001AAA", "005' OR Id"] {
            owners.need(id);
        }
        let (users, groups) = owners.take_unasked().unwrap();
        assert_eq!(
            (users.as_slice(), groups.as_slice()),
            (&["005000000000001".into()][..], &["00G000000000001".into()][..])
        );
        assert!(owners.take_unasked().is_none());
        assert!(!owners.is_settled("005000000000001AAA"));
        assert!(owners.is_settled("a01000000000001AAA"), "no owner: nothing is waited for");
        owners.learn(users.into_iter().chain(groups), vec![("005000000000001AAA".to_owned(), "Ann".to_owned())]);
        assert_eq!((owners.name("005000000000001"), owners.name("00G000000000001AAA")), (Some("Ann"), None));
        assert!(owners.is_settled("00G000000000001AAA"), "a group that the user may not see");
    }
}
