//! The standard objects, as tables in the sources.
//!
//! A table begins with `[Name] prefix Plural label flags`. A field is `name~type~option~…:Label`; a label may hold spaces,
//! so a field ends where the next word of that form (or a group, `@…`) begins. Types take `(length)`, `(precision,scale)`
//! or `(targets)`. A field may be empty unless it says `req` or is of a kind that cannot.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::label;
use crate::model::{Field, FieldType, PicklistValue};

/// Objects that a `Related To` may point to, before the custom ones.
pub(crate) const WHAT: &str = "*what";

const SECTIONS: &[&str] =
    &[include_str!("tables/sales.txt"), include_str!("tables/service.txt"), include_str!("tables/platform.txt")];
const NAMES: &str = include_str!("tables/names.txt");
const ZONES: &str = "Pacific/Auckland,Australia/Sydney,Asia/Tokyo,Asia/Shanghai,Asia/Kolkata,Asia/Dubai,Europe/Moscow,\
    Europe/Athens,Europe/Berlin,Europe/Paris,Europe/London,UTC,America/Sao_Paulo,America/New_York,America/Chicago,\
    America/Denver,America/Los_Angeles,America/Anchorage,Pacific/Honolulu";
const MONTHS: &str = "January,February,March,April,May,June,July,August,September,October,November,December";
const ACCURACY: &str = "Address,NearAddress,Block,Street,ExtendedZip,Zip,Neighborhood,City,County,State,Unknown";

/// A standard object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) plural: String,
    pub(crate) layout: bool,
    pub(crate) merge: bool,
    pub(crate) companions: Vec<&'static str>,
    pub(crate) record_types: Vec<String>,
    pub(crate) fields: Vec<Field>,
}

/// A standard object of which only the name is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    Setup,
    Business,
    Event,
}

/// The tables, by name.
pub(crate) static TABLES: LazyLock<BTreeMap<String, Table>> = LazyLock::new(|| {
    let sections = SECTIONS.iter().flat_map(|text| text.split("\n["));
    sections.filter_map(table).map(|table| (table.name.clone(), table)).collect()
});

/// The further names, in alphabetical order.
pub(crate) static PLAIN: LazyLock<BTreeMap<&'static str, Plain>> = LazyLock::new(|| {
    let words = NAMES.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    words
        .map(|word| match (word.strip_suffix('+'), word.strip_suffix('!')) {
            (Some(name), _) => (name, Plain::Business),
            (_, Some(name)) => (name, Plain::Event),
            _ => (word, Plain::Setup),
        })
        .collect()
});

fn table(section: &str) -> Option<Table> {
    let (head, body) = section.split_once('\n')?;
    let (name, rest) = head.trim_start_matches('[').split_once("] ")?;
    let (rest, record_types) = rest.split_once(" types=").unwrap_or((rest, ""));
    let mut words = rest.split_whitespace();
    let mut table = Table { name: name.into(), prefix: words.next()?.into(), ..Table::default() };
    let mut plural = Vec::new();
    for word in words {
        match word {
            "layout" => table.layout = true,
            "merge" => table.merge = true,
            "feed" => table.companions.push("Feed"),
            "history" => table.companions.push("History"),
            "share" => table.companions.push("Share"),
            "changes" => table.companions.push("ChangeEvent"),
            _ => plural.push(word),
        }
    }
    table.plural = plural.join(" ");
    table.record_types = record_types.split(',').filter(|name| !name.is_empty()).map(Into::into).collect();
    table.fields = parse(body);
    Some(table)
}

/// Fields in the syntax of the tables.
pub(crate) fn parse(text: &str) -> Vec<Field> {
    let mut entries: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let starts = word.starts_with('@')
            || word.split_once('~').is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'));
        match entries.last_mut() {
            Some(entry) if !starts => {
                entry.push(' ');
                entry.push_str(word);
            }
            _ => entries.push(word.into()),
        }
    }
    entries.iter().flat_map(|entry| if entry.starts_with('@') { group(entry) } else { vec![field(entry)] }).collect()
}

fn group(entry: &str) -> Vec<Field> {
    let audit = "CreatedDate~datetime~ro~req~defaulted CreatedById~reference(User)~ro~rel=CreatedBy~defaulted \
        LastModifiedDate~datetime~ro~req~defaulted LastModifiedById~reference(User)~ro~rel=LastModifiedBy~defaulted \
        SystemModstamp~datetime~ro~req~defaulted";
    match entry.split_once('=').unwrap_or((entry, "")) {
        ("@head", _) => parse("Id~id IsDeleted~boolean~ro:Deleted"),
        ("@audit" | "@auditonly", _) => parse(audit),
        ("@owner", _) => parse("OwnerId~reference(User)~rel=Owner~defaulted"),
        ("@owners", _) => parse("OwnerId~reference(Group,User)~rel=Owner~defaulted"),
        ("@viewed", _) => parse("LastViewedDate~datetime~ro LastReferencedDate~datetime~ro"),
        ("@person", _) => parse(
            "LastName~string(80)~req~compound=Name~extra=personname FirstName~string(40)~compound=Name~extra=personname \
             Salutation~picklist(40)~compound=Name~extra=personname~values=Mr.,Ms.,Mrs.,Dr.,Prof.,Mx. \
             Name~string(121)~ro~name~extra=personname:Full Name",
        ),
        ("@address", prefix) => {
            let of = format!("{prefix}Address");
            parse(&format!(
                "{prefix}Street~textarea~compound={of} {prefix}City~string(40)~compound={of} \
                 {prefix}State~string(80)~compound={of}:{} {prefix}PostalCode~string(20)~compound={of}:{} \
                 {prefix}Country~string(80)~compound={of} {prefix}Latitude~double(18,15)~compound={of} \
                 {prefix}Longitude~double(18,15)~compound={of} \
                 {prefix}GeocodeAccuracy~picklist(40)~restricted~compound={of}~values={ACCURACY} {of}~address",
                format!("{prefix} State/Province").trim(),
                format!("{prefix} Zip/Postal Code").trim(),
            ))
        }
        (unknown, _) => unreachable!("the tables name no group {unknown}"),
    }
}

fn field(entry: &str) -> Field {
    let (entry, label) = entry.split_once(':').map_or((entry, None), |(entry, label)| (entry, Some(label)));
    let mut parts = entry.split('~');
    let name = parts.next().unwrap_or_default();
    let (kind, arguments) = parts.next().map_or(("", ""), |kind| {
        kind.split_once('(').map_or((kind, ""), |(kind, arguments)| (kind, arguments.trim_end_matches(')')))
    });
    let kind = FieldType::named(kind).unwrap_or_default();
    let label = label.map_or_else(|| label::of_field(name, kind), Into::into);
    let mut field = Field { name: name.into(), label, kind, ..Field::default() };
    let options: Vec<&str> = parts.collect();
    let has = |option: &str| options.contains(&option);
    let not_nil = matches!(kind, FieldType::Id | FieldType::Boolean | FieldType::Reference)
        || ["req", "name", "auto"].into_iter().any(has);
    field.nillable = has("nil") || !not_nil;
    sizes(&mut field, arguments);
    options.iter().for_each(|one| option(&mut field, one));
    field
}

fn sizes(field: &mut Field, arguments: &str) {
    let (first, second) = arguments.split_once(',').unwrap_or((arguments, ""));
    let (length, scale) = (first.parse::<u32>().ok(), second.parse::<u16>().ok());
    match field.kind {
        FieldType::Reference => field.reference_to = arguments.split(',').map(Into::into).collect(),
        FieldType::Currency | FieldType::Double | FieldType::Percent => {
            field.precision = length.and_then(|precision| u16::try_from(precision).ok()).unwrap_or(18);
            field.scale = scale.unwrap_or(2);
        }
        _ => {}
    }
    complete(field, length);
}

/// Sets the sizes that a type has when nothing else is said.
pub(crate) fn complete(field: &mut Field, length: Option<u32>) {
    field.length = match field.kind {
        FieldType::Id | FieldType::Reference => 18,
        FieldType::String | FieldType::Picklist | FieldType::TextArea | FieldType::Url | FieldType::Combobox => {
            length.unwrap_or(255)
        }
        FieldType::Email => length.unwrap_or(80),
        FieldType::Phone => length.unwrap_or(40),
        FieldType::MultiPicklist => 4099,
        FieldType::EncryptedString => length.unwrap_or(175),
        FieldType::DataCategoryGroupReference => length.unwrap_or(80),
        _ => 0,
    };
    match field.kind {
        // As recorded: most have 9 digits, those that people fill 8; the option `ro` makes it 9.
        FieldType::Int => field.digits = 8,
        FieldType::Id => field.read_only = true,
        FieldType::Long => field.digits = 18,
        FieldType::TextArea if field.extra_type.is_none() => field.extra_type = Some("plaintextarea"),
        FieldType::MultiPicklist => field.precision = 4,
        FieldType::Address | FieldType::Location => (field.read_only, field.nillable) = (true, true),
        _ => {}
    }
}

fn option(field: &mut Field, option: &str) {
    match option.split_once('=').unwrap_or((option, "")) {
        ("req" | "nil", _) => {}
        ("idlookup", _) => field.id_lookup = true,
        ("ro", _) => {
            field.read_only = true;
            field.digits += u16::from(field.kind == FieldType::Int);
        }
        ("name", _) => field.name_field = true,
        ("uniq", _) => field.unique = true,
        ("auto", _) => (field.auto_number, field.defaulted, field.read_only) = (true, true, true),
        ("html", _) => field.html = true,
        ("custom", _) => field.custom = true,
        ("restricted", _) => field.restricted = true,
        ("defaulted", _) => field.defaulted = true,
        ("default", _) => field.defaulted = true,
        ("cascade", _) => (field.cascade, field.relationship_order) = (true, Some(0)),
        ("rel", name) => {
            field.relationship = Some(name.into());
            field.defaulted |= name == "Owner";
        }
        ("compound", name) => field.compound = Some(name.into()),
        ("extra", name) => field.extra_type = EXTRA.into_iter().find(|known| *known == name),
        ("values", values) => field.picklist = self::values(values, field.defaulted),
        ("zones", _) => field.picklist = values(ZONES, false),
        ("months", _) => field.picklist = values(MONTHS, false),
        (unknown, _) => unreachable!("the tables name no option {unknown}"),
    }
}

const EXTRA: [&str; 5] = ["personname", "switchablepersonname", "plaintextarea", "richtextarea", "imageurl"];

fn values(list: &str, first_is_default: bool) -> Vec<PicklistValue> {
    let one = |(at, value): (usize, &str)| PicklistValue {
        value: value.into(),
        label: value.into(),
        active: true,
        default: first_is_default && at == 0,
        valid_for: None,
    };
    list.split(',').enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_parses_and_names_each_field_once() {
        assert!(TABLES.len() >= 30, "{}", TABLES.len());
        for table in TABLES.values() {
            let mut names: Vec<_> = table.fields.iter().map(|field| field.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.fields.len(), "{}", table.name);
            for field in &table.fields {
                let picks = matches!(field.kind, FieldType::Picklist | FieldType::Combobox);
                assert_eq!(picks, !field.picklist.is_empty(), "{}.{}", table.name, field.name);
                assert!(!field.label.contains('~') && !field.label.is_empty(), "{}.{}", table.name, field.name);
            }
        }
    }

    #[test]
    fn a_label_with_spaces_ends_where_the_next_field_begins() {
        let fields =
            parse("Site~string(80):Account Site\n @viewed Type~picklist~values=A - B,C / D:Account Type Fax~phone");
        let seen: Vec<_> = fields.iter().map(|f| (f.name.as_str(), f.label.as_str())).collect();
        let viewed = [("LastViewedDate", "Last Viewed Date"), ("LastReferencedDate", "Last Referenced Date")];
        assert_eq!(seen, [("Site", "Account Site"), viewed[0], viewed[1], ("Type", "Account Type"), ("Fax", "Fax")]);
        assert_eq!(fields[3].picklist[1].value, "C / D");
    }
}
