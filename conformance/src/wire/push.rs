//! A push.

use futures_util::StreamExt as _;
use hybrid_runner_proto::v1::runner_service_client::RunnerServiceClient;
use hybrid_runner_proto::v1::{self, PushRequest, PushResponse, Reason, Record, WriteToken};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codec::CompressionEncoding;

use super::{AHEAD, Answer, Answers, MAX_MESSAGE, Pushed, answers, authorized, called, refused, within};
use crate::check::{Checked, ensure, failed};
use crate::connect::Link;
use crate::records;

/// One push.
pub(crate) struct Push {
    requests: mpsc::Sender<PushRequest>,
    answers: Answers<PushResponse>,
}

/// What a push begins with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) opened: v1::Opened,
    /// The pages of the baseline, as they came.
    pub(crate) pages: Vec<v1::Baseline>,
}

impl Opening {
    /// All entries of the baseline.
    pub(crate) fn baseline(&self) -> impl Iterator<Item = &v1::BaselineEntry> {
        self.pages.iter().flat_map(|page| &page.entries)
    }
}

impl Push {
    /// Begins one with this message, or with one without content.
    pub(crate) async fn start(link: &Link, first: Option<Pushed>, zstd: bool) -> Checked<Self> {
        let (requests, receiver) = mpsc::channel(AHEAD);
        let mut client = RunnerServiceClient::new(link.channel.clone())
            .max_encoding_message_size(MAX_MESSAGE)
            .max_decoding_message_size(MAX_MESSAGE);
        if zstd {
            client = client.send_compressed(CompressionEncoding::Zstd).accept_compressed(CompressionEncoding::Zstd);
        }
        drop(requests.send(PushRequest { message: first }).await);
        let stream = authorized(link, ReceiverStream::new(receiver));
        let answers = answers(within("the answer to a push", client.push(stream)).await?);
        Ok(Self { requests, answers })
    }

    /// One that said `Open` and has read nothing.
    pub(crate) async fn knock(link: &Link, token: &WriteToken) -> Checked<Self> {
        Self::start(link, Some(open(token)), false).await
    }

    /// One that was opened; its baseline was read.
    pub(crate) async fn open(link: &Link, token: &WriteToken) -> Checked<(Self, Opening)> {
        Self::opened(Self::knock(link, token).await?).await
    }

    /// One whose messages are compressed.
    pub(crate) async fn open_zstd(link: &Link, token: &WriteToken) -> Checked<(Self, Opening)> {
        Self::opened(Self::start(link, Some(open(token)), true).await?).await
    }

    async fn opened(mut self) -> Checked<(Self, Opening)> {
        let opened = match self.hear().await? {
            Answer::Opened(opened) => opened,
            other => return failed(format!("Open was answered by {}, not by Opened", called(&other))),
        };
        let mut pages: Vec<v1::Baseline> = Vec::new();
        while opened.baseline_follows && pages.last().is_none_or(|page| !page.last) {
            match self.hear().await? {
                Answer::Baseline(page) => pages.push(page),
                other => return failed(format!("expected a page of Baseline, got {}", called(&other))),
            }
        }
        Ok((self, Opening { opened, pages }))
    }

    /// Says something. That the stream ended is found when it is read.
    pub(crate) async fn say(&self, message: Pushed) {
        drop(self.requests.send(PushRequest { message: Some(message) }).await);
    }

    /// The next message.
    pub(crate) async fn hear(&mut self) -> Checked<Answer> {
        match self.next().await? {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(status)) => failed(format!("the push ended: {}", status.message())),
            None => failed("the push ended"),
        }
    }

    /// Sends records and waits until the control plane says that they are durable.
    pub(crate) async fn durable(&mut self, token: &WriteToken, records: &[Record]) -> Checked {
        self.say(batch(token, records)).await;
        self.acknowledged(records.last().map_or(0, |record| record.seq + 1)).await
    }

    /// The next message acknowledges everything below this seq, and nothing above.
    pub(crate) async fn acknowledged(&mut self, next_seq: u64) -> Checked {
        match self.hear().await? {
            Answer::Ack(ack) => ensure(ack.next_seq == next_seq, || {
                format!("Ack.next_seq is {}; sent was everything below {next_seq}", ack.next_seq)
            }),
            other => failed(format!("expected Ack, got {}", called(&other))),
        }
    }

    /// Ends the run and waits for the commit.
    pub(crate) async fn commit(&mut self, eof: v1::Eof) -> Checked<v1::Committed> {
        self.say(Pushed::Eof(eof)).await;
        match self.hear().await? {
            Answer::Committed(committed) => Ok(committed),
            other => failed(format!("expected Committed, got {}", called(&other))),
        }
    }

    /// The next thing is the stream's end, for this reason: nothing was acknowledged.
    pub(crate) async fn refused(&mut self, reason: Reason) -> Checked<Status> {
        match self.next().await? {
            Some(Err(status)) => refused(&status, reason).map(|()| status),
            Some(Ok(answer)) => failed(format!("it was not refused but answered by {}", called(&answer))),
            None => failed("the push ended well in place of a status"),
        }
    }

    /// The next message is `Fenced`, the last one of the stream.
    pub(crate) async fn fenced(&mut self) -> Checked<v1::Fenced> {
        let fenced = match self.hear().await? {
            Answer::Fenced(fenced) => fenced,
            other => return failed(format!("it was not fenced but answered by {}", called(&other))),
        };
        match self.next().await? {
            None => Ok(fenced),
            Some(_) => failed("something came after Fenced, which is the last message of a stream"),
        }
    }

    /// The next message, if there is one in a while.
    pub(crate) async fn next(&mut self) -> Checked<Option<Result<Answer, Status>>> {
        let next = within("a message on the push", self.answers.next()).await?;
        let content = |response: PushResponse| {
            response.message.ok_or_else(|| Status::internal("the control plane sent a message without content"))
        };
        Ok(next.map(|answer| answer.and_then(content)))
    }
}

fn open(token: &WriteToken) -> Pushed {
    Pushed::Open(v1::Open { token: Some(token.clone()) })
}

/// A batch of these records.
pub(crate) fn batch(token: &WriteToken, records: &[Record]) -> Pushed {
    Pushed::Batch(v1::Batch { token: Some(token.clone()), records: records.to_vec(), ..Default::default() })
}

/// The end of a complete run that began with this digest and has these records after it.
pub(crate) fn eof(token: &WriteToken, opened: &v1::Opened, records: &[Record]) -> v1::Eof {
    v1::Eof {
        token: Some(token.clone()),
        count: opened.next_seq + u64::try_from(records.len()).unwrap_or(u64::MAX),
        digest: records::digest(&opened.digest, records).into(),
        complete: true,
        ..Default::default()
    }
}
