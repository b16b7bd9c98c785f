//! What is known about an object beyond its describe: what people wrote about it, how it is classified, how many records
//! it has. Read in every run (`tooling`), because none of it moves the stamp of a describe.

use std::collections::BTreeMap;

use crate::digest::Digest;

/// What is known about one object beyond its describe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `EntityDefinition.Description`.
    pub description: Option<String>,
    /// About how many records it has (`/limits/recordCount`: cached and approximate).
    pub records: Option<u64>,
    /// Its fields of which something is known, by API name in lower case.
    pub fields: BTreeMap<String, FieldAnnotations>,
}

/// What is known about one field beyond its describe (`FieldDefinition`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldAnnotations {
    /// `Description`.
    pub description: Option<String>,
    /// `SecurityClassification`, such as `Confidential`.
    pub sensitivity: Option<String>,
    /// `ComplianceGroup`, taken apart: `GDPR`, `PII`, …
    pub compliance: Vec<String>,
    /// `BusinessStatus`, such as `DeprecateCandidate`.
    pub status: Option<String>,
    /// The name of the user or group of `BusinessOwnerId`.
    pub owner: Option<String>,
}

/// The values that the org has for classifying fields: the active ones of `FieldDefinition`'s picklists.
///
/// A tag must be known to OpenMetadata before a column carries it, so only these become tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// Of `SecurityClassification`.
    pub sensitivity: Vec<String>,
    /// Of `ComplianceGroup`.
    pub compliance: Vec<String>,
    /// Of `BusinessStatus`.
    pub status: Vec<String>,
}

impl Annotations {
    /// A digest: equal for equal annotations.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        let mut digest = Digest::default();
        let mut put = |text: Option<&str>| match text {
            Some(text) => digest.text(text),
            // The length of no text.
            None => digest.bytes(&u64::MAX.to_be_bytes()),
        };
        put(self.description.as_deref());
        put(self.records.map(|records| records.to_string()).as_deref());
        for (name, field) in &self.fields {
            let FieldAnnotations { description, sensitivity, compliance, status, owner } = field;
            put(Some(name));
            for text in [description, sensitivity, status, owner] {
                put(text.as_deref());
            }
            compliance.iter().for_each(|group| put(Some(group)));
            put(None);
        }
        digest.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(fields: &[(&str, FieldAnnotations)]) -> Annotations {
        let fields = fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect();
        Annotations { fields, ..Annotations::default() }
    }

    #[test]
    fn whatever_differs_the_digest_differs() {
        let described = |text: &str| FieldAnnotations { description: Some(text.to_owned()), ..Default::default() };
        let grouped = |groups: &[&str]| FieldAnnotations {
            compliance: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Default::default()
        };
        let all = [
            Annotations::default(),
            Annotations { description: Some(String::new()), ..Annotations::default() },
            Annotations { description: Some("a".to_owned()), ..Annotations::default() },
            Annotations { records: Some(1), ..Annotations::default() },
            annotations(&[("a", described("b"))]),
            annotations(&[("ab", described(""))]),
            annotations(&[("a", FieldAnnotations { status: Some("b".to_owned()), ..Default::default() })]),
            annotations(&[("a", FieldAnnotations { owner: Some("b".to_owned()), ..Default::default() })]),
            annotations(&[("a", grouped(&["b", "c"]))]),
            annotations(&[("a", grouped(&["b"])), ("c", FieldAnnotations::default())]),
            annotations(&[("a", grouped(&["bc"]))]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert_eq!(one.digest(), one.clone().digest());
            assert!(all[index + 1..].iter().all(|other| other.digest() != one.digest()), "{one:?}");
        }
    }
}
