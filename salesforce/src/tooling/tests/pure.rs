//! Without a server.

use hybrid_runner_connector::Reason;

use super::super::answer::Reply;
use super::super::call::{Columns, Of, Request};
use super::*;
use crate::http::{CallError, ErrorCode};

fn annotator(wants: Wants, objects: usize) -> Annotator {
    let listed = |index| ListedObject { name: format!("O{index}__c"), ..ListedObject::default() };
    let objects: Vec<_> = (0..objects).map(listed).collect();
    let mut annotator = Annotator::new(wants, V67, &objects, 0);
    (0..objects.len()).for_each(|index| annotator.add(index, 100));
    annotator
}

fn parts(call: &ToolingCall) -> &[Part] {
    match &call.request {
        Request::Tooling(parts) => parts,
        other => panic!("{other:?}"),
    }
}

/// Answers every part of a call by what `refuse` says of it, or with nothing said.
fn answered(call: &ToolingCall, refuse: impl Fn(&Part) -> Option<Reply>) -> ToolingOutcome {
    let nothing = |part: &Part| match part.of {
        Of::Vocabulary => Reply::Vocabulary(Vocabulary::default()),
        Of::Entities => Reply::Entities { said: Vec::new(), whole: true },
        Of::Fields(_) => Reply::Fields { said: part.objects.iter().map(|_| Default::default()).collect(), whole: true },
    };
    ToolingOutcome::Answered(parts(call).iter().map(|part| refuse(part).unwrap_or_else(|| nothing(part))).collect())
}

fn refused(status: u16, code: &str) -> Reply {
    Reply::Refused { status, code: ErrorCode::parse(code) }
}

/// What every object came to, the notices and the number of calls.
type Finished = (BTreeMap<usize, Result<Annotations, ObjectFailure>>, Vec<Notice>, usize);

/// Runs to the end.
fn finish(annotator: &mut Annotator, refuse: impl Fn(&Part) -> Option<Reply>) -> Result<Finished, SourceError> {
    let (mut known, mut notices, mut calls) = (BTreeMap::new(), Vec::new(), 0);
    while let Some(call) = annotator.next_call(true) {
        calls += 1;
        assert!(calls < 2_000, "it comes to an end");
        assert!(parts(&call).iter().filter(|part| part.of != Of::Vocabulary).count() <= MAX_QUERIES);
        let outcome = answered(&call, &refuse);
        notices.extend(annotator.settle(call, outcome)?);
        known.extend(annotator.take_known());
    }
    notices.extend(annotator.closing());
    Ok((known, notices, calls))
}

#[test]
fn the_first_call_asks_for_the_vocabulary_all_objects_and_fields_up_to_five_queries() {
    let mut annotator = annotator(Wants { tags: true, ..PLAIN }, 200);
    let call = annotator.next_call(false).unwrap();
    let of: Vec<_> = parts(&call).iter().map(|part| part.of).collect();
    let fields = Of::Fields(Columns { classification: true, owner: false });
    assert_eq!(of, [Of::Entities, fields, fields, fields, fields, Of::Vocabulary]);
    assert_eq!(parts(&call)[0].objects.len(), 200);
    assert!(annotator.vocabulary().is_none());
}

#[test]
fn many_objects_are_asked_for_by_1999_names_and_long_names_by_fewer() {
    let listed = |name: String| ListedObject { name, ..ListedObject::default() };
    let sizes = |objects: Vec<ListedObject>| {
        let call = Annotator::new(PLAIN, V67, &objects, 0).next_call(true).unwrap();
        parts(&call).iter().map(|part| part.objects.len()).collect::<Vec<_>>()
    };
    assert_eq!(sizes((0..4_100).map(|index| listed(format!("O{index}__c"))).collect()), [1_999, 1_999, 102]);
    assert_eq!(sizes((0..1_500).map(|index| listed(format!("{index:0>77}"))).collect()), [1_125, 375]);
}

#[test]
fn a_call_that_is_not_full_waits_for_more_objects() {
    let mut annotator = annotator(PLAIN, 40);
    assert!(annotator.next_call(false).is_none());
    assert_eq!(annotator.waiting_rows(), 40 * 103);
    let call = annotator.next_call(true).unwrap();
    assert_eq!((parts(&call).len(), annotator.waiting_rows()), (4, 0));
    assert!(annotator.next_call(true).is_none());
    annotator.put_back(call.clone());
    assert_eq!(annotator.next_call(true), Some(call), "an expired session loses nothing");
}

#[test]
fn objects_before_the_first_one_wanted_are_not_asked_for() {
    let listed = |index| ListedObject { name: format!("O{index}__c"), ..ListedObject::default() };
    let objects: Vec<_> = (0..10).map(listed).collect();
    let mut annotator = Annotator::new(PLAIN, V67, &objects, 7);
    (0..12).for_each(|index| annotator.add(index, 5));
    let (known, ..) = finish(&mut annotator, |_| None).unwrap();
    assert_eq!(known.into_keys().collect::<Vec<_>>(), [7, 8, 9]);
    let mut done = Annotator::new(ALL, V67, &objects, 10);
    assert!(done.next_call(true).is_none());
    assert_eq!(done.vocabulary(), Some(&Vocabulary::default()));
}

#[test]
fn a_name_that_is_no_api_name_is_never_sent() {
    let listed = |name: &str| ListedObject { name: name.to_owned(), ..ListedObject::default() };
    let mut annotator = Annotator::new(PLAIN, V67, &[listed("A"), listed("x') OR Name IN ('"), listed("B")], 0);
    (0..3).for_each(|index| annotator.add(index, 5));
    let call = annotator.next_call(true).unwrap();
    let names: Vec<_> = parts(&call).iter().flat_map(|part| &part.objects).map(|object| &*object.name).collect();
    assert_eq!(names, ["A", "B", "A", "B"]);
    assert_eq!(annotator.take_known(), [(1, Ok(Annotations::default()))]);
}

#[test]
fn an_answer_that_may_be_cut_is_asked_for_in_halves_and_more_is_expected_from_then_on() {
    let mut annotator = annotator(PLAIN, 100);
    // As if every object had twice the rows.
    let rows = |part: &Part| part.objects.len() * 206;
    let cut = |part: &Part| {
        let fields = matches!(part.of, Of::Fields(_));
        (fields && rows(part) >= 2_000).then(|| Reply::Fields { said: Vec::new(), whole: false })
    };
    let (known, notices, _) = finish(&mut annotator, cut).unwrap();
    assert_eq!((known.len(), notices.len()), (100, 0));
    assert!(known.values().all(Result::is_ok));
    assert!(annotator.percent > 110, "{}", annotator.percent);
}

#[test]
fn an_object_that_is_always_cut_keeps_what_came_and_is_told() {
    let mut annotator = annotator(PLAIN, 1);
    let cut = |part: &Part| {
        matches!(part.of, Of::Fields(_)).then(|| Reply::Fields { said: vec![Default::default()], whole: false })
    };
    let (known, notices, _) = finish(&mut annotator, cut).unwrap();
    assert!(known[&0].is_ok());
    assert_eq!(notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["annotations_cut"]);
}

#[test]
fn of_an_object_that_always_fails_only_it_and_few_neighbours_fail() {
    let mut annotator = annotator(PLAIN, 100);
    let poison = |part: &Part| {
        let has = matches!(part.of, Of::Fields(_)) && part.objects.iter().any(|object| object.index == 30);
        has.then(|| refused(500, "UNKNOWN_EXCEPTION"))
    };
    let (known, notices, _) = finish(&mut annotator, poison).unwrap();
    let failed: Vec<_> = known.iter().filter(|(_, known)| known.is_err()).map(|(index, _)| *index).collect();
    assert!(failed.contains(&30) && failed.len() <= 2, "{failed:?}");
    let failure = known[&30].as_ref().unwrap_err();
    assert_eq!(failure.reason, Reason::SourceProtocol);
    assert!(failure.detail.contains("UNKNOWN_EXCEPTION"), "{}", failure.detail);
    assert_eq!((known.len(), notices.len()), (100, 0));
}

#[test]
fn a_column_that_the_org_lacks_costs_the_classification_only() {
    let mut annotator = annotator(Wants { tags: true, ..PLAIN }, 100);
    let lacking = |part: &Part| {
        let asked = matches!(part.of, Of::Fields(columns) if columns != Columns::NONE);
        asked.then(|| refused(400, "INVALID_FIELD"))
    };
    let (known, notices, _) = finish(&mut annotator, lacking).unwrap();
    assert!(known.len() == 100 && known.values().all(Result::is_ok));
    assert_eq!(notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["classification_unreadable"]);
}

#[test]
fn queries_stay_short_once_long_ones_were_refused() {
    let mut annotator = annotator(PLAIN, 300);
    let long = |part: &Part| (part.objects.len() > 16).then(|| refused(431, ""));
    let (known, notices, calls) = finish(&mut annotator, long).unwrap();
    assert!(known.len() == 300 && known.values().all(Result::is_ok) && notices.is_empty());
    assert!(calls < 40, "{calls}");
}

#[test]
fn refusals_without_end_end_the_asking_with_one_warning() {
    let mut annotator = annotator(PLAIN, 1_000);
    let (known, notices, calls) = finish(&mut annotator, |_| Some(refused(400, "SOMETHING_NEW"))).unwrap();
    assert!(known.len() == 1_000 && known.values().all(Result::is_ok));
    let codes: Vec<_> = notices.iter().map(|notice| notice.code).collect();
    assert_eq!(codes, ["definitions_refused"]);
    assert!(calls < 40, "{calls}");
}

#[test]
fn failures_without_end_end_the_run() {
    let mut annotator = annotator(PLAIN, 1_000);
    let error = finish(&mut annotator, |_| Some(refused(503, "SERVER_UNAVAILABLE"))).err().unwrap();
    assert_eq!(error.reason, Reason::SourceUnreachable);
}

#[test]
fn calls_that_time_out_are_asked_for_in_halves() {
    let mut annotator = annotator(PLAIN, 100);
    let timeout = || {
        let host = HostPolicy::default().login_host("login").unwrap();
        ToolingOutcome::Smaller(CallError::Timeout { host, after: crate::http::CALL_TIMEOUT })
    };
    let call = annotator.next_call(true).unwrap();
    let largest = |call: &ToolingCall| parts(call).iter().map(|part| part.objects.len()).max().unwrap();
    let before = largest(&call);
    assert!(annotator.settle(call, timeout()).unwrap().is_empty());
    assert_eq!(largest(&annotator.next_call(true).unwrap()), before / 2);
}

#[test]
fn a_vocabulary_that_is_refused_is_empty_and_told() {
    let mut annotator = annotator(Wants { tags: true, ..PLAIN }, 10);
    let lacking = |part: &Part| (part.of == Of::Vocabulary).then(|| refused(404, "NOT_FOUND"));
    let (_, notices, _) = finish(&mut annotator, lacking).unwrap();
    assert_eq!(annotator.vocabulary(), Some(&Vocabulary::default()));
    assert_eq!(notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["classification_unreadable"]);
}
