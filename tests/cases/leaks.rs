//! Leaks that are provoked from outside: whoever answers the agent echoes secrets, and they leave nowhere.
//!
//! The program itself runs here, at TRACE, through a tap on its connection to the control plane. Looked through are that
//! connection both ways, the logs of both sides, every file of both, what commands print, and the memory of the
//! agent a second after a run.

#[path = "../../secrets/tests/aws/server.rs"]
#[expect(
    dead_code,
    clippy::print_stderr,
    reason = "the store's own cases use the rest of it, and say when they are not run"
)]
pub(crate) mod moto;
mod tapped;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use control_plane::store::RunState;
use hybrid_runner_secrets::{Redactor, SecretValue};
use hybrid_runner_tests::extraction::{Extraction, OAUTH, soap_at_localhost};
use hybrid_runner_tests::logs::Logs;
use hybrid_runner_tests::memory;
use hybrid_runner_tests::processes::{Output, Running, command, output, program};
use hybrid_runner_tests::sweep::Planted;
use hybrid_runner_tests::world::{TOKEN, pipeline_yaml, write};
use moto::Moto;
use sandbox::{Disturbance, FaultPlan, Kind, Target, Wrong};
use tapped::{
    AWS_SECRET_KEY, AWS_TOKEN, CONSUMER_SECRET, PASSWORD, SECURITY_TOKEN, Tapped, jwt_pipeline, oauth_pipeline, org,
    planted,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[test]
fn the_redactor_replaces_what_the_sweep_finds() {
    let planted = Planted::new([("password", super::secrets::PASSWORD)]);
    let redactor = Redactor::default();
    let _held = redactor.watch(SecretValue::new(super::secrets::PASSWORD.to_owned()));
    let whole = super::secrets::leaks().into_iter().filter(|(form, _)| *form != "a piece of it");
    for (form, leak) in whole {
        let text = redactor.replace_text(format!("it said {leak} and more"));
        assert_eq!(planted.found_in(text.as_bytes()), BTreeSet::new(), "{form}: {text}");
        assert!(text.contains(Redactor::REPLACEMENT), "{form}: {text}");
    }
}

#[test]
fn a_value_in_memory_is_found() {
    let case = "a_value_in_memory_is_found";
    let shown = Planted::new([("held", PASSWORD)]);
    // Not as the constant stands in the program, which is no memory that it writes to.
    let held = std::hint::black_box(PASSWORD.to_uppercase().to_lowercase().into_bytes());
    let Some(memory) = memory::writable(case, std::process::id()) else { return };
    assert!(shown.found_in_memory(&memory).contains("held as the value"));
    drop(held);
}

#[tokio::test]
async fn a_second_after_a_run_the_agent_has_no_value_of_it_in_memory_and_none_has_left() {
    let case = "a_second_after_a_run_the_agent_has_no_value_of_it_in_memory_and_none_has_left";
    for pipeline in [pipeline_yaml(""), oauth_pipeline(), jwt_pipeline()] {
        let mut tapped = Tapped::start(pipeline, Logs::capture_all()).await;
        leaves_nothing(case, &mut tapped, &["bearer token "]).await;
        let log = tapped.sweep().await;
        assert!(!log.contains(Redactor::REPLACEMENT), "nothing had to be replaced");
    }
}

/// Nothing but these, which the agent needs for as long as it lives.
async fn leaves_nothing(case: &str, tapped: &mut Tapped, but: &[&str]) {
    let run = tapped.run().await;
    assert_eq!((run.state, tapped.sessions.len()), (RunState::Committed, 1), "{run:?}");
    tapped.agent.until("the commit", |log| log.contains("run committed").then_some(())).await;
    // The promise is about a second; nothing tells that a connection to Salesforce is closed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    if let Some(memory) = memory::writable(case, tapped.agent.id()) {
        // The bearer token is in the headers of a connection that goes on, which also shows that the search finds.
        let found: BTreeSet<_> = planted(&tapped.sessions).found_in_memory(&memory);
        let beside: Vec<_> = found.iter().filter(|found| !but.iter().any(|kept| found.starts_with(kept))).collect();
        assert!(beside.is_empty(), "{beside:?}");
        assert!(found.contains("bearer token as the value"), "{found:?}");
    }
}

const AWS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7CANARY0"),
    ("AWS_SECRET_ACCESS_KEY", AWS_SECRET_KEY),
    ("AWS_SESSION_TOKEN", AWS_TOKEN),
    ("AWS_REGION", "eu-central-1"),
];

#[tokio::test]
async fn the_keys_of_aws_and_what_they_open_leave_the_agent_nowhere() {
    let case = "the_keys_of_aws_and_what_they_open_leave_the_agent_nowhere";
    let Some(moto) = Moto::start(case) else { return };
    moto.put("/salesforce/password", PASSWORD);
    moto.put("/salesforce/token", SECURITY_TOKEN);
    let store = format!("cloud: {{aws: {{endpoint: '{}'}}}}", moto.endpoint);
    let mut tapped = Tapped::with(pipeline_yaml(""), Logs::capture_all(), &store, &AWS).await;
    // Those of AWS are in its environment, for the whole of its life.
    leaves_nothing(case, &mut tapped, &["bearer token ", "AWS "]).await;
    tapped.sweep().await;
}

/// An answer to a SOAP login.
fn soap(body: &str) -> Wrong {
    Wrong::Html(format!(
        "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns=\"urn:partner.soap.sforce.com\"><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    ))
}

#[tokio::test]
async fn a_login_that_is_answered_with_its_own_secret_shows_it_nowhere() {
    let fault = soap(&format!(
        "<soapenv:Fault><faultcode>sf:{PASSWORD}</faultcode><faultstring>{PASSWORD}</faultstring></soapenv:Fault>"
    ));
    let refused = Wrong::Refused {
        status: 400,
        code: Some(CONSUMER_SECRET.to_owned()),
        message: format!("no such secret: {CONSUMER_SECRET}"),
        retry_after: None,
    };
    for (pipeline, kind, wrong) in
        [(pipeline_yaml(""), Kind::SoapLogin, fault), (oauth_pipeline(), Kind::Token, refused)]
    {
        let mut tapped = Tapped::start(pipeline, Logs::capture_all().expecting("run failed")).await;
        let fault = Disturbance::always(Target::Call(kind, String::new()), wrong);
        tapped.world.org.faults().change(|plan| plan.disturbances.push(fault));
        let run = tapped.run().await;
        assert_eq!(run.state, RunState::Failed, "{run:?}");
        let detail = format!("{run:?}");
        assert!(detail.contains(Redactor::REPLACEMENT), "the secret was on its way: {detail}");
        let log = tapped.sweep().await;
        let told = |line: &&str| line.contains("run failed") && line.contains(Redactor::REPLACEMENT);
        assert!(log.lines().any(|line| told(&line)), "{log}");
        assert!(log.contains("values of secrets were found in what was about to leave"), "{log}");
    }
}

#[tokio::test]
async fn an_org_that_is_called_like_the_password_is_not_named() {
    let name = format!("{PASSWORD} Inc.");
    let granted = soap(&format!(
        "<loginResponse><result><passwordExpired>false</passwordExpired><serverUrl>https://localhost/services/Soap/u/64.0\
         </serverUrl><sessionId>00D5g000004XmPl!AQEA.notone</sessionId><userInfo><organizationName>{name}\
         </organizationName></userInfo></result></loginResponse>"
    ));
    let mut tapped = Tapped::start(pipeline_yaml(""), Logs::capture_all().expecting("run failed")).await;
    let port = tapped.world.org.addr().port();
    let Wrong::Html(page) = granted else { unreachable!("it is a page") };
    let granted = Wrong::Html(page.replace("https://localhost/", &format!("https://localhost:{port}/")));
    let fault = Disturbance::always(Target::Call(Kind::SoapLogin, String::new()), granted);
    tapped.world.org.faults().change(|plan| plan.disturbances.push(fault));
    let run = tapped.run().await;
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("AUTH_FAILED")), "{run:?}");
    let events = tapped.world.plane.store().events(run.run_id).await.unwrap();
    let told = format!("{events:?}");
    assert!(told.contains(&format!("{} Inc.", Redactor::REPLACEMENT)), "{told}");
    tapped.sweep().await;
}

/// The name of the first object, which has a description in the Tooling API's answers.
fn first(org: &sandbox::SandboxHandle) -> String {
    org.org().objects().next().unwrap().entry.name.clone()
}

#[tokio::test]
async fn a_description_with_a_password_or_a_session_fails_the_run_and_nothing_of_it_is_kept() {
    let logs = Logs::capture_all().expecting("run failed");
    let mut tapped = Tapped::start(pipeline_yaml(""), logs).await;
    let name = first(&tapped.world.org);
    let describe = |tapped: &Tapped, text: &str| {
        tapped.world.org.change_org(|org| org.describe_object(&name, Some(text)).unwrap());
    };
    describe(&tapped, &format!("asked for by {PASSWORD}"));
    let run = tapped.run().await;
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SECRET_IN_OUTPUT")), "{run:?}");
    assert!(format!("{run:?}").contains(&name), "the object is named: {run:?}");
    assert_eq!(tapped.world.entities().await, [], "nothing is visible");
    describe(&tapped, "nothing of that kind");
    let run = tapped.run().await;
    assert_eq!(run.state, RunState::Committed, "{run:?}");
    let before = tapped.world.entities().await;
    // Of a run that is over.
    let session = tapped.sessions.last().unwrap().clone();
    describe(&tapped, &format!("{{\"sid\":\"{session}\"}}"));
    let run_id = tapped.world.plane.trigger("crm", true).await.unwrap();
    let run = hybrid_runner_tests::within("the run's end", tapped.world.plane.run_ended(run_id)).await.unwrap();
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Failed, Some("SECRET_IN_OUTPUT")), "{run:?}");
    assert_eq!(tapped.world.entities().await, before);
    tapped.sweep().await;
}

fn traced(mut command: tokio::process::Command) -> tokio::process::Command {
    command.env("HYBRID_RUNNER_LOG__LEVEL", "trace").env("RUST_BACKTRACE", "full");
    command
}

/// Sweeps what a command printed and wrote.
fn sweep(planted: &Planted, dir: &Path, output: &Output) {
    planted.absent_from("stdout", &output.stdout);
    planted.absent_from("stderr", &output.stderr);
    assert!(planted.absent_below(dir, &["secrets"]) >= 2);
}

#[tokio::test]
async fn an_extraction_with_a_secret_in_a_description_writes_nothing_in_whatever_encoding_it_stands() {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("user:{CONSUMER_SECRET}"));
    let hex: String = CONSUMER_SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [CONSUMER_SECRET, encoded.as_str(), hex.as_str()] {
        let one = Extraction::with(org(), FaultPlan::default()).await;
        one.workflow(&format!("{OAUTH}salesforceDomain: localhost\n"), "");
        let name = first(&one.org);
        one.org.change_org(|org| org.describe_object(&name, Some(text)).unwrap());
        let output = output(traced(one.command())).await;
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(output.stderr.contains("error: SECRET_IN_OUTPUT: the table "), "{output:?}");
        assert_eq!(output.json()["state"], "failed");
        one.nothing_was_written();
        sweep(&planted(&one.org.sessions()), one.dir.path(), &output);
    }
}

#[tokio::test]
async fn a_command_whose_login_is_answered_with_its_own_secret_prints_it_not() {
    let wrong = soap(&format!("<soapenv:Fault><faultcode>sf:{PASSWORD}</faultcode></soapenv:Fault>"));
    let disturbances = vec![Disturbance::always(Target::Call(Kind::SoapLogin, String::new()), wrong)];
    let one = Extraction::with(org(), FaultPlan { disturbances, ..FaultPlan::default() }).await;
    one.workflow(&soap_at_localhost(), "");
    let mut test = command(&program("hybrid-runner"));
    test.current_dir(one.dir.path()).args([
        "test-connection",
        "-c",
        "workflow.yaml",
        "--secrets",
        "file:secrets",
        "--config",
        "config.yaml",
        "--json",
    ]);
    for command in [one.command(), test] {
        let output = output(traced(command)).await;
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(output.stderr.contains(Redactor::REPLACEMENT), "{output:?}");
        sweep(&planted(&[]), one.dir.path(), &output);
    }
}

/// A store that answers each request with the request, and with its token.
async fn echo(token: &'static str) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0
            {
            }
            let body = serde_json::json!({"errors": [String::from_utf8_lossy(&request)]}).to_string();
            let head = format!("HTTP/1.1 500 {token}\r\nConnection: close\r\nX-Echo: {token}\r\n");
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            // Whoever hangs up has read enough.
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    (address, server)
}

const VAULT_TOKEN: &str = "hvs.CAESIJq7Zk2Lx9Vb4Hs8Rd5Yc1tKn3";

#[tokio::test]
async fn a_store_that_echoes_its_token_does_not_have_it_shown() {
    let one = Extraction::with(org(), FaultPlan::default()).await;
    one.workflow(&soap_at_localhost(), "");
    for (store, token, address_of) in [("vault", VAULT_TOKEN, "VAULT_ADDR"), ("aws", AWS_TOKEN, "AWS_ENDPOINT_URL")] {
        let (address, _server) = echo(token).await;
        let mut extract = traced(one.bare());
        extract.args(["--secrets", store, "--out", "out.jsonl", "--config", "config.yaml"]);
        extract.env(address_of, address).env("VAULT_TOKEN", VAULT_TOKEN).envs(AWS);
        let output = output(extract).await;
        assert_eq!(output.code(), 1, "{output:?}");
        assert!(output.stderr.contains("SECRET_STORE_UNREACHABLE"), "{output:?}");
        assert_eq!(one.org.requests().total, 0);
        let planted = Planted::new([("the store's token", token), ("AWS secret key", AWS_SECRET_KEY)]);
        sweep(&planted, one.dir.path(), &output);
    }
}

/// Nobody's user and group.
const NOBODY: u32 = 65534;

#[tokio::test]
async fn a_running_agent_leaves_no_core_and_no_process_of_its_user_may_look_into_it() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let dir = TempDir::new().unwrap();
    write(dir.path(), "agent.token", TOKEN);
    write(dir.path(), "config.yaml", "control_plane: {endpoint: 'https://127.0.0.1:9', token_file: agent.token}\n");
    // The agent may read its own files; where it is somebody else, that is for all to read.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = command(&program("hybrid-runner"));
    run.args(["run", "--config", "config.yaml"]).current_dir(dir.path());
    let me = std::fs::metadata("/proc/self").unwrap().uid();
    let user = if me == 0 {
        run.uid(NOBODY).gid(NOBODY);
        NOBODY
    } else {
        me
    };
    let mut agent = Running::start(run, &dir.path().join("log"));
    agent.until("it starts", |log| log.contains("agent starting").then_some(())).await;
    let proc = |name: &str| format!("/proc/{}/{name}", agent.id());
    let status = std::fs::read_to_string(proc("status")).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert_eq!(uid.split_whitespace().next().unwrap(), user.to_string());
    // What a dumpable process has below /proc belongs to its user.
    assert_eq!(std::fs::metadata(proc("mem")).unwrap().uid(), 0, "it is dumpable");
    let limits = std::fs::read_to_string(proc("limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[..2], ["0", "0"]);
    let children = std::fs::read_to_string(proc(&format!("task/{}/children", agent.id()))).unwrap_or_default();
    assert_eq!(children.trim(), "", "it starts no program");
    assert!(agent.terminate().await.success());
}
