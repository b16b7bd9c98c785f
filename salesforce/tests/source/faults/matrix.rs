//! The rows and columns of the matrix.

use std::time::Duration;

use sandbox::{Kind, Target, Wrong};

/// Stands in every body that a fault makes. Nothing of a body is ever shown.
pub(super) const PLANTED: &str = "planted-in-a-body";

/// The deadline of each call where one is answered behind it: many times what the others take on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(4);

/// The place in the listing of the object that parts are aimed at.
pub(super) const AIMED_AT: usize = 3;

/// Whom faults meet: a call of a run, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    target: Aim,
    /// So many are let through first.
    pub(super) skip: u32,
    /// Logs in by the token endpoint.
    pub(super) by_token: bool,
    pub(super) objects: usize,
    /// Definitions that an object has beyond its describe: so many that they take a second call.
    pub(super) hidden_fields: usize,
}

#[derive(Debug, Clone, Copy)]
enum Aim {
    Call(Kind, &'static str),
    Part(&'static str),
    Describe,
}

impl Column {
    const fn new(name: &'static str, target: Aim) -> Self {
        Self { name, target, skip: 0, by_token: false, objects: 9, hidden_fields: 0 }
    }

    pub(super) fn named(name: &str) -> Result<Self, String> {
        COLUMNS.into_iter().find(|column| column.name == name).ok_or_else(|| format!("no column {name}"))
    }

    /// `object`: the name of the object that parts are aimed at.
    pub(super) fn target(&self, object: &str) -> Target {
        match self.target {
            Aim::Call(kind, body) => Target::Call(kind, body.to_owned()),
            Aim::Part(url) => Target::Part(url.to_owned()),
            Aim::Describe => Target::Part(format!("/sobjects/{object}/describe")),
        }
    }
}

const COLUMNS: [Column; 16] = [
    Column::new("soap", Aim::Call(Kind::SoapLogin, "")),
    Column { by_token: true, ..Column::new("token", Aim::Call(Kind::Token, "")) },
    Column::new("versions", Aim::Call(Kind::Versions, "")),
    Column::new("list", Aim::Call(Kind::Global, "")),
    Column::new("limits", Aim::Call(Kind::Limits, "")),
    Column::new("describes", Aim::Call(Kind::Composite, "/describe")),
    Column { skip: 1, objects: 27, ..Column::new("describes2", Aim::Call(Kind::Composite, "/describe")) },
    Column::new("one", Aim::Describe),
    Column::new("tooling", Aim::Call(Kind::ToolingComposite, "")),
    Column { skip: 1, hidden_fields: 230, ..Column::new("tooling2", Aim::Call(Kind::ToolingComposite, "")) },
    Column::new("entities", Aim::Part("FROM+EntityDefinition")),
    Column::new("fields", Aim::Part("FROM+FieldDefinition")),
    Column::new("values", Aim::Part("/tooling/sobjects/FieldDefinition/describe")),
    Column::new("counts", Aim::Call(Kind::RecordCount, "")),
    Column::new("owners", Aim::Call(Kind::Composite, "FROM+User")),
    Column::new("users", Aim::Part("FROM+User")),
];

/// What happens, by the name of a row.
pub(super) fn wrong(name: &str) -> Result<Wrong, String> {
    let refused = |status, code: &str, message: &str| Wrong::Refused {
        status,
        code: Some(code.to_owned()),
        message: format!("{message} {PLANTED}"),
        retry_after: None,
    };
    let page = format!("<!DOCTYPE html><html><body><h1>Be right back</h1>{PLANTED}</body></html>");
    Ok(match name {
        "503" => refused(503, "SERVER_UNAVAILABLE", "Try again later."),
        "503_after_1s" => Wrong::Refused {
            status: 503,
            code: Some("SERVER_UNAVAILABLE".to_owned()),
            message: PLANTED.to_owned(),
            retry_after: Some(1),
        },
        "429" => refused(429, "TOO_MANY_REQUESTS", "Slow down."),
        "500_unknown" => refused(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."),
        "500_page" => Wrong::Refused { status: 500, code: None, message: String::new(), retry_after: None },
        "403_access" => refused(403, "INSUFFICIENT_ACCESS", "Insufficient access rights."),
        "403_daily" => refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
        "403_at_once" => refused(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."),
        "401" => refused(401, "INVALID_SESSION_ID", "Session expired or invalid"),
        "expired" => Wrong::SessionsExpired,
        "404" => refused(404, "NOT_FOUND", "The requested resource does not exist"),
        "410" => refused(410, "GONE", "The requested API version has been retired."),
        "reset" => Wrong::Reset,
        "truncated" => Wrong::Truncated,
        "late" => Wrong::Late(2 * DEADLINE),
        "page" => Wrong::Html(page),
        "empty" => Wrong::Empty,
        "other_json" => Wrong::Json(format!(r#"{{"unexpected":"{PLANTED}"}}"#)),
        "list_json" => Wrong::Json(format!(r#"[{{"unexpected":"{PLANTED}"}}]"#)),
        "304" => Wrong::NotModified,
        "missing" => Wrong::Missing,
        "reversed" => Wrong::Reversed,
        _ => return Err(format!("no fault {name}")),
    })
}
