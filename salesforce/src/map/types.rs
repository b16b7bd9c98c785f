//! A column's type.
//!
//! | Salesforce | OpenMetadata | |
//! |---|---|---|
//! | id, reference, masterrecord | VARCHAR | of the length said, 18 otherwise |
//! | string, combobox, email, phone, url, encryptedstring, datacategorygroupreference | VARCHAR | STRING when no length is said: the server refuses a VARCHAR without |
//! | textarea | VARCHAR to 255, TEXT above and when no length is said | |
//! | picklist | ENUM | |
//! | multipicklist | STRING | a list would be ARRAY, whose values have no place |
//! | boolean | BOOLEAN | |
//! | int, long | INT, BIGINT | precision: the digits, when said |
//! | double, currency, percent | DECIMAL | DOUBLE unless precision ≥ 1 and scale ≤ precision |
//! | date, datetime, time | DATE, TIMESTAMPZ (Salesforce's are UTC), TIME | |
//! | base64 | BLOB | |
//! | address | JSON | STRUCT needs children, and the parts are columns of their own |
//! | location | POINT | |
//! | anyType, calculated, JunctionIdList, floatarray, byte | VARIANT | |
//! | complexvalue, json | JSON | |
//! | anything else | UNKNOWN | `dataTypeDisplay` says what |
//!
//! Names are compared without case, because documentation and answers differ in it. A length goes along wherever one
//! is said (the peer sends it, and 0 where there is none).

use std::borrow::Cow;
use std::num::NonZeroU32;

use hybrid_runner_openmetadata::entity::DataType;

use crate::describe::Field;

/// Characters of an id.
const ID_LENGTH: Option<NonZeroU32> = NonZeroU32::new(18);

/// Characters of the longest textarea that is an ordinary column and not a long text.
const LONGEST_SHORT_TEXT: u32 = 255;

/// A type as OpenMetadata writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ColumnType {
    pub(super) data_type: DataType,
    pub(super) length: Option<NonZeroU32>,
    pub(super) precision: Option<NonZeroU32>,
    pub(super) scale: Option<u32>,
}

/// The type of a field.
pub(super) fn of(field: &Field<'_>) -> ColumnType {
    let length = NonZeroU32::new(field.length);
    let text = |data_type| ColumnType { data_type, length, precision: None, scale: None };
    let plain = |data_type| ColumnType { data_type, length: None, precision: None, scale: None };
    let kind = field.kind.as_deref().unwrap_or_default();
    // Almost every name is in lower case already.
    let is_lower = !kind.bytes().any(|byte| byte.is_ascii_uppercase());
    let kind = if is_lower { Cow::Borrowed(kind) } else { Cow::Owned(kind.to_ascii_lowercase()) };
    match &*kind {
        "id" | "reference" | "masterrecord" => ColumnType { length: length.or(ID_LENGTH), ..plain(DataType::Varchar) },
        "string" | "combobox" | "email" | "phone" | "url" | "encryptedstring" | "datacategorygroupreference" => {
            text(if length.is_some() { DataType::Varchar } else { DataType::String })
        }
        "textarea" => {
            let is_short = length.is_some_and(|length| length.get() <= LONGEST_SHORT_TEXT);
            text(if is_short { DataType::Varchar } else { DataType::Text })
        }
        "picklist" => text(DataType::Enum),
        "multipicklist" => text(DataType::String),
        "boolean" => plain(DataType::Boolean),
        "int" => ColumnType { precision: digits(field), ..plain(DataType::Int) },
        "long" => ColumnType { precision: digits(field), ..plain(DataType::Bigint) },
        "double" | "currency" | "percent" => number(field),
        "date" => plain(DataType::Date),
        "datetime" => plain(DataType::Timestampz),
        "time" => plain(DataType::Time),
        "base64" => text(DataType::Blob),
        "address" | "complexvalue" | "json" => plain(DataType::Json),
        "location" => plain(DataType::Point),
        "anytype" | "calculated" | "junctionidlist" | "floatarray" | "byte" => plain(DataType::Variant),
        _ => plain(DataType::Unknown),
    }
}

fn number(field: &Field<'_>) -> ColumnType {
    let precision = NonZeroU32::new(field.precision).filter(|precision| field.scale <= precision.get());
    let (data_type, scale) = match precision {
        Some(_) => (DataType::Decimal, Some(field.scale)),
        None => (DataType::Double, None),
    };
    ColumnType { data_type, length: None, precision, scale }
}

fn digits(field: &Field<'_>) -> Option<NonZeroU32> {
    NonZeroU32::new(field.digits)
}
