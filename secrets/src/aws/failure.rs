//! What the SDK's errors mean for a read. Nothing that AWS wrote is passed on: only its error codes are looked at.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ConnectorError, ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;

use crate::ReadError;

/// Why `name` was not read. `role` is the one that the store assumes.
pub(super) fn reason(error: &SdkError<GetSecretValueError, HttpResponse>, name: &str, role: Option<&str>) -> ReadError {
    let SdkError::ServiceError(answer) = error else { return before_an_answer(error, role) };
    let (status, answer) = (answer.raw().status(), answer.err());
    let message = answer.message().unwrap_or_default();
    match answer.code().unwrap_or_default() {
        "ResourceNotFoundException" => ReadError::NotFound,
        "InvalidRequestException" => ReadError::Unusable("is scheduled for deletion, or is managed by another service"),
        "InvalidParameterException" | "ValidationException" => {
            ReadError::Unusable("has a name that AWS Secrets Manager does not accept")
        }
        "DecryptionFailure" => denied(format!("kms:Decrypt on the KMS key of {name}, and that the key is enabled")),
        // The code is the same when the key refuses; only the text tells.
        "AccessDeniedException" if message.contains("KMS") => denied(format!("kms:Decrypt on the KMS key of {name}")),
        "AccessDeniedException" => denied(format!("secretsmanager:GetSecretValue on {name}")),
        code if is_throttling(code) => ReadError::Throttled,
        code if is_bad_credentials(code) => denied(format!("credentials that AWS accepts ({code})")),
        "" if status.as_u16() == 403 => denied(format!(
            "secretsmanager:GetSecretValue on {name}, or leave of a proxy on the way (the answer was HTTP 403 without AWS's reason)"
        )),
        // No JSON of AWS's: broken off, or from something in between.
        "" => unreachable(format!("the answer of AWS could not be read (HTTP status {status})")),
        code => unreachable(format!("AWS Secrets Manager answered {} (HTTP status {status})", shown(code))),
    }
}

/// Why there are no credentials.
pub(super) fn of_credentials(error: &CredentialsError, role: Option<&str>) -> ReadError {
    dispatch(error, role)
}

/// No answer to the read itself: no credentials, no connection, no time.
fn before_an_answer(error: &SdkError<GetSecretValueError, HttpResponse>, role: Option<&str>) -> ReadError {
    match error {
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if error.is_timeout() => unreachable("no answer of AWS in time".to_owned()),
            Some(error) => dispatch(error, role),
            None => unreachable("the request to AWS could not be sent".to_owned()),
        },
        SdkError::TimeoutError(_) => unreachable("no answer of AWS in time".to_owned()),
        // Its text, and what is below it, may quote the answer, which may hold the secret.
        SdkError::ResponseError(_) => unreachable("the answer of AWS could not be read".to_owned()),
        _ => unreachable("the request to AWS could not be built; see the endpoint and the region".to_owned()),
    }
}

fn dispatch(error: &(dyn Error + 'static), role: Option<&str>) -> ReadError {
    let Some(credentials) = find::<CredentialsError>(error) else { return unreachable(chain(error)) };
    if let Some(answer) = find::<ErrorMetadata>(credentials) {
        return sts(answer.code().unwrap_or_default(), role);
    }
    match credentials {
        CredentialsError::CredentialsNotLoaded(_) => denied(format!("AWS credentials, and {CHAIN} has none")),
        CredentialsError::InvalidConfiguration(_) => {
            denied(format!("AWS credentials, and what is configured for {CHAIN} is not valid"))
        }
        CredentialsError::ProviderTimedOut(_) => unreachable("the source of AWS credentials did not answer".to_owned()),
        _ => match find::<ConnectorError>(credentials) {
            Some(error) => unreachable(format!("the source of AWS credentials: {}", chain(error))),
            None => unreachable("the source of AWS credentials failed".to_owned()),
        },
    }
}

const CHAIN: &str = "the chain (environment, profile, web identity, container, instance metadata)";

/// STS answered with an error code when it was asked for credentials.
fn sts(code: &str, role: Option<&str>) -> ReadError {
    match code {
        "AccessDenied" | "AccessDeniedException" => denied(role.map_or_else(
            || "sts:AssumeRole or sts:AssumeRoleWithWebIdentity on the role of the chain".to_owned(),
            |role| format!("sts:AssumeRole on {role}, and a trust policy of that role that lets this one in"),
        )),
        code if is_throttling(code) => ReadError::Throttled,
        code => denied(format!("credentials that AWS STS accepts ({})", shown(code))),
    }
}

fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
    )
}

fn is_bad_credentials(code: &str) -> bool {
    matches!(
        code,
        "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "ExpiredTokenException"
            | "ExpiredToken"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
    )
}

/// An error code as AWS has them; anything else is not repeated.
fn shown(code: &str) -> &str {
    let plain = (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { code } else { "with another error" }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// The texts of a failed connection; none of an answer is among them.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<_> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn denied(needs: String) -> ReadError {
    ReadError::Denied(needs)
}

fn unreachable(cause: String) -> ReadError {
    ReadError::Unreachable(cause.into())
}
