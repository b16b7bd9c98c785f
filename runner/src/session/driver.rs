//! Performs a session's machine on a real stream.

use std::sync::Arc;
use std::time::Duration;

use hybrid_runner_proto::v1;
use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::logs::Shipping;
use super::machine::{ANSWER, Effect, Input, Machine, Received, Say, SessionError};
use super::{Command, Link, Session, Verdict, connect, refusal_of, wire};

/// The contract's limit for a message of this stream; a larger one ends it.
pub(super) const MAX_MESSAGE: usize = 256 * 1024;
/// Messages that wait for the network. Few: a heartbeat must not stand behind a queue.
const OUTGOING: usize = 16;
/// Lines of logs leave when more than this is free: they are not what a queue is for.
const ROOM: usize = OUTGOING / 2;
/// How often the machine looks at the time: often enough that a lease counted on a clock that moved on in suspend is
/// seen to be over within a second.
const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// How a session ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) error: SessionError,
    /// Whether it had begun.
    pub(super) welcomed: bool,
    /// How long the control plane wants to be left alone.
    pub(super) pause: Duration,
    /// Where the next one goes on at once.
    pub(super) renewed: Option<Link>,
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        let pause = match &error {
            SessionError::Refused(refusal) => refusal.pause.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        Self { error, welcomed: false, pause, renewed: None }
    }
}

/// Drives one session to its end.
pub(super) async fn drive(session: &mut Session, link: Link) -> End {
    let held = session.held.borrow().clone();
    let (machine, effects) = Machine::start(session.clock.now(), held);
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let shipping = Shipping::new(session.logs.clone());
    let mut driver = Driver {
        session,
        link,
        machine,
        shipping,
        outgoing,
        tick: LONGEST_TICK,
        takes_preflight: false,
        knows_drain: false,
        renewed: None,
    };
    let error = match driver.run(effects, messages).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let welcomed = driver.machine.terms().is_some();
    let pause = driver.machine.pause(driver.session.clock.now());
    let end = End::from(error);
    End { welcomed, pause: pause.max(end.pause), renewed: driver.renewed, ..end }
}

struct Driver<'a> {
    session: &'a mut Session,
    link: Link,
    machine: Machine,
    shipping: Shipping,
    outgoing: mpsc::Sender<v1::SessionRequest>,
    tick: Duration,
    /// Whether the control plane takes unreadable references with the answer to a definition.
    takes_preflight: bool,
    /// Whether the control plane knows what `Draining` is.
    knows_drain: bool,
    /// The connection that takes the place of this one.
    renewed: Option<Link>,
}

impl Driver<'_> {
    async fn run(
        &mut self,
        effects: Vec<Effect>,
        messages: mpsc::Receiver<v1::SessionRequest>,
    ) -> Result<std::convert::Infallible, SessionError> {
        // `Hello` first: a control plane may answer the call only when it has seen it.
        self.perform(effects).await?;
        let mut stream = self.open(messages).await?;
        let mut ticker = every(self.tick);
        let (connector, link) = (Arc::clone(&self.session.connector), self.link.clone());
        let mut renewal = std::pin::pin!(connector.renewed(&link));
        loop {
            let input = tokio::select! {
                message = stream.message() => self.heard(message)?,
                command = self.session.commands.recv() => match command.ok_or(SessionError::AgentGone)? {
                    Command::Flush => {
                        self.flush().await?;
                        continue;
                    }
                    command => Input::Command(command),
                },
                _ = ticker.tick() => Input::Tick(self.session.held.borrow().clone()),
                link = &mut renewal => {
                    self.renewed = Some(link);
                    return Err(SessionError::Renewed);
                }
                () = self.shipping.due(), if self.shipping.is_wanted && self.outgoing.capacity() > ROOM => {
                    self.ship().await?;
                    continue;
                }
            };
            self.step(input).await?;
            if let Some(terms) = self.machine.terms() {
                let tick = (terms.heartbeat_interval / 4).clamp(SHORTEST_TICK, LONGEST_TICK);
                if tick != self.tick {
                    self.tick = tick;
                    ticker = every(tick);
                }
            }
        }
    }

    async fn step(&mut self, input: Input) -> Result<(), SessionError> {
        let effects = self.machine.step(self.session.clock.now(), input)?;
        self.perform(effects).await
    }

    /// Sends all lines of logs, and a heartbeat whose answer confirms them.
    async fn flush(&mut self) -> Result<(), SessionError> {
        while self.shipping.is_wanted && self.shipping.has_more() {
            self.ship().await?;
        }
        self.step(Input::Command(Command::Flush)).await?;
        let held = self.session.held.borrow().clone();
        self.step(Input::Tick(held)).await
    }

    async fn open(
        &self,
        messages: mpsc::Receiver<v1::SessionRequest>,
    ) -> Result<Streaming<v1::SessionResponse>, SessionError> {
        let mut request = tonic::Request::new(ReceiverStream::new(messages));
        self.link.authorize(request.metadata_mut());
        let mut client = RunnerServiceClient::new(self.link.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let response = timeout(ANSWER, client.session(request)).await.map_err(|_elapsed| SessionError::NoWelcome)?;
        Ok(response.map_err(|status| refused(&status))?.into_inner())
    }

    fn heard(&mut self, message: Result<Option<v1::SessionResponse>, tonic::Status>) -> Result<Input, SessionError> {
        match message {
            Ok(Some(message)) => {
                self.session.pulse.exchanged();
                self.link.zstd |= wire::lists(&message, wire::ZSTD);
                self.link.memos |= wire::lists(&message, wire::MEMOS);
                self.takes_preflight |= wire::lists(&message, wire::SECRET_PREFLIGHT);
                self.knows_drain |= wire::lists(&message, wire::DRAIN);
                self.shipping.is_wanted |= wire::lists(&message, wire::LOGS);
                if let Some(id) = wire::answered(&message) {
                    self.shipping.answered(id);
                }
                Ok(Input::Received(wire::received(message)))
            }
            Ok(None) => Err(SessionError::Closed),
            // What our own limit refused looks like a status, but is the other side's breach.
            Err(status) if status.code() == tonic::Code::OutOfRange => {
                Ok(Input::Received(Received::Malformed("a message of more than 256 KiB".to_owned())))
            }
            Err(status) => Err(refused(&status)),
        }
    }

    async fn perform(&mut self, effects: Vec<Effect>) -> Result<(), SessionError> {
        for effect in effects {
            match effect {
                Effect::Say(say) => self.say(say).await?,
                Effect::Tell(event) => {
                    if matches!(event, super::Event::Welcomed { .. }) {
                        self.session.pulse.opened();
                        self.session.link.send_replace(Some(self.link.clone()));
                    }
                    self.session.events.send(event).await.map_err(|_closed| SessionError::AgentGone)?;
                }
            }
        }
        Ok(())
    }

    /// Sends lines of logs, as many messages as there are runs.
    async fn ship(&mut self) -> Result<(), SessionError> {
        for chunk in self.shipping.take() {
            self.send(wire::log_lines(chunk)).await?;
        }
        Ok(())
    }

    async fn say(&mut self, say: Say) -> Result<(), SessionError> {
        match &say {
            Say::Heartbeat { id, .. } => self.shipping.beat(*id),
            Say::Release(release) => {
                while let Some(chunk) = self.shipping.take_of(&release.token.run_id) {
                    self.send(wire::log_lines(chunk)).await?;
                }
            }
            _ => {}
        }
        let message = match say {
            Say::Hello { held } => Some(wire::hello(self.session.instance_id, &self.session.sources, held)),
            Say::Answer { pipeline, version, verdict: Verdict::Accepted { .. } } if !self.takes_preflight => {
                let verdict = Verdict::Accepted { unreadable: Vec::new() };
                wire::said(Say::Answer { pipeline, version, verdict }, &self.session.redactor)
            }
            Say::Draining { .. } if !self.knows_drain => None,
            other => wire::said(other, &self.session.redactor),
        };
        match message {
            Some(message) => self.send(message).await,
            None => Ok(()),
        }
    }

    async fn send(&self, message: v1::SessionRequest) -> Result<(), SessionError> {
        match timeout(ANSWER, self.outgoing.send(message)).await {
            Ok(Ok(())) => Ok(()),
            // The stream is gone; its status comes with the next message.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(SessionError::Stuck),
        }
    }
}

pub(super) fn refused(status: &tonic::Status) -> SessionError {
    let refusal = refusal_of(status);
    match connect::late_advice(status) {
        Some(advice) => SessionError::Tls { advice, refusal },
        None => SessionError::Refused(refusal),
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
