//! W3C trace context, version 00, without its state.

use std::fmt;
use std::str::FromStr;

/// Whose child a span is: `00-<trace id>-<span id>-<flags>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) sampled: bool,
}

/// A text is no trace context. Whoever gets one goes on without it: so the standard has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no W3C trace context of version 00")]
pub struct NoTraceContext;

impl TraceContext {
    /// The name of its header.
    pub const HEADER: &str = "traceparent";

    /// The trace of something whose id is a UUID: the trace's id is that one's, its first span's id the second half, which no
    /// UUID has empty.
    #[must_use]
    pub fn of_id(id: [u8; 16], sampled: bool) -> Self {
        let mut span_id = [0; 8];
        span_id.iter_mut().zip(id.iter().skip(8)).for_each(|(byte, of_id)| *byte = *of_id);
        Self { trace_id: id, span_id, sampled }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(self.sampled))
    }
}

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    fn from_str(text: &str) -> Result<Self, NoTraceContext> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            parts.next().filter(|part| part.len() == digits && part.bytes().all(is_hex)).ok_or(NoTraceContext)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let number = |hex: &str| u128::from_str_radix(hex, 16).map_err(|_not_hex| NoTraceContext);
        let (trace_id, span_id) = (number(trace_id)?, number(span_id)?);
        let span_id = u64::try_from(span_id).map_err(|_too_large| NoTraceContext)?;
        if version != "00" || trace_id == 0 || span_id == 0 || parts.next().is_some() {
            return Err(NoTraceContext);
        }
        let sampled = number(flags)? & 1 == 1;
        Ok(Self { trace_id: trace_id.to_be_bytes(), span_id: span_id.to_be_bytes(), sampled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_as_it_is_written() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000001-0000000000000001-00",
        ] {
            assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_the_standard_calls_invalid_is_no_context() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(NoTraceContext), "{text}");
        }
    }

    #[test]
    fn the_trace_of_a_run_has_the_runs_id() {
        let id = 0x0192_f0a1_b2c3_7d4e_8f50_6172_8394_a5b6_u128.to_be_bytes();
        let context = TraceContext::of_id(id, true).to_string();
        assert_eq!(context, "00-0192f0a1b2c37d4e8f5061728394a5b6-8f5061728394a5b6-01");
        assert!(context.parse::<TraceContext>().is_ok());
    }
}
