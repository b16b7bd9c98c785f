//! What OpenMetadata's server refuses although its schema allows it.

use std::collections::HashSet;

use crate::entity::{
    Column, Constraint, ConstraintType, CreateClassification, CreateTable, CreateTag, DataType, TagLabel,
};
use crate::fqn;

/// A request that the server would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct RuleViolation {
    /// Where, such as `columns[3].dataLength`.
    pub path: String,
    /// What is wrong.
    pub problem: &'static str,
}

/// Checks the name of an entity (`type/basic.json#/definitions/entityName`).
///
/// # Errors
/// It is empty, longer than [`fqn::MAX_NAME`] characters or contains `::`.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("is empty; accepted: 1 to 256 characters")
    } else if name.chars().count() > fqn::MAX_NAME {
        Err("is too long; accepted: 1 to 256 characters")
    } else if name.contains("::") {
        Err("contains `::`, which is reserved")
    } else {
        Ok(())
    }
}

/// Checks a classification: its name.
///
/// # Errors
/// The first violation.
pub fn check_classification(classification: &CreateClassification) -> Result<(), RuleViolation> {
    check_name(&classification.name).map_err(|problem| violation("name", problem))
}

/// Checks a tag: its name, its FQN, and that it is below a classification.
///
/// # Errors
/// The first violation.
pub fn check_tag(tag: &CreateTag) -> Result<(), RuleViolation> {
    check_name(&tag.name).map_err(|problem| violation("name", problem))?;
    if fqn::split(&tag.classification).is_none_or(|parts| parts.len() != 1) {
        return Err(violation("classification", "is not the FQN of a classification"));
    }
    check_tag_fqn(&fqn::child(&tag.classification, &tag.name)).map_err(|problem| violation("name", problem))
}

fn check_tag_fqn(tag_fqn: &str) -> Result<(), &'static str> {
    if tag_fqn.chars().count() > fqn::MAX_FQN {
        return Err("makes an FQN of more than 3,072 characters");
    }
    // The server cuts an FQN at its dots to find the classification.
    match fqn::split(tag_fqn) {
        Some(parts) if parts.len() > 1 => Ok(()),
        _ => Err("is not the FQN of a tag below a classification"),
    }
}

/// The server looks each label's tag up by its FQN. It refuses two labels of a classification whose tags exclude each
/// other, equal ones too, so no tag stands twice.
fn check_tags(path: &str, tags: &[TagLabel]) -> Result<(), RuleViolation> {
    let mut seen = HashSet::new();
    for (index, label) in tags.iter().enumerate() {
        let at = || format!("{path}[{index}].tagFQN");
        check_tag_fqn(&label.tag_fqn).map_err(|problem| violation(at(), problem))?;
        if !seen.insert(label.tag_fqn.as_str()) {
            return Err(violation(at(), "is the tag of an earlier label too"));
        }
    }
    Ok(())
}

/// Checks a table against the server's own rules: ARRAY without `arrayDataType`, STRUCT without `children`, CHAR,
/// VARCHAR, BINARY or VARBINARY without `dataLength`, a scale without precision or above it, a repeated column name,
/// PRIMARY_KEY both on a column and as a table constraint; the names of the table and its columns; and their tags.
///
/// # Errors
/// The first violation.
pub fn check_table(table: &CreateTable) -> Result<(), RuleViolation> {
    check_name(&table.name).map_err(|problem| violation("name", problem))?;
    check_columns("columns", &table.columns)?;
    check_tags("tags", &table.tags)?;
    let on_column = has_primary_key(&table.columns);
    for (index, constraint) in table.table_constraints.iter().enumerate() {
        if on_column && constraint.constraint_type == ConstraintType::PrimaryKey {
            let path = format!("tableConstraints[{index}]");
            return Err(violation(path, "is a PRIMARY_KEY, and a column has the constraint PRIMARY_KEY as well"));
        }
    }
    Ok(())
}

fn check_columns(path: &str, columns: &[Column]) -> Result<(), RuleViolation> {
    let mut names = HashSet::new();
    for (index, column) in columns.iter().enumerate() {
        let path = format!("{path}[{index}]");
        check_column(column).map_err(|(field, problem)| violation(format!("{path}.{field}"), problem))?;
        if !names.insert(column.name.as_str()) {
            return Err(violation(format!("{path}.name"), "is the name of an earlier column too"));
        }
        check_tags(&format!("{path}.tags"), &column.tags)?;
        check_columns(&format!("{path}.children"), &column.children)?;
    }
    Ok(())
}

fn check_column(column: &Column) -> Result<(), (&'static str, &'static str)> {
    use DataType::{Array, Binary, Char, Struct, Varbinary, Varchar};
    check_name(&column.name).map_err(|problem| ("name", problem))?;
    match column.data_type {
        Array if column.array_data_type.is_none() => return Err(("arrayDataType", "is missing on an ARRAY")),
        Struct if column.children.is_empty() => return Err(("children", "are missing on a STRUCT")),
        Char | Varchar | Binary | Varbinary if column.data_length.is_none() => {
            return Err(("dataLength", "is missing on a CHAR, VARCHAR, BINARY or VARBINARY"));
        }
        _ => {}
    }
    match (column.scale, column.precision) {
        (Some(_), None) => Err(("scale", "is given without a precision")),
        (Some(scale), Some(precision)) if scale > precision => Err(("scale", "is above the precision")),
        _ => Ok(()),
    }
}

fn has_primary_key(columns: &[Column]) -> bool {
    columns.iter().any(|column| column.constraint == Some(Constraint::PrimaryKey) || has_primary_key(&column.children))
}

fn violation(path: impl Into<String>, problem: &'static str) -> RuleViolation {
    RuleViolation { path: path.into(), problem }
}

#[cfg(test)]
mod tests {
    use super::{check_classification, check_name, check_table, check_tag};
    use crate::entity::{
        Column, Constraint, ConstraintType, CreateClassification, CreateTable, CreateTag, DataType, LabelState,
        LabelType, RelationshipType, TableConstraint, TableType, TagLabel, TagSource,
    };

    fn column(name: &str, data_type: DataType) -> Column {
        Column {
            name: name.to_owned(),
            display_name: None,
            data_type,
            array_data_type: None,
            data_length: None,
            precision: None,
            scale: None,
            data_type_display: None,
            description: None,
            tags: Vec::new(),
            constraint: None,
            ordinal_position: None,
            children: Vec::new(),
        }
    }

    fn table(columns: Vec<Column>) -> CreateTable {
        CreateTable {
            name: "Account".to_owned(),
            display_name: None,
            description: None,
            table_type: TableType::Regular,
            columns,
            table_constraints: Vec::new(),
            tags: Vec::new(),
            database_schema: "svc.default.salesforce".to_owned(),
            source_url: None,
            source_hash: None,
        }
    }

    fn primary_key(columns: &[&str]) -> TableConstraint {
        TableConstraint {
            constraint_type: ConstraintType::PrimaryKey,
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            referred_columns: Vec::new(),
            relationship_type: None,
        }
    }

    #[track_caller]
    fn refused(columns: Vec<Column>, path: &str) {
        assert_eq!(check_table(&table(columns)).map_err(|violation| violation.path), Err(path.to_owned()));
    }

    #[test]
    fn a_proper_table_passes() {
        let mut id = column("Id", DataType::Varchar);
        id.data_length = Some(18);
        id.constraint = Some(Constraint::PrimaryKey);
        let mut amount = column("Amount", DataType::Decimal);
        (amount.precision, amount.scale) = (Some(18), Some(18));
        let mut list = column("List", DataType::Array);
        list.array_data_type = Some(DataType::String);
        let mut address = column("Address", DataType::Struct);
        address.children = vec![column("Id", DataType::String)];
        let mut table = table(vec![id, amount, list, address]);
        table.table_constraints = vec![TableConstraint {
            constraint_type: ConstraintType::ForeignKey,
            columns: vec!["Id".to_owned()],
            referred_columns: vec!["svc.default.salesforce.User.Id".to_owned()],
            relationship_type: Some(RelationshipType::ManyToOne),
        }];
        assert_eq!(check_table(&table), Ok(()));
    }

    #[test]
    fn an_array_needs_the_type_of_its_elements() {
        refused(vec![column("a", DataType::Int), column("b", DataType::Array)], "columns[1].arrayDataType");
    }

    #[test]
    fn a_struct_needs_children() {
        refused(vec![column("a", DataType::Struct)], "columns[0].children");
    }

    #[test]
    fn character_and_binary_types_need_a_length() {
        for data_type in [DataType::Char, DataType::Varchar, DataType::Binary, DataType::Varbinary] {
            refused(vec![column("a", data_type)], "columns[0].dataLength");
        }
    }

    #[test]
    fn a_scale_needs_a_precision_that_is_not_smaller() {
        let mut alone = column("a", DataType::Decimal);
        alone.scale = Some(0);
        refused(vec![alone.clone()], "columns[0].scale");
        (alone.precision, alone.scale) = (Some(2), Some(3));
        refused(vec![alone], "columns[0].scale");
    }

    #[test]
    fn a_column_name_stands_once() {
        refused(vec![column("a", DataType::Int), column("a", DataType::Text)], "columns[1].name");
    }

    #[test]
    fn children_follow_the_same_rules() {
        let mut outer = column("a", DataType::Struct);
        let mut inner = column("b", DataType::Struct);
        inner.children = vec![column("c", DataType::Int), column("d", DataType::Char)];
        outer.children = vec![inner];
        refused(vec![outer.clone()], "columns[0].children[0].children[1].dataLength");
        outer.children = vec![column("b", DataType::Int), column("b", DataType::Int)];
        refused(vec![outer], "columns[0].children[1].name");
    }

    #[test]
    fn a_primary_key_is_stated_on_a_column_or_on_the_table() {
        let mut id = column("Id", DataType::Int);
        let mut on_table = table(vec![id.clone(), column("b", DataType::Int)]);
        on_table.table_constraints = vec![primary_key(&["Id", "b"])];
        assert_eq!(check_table(&on_table), Ok(()));
        id.constraint = Some(Constraint::PrimaryKey);
        on_table.columns[0] = id;
        assert_eq!(check_table(&on_table).unwrap_err().path, "tableConstraints[0]");
    }

    #[test]
    fn names_have_1_to_256_characters_and_no_double_colon() {
        for (name, accepted) in [
            ("", false),
            ("a", true),
            (&"é".repeat(256), true),
            (&"é".repeat(257), false),
            ("a::b", false),
            ("a:b", true),
            ("a.b c/\"", true),
        ] {
            assert_eq!(check_name(name).is_ok(), accepted, "{name}");
        }
        refused(vec![column("", DataType::Int)], "columns[0].name");
        let mut unnamed = table(vec![column("a", DataType::Int)]);
        unnamed.name = "a::b".to_owned();
        assert_eq!(check_table(&unnamed).unwrap_err().path, "name");
    }

    fn labels(tags: &[&str]) -> Vec<TagLabel> {
        let label = |tag: &&str| TagLabel {
            tag_fqn: (*tag).to_owned(),
            source: TagSource::Classification,
            label_type: LabelType::Automated,
            state: LabelState::Confirmed,
        };
        tags.iter().map(label).collect()
    }

    #[test]
    fn a_label_names_a_tag_below_a_classification_once() {
        for (tags, refused) in [
            (&["Salesforce.Custom", "Salesforce.\"a.b\""][..], None),
            (&["Salesforce"], Some("[0].tagFQN")),
            (&[""], Some("[0].tagFQN")),
            (&["Salesforce.a\"b"], Some("[0].tagFQN")),
            (&["Salesforce.A", "Salesforce.A"], Some("[1].tagFQN")),
        ] {
            let mut on_column = column("a", DataType::Int);
            on_column.tags = labels(tags);
            let path = check_table(&table(vec![on_column])).err().map(|violation| violation.path);
            assert_eq!(path, refused.map(|at| format!("columns[0].tags{at}")), "{tags:?}");
            let on_table = check_table(&CreateTable { tags: labels(tags), ..table(Vec::new()) });
            assert_eq!(on_table.err().map(|violation| violation.path), refused.map(|at| format!("tags{at}")));
        }
    }

    #[test]
    fn a_tag_is_named_and_below_a_classification() {
        let tag = |classification: &str, name: &str| {
            let (classification, name) = (classification.to_owned(), name.to_owned());
            let tag = CreateTag { classification, name, display_name: None, description: "A mark.".to_owned() };
            check_tag(&tag).map_err(|violation| violation.path)
        };
        assert_eq!(tag("Salesforce", "a.b"), Ok(()));
        assert_eq!(tag("Salesforce", ""), Err("name".to_owned()));
        assert_eq!(tag("Salesforce", "a\"b"), Err("name".to_owned()));
        assert_eq!(tag("Salesforce.Custom", "a"), Err("classification".to_owned()));
        assert_eq!(tag("", "a"), Err("classification".to_owned()));
        let nameless = CreateClassification { name: "a::b".to_owned(), description: "Marks.".to_owned() };
        assert_eq!(check_classification(&nameless).unwrap_err().path, "name");
    }
}
