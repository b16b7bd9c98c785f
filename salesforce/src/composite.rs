//! Describes, up to 25 a call.
//!
//! `/composite` answers 200 whatever its parts answer, and counts as one request (research: salesforce_api.md §1.2). An
//! answer is read part by part while it is inflated, without copying, and each part goes straight through [`Mapper`]: what
//! leaves a batch are drafts of tables, not answers. A part may carry the stamp of an earlier answer: 304 says that
//! nothing has changed since (§1.3; the documented `If-Modified-Since`, not the `ETag` that comes along).

mod pieces;
mod size;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hybrid_runner_connector::Reason;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::auth::Session;
use crate::config::ApiVersion;
use crate::describe::Describe;
use crate::describe::lenient::{IfObject, text};
use crate::http::{Call, CallError, Class, ErrorCode, InBrackets, Retry, classify, reason_for};
use crate::json::{self, Member, Order, Stuck, first_in, set};
use crate::listing::ListedObject;
use crate::map::{Draft, Mapper};

use pieces::Pieces;
pub(crate) use pieces::Unreadable;
pub(crate) use size::BatchSize;

/// The most parts of a call (Salesforce's limit).
pub(crate) const MAX_PARTS: usize = 25;

/// The largest describe, in bytes (CONTRACTS §4): twenty times the largest recorded one. Above it that object fails.
const MAX_DESCRIBE: usize = 8 * 1024 * 1024;

/// How often an object is asked for whose describe cannot be read, and one that Salesforce fails to make.
const TRIES_UNREADABLE: u32 = 2;
const TRIES_PASSING: u32 = 4;

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer for each object, in order, and how long Salesforce took.
    Objects { outcomes: Vec<ObjectOutcome>, took: Duration },
    /// The session is not accepted any more; nothing was read.
    Session(CallError),
    /// No answer, or not one that can be used; a smaller batch may do better.
    Smaller(CallError),
    /// The run cannot go on.
    Failed(CallError),
}

/// An object to ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) object: &'a ListedObject,
    /// `Last-Modified` of the answer that is known: only a newer one is asked for.
    pub(crate) stamp: Option<&'a str>,
}

/// What became of one object.
#[derive(Debug)]
pub(crate) enum ObjectOutcome {
    /// Its table as the describe has it, and the describe's `Last-Modified`.
    Drafted { draft: Box<Draft>, stamp: Option<String> },
    /// Its describe is the one of the stamp.
    NotModified,
    /// It cannot be read.
    Failed(ObjectFailure),
    /// It may be read when asked for alone, this often at most.
    Again { failure: ObjectFailure, tries: u32 },
}

/// Why an object cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectFailure {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

impl ObjectFailure {
    pub(crate) fn new(reason: Reason, detail: impl fmt::Display) -> Self {
        Self { reason, detail: detail.to_string() }
    }

    /// The failure of the only object of a call that failed.
    pub(crate) fn of_call(error: &CallError) -> Self {
        match error {
            CallError::TooLarge { .. } => Self::new(Reason::DescribeTooLarge, "its describe is larger than 32 MiB"),
            _ => Self::new(error.reason(), error),
        }
    }
}

/// Reads and maps some objects in one call.
pub(crate) async fn describe(session: &Session, version: ApiVersion, mapper: &Mapper, asks: &[Ask<'_>]) -> Outcome {
    if !asks.iter().any(|ask| is_api_name(&ask.object.name)) {
        return Outcome::Objects { outcomes: asks.iter().map(|_| unaskable()).collect(), took: Duration::ZERO };
    }
    let path = format!("/services/data/v{version}/composite");
    let body = match request(version, asks) {
        Ok(body) => body,
        Err(_unwritable) => return Outcome::Failed(malformed(session, "cannot be asked for")),
    };
    let call = Call::post(&path, "application/json", body);
    let (read, took) = match exchange(session, call, || Reader::new(mapper, asks), Reader::read).await {
        Ok(read) => read,
        Err(Unreadable::Malformed(problem)) => return Outcome::Smaller(malformed(session, problem)),
        Err(Unreadable::Call(error)) if error.class() == Class::Session => return Outcome::Session(error),
        Err(Unreadable::Call(error)) if error.is_size() => return Outcome::Smaller(error),
        Err(Unreadable::Call(error)) => return Outcome::Failed(error),
    };
    if let Some((status, code)) = read.end {
        let error = CallError::Status { host: session.host().clone(), status, code, retry_after: None };
        let expired = error.class() == Class::Session;
        return if expired { Outcome::Session(error) } else { Outcome::Failed(error) };
    }
    Outcome::Objects { outcomes: read.outcomes(), took }
}

/// Sends a composite call and reads its answer part by part, each with `take` (see [`Pieces::next`]) into what `begin`
/// makes; returns that, and how long Salesforce took.
pub(crate) async fn exchange<T>(
    session: &Session,
    call: Call<'_>,
    begin: impl Fn() -> T,
    take: impl Fn(&mut T, &str) -> serde_json::Result<usize>,
) -> Result<(T, Duration), Unreadable> {
    let mut attempts = session.attempts(call, &Retry::READ_SPLITTABLE)?;
    loop {
        let received = attempts.answer().await?;
        let took = received.took;
        let mut pieces = Pieces::new(received.stream().await?);
        let mut read = begin();
        let broken = loop {
            match pieces.next(|text| take(&mut read, text)) {
                // Some milliseconds of work each: let the thread look after its sockets in between.
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => return Ok((read, took)),
                Err(Unreadable::Call(broken)) => break broken,
                Err(malformed) => return Err(malformed),
            }
        };
        drop(pieces);
        attempts.failed(broken).await?;
    }
}

fn malformed(session: &Session, problem: &'static str) -> CallError {
    CallError::Protocol { host: session.host().clone(), problem }
}

/// The body of a call.
fn request<'a>(version: ApiVersion, asks: &[Ask<'a>]) -> serde_json::Result<Bytes> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Composite<'s> {
        all_or_none: bool,
        composite_request: Vec<Subrequest<'s>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Subrequest<'s> {
        method: &'static str,
        url: String,
        reference_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        http_headers: Option<Condition<'s>>,
    }
    #[derive(Serialize)]
    struct Condition<'s> {
        #[serde(rename = "If-Modified-Since")]
        if_modified_since: &'s str,
    }
    let subrequest = |(index, ask): (usize, &Ask<'a>)| Subrequest {
        method: "GET",
        url: format!("/services/data/v{version}/sobjects/{}/describe", ask.object.name),
        reference_id: reference(index),
        http_headers: ask.stamp.map(|if_modified_since| Condition { if_modified_since }),
    };
    let named = asks.iter().enumerate().filter(|(_, ask)| is_api_name(&ask.object.name));
    let composite_request = named.map(subrequest).collect();
    serde_json::to_vec(&Composite { all_or_none: false, composite_request }).map(Bytes::from)
}

/// The name of a part: letters and digits only.
fn reference(index: usize) -> String {
    format!("o{index}")
}

/// Whether a listed name is one that can stand in a URL: letters, digits and `_`, which is all that Salesforce permits.
pub(crate) fn is_api_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The outcome of an object with another name. It is not asked for.
fn unaskable() -> ObjectOutcome {
    ObjectOutcome::Failed(ObjectFailure::new(
        Reason::SourceProtocol,
        "its listed name is no API name (letters, digits and `_`), so it is not asked for",
    ))
}

/// A part of an answer, its body read as a `B`, or not read yet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a, B: Deserialize<'de>"))]
pub(crate) struct Part<'a, B = &'a RawValue> {
    #[serde(default = "Option::default")]
    pub(crate) body: Option<B>,
    #[serde(borrow, default)]
    http_headers: Option<IfObject<PartHeaders<'a>>>,
    pub(crate) http_status_code: u16,
    #[serde(borrow)]
    pub(crate) reference_id: Cow<'a, str>,
}

/// A body of which an error's code can be read.
pub(crate) trait MayBeError {
    fn code(&self) -> Option<ErrorCode>;
}

impl MayBeError for &RawValue {
    fn code(&self) -> Option<ErrorCode> {
        ErrorCode::of_body(self.get().as_bytes())
    }
}

/// A body that a reader reads.
pub(crate) trait Body<'a>: Sized {
    /// Reads one; `None` for null.
    fn read(reader: &mut json::Reader<'a>) -> Result<Option<Self>, Stuck>;
}

/// The body of a describe's part.
pub(crate) enum DescribeBody<'a> {
    Describe(Box<Describe<'a>>),
    /// Larger than [`MAX_DESCRIBE`]: not read.
    TooLarge(usize),
    /// A list, as errors are, with the first one's code.
    Errors(Option<ErrorCode>),
    /// Neither an object nor a list.
    Other,
}

impl MayBeError for DescribeBody<'_> {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Errors(code) => code.clone(),
            Self::Describe(_) | Self::TooLarge(_) | Self::Other => None,
        }
    }
}

impl<'a> Body<'a> for DescribeBody<'a> {
    fn read(reader: &mut json::Reader<'a>) -> Result<Option<Self>, Stuck> {
        Ok(Some(match reader.peek()? {
            b'n' => return reader.skip().map(|()| None),
            b'{' => Describe::read(reader)?.map_or(Self::Other, |describe| Self::Describe(Box::new(describe))),
            b'[' => reader.value().map(|errors: &RawValue| Self::Errors(errors.code()))?,
            _ => reader.skip().map(|()| Self::Other)?,
        }))
    }
}

/// A part as it is read: what has to be there may be missing.
struct Partial<'a, B> {
    body: Option<B>,
    http_headers: Option<IfObject<PartHeaders<'a>>>,
    http_status_code: Option<u16>,
    reference_id: Option<Cow<'a, str>>,
}

impl<'a, B: Body<'a>> Partial<'a, B> {
    fn member(key: &str) -> Member<'a, Self> {
        match key {
            "body" => |part, reader| set(&mut part.body, B::read(reader)),
            "httpHeaders" => |part, reader| set(&mut part.http_headers, reader.value()),
            "httpStatusCode" => |part, reader| set(&mut part.http_status_code, reader.value()),
            "referenceId" => |part, reader| set(&mut part.reference_id, reader.text()),
            _ => |_, reader| reader.skip(),
        }
    }
}

impl<'a, B: Body<'a>> Part<'a, B> {
    pub(crate) fn read(reader: &mut json::Reader<'a>) -> Result<Self, Stuck> {
        let mut part = Partial { body: None, http_headers: None, http_status_code: None, reference_id: None };
        reader.object(&mut part, &mut Order::new(Partial::member))?;
        let Partial { body, http_headers, http_status_code, reference_id } = part;
        match (http_status_code, reference_id) {
            (Some(http_status_code), Some(reference_id)) => {
                Ok(Self { body, http_headers, http_status_code, reference_id })
            }
            _ => Err(Stuck),
        }
    }
}

/// The headers of a part. Those that are absent or of another kind are not said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PartHeaders<'a> {
    #[serde(rename = "Last-Modified", alias = "last-modified", borrow, deserialize_with = "text")]
    last_modified: Option<Cow<'a, str>>,
}

impl<'a> Part<'a> {
    /// The same part, its body read.
    pub(crate) fn with_body<B>(self, read: impl FnOnce(&'a RawValue) -> Option<B>) -> Part<'a, B> {
        let Self { body, http_headers, http_status_code, reference_id } = self;
        Part { body: body.and_then(read), http_headers, http_status_code, reference_id }
    }
}

impl<B: MayBeError> Part<'_, B> {
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.body.as_ref().and_then(B::code)
    }

    /// The code of a part that says that no other part can be read either.
    pub(crate) fn ends_the_run(&self) -> Option<Option<ErrorCode>> {
        if matches!(self.http_status_code, 200 | 304) {
            return None;
        }
        let code = self.code();
        let used_up = code.as_ref().is_some_and(|code| code.as_str() == ErrorCode::LIMIT);
        (self.http_status_code == 401 || used_up).then_some(code)
    }
}

/// What the parts of an answer say about the objects that were asked for.
struct Reader<'a> {
    mapper: &'a Mapper,
    asks: &'a [Ask<'a>],
    /// By the number of the object: what the first part about it says.
    said: Vec<Option<ObjectOutcome>>,
    /// The first part that says that no other can be read either: its status and code.
    end: Option<(u16, Option<ErrorCode>)>,
}

impl<'a> Reader<'a> {
    fn new(mapper: &'a Mapper, asks: &'a [Ask<'a>]) -> Self {
        Self { mapper, asks, said: asks.iter().map(|_| None).collect(), end: None }
    }

    /// Reads the part that a text begins with.
    fn read(&mut self, text: &str) -> serde_json::Result<usize> {
        // To look for the body's end first would be a second look at every byte: only one that may be too large is weighed.
        let (part, length) = if text.len() <= MAX_DESCRIBE {
            json::read_first_in(text, Part::read)?
        } else {
            let (part, length) = first_in::<Part<'_>>(text)?;
            (weighed(part), length)
        };
        if let Some(index) = numbered(&part.reference_id, reference)
            && let Some((ask, said @ None)) = self.asks.get(index).zip(self.said.get_mut(index))
        {
            if let Some(code) = part.ends_the_run() {
                self.end.get_or_insert((part.http_status_code, code));
            }
            *said = Some(read(&part, *ask, self.mapper));
        }
        Ok(length)
    }

    fn outcomes(self) -> Vec<ObjectOutcome> {
        let outcome = |(ask, said): (&Ask<'_>, Option<ObjectOutcome>)| match said {
            _ if !is_api_name(&ask.object.name) => unaskable(),
            Some(outcome) => outcome,
            None => unreadable(&"the answer has no part for it"),
        };
        self.asks.iter().zip(self.said).map(outcome).collect()
    }
}

/// The number of a part by its name; `None` for another name.
pub(crate) fn numbered(reference_id: &str, reference: fn(usize) -> String) -> Option<usize> {
    let number = reference_id.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).parse().ok()?;
    (reference(number) == reference_id).then_some(number)
}

/// A part whose body is read unless it is too large.
fn weighed(part: Part<'_>) -> Part<'_, DescribeBody<'_>> {
    part.with_body(|body| match body.get() {
        text if text.len() > MAX_DESCRIBE => Some(DescribeBody::TooLarge(text.len())),
        text => json::read_all(text, DescribeBody::read).unwrap_or(Some(DescribeBody::Other)),
    })
}

/// It may be read when it is asked for again.
fn unreadable(problem: &dyn fmt::Display) -> ObjectOutcome {
    ObjectOutcome::Again { failure: ObjectFailure::new(Reason::SourceProtocol, problem), tries: TRIES_UNREADABLE }
}

/// What a part says about an object.
fn read(part: &Part<'_, DescribeBody<'_>>, ask: Ask<'_>, mapper: &Mapper) -> ObjectOutcome {
    match part.http_status_code {
        200 => {}
        304 if ask.stamp.is_some() => return ObjectOutcome::NotModified,
        304 => return unreadable(&"the answer says that it is not modified, which was not asked"),
        _ => return refused(part),
    }
    let describe = match &part.body {
        None => return unreadable(&"its describe is empty"),
        Some(DescribeBody::TooLarge(size)) => {
            let detail = format!("its describe is {size} bytes; the largest accepted is {MAX_DESCRIBE}");
            return ObjectOutcome::Failed(ObjectFailure::new(Reason::DescribeTooLarge, detail));
        }
        Some(DescribeBody::Errors(_) | DescribeBody::Other) => {
            return unreadable(&"its describe cannot be read: the answer is not an object");
        }
        Some(DescribeBody::Describe(describe)) => describe,
    };
    if let Err(error) = describe.check() {
        return unreadable(&format_args!("its describe cannot be read: {error}"));
    }
    match mapper.draft(ask.object, describe) {
        Ok(draft) => {
            let stamp = part.http_headers.as_ref().and_then(|headers| headers.0.as_ref()?.last_modified.as_deref());
            ObjectOutcome::Drafted { draft: Box::new(draft), stamp: stamp.map(str::to_owned) }
        }
        Err(error) => ObjectOutcome::Failed(ObjectFailure::new(error.reason(), error)),
    }
}

/// The failure that a part with an error status is.
fn refused(part: &Part<'_, DescribeBody<'_>>) -> ObjectOutcome {
    let (status, code) = (part.http_status_code, part.code());
    let advice = match status {
        403 => ": the user is not permitted to read it",
        404 => ": it is gone since the listing, or not visible to the user",
        _ => "",
    };
    let failure = ObjectFailure {
        reason: reason_for(status, code.as_ref()),
        detail: format!("Salesforce answers HTTP {status}{}{advice}", InBrackets(&code)),
    };
    match classify(status, code.as_ref()) {
        Class::Passing | Class::PassingAfter(_) => ObjectOutcome::Again { failure, tries: TRIES_PASSING },
        Class::Session | Class::Final => ObjectOutcome::Failed(failure),
    }
}

#[cfg(test)]
pub(crate) fn read_all<T>(
    answer: &[u8],
    mut read: T,
    take: impl Fn(&mut T, &str) -> serde_json::Result<usize>,
) -> Result<T, Unreadable> {
    let mut pieces = Pieces::new(crate::http::Stream::of(answer));
    while pieces.next(|text| take(&mut read, text))? {}
    Ok(read)
}

#[cfg(test)]
mod tests;
