use std::collections::BTreeMap;
use std::sync::Arc;

use hybrid_runner_connector::{Extraction, Notice, Reason, SourceError};
use hybrid_runner_openmetadata::workflow::Workflow;
use hybrid_runner_secrets::{MemoryStore, Resolver, SecretValue, Stores};
use sandbox::{FaultPlan, Kind, Org, OrgConfig, PartFault, Sandbox, SandboxHandle, ServerConfig};

use super::*;
use crate::auth::Access;
use crate::quota::Quota;
use crate::{HostPolicy, LocalConfig, LocalHost, SalesforceSource};

mod pure;

const ALL: Wants = Wants { owners: true, records: true, tags: true };
const PLAIN: Wants = Wants { owners: false, records: false, tags: false };

/// What a run over an org came to.
#[derive(Default)]
struct Run {
    known: BTreeMap<usize, Result<Annotations, ObjectFailure>>,
    vocabulary: Vocabulary,
    notices: Vec<Notice>,
    calls: usize,
}

impl Run {
    fn codes(&self) -> Vec<&str> {
        self.notices.iter().map(|notice| notice.code).collect()
    }

    fn failures(&self) -> usize {
        self.known.values().filter(|known| known.is_err()).count()
    }
}

async fn start(objects: usize, fields_per_object: Option<usize>, faults: FaultPlan) -> SandboxHandle {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let org = Org::generate(&OrgConfig { objects, fields_per_object, ..OrgConfig::default() });
    Sandbox::start(org, ServerConfig { faults, ..ServerConfig::default() }).await.unwrap()
}

fn listed(org: &Org) -> Vec<ListedObject> {
    let listed = |name: &str| ListedObject { name: name.to_owned(), ..ListedObject::default() };
    org.objects().map(|object| listed(&object.entry.name)).collect()
}

/// A source of that org, and what it reads its secrets from.
fn source(sandbox: &SandboxHandle) -> (SalesforceSource, Extraction) {
    let own = sandbox.credentials();
    let yaml = format!(
        "source: {{type: salesforce, serviceName: sf, serviceConnection: {{config: {{type: Salesforce, \
         salesforceDomain: localhost, username: {}, password: 'secret:/sf/password', \
         securityToken: 'secret:/sf/token'}}}}, sourceConfig: {{config: {{type: DatabaseMetadata}}}}}}",
        own.username
    );
    let (port, ca) = (sandbox.addr().port(), Some(sandbox.ca_pem().as_bytes().to_vec()));
    let hosts = HostPolicy::new(vec![LocalHost { host: "localhost".to_owned(), port, ca }]).unwrap();
    let local = LocalConfig { hosts, use_system_proxy: false, ..LocalConfig::default() };
    let source = SalesforceSource::plan(&Workflow::from_yaml(&yaml).unwrap(), &local).unwrap();
    let store = MemoryStore::default()
        .with("/sf/password", SecretValue::new(own.password))
        .with("/sf/token", SecretValue::new(own.security_token));
    let extraction = Extraction {
        secrets: Arc::new(Resolver::new(
            Arc::new(Stores::default().with("memory", store)),
            Arc::new(local.policy()),
            None,
        )),
        start: None,
        baseline: Arc::default(),
        full: false,
        progress: Arc::default(),
    };
    (source, extraction)
}

/// Runs over the whole org, adding 25 objects at a time, with one call in flight.
async fn run(sandbox: &SandboxHandle, wants: Wants, version: ApiVersion) -> Result<Run, SourceError> {
    let (source, extraction) = source(sandbox);
    let quota = Arc::new(Quota::new(None, 0));
    let mut access = Access::open(source.login(&extraction, &quota)).await?;

    let org = sandbox.org();
    let objects = listed(&org);
    let mut annotator = Annotator::new(wants, version, &objects, 0);
    let mut run = Run::default();
    let fields: Vec<usize> = org.objects().map(|object| object.fields.len()).collect();
    let mut added = 0;
    loop {
        let flush = added == fields.len();
        while let Some(call) = annotator.next_call(flush) {
            run.calls += 1;
            let session = Arc::clone(access.session());
            match perform(&session, &call).await {
                ToolingOutcome::Session(error) => {
                    access.renew(&session, error).await?;
                    annotator.put_back(call);
                }
                outcome => {
                    access.accepted(&session);
                    run.notices.extend(annotator.settle(call, outcome)?);
                }
            }
            run.known.extend(annotator.take_known());
        }
        if flush {
            break;
        }
        for (index, fields) in fields.iter().enumerate().skip(added).take(25) {
            annotator.add(index, *fields);
            added += 1;
        }
    }
    run.known.extend(annotator.take_known());
    run.notices.extend(annotator.closing());
    run.vocabulary = annotator.vocabulary().expect("a run ends with a vocabulary").clone();
    assert_eq!(run.known.len(), fields.len(), "every object that was added is known in the end");
    assert_eq!(annotator.waiting_rows(), 0);
    Ok(run)
}

/// What the org has, as it should come out.
fn expected(org: &Org, wants: Wants) -> BTreeMap<usize, Result<Annotations, ObjectFailure>> {
    let owners = BTreeMap::from([
        ("0055g0000OwnerAAAA", "Anna Müller"),
        ("0055g0000OwnerBAAA", "Brian O'Neill"),
        ("0055g0000OwnerCAAA", "Chiara \"Kiki\" Rossi"),
        ("0055g0000OwnerDAAA", "Dong-hyun Kim"),
        ("0055g0000OwnerEAAA", "Élodie Martin"),
        ("0055g0000OwnerFAAA", "Integration <billing>"),
        ("00G5g0000GroupAAAA", "Data Governance Board"),
        ("00G5g0000GroupBAAA", "R&D"),
    ]);
    let text = |wanted: bool, text: &Option<std::borrow::Cow<'static, str>>| {
        text.as_ref().filter(|_| wanted).map(ToString::to_string)
    };
    let of_object = |object: &sandbox::Object| {
        let fields = object.fields.iter().filter_map(|field| {
            let groups = text(wants.tags, &field.compliance).unwrap_or_default();
            let annotations = crate::annotations::FieldAnnotations {
                description: field.description.clone(),
                sensitivity: text(wants.tags, &field.classification),
                compliance: groups.split(';').filter(|group| !group.is_empty()).map(ToOwned::to_owned).collect(),
                status: text(wants.tags, &field.business_status),
                owner: text(wants.owners, &field.owner).map(|id| owners[id.as_str()].to_owned()),
            };
            (annotations != Default::default()).then(|| (field.name.to_lowercase(), annotations))
        });
        // Parts of an address have no row of their own.
        let is_part = |name: &str| {
            let part = object.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            let compound = part.and_then(|part| part.compound.as_ref());
            compound.and_then(|compound| object.fields.iter().find(|field| field.name == *compound)).is_some_and(
                |compound| matches!(compound.kind, sandbox::FieldType::Address | sandbox::FieldType::Location),
            )
        };
        let fields = fields.filter(|(name, _)| !is_part(name)).collect();
        Annotations { description: object.description.clone(), records: None, fields }
    };
    org.objects().map(of_object).map(Ok).enumerate().collect()
}

/// Without the record counts, which only the server knows.
fn uncounted(run: &Run) -> BTreeMap<usize, Result<Annotations, ObjectFailure>> {
    let without = |known: &Result<Annotations, ObjectFailure>| {
        known.clone().map(|annotations| Annotations { records: None, ..annotations })
    };
    run.known.iter().map(|(index, known)| (*index, without(known))).collect()
}

fn fault(url: &str, status: u16, code: &str, times: u32) -> FaultPlan {
    let fault = PartFault { url: url.to_owned(), status, code: code.to_owned(), times };
    FaultPlan { parts: vec![fault], ..FaultPlan::default() }
}

const V67: ApiVersion = ApiVersion::new(67);

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_people_wrote_arrives() {
    let org = start(80, None, FaultPlan::default()).await;
    for wants in [ALL, PLAIN, Wants { tags: true, ..PLAIN }] {
        let run = run(&org, wants, V67).await.unwrap();
        assert_eq!(uncounted(&run), expected(&org.org(), wants));
        assert!(run.notices.is_empty(), "{:?}", run.notices);
        let counted = run.known.values().flatten().filter(|annotations| annotations.records.is_some()).count();
        assert_eq!(counted > 20, wants.records, "{counted}");
        let values = &run.vocabulary;
        assert_eq!(values.sensitivity.contains(&"Works Council".to_owned()), wants.tags);
        assert!(!values.sensitivity.contains(&"Top Secret".to_owned()), "not in use any more");
        assert_eq!((values.compliance.len() > 5, values.status.len() > 2), (wants.tags, wants.tags));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_has_no_classification_and_descriptions_come_all_the_same() {
    let org = start(40, None, FaultPlan::default()).await;
    let run = run(&org, Wants { records: false, ..ALL }, ApiVersion::new(44)).await.unwrap();
    assert_eq!(run.known, expected(&org.org(), PLAIN));
    assert_eq!(run.vocabulary, Vocabulary::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_of_109_fields_take_twelve_calls() {
    let org = start(1_000, Some(109), FaultPlan::default()).await;
    let run = run(&org, Wants { tags: true, ..PLAIN }, V67).await.unwrap();
    let rows = org.org().field_count() + 3 * 1_000;
    let most = (rows.div_ceil(2_000) + 1_000_usize.div_ceil(2_000)).div_ceil(5);
    assert!(run.calls <= most, "{} calls; {rows} rows are {most}", run.calls);
    assert_eq!(org.requests().count(Kind::ToolingComposite), u64::try_from(run.calls).unwrap());
    assert_eq!(run.known, expected(&org.org(), Wants { tags: true, ..PLAIN }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_asked_again_and_nothing_is_lost() {
    for plan in [
        fault("FROM+FieldDefinition", 500, "QUERY_TIMEOUT", 4),
        fault("FROM+EntityDefinition", 500, "UNABLE_TO_LOCK_ROW", 2),
        fault("FieldDefinition/describe", 503, "SERVER_UNAVAILABLE", 2),
        fault("FROM+User", 500, "UNKNOWN_EXCEPTION", 1),
        FaultPlan { longest_part_url: Some(900), ..FaultPlan::default() },
        FaultPlan { hidden_fields: 120, ..FaultPlan::default() },
        FaultPlan { unavailable_paths: [("/tooling/composite".to_owned(), 2)].into(), ..FaultPlan::default() },
        FaultPlan { expire_sessions_after: Some(1), ..FaultPlan::default() },
    ] {
        let org = start(60, None, plan.clone()).await;
        let run = run(&org, ALL, V67).await.unwrap();
        // Fields that no describe has are the mapper's to leave out.
        let mut known = uncounted(&run);
        for annotations in known.values_mut().flatten() {
            annotations.fields.retain(|name, _| !name.starts_with("invisible"));
        }
        assert_eq!(known, expected(&org.org(), ALL), "{plan:?}");
        assert!(run.notices.is_empty(), "{plan:?}: {:?}", run.notices);
        let left = org.faults().plan();
        assert!(left.parts.iter().all(|part| part.times == 0), "{left:?}");
        assert!(left.unavailable_paths.values().all(|times| *times == 0), "{left:?}");
        assert_eq!(left.expire_sessions_after, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_view_setup_gets_one_warning_and_no_descriptions() {
    for plan in [
        FaultPlan { no_view_setup: true, ..FaultPlan::default() },
        fault("FROM+FieldDefinition", 400, "INVALID_TYPE", u32::MAX),
        fault("FROM+EntityDefinition", 403, "FUNCTIONALITY_NOT_ENABLED", u32::MAX),
        fault("tooling/", 400, "INSUFFICIENT_ACCESS_OR_READONLY", u32::MAX),
    ] {
        let org = start(60, None, plan).await;
        let run = run(&org, Wants { records: false, ..ALL }, V67).await.unwrap();
        assert_eq!(run.codes(), ["definitions_denied"]);
        assert!(run.notices[0].text.contains("View Setup and Configuration"), "{}", run.notices[0].text);
        assert_eq!((run.calls, run.failures()), (1, 0), "nothing more is asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn record_counts_that_are_refused_are_left_out_with_a_warning() {
    let org = start(40, None, FaultPlan { no_view_setup: true, ..FaultPlan::default() }).await;
    let run = run(&org, Wants { records: true, ..PLAIN }, V67).await.unwrap();
    assert_eq!(run.codes(), ["record_counts_unreadable", "definitions_denied"]);
    assert!(run.known.values().flatten().all(|annotations| *annotations == Annotations::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_that_cannot_be_read_cost_their_names_only() {
    let org = start(60, None, fault("FROM+User", 403, "INSUFFICIENT_ACCESS", u32::MAX)).await;
    let run = run(&org, ALL, V67).await.unwrap();
    assert_eq!(run.codes(), ["owners_unreadable"]);
    assert_eq!(uncounted(&run), expected(&org.org(), Wants { owners: false, ..ALL }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_quota_ends_the_run_as_throttled() {
    let org = start(40, None, fault("FROM+FieldDefinition", 403, "REQUEST_LIMIT_EXCEEDED", 1)).await;
    let error = run(&org, PLAIN, V67).await.err().unwrap();
    assert_eq!(error.reason, Reason::SourceThrottled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_object_is_taken_without_annotations_and_counted() {
    // Whichever query names it is refused.
    let org = start(60, None, fault("Account%27", 400, "EXTERNAL_OBJECT_EXCEPTION", u32::MAX)).await;
    let run = run(&org, PLAIN, V67).await.unwrap();
    let account = org.org().objects().position(|object| object.entry.name == "Account").unwrap();
    let mut expected = expected(&org.org(), PLAIN);
    let mut known = uncounted(&run);
    assert_eq!(known.remove(&account).unwrap().unwrap(), Annotations::default());
    expected.remove(&account);
    // Other names may end in Account.
    let ends = |index: &usize| org.org().objects().nth(*index).unwrap().entry.name.ends_with("Account");
    known.retain(|index, _| !ends(index));
    expected.retain(|index, _| !ends(index));
    assert_eq!(known, expected);
    assert_eq!(run.codes(), ["annotations_refused"]);
}
