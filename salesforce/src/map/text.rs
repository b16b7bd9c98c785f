//! Descriptions: Markdown, a paragraph a fact, what a person wrote first.
//!
//! A column's has the field's description, its help text where that differs, then what has no place of its own in
//! OpenMetadata: formula, relation, picklist values, default, owner. The label is the display name and never a
//! description. Values that come from the org stand in code spans, so that none of them is markup.

use std::borrow::Cow;

use super::keys::MOST_TARGETS;
use crate::annotations::Annotations;
use crate::describe::{Field, Picklist, Scalar, Targets};

/// The longest text of a person or formula that is shown, in characters. Salesforce's own limits are 510 for a help
/// text and some 5,000 for a formula; what is longer is cut, and says so.
const LONGEST: usize = 5_000;

/// The longest value of a picklist or default that is shown, in characters. Salesforce's limit is 255.
const LONGEST_VALUE: usize = 255;

/// A text that a person wrote: a description, a help text; empty when there is none.
pub(super) fn written(text: Option<&str>) -> Cow<'_, str> {
    cut(said(text).unwrap_or_default(), LONGEST)
}

/// The description of a table; `None` when there is nothing to say.
pub(super) fn about(annotations: &Annotations) -> Option<String> {
    let written = written(annotations.description.as_deref());
    let records = annotations.records.map(records).unwrap_or_default();
    let between = if written.is_empty() || records.is_empty() { "" } else { "\n\n" };
    Some([&*written, between, &records].concat()).filter(|text| !text.is_empty())
}

/// Appends what the describe says about a field, apart from its help text.
pub(super) fn facts(field: &Field<'_>, to: &mut String) {
    let text = &mut Text { start: to.len(), text: to };
    origin(field, text);
    relation(field, text);
    picklist(field, text);
    default(field, text);
    marks(field, text);
}

/// Appends a paragraph that says values; nothing when there are none.
pub(super) fn values<'a>(title: &str, values: impl Iterator<Item = &'a str>, to: &mut String) {
    let text = &mut Text { start: 0, text: to };
    let mut values = values.peekable();
    if values.peek().is_none() {
        return;
    }
    text.paragraph(title);
    text.push(": ");
    for (index, value) in values.enumerate() {
        text.comma(index);
        text.code(value, LONGEST_VALUE);
    }
    text.push(".");
}

/// About how many records there are: two significant digits, because a table that differs in every run is sent in every
/// run.
fn records(count: u64) -> String {
    let power = 10_u64.pow(count.checked_ilog10().unwrap_or(0).saturating_sub(1));
    let half_up = count.saturating_add(power / 2) / power;
    let digits = half_up.saturating_mul(power).to_string();
    let mut text = "About ".to_owned();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text.push_str(if count == 1 { " record." } else { " records." });
    text
}

/// Where its values come from.
fn origin(field: &Field<'_>, text: &mut Text<'_>) {
    match said(field.calculated_formula.as_deref()) {
        Some(formula) => {
            text.paragraph("Formula:");
            text.block(formula);
        }
        None if field.calculated => text.paragraph("Computed by Salesforce: a roll-up summary or a system value."),
        None => {}
    }
    if field.auto_number {
        text.paragraph("Numbered by Salesforce.");
    }
}

/// What it points to.
fn relation(field: &Field<'_>, text: &mut Text<'_>) {
    let Targets { names, count } = &field.reference_to;
    if *count == 0 {
        return;
    }
    // Salesforce numbers the master-detail relations of an object, and no others.
    text.paragraph(if field.relationship_order.is_some() { "Master-detail reference to " } else { "Lookup to " });
    if *count > 1 {
        text.push(&format!("one of {count} objects: "));
    }
    for (index, name) in names.iter().enumerate() {
        text.comma(index);
        text.code(name, LONGEST_VALUE);
    }
    text.more(count.saturating_sub(names.len()));
    if let Some(target) = said(field.reference_target_field.as_deref()) {
        text.push(", by ");
        text.code(target, LONGEST_VALUE);
    }
    text.push(".");
    if *count > MOST_TARGETS {
        text.push(" Too many for foreign keys.");
    }
    if field.cascade_delete {
        text.push(" Deleted with the row that it points to.");
    }
    if field.restricted_delete {
        text.push(" A row that is pointed to cannot be deleted.");
    }
}

fn picklist(field: &Field<'_>, text: &mut Text<'_>) {
    let Picklist { shown, active, .. } = &field.picklist_values;
    if *active == 0 {
        return;
    }
    text.paragraph(if field.restricted_picklist { "Values, no others accepted: " } else { "Values: " });
    for (index, value) in shown.iter().enumerate() {
        let stored = value.value.as_deref().unwrap_or_default();
        text.comma(index);
        text.code(stored, LONGEST_VALUE);
        if let Some(label) = value.label.as_deref().filter(|label| *label != stored && !label.is_empty()) {
            text.push(" (");
            text.code(label, LONGEST_VALUE);
            text.push(")");
        }
    }
    text.more(active.saturating_sub(shown.len()));
    text.push(".");
    if let Some(controller) = said(field.controller_name.as_deref()) {
        text.push(" Which of them can be chosen depends on ");
        text.code(controller, LONGEST_VALUE);
        text.push(".");
    }
}

/// The value of a new row. Every checkbox has one, so only the unusual one is said.
fn default(field: &Field<'_>, text: &mut Text<'_>) {
    let value: Option<Cow<'_, str>> = match &field.default_value {
        Scalar::Nothing | Scalar::Bool(false) => None,
        Scalar::Bool(true) => Some("true".into()),
        Scalar::Unsigned(number) => Some(number.to_string().into()),
        Scalar::Negative(number) => Some(number.to_string().into()),
        Scalar::Float(number) => Some(number.to_string().into()),
        Scalar::Text(value) => Some(value.as_ref().into()),
    };
    let value = said(value.as_deref())
        .or_else(|| said(field.default_value_formula.as_deref()))
        .or_else(|| said(field.picklist_values.default.as_deref()));
    if let Some(value) = value {
        text.paragraph("Default:");
        text.block(value);
    }
}

/// What else there is to know.
fn marks(field: &Field<'_>, text: &mut Text<'_>) {
    // A person account's `Name` names itself as its compound.
    let compound = said(field.compound_field_name.as_deref()).filter(|name| Some(*name) != field.name.as_deref());
    if let Some(compound) = compound {
        text.paragraph("Part of ");
        text.code(compound, LONGEST_VALUE);
        text.push(".");
    }
    if field.unique && field.nillable == Some(false) {
        // The column's one constraint says UNIQUE.
        text.paragraph("Never empty.");
    }
    if field.external_id {
        text.paragraph("Key of another system (external id).");
    }
    if field.encrypted {
        text.paragraph("Stored encrypted.");
    }
}

/// A text with something in it.
fn said(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

/// A text of at most `longest` characters.
fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

fn longest_run_of_backticks(text: &str) -> usize {
    if !text.contains('`') {
        return 0;
    }
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

/// Markdown being written behind other texts.
struct Text<'a> {
    text: &'a mut String,
    /// Where it begins.
    start: usize,
}

impl Text<'_> {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Begins a paragraph.
    fn paragraph(&mut self, text: &str) {
        if self.text.len() > self.start {
            self.text.push_str("\n\n");
        }
        self.text.push_str(text);
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.text.push_str(", ");
        }
    }

    fn more(&mut self, hidden: usize) {
        if hidden > 0 {
            self.push(&format!(" and {hidden} more"));
        }
    }

    /// A code span on one line (CommonMark §6.1): its fence is longer than any run of backticks inside.
    fn code(&mut self, text: &str, longest: usize) {
        let mut line = cut(text, longest);
        if line.contains(['\n', '\r']) {
            line = Cow::Owned(line.replace(['\n', '\r'], " "));
        }
        let fence = longest_run_of_backticks(&line) + 1;
        // A backtick or a blank at an end would be taken for the fence's, or cut.
        let pad = if line.starts_with(['`', ' ']) || line.ends_with(['`', ' ']) { " " } else { "" };
        self.fence(fence);
        self.text.push_str(pad);
        self.text.push_str(&line);
        self.text.push_str(pad);
        self.fence(fence);
    }

    /// A code span in the same line, or, for what has several lines, a fenced block (CommonMark §4.5).
    fn block(&mut self, text: &str) {
        if !text.contains(['\n', '\r']) {
            self.text.push(' ');
            return self.code(text, LONGEST);
        }
        let text = cut(text, LONGEST);
        let fence = longest_run_of_backticks(&text).max(2) + 1;
        self.text.push_str("\n\n");
        self.fence(fence);
        self.text.push('\n');
        self.text.push_str(&text);
        self.text.push('\n');
        self.fence(fence);
    }

    fn fence(&mut self, length: usize) {
        self.text.extend(std::iter::repeat_n('`', length));
    }
}
