//! Labels from API names.

use crate::model::FieldType;

/// `AnnualRevenue` → `Annual Revenue`, `OwnerId` → `Owner ID`, `acme__Unit_Price__c` → `Unit Price`.
pub(crate) fn of_field(name: &str, kind: FieldType) -> String {
    match kind {
        FieldType::Id => "Record ID".into(),
        FieldType::Reference if name.ends_with("Id") => format!("{} ID", words(name.trim_end_matches("Id"))),
        _ => words(name),
    }
}

/// One object's label and that of several.
pub(crate) fn of_object(name: &str) -> (String, String) {
    let one = words(name);
    let several = plural(&one);
    (one, several)
}

/// The label of one, from that of several.
pub(crate) fn singular(plural: &str) -> String {
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    plural.strip_suffix('s').filter(|one| !one.ends_with("Hour")).unwrap_or(plural).into()
}

fn plural(one: &str) -> String {
    if let Some(stem) = one.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        return format!("{stem}ies");
    }
    if one.ends_with(['s', 'x']) || one.ends_with("ch") || one.ends_with("sh") {
        return format!("{one}es");
    }
    format!("{one}s")
}

fn words(name: &str) -> String {
    let bare = without_affixes(name);
    let mut words = String::with_capacity(bare.len() + 8);
    let mut before: Option<char> = None;
    let mut rest = bare.chars().peekable();
    while let Some(c) = rest.next() {
        let c = if c == '_' { ' ' } else { c };
        let begins_word = before.is_some_and(|b| {
            c.is_uppercase()
                && (b.is_lowercase() || b.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase()))
        });
        if begins_word {
            words.push(' ');
        }
        words.push(c);
        before = Some(c);
    }
    words
}

/// The developer name: without namespace and suffix.
pub(crate) fn without_affixes(name: &str) -> &str {
    let bare = ["__c", "__mdt", "__e", "__b", "__x", "__kav", "__ka", "__s"]
        .into_iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    bare.split_once("__").map_or(bare, |(_, rest)| rest)
}

/// The namespace, if there is one.
pub(crate) fn namespace(name: &str) -> Option<&str> {
    let (first, rest) = name.split_once("__")?;
    (rest.contains("__")).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_like_salesforces() {
        assert_eq!(of_field("AnnualRevenue", FieldType::Currency), "Annual Revenue");
        assert_eq!(of_field("CreatedById", FieldType::Reference), "Created By ID");
        assert_eq!(of_field("acme__Unit_Price__c", FieldType::Currency), "Unit Price");
        assert_eq!(of_object("AIApplication"), ("AI Application".into(), "AI Applications".into()));
        assert_eq!(singular("Opportunities"), "Opportunity");
        assert_eq!(namespace("acme__Unit_Price__c"), Some("acme"));
        assert_eq!(namespace("Unit_Price__c"), None);
    }
}
