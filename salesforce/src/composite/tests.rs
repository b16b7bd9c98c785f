use super::*;
use crate::annotations::{Annotations, Vocabulary};
use crate::config::Selection;
use crate::naming::Naming;

const STAMP: &str = "Tue, 21 Dec 2021 17:03:22 GMT";

fn listed(name: &str) -> ListedObject {
    ListedObject { name: name.to_owned(), ..ListedObject::default() }
}

fn mapper() -> Mapper {
    let selection =
        Selection { in_scope: vec![listed("Account")], database: true, schema: true, ..Selection::default() };
    Mapper::new(Naming::new("sf", "default"), "acme.my.salesforce.com", &selection, true)
}

/// The outcome of `Account`, asked for without a condition, for one part of an answer.
fn outcome(part: &str) -> ObjectOutcome {
    outcome_since(part, None)
}

fn outcome_since(part: &str, stamp: Option<&str>) -> ObjectOutcome {
    let answer = format!(r#"{{"compositeResponse":[{part}]}}"#);
    let asks = [Ask { object: &listed("Account"), stamp }];
    let mapper = mapper();
    read_all(answer.as_bytes(), Reader::new(&mapper, &asks), Reader::read).unwrap().outcomes().remove(0)
}

/// Whether an answer can be read, and what is wrong with it.
fn problem(answer: &str) -> Option<&'static str> {
    match read_all(answer.as_bytes(), Reader::new(&mapper(), &[]), Reader::read) {
        Ok(_) => None,
        Err(Unreadable::Malformed(problem)) => Some(problem),
        Err(Unreadable::Call(error)) => panic!("{error}"),
    }
}

fn part(status: u16, body: &str) -> String {
    format!(r#"{{"body":{body},"httpHeaders":{{}},"httpStatusCode":{status},"referenceId":"o0"}}"#)
}

#[test]
fn a_call_asks_for_each_object_by_its_exact_name() {
    let (account, thing) = (listed("Account"), listed("ns__Thing__c"));
    let body = request(
        ApiVersion::new(64),
        &[Ask { object: &account, stamp: None }, Ask { object: &thing, stamp: Some(STAMP) }],
    )
    .unwrap();
    let expected = r#"{"allOrNone":false,"compositeRequest":[{"method":"GET","url":"/services/data/v64.0/sobjects/Account/describe","referenceId":"o0"},{"method":"GET","url":"/services/data/v64.0/sobjects/ns__Thing__c/describe","referenceId":"o1","httpHeaders":{"If-Modified-Since":"Tue, 21 Dec 2021 17:03:22 GMT"}}]}"#;
    assert_eq!(str::from_utf8(&body).unwrap(), expected);
}

#[test]
fn only_api_names_are_asked_for() {
    assert!(["Account", "a__c", "X1__mdt"].into_iter().all(is_api_name));
    for hostile in ["", "../limits", "A/describe?", "A B", "Ä", "a\"", "a%2f", "a.b", "a#"] {
        assert!(!is_api_name(hostile), "{hostile}");
    }
}

#[test]
fn a_describe_becomes_a_table() {
    let describe =
        r#"{"name":"Account","label":"Account","fields":[{"name":"Id","type":"id","label":"Id","length":18}]}"#;
    let ObjectOutcome::Drafted { draft, stamp: None } = outcome(&part(200, describe)) else { panic!("no table") };
    let mapped = mapper().finish(*draft, &Annotations::default(), &Vocabulary::default()).unwrap();
    assert_eq!((mapped.entity.fqn.as_str(), mapped.columns), ("sf.default.salesforce.Account", 1));
    let stamped = part(200, describe).replace("\"httpHeaders\":{}", r#""httpHeaders":{"Last-Modified":"yesterday"}"#);
    let ObjectOutcome::Drafted { stamp, .. } = outcome(&stamped) else { panic!("no table") };
    assert_eq!(stamp.as_deref(), Some("yesterday"));
    for odd in ["null", "[]", r#"{"Last-Modified":7}"#] {
        let odd = part(200, describe).replace("\"httpHeaders\":{}", &format!("\"httpHeaders\":{odd}"));
        assert!(matches!(outcome(&odd), ObjectOutcome::Drafted { stamp: None, .. }), "{odd}");
    }
}

#[test]
fn an_object_is_not_modified_only_when_that_was_asked() {
    assert!(matches!(outcome_since(&part(304, "null"), Some(STAMP)), ObjectOutcome::NotModified));
    assert!(matches!(outcome(&part(304, "null")), ObjectOutcome::Again { .. }));
}

#[test]
fn a_part_that_is_refused_has_its_reason() {
    let table = [
        (404, r#"[{"errorCode":"NOT_FOUND","message":"x"}]"#, Reason::ObjectVanished, None),
        (403, r#"[{"errorCode":"INSUFFICIENT_ACCESS","message":"x"}]"#, Reason::SourceDenied, None),
        (400, r#"[{"errorCode":"INVALID_TYPE","message":"x"}]"#, Reason::SourceProtocol, None),
        (500, r#"[{"errorCode":"UNKNOWN_EXCEPTION","message":"x"}]"#, Reason::SourceProtocol, Some(TRIES_PASSING)),
        (503, "\"<html>\"", Reason::SourceUnreachable, Some(TRIES_PASSING)),
    ];
    for (status, body, reason, tries_expected) in table {
        let (failure, tries) = match outcome(&part(status, body)) {
            ObjectOutcome::Failed(failure) => (failure, None),
            ObjectOutcome::Again { failure, tries } => (failure, Some(tries)),
            ObjectOutcome::Drafted { .. } | ObjectOutcome::NotModified => panic!("a table"),
        };
        assert_eq!((failure.reason, tries), (reason, tries_expected), "{status}");
        assert!(!failure.detail.contains("html") && failure.detail.contains(&status.to_string()), "{}", failure.detail);
    }
}

#[test]
fn a_describe_that_cannot_be_read_is_asked_for_once_more() {
    for unreadable in ["\"<html>Down for maintenance</html>\"", "null", "[]", "{}", "1"] {
        let again = outcome(&part(200, unreadable));
        assert!(matches!(again, ObjectOutcome::Again { tries: TRIES_UNREADABLE, .. }), "{unreadable}");
    }
    assert!(matches!(outcome(&part(200, "{}").replace("o0", "o1")), ObjectOutcome::Again { .. }));
}

#[test]
fn a_describe_of_ten_megabytes_fails_its_object_only() {
    let large = format!(r#"{{"name":"Account","fields":[],"filler":"{}"}}"#, "x".repeat(10_000_000));
    let ObjectOutcome::Failed(failure) = outcome(&part(200, &large)) else { panic!("accepted") };
    assert_eq!(failure.reason, Reason::DescribeTooLarge);
}

#[test]
fn an_answer_that_is_no_composite_answer_is_refused_without_a_quote() {
    for (answer, expected) in [
        ("<html></html>", "is HTML, not JSON"),
        ("", "is not JSON, or was cut short"),
        (r#"{"compositeResponse":["#, "is not JSON, or was cut short"),
        ("[]", "is JSON, but no composite answer"),
        (r#"{"compositeResponse":{}}"#, "is JSON, but no composite answer"),
        (r#"{"compositeResponse":[1]}"#, "is JSON, but no composite answer"),
    ] {
        assert_eq!(problem(answer), Some(expected), "{answer}");
    }
    let many = vec![part(200, "{}"); MAX_PARTS + 1].join(",");
    assert!(problem(&format!(r#"{{"compositeResponse":[{many}]}}"#)).is_some());
}

#[test]
fn a_part_that_concerns_the_whole_run_ends_it() {
    let ends = |part: &str| {
        let answer = format!(r#"{{"compositeResponse":[{part}]}}"#);
        let asks = [Ask { object: &listed("Account"), stamp: None }];
        read_all(answer.as_bytes(), Reader::new(&mapper(), &asks), Reader::read).unwrap().end.is_some()
    };
    assert!(ends(&part(401, r#"[{"errorCode":"INVALID_SESSION_ID"}]"#)));
    assert!(ends(&part(403, r#"[{"errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#)));
    assert!(!ends(&part(403, r#"[{"errorCode":"INSUFFICIENT_ACCESS"}]"#)));
    assert!(!ends(&part(200, "{}")));
}
