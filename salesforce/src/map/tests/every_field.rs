//! Every type of field with every flag that matters: what a column is follows from its row in each of two tables.

use serde_json::{Map, Value, json};

use super::{map, table_of};

/// A type says what the column is. The last two: tags that it has by itself, and whether `referenceTo` makes keys.
const TYPES: &str = r#"
type                       | said                         | dataType    | length  | precision | scale | tags      | key
id                         | "length": 18                 | VARCHAR     | 18      |           |       |           |
id                         |                              | VARCHAR     | 18      |           |       |           |
reference                  | "length": 18                 | VARCHAR     | 18      |           |       |           | yes
reference                  | "length": 0                  | VARCHAR     | 18      |           |       |           | yes
masterrecord               |                              | VARCHAR     | 18      |           |       |           | yes
string                     | "length": 255                | VARCHAR     | 255     |           |       |           |
string                     | "length": 0                  | STRING      |         |           |       |           |
combobox                   | "length": 255                | VARCHAR     | 255     |           |       |           |
combobox                   |                              | STRING      |         |           |       |           |
email                      | "length": 80                 | VARCHAR     | 80      |           |       |           |
phone                      | "length": 40                 | VARCHAR     | 40      |           |       |           |
url                        | "length": 255                | VARCHAR     | 255     |           |       |           |
url                        |                              | STRING      |         |           |       |           |
encryptedstring            | "length": 175                | VARCHAR     | 175     |           |       | Encrypted |
EncryptedString            | "length": 175                | VARCHAR     | 175     |           |       | Encrypted |
DataCategoryGroupReference | "length": 80                 | VARCHAR     | 80      |           |       |           |
textarea                   | "length": 255                | VARCHAR     | 255     |           |       |           |
textarea                   | "length": 256                | TEXT        | 256     |           |       |           |
textarea                   | "length": 131072             | TEXT        | 131072  |           |       |           |
textarea                   | "length": 0                  | TEXT        |         |           |       |           |
picklist                   | "length": 40                 | ENUM        | 40      |           |       |           |
multipicklist              | "length": 4099, "precision": 4 | STRING    | 4099    |           |       |           |
boolean                    | "length": 0                  | BOOLEAN     |         |           |       |           |
int                        | "digits": 8                  | INT         |         | 8         |       |           |
int                        |                              | INT         |         |           |       |           |
long                       | "digits": 18                 | BIGINT      |         | 18        |       |           |
double                     | "precision": 18, "scale": 2  | DECIMAL     |         | 18        | 2     |           |
double                     | "precision": 18, "scale": 0  | DECIMAL     |         | 18        | 0     |           |
double                     | "precision": 0, "scale": 0   | DOUBLE      |         |           |       |           |
double                     | "precision": 2, "scale": 3   | DOUBLE      |         |           |       |           |
currency                   | "precision": 18, "scale": 18 | DECIMAL     |         | 18        | 18    |           |
percent                    | "precision": 5, "scale": 2   | DECIMAL     |         | 5         | 2     |           |
date                       | "length": 0                  | DATE        |         |           |       |           |
datetime                   |                              | TIMESTAMPZ  |         |           |       |           |
time                       |                              | TIME        |         |           |       |           |
base64                     |                              | BLOB        |         |           |       |           |
base64                     | "length": 5000000            | BLOB        | 5000000 |           |       |           |
address                    | "length": 7                  | JSON        |         |           |       |           |
location                   |                              | POINT       |         |           |       |           |
anyType                    |                              | VARIANT     |         |           |       |           |
calculated                 |                              | VARIANT     |         |           |       |           |
JunctionIdList             |                              | VARIANT     |         |           |       |           |
floatarray                 |                              | VARIANT     |         |           |       |           |
byte                       |                              | VARIANT     |         |           |       |           |
complexvalue               |                              | JSON        |         |           |       |           |
json                       |                              | JSON        |         |           |       |           |
somethingnew               | "length": 5                  | UNKNOWN     |         |           |       |           |
"#;

/// A flag says the rest. `@` stands for the service and schema in the FQN of a foreign key's target.
const FLAGS: &str = r#"
said                                                            | constraint | tags       | foreign keys             | description
                                                                |            |            |                          |
"nillable": true                                                | NULL       |            |                          |
"nillable": false                                               | NOT_NULL   |            |                          |
"unique": true, "nillable": true                                | UNIQUE     |            |                          |
"unique": true, "nillable": false                               | UNIQUE     |            |                          | Never empty.
"unique": true, "externalId": true, "idLookup": true            | UNIQUE     | ExternalId |                          | Key of another system (external id).
"externalId": true                                              |            | ExternalId |                          | Key of another system (external id).
"custom": true                                                  |            | Custom     |                          |
"deprecatedAndHidden": true                                     |            | Deprecated |                          |
"encrypted": true                                               |            | Encrypted  |                          | Stored encrypted.
"calculated": true                                              |            |            |                          | Computed by Salesforce: a roll-up summary or a system value.
"calculated": true, "calculatedFormula": "A__c + 1"             |            | Formula    |                          | Formula: `A__c + 1`
"autoNumber": true                                              |            |            |                          | Numbered by Salesforce.
"inlineHelpText": "Ask *sales*."                                |            |            |                          | Ask *sales*.
"defaultValue": true                                            |            |            |                          | Default: `true`
"defaultValue": false                                           |            |            |                          |
"defaultValueFormula": "TODAY()"                                |            |            |                          | Default: `TODAY()`
"compoundFieldName": "BillingAddress"                           |            |            |                          | Part of `BillingAddress`.
"picklistValues": [{"value": "a"}]                              |            |            |                          | Values: `a`.
"picklistValues": [{"value": "a"}], "restrictedPicklist": true  |            |            |                          | Values, no others accepted: `a`.
"picklistValues": [{"value": "a", "active": false}]             |            |            |                          |
"referenceTo": []                                               |            |            |                          |
"referenceTo": ["Account"]                                      |            |            | @.Account.Id             | Lookup to `Account`.
"referenceTo": ["X"]                                            |            |            | @.X.Id                   | Lookup to `X`.
"referenceTo": ["NotInScope"]                                   |            |            |                          | Lookup to `NotInScope`.
"referenceTo": ["Account", "Contact"]                           |            |            | @.Account.Id @.Contact.Id | Lookup to one of 2 objects: `Account`, `Contact`.
"referenceTo": ["Account"], "referenceTargetField": "Code__c"   |            |            | @.Account.Code__c        | Lookup to `Account`, by `Code__c`.
"referenceTo": ["Account"], "relationshipOrder": 0              |            |            | @.Account.Id             | Master-detail reference to `Account`.
"referenceTo": ["Account"], "relationshipOrder": 1              |            |            | @.Account.Id             | Master-detail reference to `Account`.
"referenceTo": ["Account"], "relationshipOrder": null, "cascadeDelete": true | |         | @.Account.Id             | Lookup to `Account`. Deleted with the row that it points to.
"referenceTo": ["Account"], "restrictedDelete": true            |            |            | @.Account.Id             | Lookup to `Account`. A row that is pointed to cannot be deleted.
"referenceTo": ["Account", "A", "B", "C", "D"]                  |            |            | @.Account.Id             | Lookup to one of 5 objects: `Account`, `A`, `B`, `C`, `D`.
"referenceTo": ["Account", "A", "B", "C", "D", "E"]             |            |            |                          | Lookup to one of 6 objects: `Account`, `A`, `B`, `C`, `D`, `E`. Too many for foreign keys.
"custom": true, "encrypted": true, "externalId": true           |            | Custom ExternalId Encrypted |         | Key of another system (external id).\n\nStored encrypted.
"#;

/// The rows of a table, without its heading.
fn rows<const N: usize>(table: &'static str) -> Vec<[&'static str; N]> {
    let row = |line: &'static str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{cells:?}"))
    };
    table.trim_matches('\n').lines().skip(1).map(row).collect()
}

fn said(members: &str) -> Map<String, Value> {
    serde_json::from_str(&format!("{{{members}}}")).unwrap_or_else(|error| panic!("{members}: {error}"))
}

/// A cell; `None` when it is empty.
fn text(cell: &str) -> Option<Value> {
    (!cell.is_empty()).then(|| cell.into())
}

fn number(cell: &str) -> Option<Value> {
    (!cell.is_empty()).then(|| cell.parse::<u64>().unwrap().into())
}

/// The tags of a type and of a flag, each once, in the order in which they are always given.
fn labels(of_type: &str, of_flag: &str) -> Option<Value> {
    let has = |tag: &&str| [of_type, of_flag].iter().any(|tags| tags.split(' ').any(|one| one == *tag));
    let label = |tag: &str| {
        let tag = format!("Salesforce.{tag}");
        json!({"tagFQN": tag, "source": "Classification", "labelType": "Automated", "state": "Confirmed"})
    };
    let order = ["Custom", "ExternalId", "Encrypted", "Formula", "Deprecated"];
    let labels: Vec<Value> = order.iter().copied().filter(has).map(label).collect();
    (!labels.is_empty()).then(|| labels.into())
}

#[test]
fn every_type_with_every_flag_is_the_column_that_the_tables_say() {
    let (types, flags) = (rows::<8>(TYPES), rows::<5>(FLAGS));
    for [kind, of_type, data_type, length, precision, scale, type_tags, key] in types {
        for [of_flag, constraint, tags, foreign_keys, description] in &flags {
            let mut field = json!({"name": "F", "label": "Eff", "type": kind});
            field.as_object_mut().unwrap().extend(said(of_type).into_iter().chain(said(of_flag)));
            let describe = json!({"name": "X", "fields": [field]});
            let mapped = map(&describe).unwrap();
            let body: Value = serde_json::from_slice(mapped.entity.body().unwrap()).unwrap();

            let members = [
                ("name", text("F")),
                ("displayName", text("Eff")),
                ("dataType", text(data_type)),
                ("dataLength", number(length)),
                ("precision", number(precision)),
                ("scale", number(scale)),
                ("dataTypeDisplay", text(kind)),
                ("description", text(&description.replace("\\n", "\n"))),
                ("tags", labels(type_tags, tags)),
                ("constraint", text(constraint)),
                ("ordinalPosition", number("1")),
            ];
            let expected: Map<_, _> =
                members.into_iter().filter_map(|(key, value)| Some((key.into(), value?))).collect();
            assert_eq!(body["columns"], json!([expected]), "{field}");

            let expected: Vec<_> = foreign_keys.split(' ').filter(|fqn| key == "yes" && !fqn.is_empty()).collect();
            let found = table_of(&describe).table_constraints;
            let found: Vec<_> = found.into_iter().map(|key| key.referred_columns.concat()).collect();
            let found: Vec<_> = found.iter().map(|fqn| fqn.replace("crm.default.salesforce", "@")).collect();
            assert_eq!(found, expected, "{field}");
            let keys = expected.len() + usize::from(*constraint == "UNIQUE");
            assert_eq!(mapped.keys, u64::try_from(keys).unwrap(), "{field}");
        }
    }
}
