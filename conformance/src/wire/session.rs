//! A session. It renews by itself what it is told to hold, so that a check need not think of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use hybrid_runner_proto::v1::{self, Reason, SessionRequest, SessionResponse, WriteToken};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{AHEAD, Answers, Heard, QUIET, Said, answers, authorized, called, refused, within};
use crate::check::{Checked, Stop, failed};
use crate::connect::Link;

/// Messages that a check has not read yet. Definitions are the many; what comes beyond them waits.
const INBOX: usize = 1_024;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    requests: mpsc::Sender<SessionRequest>,
    inbox: mpsc::Receiver<Result<Heard, Status>>,
    beats: Beats,
    tasks: JoinSet<()>,
}

/// The heartbeats of a session.
#[derive(Debug, Clone, Default)]
struct Beats(Arc<Mutex<BeatState>>);

#[derive(Debug, Default)]
struct BeatState {
    last: u64,
    held: Vec<WriteToken>,
    waiting: BTreeMap<u64, oneshot::Sender<Vec<String>>>,
}

impl Session {
    /// Begins one with this message, or with one without content.
    pub(crate) async fn start(link: &Link, first: Option<Said>) -> Checked<Self> {
        let (requests, receiver) = mpsc::channel(AHEAD);
        let mut client = RunnerServiceClient::new(link.channel.clone());
        // The first message is under way before the answer is waited for: a server may answer nothing before it.
        drop(requests.send(SessionRequest { message: first }).await);
        let stream = authorized(link, ReceiverStream::new(receiver));
        let answers = answers(within("the answer to a session", client.session(stream)).await?);
        let (sender, inbox) = mpsc::channel(INBOX);
        let beats = Beats::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(read(answers, sender, beats.clone()));
        Ok(Self { requests, inbox, beats, tasks })
    }

    /// One that was welcomed. It sends heartbeats at the interval that it was told.
    pub(crate) async fn hello(link: &Link, hello: v1::Hello) -> Checked<(Self, v1::Welcome)> {
        let mut session = Self::start(link, Some(Said::Hello(hello))).await?;
        match session.hear().await? {
            Heard::Welcome(welcome) => {
                session.keep_alive(interval(&welcome));
                Ok((session, welcome))
            }
            other => failed(format!("Hello was answered by {}, not by Welcome", called(&other))),
        }
    }

    fn keep_alive(&mut self, interval: Duration) {
        let (requests, beats) = (self.requests.clone(), self.beats.clone());
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            loop {
                ticks.tick().await;
                let beat = beats.next(None, None);
                if requests.send(SessionRequest { message: Some(Said::Heartbeat(beat)) }).await.is_err() {
                    return;
                }
            }
        });
    }

    /// From now on heartbeats renew these leases, and no others.
    pub(crate) fn renew(&self, held: &[WriteToken]) {
        self.beats.with(|state| state.held = held.to_vec());
    }

    /// Sends no heartbeats any more, and reads on.
    pub(crate) async fn fall_silent(self) -> Quiet {
        let Self { requests, inbox, mut tasks, .. } = self;
        tasks.shutdown().await;
        Quiet { _requests: requests, _inbox: inbox }
    }

    /// Says something. That the stream ended is found when it is read.
    pub(crate) async fn say(&self, message: Said) {
        drop(self.requests.send(SessionRequest { message: Some(message) }).await);
    }

    /// Sends a message without content.
    pub(crate) async fn say_nothing(&self) {
        drop(self.requests.send(SessionRequest { message: None }).await);
    }

    /// The next message but for answers to heartbeats.
    pub(crate) async fn hear(&mut self) -> Checked<Heard> {
        match within("a message on the session", self.inbox.recv()).await? {
            Some(Ok(heard)) => Ok(heard),
            Some(Err(status)) => failed(format!("the session ended: {}", status.message())),
            None => failed("the session ended"),
        }
    }

    /// The next message that is wanted; what comes before it does not matter.
    pub(crate) async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Heard) -> Option<T>) -> Checked<T> {
        let read = async {
            loop {
                if let Some(found) = wanted(self.hear().await?) {
                    return Ok(found);
                }
            }
        };
        within(what, read).await?
    }

    /// What is wanted does not come in a while.
    pub(crate) async fn never<T>(&mut self, wanted: impl FnMut(Heard) -> Option<T>) -> Checked<Option<T>> {
        match tokio::time::timeout(QUIET, self.until("a message", wanted)).await {
            Err(_elapsed) => Ok(None),
            Ok(found) => found.map(Some),
        }
    }

    /// The next grant.
    pub(crate) async fn grant(&mut self) -> Checked<v1::Grant> {
        self.until("a grant", granted).await
    }

    /// Asks for so many runs.
    pub(crate) async fn ask(&self, slots: u32) {
        self.say(Said::LeaseRequest(v1::LeaseRequest { slots })).await;
    }

    /// A heartbeat for these leases; the runs that were renewed.
    pub(crate) async fn beat(&self, tokens: &[WriteToken]) -> Checked<Vec<String>> {
        let (sender, receiver) = oneshot::channel();
        let beat = self.beats.next(Some(tokens), Some(sender));
        self.say(Said::Heartbeat(beat)).await;
        let renewed = within("HeartbeatAck with the id of the heartbeat", receiver).await?;
        renewed.map_err(|_ended| Stop::Failed("the session ended in place of HeartbeatAck".to_owned()))
    }

    /// Gives a lease back and waits for the answer.
    pub(crate) async fn release(&mut self, token: &WriteToken, outcome: v1::Outcome, reason: Reason) -> Checked {
        self.beats.with(|state| state.held.retain(|held| held != token));
        let detail = "by the conformance kit".to_owned();
        let token = token.clone();
        let run_id = token.run_id.clone();
        let release = v1::Release { token: Some(token), outcome: outcome.into(), reason: reason.into(), detail };
        self.say(Said::Release(release)).await;
        let released = |heard| matches!(heard, Heard::Released(released) if released.run_id == run_id).then_some(());
        self.until("Released", released).await
    }

    /// The session ends for this reason; what is said before does not matter.
    pub(crate) async fn refused(&mut self, reason: Reason) -> Checked<Status> {
        let end = async {
            loop {
                match self.inbox.recv().await {
                    Some(Ok(_)) => {}
                    Some(Err(status)) => return Some(status),
                    None => return None,
                }
            }
        };
        match within("the end of the session", end).await? {
            None => failed("the session ended well in place of a status"),
            Some(status) => refused(&status, reason).map(|()| status),
        }
    }
}

/// A session that is open and says nothing.
#[derive(Debug)]
pub(crate) struct Quiet {
    _requests: mpsc::Sender<SessionRequest>,
    _inbox: mpsc::Receiver<Result<Heard, Status>>,
}

/// A grant, or nothing.
pub(crate) fn granted(heard: Heard) -> Option<v1::Grant> {
    match heard {
        Heard::Grant(grant) => Some(grant),
        _ => None,
    }
}

/// The first words of the kit, as an agent of its own each time.
pub(crate) fn hello() -> v1::Hello {
    v1::Hello {
        protocol_min: 1,
        protocol_max: 1,
        agent_version: concat!("hybrid-runner-conformance/", env!("CARGO_PKG_VERSION")).to_owned(),
        instance_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
        capabilities: Vec::new(),
        sources: vec!["salesforce".to_owned()],
        held: Vec::new(),
        diagnostic: false,
    }
}

fn interval(welcome: &v1::Welcome) -> Duration {
    let told = welcome.heartbeat_interval.and_then(|interval| Duration::try_from(interval).ok());
    // A control plane that tells none is found by a check; the kit goes on.
    told.filter(|interval| !interval.is_zero()).unwrap_or(Duration::from_secs(1))
}

impl Beats {
    fn with<T>(&self, change: impl FnOnce(&mut BeatState) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next heartbeat, for these leases or for those held.
    fn next(&self, tokens: Option<&[WriteToken]>, waits: Option<oneshot::Sender<Vec<String>>>) -> v1::Heartbeat {
        self.with(|state| {
            state.last += 1;
            if let Some(waits) = waits {
                state.waiting.insert(state.last, waits);
            }
            let renewal = |token: &WriteToken| v1::LeaseRenewal { token: Some(token.clone()), progress: None };
            let renewals = tokens.unwrap_or(&state.held).iter().map(renewal).collect();
            v1::Heartbeat { id: state.last, renewals }
        })
    }

    fn answered(&self, ack: v1::HeartbeatAck) {
        if let Some(waits) = self.with(|state| state.waiting.remove(&ack.id)) {
            // Whoever asked may have given up.
            drop(waits.send(ack.renewed_run_ids));
        }
    }
}

/// Reads to the end; answers to heartbeats go to who asked, the rest into the inbox.
async fn read(mut answers: Answers<SessionResponse>, inbox: mpsc::Sender<Result<Heard, Status>>, beats: Beats) {
    while let Some(answer) = answers.next().await {
        let heard = answer.and_then(|response| {
            response.message.ok_or_else(|| Status::internal("the control plane sent a message without content"))
        });
        match heard {
            Ok(Heard::HeartbeatAck(ack)) => beats.answered(ack),
            other => {
                if inbox.send(other).await.is_err() {
                    return;
                }
            }
        }
    }
}
