//! What follows from the outcome of a call.

use std::collections::HashMap;

use hybrid_runner_connector::{Notice, Reason, Severity, SourceError};

use super::answer::Reply;
use super::call::{Columns, Of, Part, Request, ToolingCall};
use super::{Annotator, Question, ToolingOutcome};
use crate::annotations::Vocabulary;
use crate::composite::ObjectFailure;
use crate::http::{CallError, Class, ErrorCode, InBrackets, classify, reason_for};

/// How often a query is asked that fails in a way that may pass. From the second failure on it is halved each time, so
/// that of some twenty objects one alone is left to fail.
const MAX_TRIES: u32 = 6;

/// How often record counts and the names of owners are asked for: small questions, that nothing makes smaller.
const MAX_TRIES_SMALL: u32 = 4;

/// So many calls in a row without one useful answer end the asking: twice the calls of an org of 1,000 objects, so that
/// what is in flight together does not count as a row.
const MAX_USELESS: u32 = 24;

/// Each truncated answer raises what is expected of the objects to come by a tenth, up to three times their fields.
const RAISE_PERCENT: usize = 110;
const MAX_PERCENT: usize = 300;

/// The shortest list of names that a query is cut to for its length: what any server takes.
const MIN_TEXT: usize = 1_000;

/// A sub-request's error.
struct Refusal {
    status: u16,
    code: Option<ErrorCode>,
}

impl Annotator {
    /// Draws the conclusions from a call. The notices are for the operator, each given once a run.
    ///
    /// # Errors
    /// What ends the run: Salesforce permits no more requests, or does not answer.
    pub(crate) fn settle(&mut self, call: ToolingCall, outcome: ToolingOutcome) -> Result<Vec<Notice>, SourceError> {
        let replies = match outcome {
            ToolingOutcome::Session(_) => {
                self.put_back(call);
                return Ok(Vec::new());
            }
            ToolingOutcome::Failed(error) => return Err(error.into_source_error()),
            ToolingOutcome::Answered(replies) => Ok(replies),
            ToolingOutcome::Smaller(error) => Err((error, true)),
            ToolingOutcome::Denied(error) => Err((error, false)),
        };
        let notice = match (call.request, replies) {
            (Request::Counts { tries }, Ok(mut replies)) => {
                let reply = replies.pop().unwrap_or(Reply::Unreadable("there is no answer"));
                self.settle_counts(tries, reply)?;
                None
            }
            (Request::Counts { tries }, Err((error, true))) => {
                self.ask_counts_again(tries, error.into_source_error())?;
                None
            }
            (Request::Counts { .. }, Err((error, false))) => Some(self.give_counts_up(&error.to_string())),
            (Request::Owners { users, groups, tries }, replies) => {
                self.settle_owners(users.into_iter().chain(groups).collect(), tries, replies)?
            }
            (Request::Tooling(_), Err((error, false))) => self.end_denied(&error.to_string()),
            (Request::Tooling(parts), Err((error, true))) => {
                self.useless += 1;
                if self.useless >= MAX_USELESS {
                    return Err(error.into_source_error());
                }
                return self.shrink_all(parts, &error);
            }
            (Request::Tooling(parts), Ok(replies)) => return self.settle_parts(parts, replies),
        };
        Ok(notice.into_iter().collect())
    }

    /// What the operator should know at the end of a run.
    pub(crate) fn closing(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        if self.without > 0 {
            let text = format!(
                "Salesforce refuses the definitions of {} objects: their tables have no descriptions, classification or \
                 owners",
                self.without
            );
            notices.push(warning("annotations_refused", text));
        }
        if self.cut > 0 {
            let text = format!(
                "{} objects have 2,000 field definitions or more, of which Salesforce gives no more: the fields beyond have \
                 no descriptions",
                self.cut
            );
            notices.push(warning("annotations_cut", text));
        }
        notices
    }

    fn settle_counts(&mut self, tries: u32, reply: Reply) -> Result<(), SourceError> {
        match reply {
            Reply::Counts(counts) => {
                self.ledger.count(counts);
                self.counts = Question::Known(());
                Ok(())
            }
            Reply::Unreadable(problem) => self.ask_counts_again(tries, unanswered(Reason::SourceProtocol, problem)),
            _ => self.ask_counts_again(tries, unanswered(Reason::SourceProtocol, "the answer is no list of counts")),
        }
    }

    /// Only what is refused is left out: counts that come and go with the network would change every table each time.
    fn ask_counts_again(&mut self, tries: u32, error: SourceError) -> Result<(), SourceError> {
        if tries + 1 == MAX_TRIES_SMALL {
            return Err(error);
        }
        self.counts = Question::Unasked { tries: tries + 1 };
        Ok(())
    }

    fn give_counts_up(&mut self, error: &str) -> Notice {
        self.ledger.count(HashMap::new());
        self.counts = Question::Known(());
        let text = format!(
            "the record counts cannot be read and are left out ({error}); the user needs the permission View Setup and \
             Configuration"
        );
        warning("record_counts_unreadable", text)
    }

    /// `replies`, or an error and whether it may pass.
    fn settle_owners(
        &mut self,
        asked: Vec<String>,
        tries: u32,
        replies: Result<Vec<Reply>, (CallError, bool)>,
    ) -> Result<Option<Notice>, SourceError> {
        let (mut named, mut passing, mut refused) = (Vec::new(), None, false);
        match replies {
            Err((error, true)) => passing = Some(error.into_source_error()),
            Err((_, false)) => refused = true,
            Ok(replies) => {
                for reply in replies {
                    match reply {
                        Reply::Owners(more) => named.extend(more),
                        Reply::Unreadable(problem) => {
                            let problem = format!("asked for the owners of fields: {problem}");
                            passing = Some(unanswered(Reason::SourceProtocol, &problem));
                        }
                        Reply::Refused { status, code } if may_pass(status, code.as_ref()) => {
                            let code_in = InBrackets(&code);
                            let problem =
                                format!("asked for the owners of fields, Salesforce answers HTTP {status}{code_in}");
                            passing = Some(unanswered(reason_for(status, code.as_ref()), &problem));
                        }
                        _ => refused = true,
                    }
                }
            }
        }
        if refused {
            return Ok(self.give_owners_up());
        }
        match passing {
            None => {
                self.ledger.owners.learn(asked.into_iter(), named);
                self.ledger.named();
            }
            Some(_) if tries + 1 < MAX_TRIES_SMALL => {
                self.owner_tries = self.owner_tries.max(tries + 1);
                self.ledger.owners.put_back(asked.into_iter());
            }
            // As with counts, only what is refused is left out.
            Some(error) => return Err(error),
        }
        Ok(None)
    }

    fn give_owners_up(&mut self) -> Option<Notice> {
        let first = std::mem::replace(&mut self.wants.owners, false);
        self.ledger.owners.give_up();
        self.ledger.named();
        let text = "the names of the fields' business owners cannot be read and are left out; the user needs read access \
                    to users and groups";
        first.then(|| warning("owners_unreadable", text.into()))
    }

    fn settle_parts(&mut self, parts: Vec<Part>, replies: Vec<Reply>) -> Result<Vec<Notice>, SourceError> {
        let mut notices = Vec::new();
        let refused = |reply: &Reply| matches!(reply, Reply::Refused { .. } | Reply::Unreadable(_));
        self.useless = if replies.iter().all(refused) { self.useless + 1 } else { 0 };
        for (part, reply) in parts.into_iter().zip(replies) {
            if self.ended {
                break;
            }
            notices.extend(self.settle_part(part, reply)?);
        }
        Ok(notices)
    }

    fn settle_part(&mut self, part: Part, reply: Reply) -> Result<Option<Notice>, SourceError> {
        match reply {
            Reply::Vocabulary(vocabulary) => self.vocabulary = Question::Known(vocabulary),
            Reply::Entities { whole: false, .. } | Reply::Fields { whole: false, .. } if part.objects.len() > 1 => {
                if let Of::Fields(_) = part.of {
                    self.percent = (self.percent * RAISE_PERCENT / 100).min(MAX_PERCENT);
                }
                self.halve(part);
            }
            Reply::Entities { mut said, .. } => {
                said.sort_by_key(|(place, _)| *place);
                let mut said = said.into_iter().peekable();
                for (place, object) in part.objects.iter().enumerate() {
                    let mut description = None;
                    while let Some((_, text)) = said.next_if(|(of, _)| *of == place) {
                        description = Some(text);
                    }
                    self.ledger.describe(object.index, description);
                }
            }
            Reply::Fields { said, whole } => {
                // Without paging: Salesforce documents no comparison but `=` for this type, and an object has at most 900
                // custom fields, so that no real one is expected to come here.
                self.cut += u64::from(!whole);
                for (object, said) in part.objects.iter().zip(said) {
                    self.ledger.fields(object.index, said);
                }
            }
            Reply::Refused { status, code } => return self.settle_refused(part, &Refusal { status, code }),
            Reply::Unreadable(problem) => {
                let failure = ObjectFailure::new(Reason::SourceProtocol, format_args!("its definition: {problem}"));
                return self.ask_again(part, &failure).map(|()| None);
            }
            Reply::Counts(_) | Reply::Owners(_) => {}
        }
        Ok(None)
    }

    fn settle_refused(&mut self, part: Part, refusal: &Refusal) -> Result<Option<Notice>, SourceError> {
        let Refusal { status, code } = refusal;
        let error = format!("HTTP {status}{}", InBrackets(code));
        let reason = reason_for(*status, code.as_ref());
        if may_pass(*status, code.as_ref()) {
            let detail = format_args!("reading its definition: Salesforce answers {error}");
            let failure = ObjectFailure::new(reason, detail);
            return self.ask_again(part, &failure).map(|()| None);
        }
        let code = code.as_ref().map_or("", ErrorCode::as_str);
        let many = part.objects.len() > 1;
        Ok(match (part.of, status, code) {
            (_, 403, _) | (_, _, "INVALID_TYPE" | "FUNCTIONALITY_NOT_ENABLED") => self.end_denied(&error),
            _ if code.starts_with("INSUFFICIENT_ACCESS") => self.end_denied(&error),
            (Of::Vocabulary, ..) => {
                self.vocabulary = Question::Known(Vocabulary::default());
                let text = format!(
                    "the values that fields are classified with cannot be read ({error}): fields have no tags of it"
                );
                Some(warning("classification_unreadable", text))
            }
            (Of::Fields(columns), _, "INVALID_FIELD") if columns != Columns::NONE => self.drop_columns(part, &error),
            _ if many && self.useless < MAX_USELESS => {
                if matches!((status, code), (413 | 414 | 431, _) | (_, "MALFORMED_QUERY")) {
                    let text: usize = part.objects.iter().map(super::Asked::text).sum();
                    self.max_text = self.max_text.min((text / 2).max(MIN_TEXT));
                }
                self.halve(part);
                None
            }
            _ if self.useless >= MAX_USELESS => self.end_refused(&error),
            _ => {
                self.without += 1;
                self.say_nothing(&part);
                None
            }
        })
    }

    /// The query fails at a column that not every org has or not every user may read: without them from now on.
    fn drop_columns(&mut self, part: Part, error: &str) -> Option<Notice> {
        let first = self.columns != Columns::NONE;
        self.columns = Columns::NONE;
        self.again.push_back(Part { of: Of::Fields(Columns::NONE), ..part });
        let text = format!(
            "the classification and the owners of fields cannot be read ({error}); descriptions are read without them"
        );
        first.then(|| warning("classification_unreadable", text))
    }

    /// Asks in halves for everything in a call that got no useful answer.
    fn shrink_all(&mut self, parts: Vec<Part>, error: &CallError) -> Result<Vec<Notice>, SourceError> {
        let failure = ObjectFailure::new(error.reason(), format_args!("reading its definition: {error}"));
        for part in parts {
            // At least once more, whatever failed before: it is the call that was too much.
            let tries = part.tries.max(1);
            self.ask_again(Part { tries, ..part }, &failure)?;
        }
        Ok(Vec::new())
    }

    /// Asks again for what may pass, or gives its objects up.
    fn ask_again(&mut self, part: Part, failure: &ObjectFailure) -> Result<(), SourceError> {
        let part = Part { tries: part.tries + 1, ..part };
        if part.tries < MAX_TRIES && self.useless < MAX_USELESS {
            match part.of {
                Of::Vocabulary => self.vocabulary = Question::Unasked { tries: part.tries },
                Of::Entities | Of::Fields(_) if part.tries > 1 && part.objects.len() > 1 => self.halve(part),
                Of::Entities | Of::Fields(_) => self.again.push_back(part),
            }
            return Ok(());
        }
        // Without the values of the classification every table would lose its tags.
        if part.of == Of::Vocabulary || self.useless >= MAX_USELESS {
            return Err(unanswered(failure.reason, &failure.detail));
        }
        for object in part.objects {
            match part.of {
                Of::Fields(_) => self.ledger.fail_fields(object.index, failure.clone()),
                Of::Entities | Of::Vocabulary => self.ledger.fail_object(object.index, failure.clone()),
            }
        }
        Ok(())
    }

    fn halve(&mut self, mut part: Part) {
        // Half of the rows, not of the objects: a large one may stand among small ones.
        let rows: usize = part.objects.iter().map(|object| object.rows).sum();
        let mut before = 0;
        let middle = part.objects.iter().position(|object| {
            before += object.rows;
            before * 2 >= rows
        });
        let middle = (middle.unwrap_or(0) + 1).clamp(1, part.objects.len().saturating_sub(1).max(1));
        let objects = part.objects.split_off(middle.min(part.objects.len()));
        let second = Part { objects, ..part };
        self.again.push_back(part);
        if !second.objects.is_empty() {
            self.again.push_back(second);
        }
    }

    /// The objects of a query are taken without what it would have said.
    fn say_nothing(&mut self, part: &Part) {
        for object in &part.objects {
            match part.of {
                Of::Fields(_) => self.ledger.fields(object.index, super::answer::FieldsOf::default()),
                Of::Entities | Of::Vocabulary => self.ledger.describe(object.index, None),
            }
        }
    }

    fn end_denied(&mut self, error: &str) -> Option<Notice> {
        let text = format!(
            "the user may not read EntityDefinition and FieldDefinition ({error}): {}; give the user the permission View \
             Setup and Configuration",
            self.missing()
        );
        self.end("definitions_denied", text)
    }

    fn end_refused(&mut self, error: &str) -> Option<Notice> {
        let text = format!("Salesforce refuses every query for definitions ({error}): {}", self.missing());
        self.end("definitions_refused", text)
    }

    fn missing(&self) -> String {
        let mut missing = vec!["descriptions of objects and fields"];
        missing.extend(self.wants.tags.then_some("classification"));
        missing.extend(self.wants.owners.then_some("owners of fields"));
        format!("tables come without {}", missing.join(", "))
    }

    /// Asks for no more definitions. Calls in flight may still come.
    fn end(&mut self, code: &'static str, text: String) -> Option<Notice> {
        let first = !std::mem::replace(&mut self.ended, true);
        self.pool.clear();
        self.again.clear();
        // They are among those that the warning is about.
        self.without = 0;
        if self.vocabulary().is_none() {
            self.vocabulary = Question::Known(Vocabulary::default());
        }
        self.ledger.end();
        first.then(|| warning(code, text))
    }
}

/// Whether a sub-request's error may pass. One that says to ask less is a 403 as well.
fn may_pass(status: u16, code: Option<&ErrorCode>) -> bool {
    classify(status, code) != Class::Final || reason_for(status, code) == Reason::SourceThrottled
}

/// The error of what was asked in vain, time and again.
fn unanswered(reason: Reason, problem: &str) -> SourceError {
    SourceError::new(reason, format!("{problem}; run again, and check status.salesforce.com"))
}

fn warning(code: &'static str, text: String) -> Notice {
    Notice { severity: Severity::Warning, code, text }
}
