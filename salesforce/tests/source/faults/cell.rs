//! One org, the cells that it is put through, and the judgement of each.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hybrid_runner_connector::{Baseline, Committed, Entity, Reason, Report, Severity, SourceError};
use hybrid_runner_salesforce::LocalConfig;
use sandbox::{Disturbance, Wrong};

use super::matrix::{AIMED_AT, Column, DEADLINE, PLANTED, wrong};
use crate::case::{Case, Sink, chain};

/// No run takes so long: what is repeated most waits half a minute.
const HANG: Duration = Duration::from_secs(120);

/// A table that was committed once and that the org does not list.
const GONE: &str = "sf.default.salesforce.Gone__c";

/// The warnings that say what tables lack.
const REFUSED: [&str; 5] = [
    "definitions_denied",
    "annotations_refused",
    "classification_unreadable",
    "record_counts_unreadable",
    "owners_unreadable",
];

/// Hashes of entities, by FQN.
type Hashes = BTreeMap<String, [u8; 32]>;

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Often {
    Once,
    Always,
}

/// A cell of the matrix.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) fault: String,
    pub(super) column: Column,
    /// A letter of the table.
    pub(super) expected: char,
}

/// What became of a cell.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) cell: Cell,
    /// Of the first run and of the second one.
    pub(super) became: [char; 2],
    /// What must never be, whatever is expected.
    pub(super) problems: Vec<String>,
}

/// An org, and what runs without faults made of it.
pub(super) struct Org {
    case: Case,
    /// What is committed before a second run: the org has changed since.
    before: Baseline,
    /// What a run that knows nothing makes of the org as it is now.
    reference: Hashes,
    aimed_at: String,
}

impl Org {
    pub(super) async fn new(column: &Column) -> Self {
        let mut case = Case::of(column.objects).await;
        if column.by_token {
            let key = case.org.credentials().consumer_key;
            case.connection = format!("consumerKey: {key}\nconsumerSecret: secret:/sf/secret");
        }
        case.connection.push_str("\nconnectionOptions: {fieldOwners: 'true', recordCounts: 'true'}");
        case.org.faults().change(|plan| plan.hidden_fields = column.hidden_fields);
        let name = |nth: usize| case.org.org().objects().nth(nth).unwrap().entry.name.clone();
        let (changed, described, aimed_at) = (name(5), name(6), name(AIMED_AT));
        let field = case.org.org().object(&aimed_at).unwrap().fields.get(1).unwrap().name.clone();
        case.org.change_org(|org| {
            org.describe_object(&aimed_at, Some("What it is for")).unwrap();
            org.classify_field(&aimed_at, &field, Some("Confidential"), &["GDPR"]).unwrap();
            org.own_field(&aimed_at, &field, Some("0055g0000OwnerAAAA")).unwrap();
        });
        let (report, sink) = case.report().await;
        assert_eq!((report.complete, report.gone.len()), (true, 0));
        let mut before = commit(&Baseline::default(), &sink.entities);
        before
            .0
            .insert(GONE.to_owned(), Committed { kind: "table".to_owned(), content_hash: [7; 32], memo: Bytes::new() });
        case.org.change_org(|org| {
            org.add_field(&changed, "Added__c").unwrap();
            org.describe_object(&described, Some("Described since")).unwrap();
        });
        let (report, sink) = case.report().await;
        assert!(report.complete && !sink.notices.iter().any(|notice| notice.severity == Severity::Warning));
        Self { case, before, reference: hashes(&sink), aimed_at }
    }

    /// Puts the org through a cell, in a first run and in a second one.
    pub(super) async fn judge(&mut self, cell: Cell, often: Often) -> Judged {
        let (mut became, mut problems) = (['?'; 2], Vec::new());
        for (second, letter) in became.iter_mut().enumerate() {
            let is_second = second == 1;
            self.case.baseline = if is_second { self.before() } else { Baseline::default() };
            let (target, wrong) = (cell.column.target(&self.aimed_at), wrong(&cell.fault).unwrap());
            let usual = LocalConfig::default().call_timeout;
            self.case.call_timeout = if matches!(wrong, Wrong::Late(_)) { DEADLINE } else { usual };
            let fault = match often {
                Often::Once => Disturbance::once(target, wrong),
                Often::Always => Disturbance::always(target, wrong),
            };
            // What an earlier run left on its way, because it ended, meets no fault.
            self.case.org.expire_sessions();
            let faults = self.case.org.faults();
            faults.change(|plan| plan.disturbances = vec![fault.after(cell.column.skip)]);
            let ran = tokio::time::timeout(HANG, self.case.run()).await;
            let met = faults.change(|plan| plan.disturbances.drain(..).map(|fault| fault.met).sum::<u32>());
            let mut say = |problem: String| problems.push(format!("run {}: {problem}", second + 1));
            if met == 0 || (often == Often::Once && met != 1) {
                say(format!("the fault took place {met} times"));
            }
            match ran {
                Ok((result, sink)) => {
                    *letter = self.look(&result, &sink, is_second, &mut say);
                    if is_second && result.is_ok() && *letter != 'r' {
                        self.heal(&sink, &mut say).await;
                    }
                }
                Err(_elapsed) => say("it hangs".to_owned()),
            }
        }
        Judged { cell, became, problems }
    }

    fn before(&self) -> Baseline {
        Baseline(self.before.0.clone())
    }

    /// The letter of a run, and what must never be.
    fn look(
        &self,
        result: &Result<Report, SourceError>,
        sink: &Sink,
        is_second: bool,
        say: &mut impl FnMut(String),
    ) -> char {
        let seen = hashes(sink);
        let said = format!("{result:?} {:?} {}", sink.notices, result.as_ref().err().map(chain).unwrap_or_default());
        // Between the two stands the org's id, before and behind it the session's secret.
        for never in [PLANTED, "!AQEA."] {
            if said.contains(never) {
                say(format!("{never} is told: {said}"));
            }
        }
        let gone: &[&str] = if is_second { &[GONE] } else { &[] };
        let differs = seen.iter().filter(|(fqn, hash)| self.reference.get(*fqn) != Some(*hash)).map(|(fqn, _)| fqn);
        let different: Vec<_> = differs.collect();
        let letter = match result {
            Err(error) => of_reason(error.reason),
            Ok(report) if !report.complete => {
                self.look_at_failures(report, &seen, say);
                'i'
            }
            Ok(report) => {
                if report.gone != gone || !report.failures.is_empty() {
                    say(format!("complete, and gone are {:?}, failed {:?}", report.gone, report.failures));
                }
                let warned = REFUSED.iter().any(|code| sink.has_notice(code));
                match (seen == self.reference, warned) {
                    (true, _) => 'r',
                    (false, true) => 'w',
                    (false, false) => '!',
                }
            }
        };
        if !matches!(letter, 'r' | 'w') && !different.is_empty() {
            say(format!("emitted otherwise than without a fault: {different:?}"));
        }
        if letter == 'w' && !seen.keys().filter(is_table).eq(self.reference.keys().filter(is_table)) {
            say("tables are missing".to_owned());
        }
        letter
    }

    /// Each table is either emitted or named among the failures, and nothing is gone.
    fn look_at_failures(&self, report: &Report, seen: &Hashes, say: &mut impl FnMut(String)) {
        if !report.gone.is_empty() {
            say(format!("incomplete, and {:?} are gone", report.gone));
        }
        if report.failures.is_empty() {
            say("incomplete without a failure".to_owned());
        }
        let failed = report.failures.iter().map(|failure| failure.fqn.clone());
        let mut accounted: Vec<_> = seen.keys().filter(is_table).cloned().chain(failed).collect();
        accounted.sort();
        if !accounted.iter().eq(self.reference.keys().filter(is_table)) {
            say(format!("emitted and failed are not all tables once: {accounted:?}"));
        }
    }

    /// What is committed of a run that did not get everything, a healthy run completes.
    async fn heal(&mut self, sink: &Sink, say: &mut impl FnMut(String)) {
        self.case.baseline = commit(&self.before, &sink.entities);
        let (result, sink) = self.case.run().await;
        match result {
            Ok(report) if report.complete && report.gone == [GONE] && hashes(&sink) == self.reference => {}
            other => say(format!("the next run does not make up for it: {other:?}")),
        }
    }
}

fn of_reason(reason: Reason) -> char {
    match reason {
        Reason::SourceUnreachable => 'U',
        Reason::SourceProtocol => 'P',
        Reason::SourceThrottled => 'T',
        Reason::SourceDenied => 'D',
        Reason::AuthFailed => 'A',
        Reason::BadDefinition => 'B',
        _ => '?',
    }
}

fn is_table(fqn: &&String) -> bool {
    fqn.starts_with("sf.default.salesforce.")
}

fn hashes(sink: &Sink) -> Hashes {
    sink.entities.iter().map(|entity| (entity.fqn.clone(), entity.content_hash())).collect()
}

/// What a control plane has when these are committed on top of a baseline.
fn commit(before: &Baseline, entities: &[Entity]) -> Baseline {
    let mut after = before.0.clone();
    for entity in entities {
        let committed =
            Committed { kind: entity.kind.to_owned(), content_hash: entity.content_hash(), memo: entity.memo.clone() };
        after.insert(entity.fqn.clone(), committed);
    }
    Baseline(after)
}
