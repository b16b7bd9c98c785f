//! Faults that are aimed at calls or sub-requests of one kind.

use std::time::Duration;

use super::take;
use crate::log::Kind;

/// A fault that meets calls, or sub-requests of composites, of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// Whom it meets.
    pub target: Target,
    /// So many of them are let through first.
    pub skip: u32,
    /// So many of them it meets then (`u32::MAX` for all).
    pub times: u32,
    /// What happens to them.
    pub wrong: Wrong,
    /// How many it has met.
    pub met: u32,
}

/// Whom a disturbance meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Calls of a kind, of which the request's body contains a text.
    Call(Kind, String),
    /// Sub-requests of which the URL, as it is sent, contains a text.
    Part(String),
}

/// What happens to whom a disturbance meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is answered with an error.
    Refused {
        /// The status.
        status: u16,
        /// The `errorCode`; without one the body is a page.
        code: Option<String>,
        /// The `message`.
        message: String,
        /// Seconds in `Retry-After`, of a call only.
        retry_after: Option<u32>,
    },
    /// It is answered with this page and status 200; a sub-request with a JSON string that holds the page.
    Html(String),
    /// It is answered with this JSON and status 200.
    Json(String),
    /// It is answered with status 200 and no body; a sub-request with `null`.
    Empty,
    /// It is answered 304.
    NotModified,
    /// The connection is reset under the call.
    Reset,
    /// The answer to the call ends in the middle.
    Truncated,
    /// The answer to the call comes so much later.
    Late(Duration),
    /// Every session that exists is dead from this call on.
    SessionsExpired,
    /// The answer to the composite has its parts in the opposite order.
    Reversed,
    /// The answer to the composite lacks the sub-request's part.
    Missing,
}

impl Disturbance {
    /// One that meets the next call or sub-request only.
    #[must_use]
    pub const fn once(target: Target, wrong: Wrong) -> Self {
        Self { target, skip: 0, times: 1, wrong, met: 0 }
    }

    /// One that meets all of them.
    #[must_use]
    pub const fn always(target: Target, wrong: Wrong) -> Self {
        Self { target, skip: 0, times: u32::MAX, wrong, met: 0 }
    }

    /// The same after so many were let through.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// What happens to one of those that it is for.
    pub(super) fn meet(&mut self) -> Option<Wrong> {
        if take(&mut self.skip) || !take(&mut self.times) {
            return None;
        }
        self.met = self.met.saturating_add(1);
        Some(self.wrong.clone())
    }
}

impl Target {
    pub(super) fn is_call(&self, kind: Kind, body: &[u8]) -> bool {
        let Self::Call(of, text) = self else { return false };
        *of == kind && (text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    pub(super) fn is_part(&self, url: &str) -> bool {
        matches!(self, Self::Part(text) if url.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbance_lets_some_through_meets_as_many_as_it_should_and_counts_them() {
        let target = Target::Call(Kind::Composite, "/describe".to_owned());
        let mut once = Disturbance::once(target.clone(), Wrong::Reset).after(2);
        let met: Vec<_> = (0..5).map(|_| once.meet().is_some()).collect();
        assert_eq!((met, once.met), (vec![false, false, true, false, false], 1));
        let mut always = Disturbance::always(target, Wrong::Reset).after(1);
        assert_eq!((0..5).filter(|_| always.meet().is_some()).count(), 4);
        assert_eq!(always.met, 4);
    }

    #[test]
    fn a_target_is_a_kind_and_a_text_or_a_part_and_never_the_other() {
        let (describes, any) =
            (Target::Call(Kind::Composite, "/describe".to_owned()), Target::Call(Kind::Limits, String::new()));
        assert!(describes.is_call(Kind::Composite, b"GET /sobjects/A/describe"));
        assert!(!describes.is_call(Kind::Composite, b"GET /query"));
        assert!(!describes.is_call(Kind::ToolingComposite, b"/describe"));
        assert!(!describes.is_part("/sobjects/A/describe"));
        assert!(any.is_call(Kind::Limits, b""));
        let part = Target::Part("/A/describe".to_owned());
        assert!(part.is_part("/sobjects/A/describe") && !part.is_part("/sobjects/BA/describes"));
        assert!(!part.is_call(Kind::Composite, b"/A/describe"));
    }
}
