use std::path::Path;

use serde_json::{Value, json};

use super::super::tests::{parse, soap, with};
use super::*;

fn object(name: &str) -> ListedObject {
    let custom = name.contains("__");
    ListedObject { name: name.to_owned(), custom, layoutable: true, ..ListedObject::default() }
}

fn listing(names: &[&str]) -> Listing {
    Listing { objects: names.iter().map(|name| object(name)).collect() }
}

const NAMES: &[&str] = &["Contact", "Account", "AccountHistory", "My_Account__c"];

fn select(more: Value, options: Value) -> Selection {
    parse(soap(more), options).unwrap().scope.select(&listing(NAMES)).unwrap()
}

fn names(selection: &Selection) -> Vec<&str> {
    selection.in_scope.iter().map(|object| object.name.as_str()).collect()
}

#[test]
fn everything_listed_is_in_scope_by_default() {
    let selection = select(json!({"sobjectNames": []}), json!({}));
    assert_eq!(names(&selection), NAMES);
    assert_eq!(selection.filtered, 0);
}

#[test]
fn object_names_are_corrected_and_unknown_ones_reported() {
    let wanted = json!({"sobjectNames": ["my_account__C", "Nothing", "Account", "ACCOUNT", "Nothing"],
                        "sobjectName": "contact"});
    let selection = select(wanted, json!({"tableFilterPattern": {"excludes": ["contact"]}}));
    assert_eq!(names(&selection), ["Account", "My_Account__c"]);
    assert_eq!(selection.filtered, 1);
    assert_eq!(selection.unknown_names, ["Nothing"]);
    let corrected = [("my_account__C", "My_Account__c"), ("contact", "Contact")];
    assert_eq!(selection.corrected, corrected.map(|(given, listed)| (given.to_owned(), listed.to_owned())));
}

#[test]
fn table_filters_match_from_the_start_and_excludes_win() {
    let selection =
        select(json!({}), json!({"tableFilterPattern": {"includes": ["account"], "excludes": [".*history$"]}}));
    assert_eq!(names(&selection), ["Account"]);
    assert_eq!(selection.filtered, 3);
}

#[test]
fn filters_see_the_fqn_when_asked_to() {
    let pattern = json!({"includes": [r#""crm\.eu"\.default\.salesforce\.Account$"#]});
    let options = json!({"useFqnForFiltering": true, "tableFilterPattern": pattern});
    assert_eq!(names(&select(json!({}), options)), ["Account"]);
}

#[test]
fn a_filtered_database_or_schema_leaves_nothing_in_scope() {
    for filter in ["databaseFilterPattern", "schemaFilterPattern"] {
        let selection = select(json!({}), json!({filter: {"excludes": [".*"]}}));
        assert_eq!((names(&selection).len(), selection.filtered), (0, 4), "{filter}");
        assert!(!selection.schema);
        assert_eq!(selection.database, filter == "schemaFilterPattern");
    }
}

#[test]
fn a_committed_name_is_in_scope_only_if_this_definition_would_read_it() {
    let options = json!({"tableFilterPattern": {"excludes": ["contact"]}});
    let all = parse(soap(json!({})), options.clone()).unwrap().scope;
    assert!(all.includes_name("Gone__c").unwrap());
    assert!(!all.includes_name("ContactHistory").unwrap());
    let some = parse(soap(json!({"sobjectNames": ["account"]})), options).unwrap().scope;
    assert!(some.includes_name("Account").unwrap());
    assert!(!some.includes_name("Gone__c").unwrap());
}

/// The scope of these options of ours, without names.
fn preset(options: &Value) -> Scope {
    with(json!({"connectionOptions": options})).unwrap().scope
}

fn kept<'a>(scope: &Scope, listing: &'a Listing) -> Vec<&'a str> {
    let selection = scope.select(listing).unwrap();
    let left_out = usize::try_from(selection.filtered).unwrap();
    assert_eq!(selection.in_scope.len() + left_out, listing.objects.len());
    let listed = listing.objects.iter().filter(|object| selection.in_scope.contains(object));
    listed.map(|object| object.name.as_str()).collect()
}

#[test]
fn before_api_50_an_object_is_a_companion_when_its_name_says_so_and_the_other_object_exists() {
    let names = [
        "Account",
        "AccountChangeEvent",
        "AccountFeed",
        "AccountHistory",
        "AccountShare",
        "Product2",
        "Product2Localization",
        "x__c",
        "X__ChangeEvent",
        "X__Feed",
        "X__History",
        "X__Share",
    ];
    let own = ["LoginHistory", "Y__History", "ActivityHistory", "History", "Share__c", "AccountHistoryX", "__Share"];
    let listing = listing(&[&names[..], &own[..]].concat());
    let expected = [&["Account", "Product2", "x__c"][..], &own[..]].concat();
    assert_eq!(kept(&preset(&json!({"companions": "false"})), &listing), expected);
    assert_eq!(kept(&preset(&json!({"companions": "true"})), &listing).len(), listing.objects.len());
}

#[test]
fn from_api_50_on_salesforces_word_decides_and_names_do_not() {
    let of = |name: &str, kind: &str, parent: &str| ListedObject {
        associate_entity_type: Some(kind.to_owned()),
        associate_parent_entity: Some(parent.to_owned()),
        ..object(name)
    };
    let listing = Listing {
        objects: vec![
            object("Opportunity"),
            // A history of stages, which users report on.
            object("OpportunityHistory"),
            of("OpportunityFieldHistory", "History", "Opportunity"),
            of("Unseen__Share", "Share", "Unseen__c"),
            of("AccountTeamMember", "TeamMember", "Account"),
        ],
    };
    let expected = ["Opportunity", "OpportunityHistory", "AccountTeamMember"];
    assert_eq!(kept(&preset(&json!({"companions": "false"})), &listing), expected);
    // What belongs to an object that the user does not see is judged by what it is itself.
    assert_eq!(kept(&preset(&json!({"objects": "custom"})), &listing), ["Unseen__Share"]);
}

#[test]
fn business_objects_are_those_with_layouts_that_hold_records_and_their_companions() {
    let plain = |name: &str| ListedObject { layoutable: false, ..object(name) };
    let listing = Listing {
        objects: vec![
            object("Account"),
            plain("AccountHistory"),
            plain("ApexClass"),
            object("ApexClassFeed"),
            ListedObject { custom_setting: true, ..object("Setting__c") },
            object("Region__mdt"),
            object("Visit__c"),
            plain("Visit__Share"),
        ],
    };
    let scope = preset(&json!({"objects": "business"}));
    assert_eq!(kept(&scope, &listing), ["Account", "AccountHistory", "Visit__c", "Visit__Share"]);
    let scope = preset(&json!({"objects": "business", "companions": "false"}));
    assert_eq!(kept(&scope, &listing), ["Account", "Visit__c"]);
}

#[test]
fn custom_objects_are_those_of_the_org_and_of_packages_and_their_companions() {
    let listing =
        listing(&["Account", "AccountShare", "Visit__c", "Visit__History", "ns__Car__c", "Region__mdt", "Placed__e"]);
    let all = ["Visit__c", "Visit__History", "ns__Car__c", "Region__mdt", "Placed__e"];
    assert_eq!(kept(&preset(&json!({"objects": "custom"})), &listing), all);
    let without = ["Visit__c", "ns__Car__c", "Region__mdt", "Placed__e"];
    assert_eq!(kept(&preset(&json!({"objects": "custom", "companions": "false"})), &listing), without);
}

#[test]
fn filters_count_within_a_preset() {
    let listing = listing(&["Account", "Visit__c", "Visit__Share", "Car__c"]);
    let options = json!({"tableFilterPattern": {"excludes": ["Car"]}});
    let ours = json!({"connectionOptions": {"objects": "custom", "companions": "false"}});
    let scope = parse(soap(ours), options).unwrap().scope;
    assert_eq!(kept(&scope, &listing), ["Visit__c"]);
}

#[test]
fn with_object_names_presets_have_no_effect_and_are_named_when_set() {
    let more = json!({
        "sobjectNames": ["AccountHistory"], "connectionOptions": {"objects": "custom", "companions": "false"},
    });
    let config = with(more).unwrap();
    assert_eq!(names(&config.scope.select(&listing(NAMES)).unwrap()), ["AccountHistory"]);
    assert!(config.scope.includes_name("AccountHistory").unwrap());
    let unused = ["companions", "objects"].map(|key| format!("{CONNECTION}.connectionOptions.{key}"));
    assert_eq!(config.without_effect, unused);
    let defaults = json!({"sobjectNames": ["Account"], "connectionOptions": {"objects": "all", "companions": "true"}});
    assert_eq!(with(defaults).unwrap().without_effect, Vec::<String>::new());
    let empty = json!({"sobjectNames": [], "connectionOptions": {"objects": "custom"}});
    assert_eq!(with(empty).unwrap().without_effect, Vec::<String>::new());
}

#[test]
fn without_tables_nothing_is_in_scope_and_nothing_is_gone() {
    for more in [json!({}), json!({"sobjectNames": ["Account"]})] {
        let scope = parse(soap(more), json!({"includeTables": false})).unwrap().scope;
        let selection = scope.select(&listing(NAMES)).unwrap();
        assert_eq!(names(&selection), Vec::<&str>::new());
        assert!(selection.database && selection.schema, "the parents stay");
        for name in ["Account", "Gone__c"] {
            assert!(!scope.includes_name(name).unwrap(), "{name}");
        }
    }
}

#[test]
fn a_filtered_database_or_schema_takes_committed_names_out_of_scope() {
    for (filter, fqn) in [("databaseFilterPattern", "crm.eu.*"), ("schemaFilterPattern", ".*salesforce$")] {
        let by_name = json!({filter: {"includes": ["nothing"]}});
        assert!(!parse(soap(json!({})), by_name).unwrap().scope.includes_name("Account").unwrap(), "{filter}");
        let by_fqn = json!({filter: {"excludes": [format!("\"?{fqn}")]}, "useFqnForFiltering": true});
        assert!(!parse(soap(json!({})), by_fqn.clone()).unwrap().scope.includes_name("Account").unwrap(), "{filter}");
        assert_eq!(names(&select(json!({}), by_fqn)), Vec::<&str>::new(), "{filter}");
    }
}

#[test]
fn a_committed_name_that_a_preset_leaves_out_is_out_of_scope() {
    for (options, inside, outside) in [
        (json!({"companions": "false"}), vec!["Gone__c", "Gone"], vec!["GoneHistory", "Gone__Share"]),
        (json!({"objects": "business"}), vec!["Gone__c", "GoneFeed"], vec!["Gone__mdt"]),
        (json!({"objects": "custom"}), vec!["Gone__c", "Gone__mdt", "Gone__Feed"], vec!["Gone", "GoneFeed"]),
    ] {
        let scope = preset(&options);
        for (names, expected) in [(inside, true), (outside, false)] {
            for name in names {
                assert_eq!(scope.includes_name(name).unwrap(), expected, "{options} {name}");
            }
        }
    }
}

/// A recorded list; `None`, after saying so, where the shared material is not. CI has it.
#[expect(clippy::print_stdout, reason = "says what was not run")]
fn recorded(file: &str) -> Option<Listing> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/salesforce/global");
    if !folder.is_dir() {
        let hint = "not run: there is no ../shared/fixtures beside the repository; put the shared folder there";
        assert!(std::env::var_os("CI").is_none(), "{hint}");
        println!("{hint}");
        return None;
    }
    let recording: Value = serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap();
    Some(Listing::parse(recording["response"]["body"].to_string().as_bytes()).unwrap())
}

#[test]
fn presets_leave_of_recorded_orgs_what_was_counted_in_the_recordings() {
    // Counted apart from this code: objects, without companions, business, business without companions. None of the orgs
    // has a custom object.
    for (file, counts, own) in [
        (
            "describe_global_v42_463_objects_with_headers.json",
            [463, 347, 186, 80],
            &["ActivityHistory", "LoginHistory", "OpportunityFieldHistory", "VerificationHistory"][..],
        ),
        (
            "describe_global_v48_787_objects.json",
            [787, 500, 409, 141],
            &["ActivityHistory", "ForecastShare", "LoginHistory", "OpportunityFieldHistory", "VerificationHistory"],
        ),
        ("describe_global_v52_110_objects_subset.json", [110, 61, 71, 27], &["VerificationHistory"]),
    ] {
        let Some(listing) = recorded(file) else { return };
        let presets = [
            json!({}),
            json!({"companions": "false"}),
            json!({"objects": "business"}),
            json!({"objects": "business", "companions": "false"}),
        ];
        let scopes = presets.each_ref().map(preset);
        assert_eq!(scopes.each_ref().map(|scope| kept(scope, &listing).len()), counts, "{file}");
        assert_eq!(kept(&preset(&json!({"objects": "custom"})), &listing), Vec::<&str>::new(), "{file}");
        let mut left = kept(&scopes[1], &listing);
        left.retain(|name| companion_of(name).is_some());
        left.sort_unstable();
        assert_eq!(left, own, "{file}");
    }
}
