//! `sourceConfig.config` of a metadata workflow.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::filter::FilterPattern;
use crate::strict::{FieldError, Object};

/// `sourceConfig.config` of type `DatabaseMetadata`, every key of 1.6 to 2.0, defaults applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataOptions {
    /// `markDeletedTables`, default true.
    pub mark_deleted_tables: bool,
    /// `markDeletedTablesFromFilterOnly`, default false; known from the documentation only, gone in 2.0.
    pub mark_deleted_tables_from_filter_only: bool,
    /// `markDeletedStoredProcedures`, default true.
    pub mark_deleted_stored_procedures: bool,
    /// `markDeletedSchemas`, default false.
    pub mark_deleted_schemas: bool,
    /// `markDeletedDatabases`, default false.
    pub mark_deleted_databases: bool,
    /// `includeTables`, default true.
    pub include_tables: bool,
    /// `includeViews`, default true.
    pub include_views: bool,
    /// `includeTags`, default true.
    pub include_tags: bool,
    /// `includeOwners`, default false.
    pub include_owners: bool,
    /// `includeStoredProcedures`, default true.
    pub include_stored_procedures: bool,
    /// `includeDDL`, default false.
    pub include_ddl: bool,
    /// `includeCustomProperties`, default false.
    pub include_custom_properties: bool,
    /// `overrideMetadata`, default false.
    pub override_metadata: bool,
    /// `useFqnForFiltering`, default false.
    pub use_fqn_for_filtering: bool,
    /// `extractJsonSchema`, default false.
    pub extract_json_schema: bool,
    /// `incremental.enabled`, default false.
    pub incremental: bool,
    /// `threads`, default 1.
    pub threads: i64,
    /// `queryLogDuration` in days, default 1.
    pub query_log_duration: i64,
    /// `queryParsingTimeoutLimit` in seconds, default 300.
    pub query_parsing_timeout_limit: i64,
    /// `jsonSchemaSampleSize` in rows, 1 to 1000, default 10.
    pub json_schema_sample_size: i64,
    /// `databaseFilterPattern`.
    pub database_filter: FilterPattern,
    /// `schemaFilterPattern`.
    pub schema_filter: FilterPattern,
    /// `tableFilterPattern`.
    pub table_filter: FilterPattern,
    /// `storedProcedureFilterPattern`.
    pub stored_procedure_filter: FilterPattern,
    /// Names of the keys that were given another value than their schema default, sorted. A connector names those that
    /// mean nothing to it.
    pub changed: Vec<String>,
}

/// The defaults of OpenMetadata's schema.
impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            mark_deleted_tables: true,
            mark_deleted_tables_from_filter_only: false,
            mark_deleted_stored_procedures: true,
            mark_deleted_schemas: false,
            mark_deleted_databases: false,
            include_tables: true,
            include_views: true,
            include_tags: true,
            include_owners: false,
            include_stored_procedures: true,
            include_ddl: false,
            include_custom_properties: false,
            override_metadata: false,
            use_fqn_for_filtering: false,
            extract_json_schema: false,
            incremental: false,
            threads: 1,
            query_log_duration: 1,
            query_parsing_timeout_limit: 300,
            json_schema_sample_size: 10,
            database_filter: FilterPattern::default(),
            schema_filter: FilterPattern::default(),
            table_filter: FilterPattern::default(),
            stored_procedure_filter: FilterPattern::default(),
            changed: Vec::new(),
        }
    }
}

impl MetadataOptions {
    pub(super) fn read(object: Object) -> Result<Self, FieldError> {
        let defaults = Self::default();
        let mut reader = Reader { object, changed: Vec::new() };
        reader.object.one_of("type", &["DatabaseMetadata"])?;
        let mut options = Self {
            mark_deleted_tables: reader.flag("markDeletedTables", defaults.mark_deleted_tables)?,
            mark_deleted_tables_from_filter_only: reader
                .flag("markDeletedTablesFromFilterOnly", defaults.mark_deleted_tables_from_filter_only)?,
            mark_deleted_stored_procedures: reader
                .flag("markDeletedStoredProcedures", defaults.mark_deleted_stored_procedures)?,
            mark_deleted_schemas: reader.flag("markDeletedSchemas", defaults.mark_deleted_schemas)?,
            mark_deleted_databases: reader.flag("markDeletedDatabases", defaults.mark_deleted_databases)?,
            include_tables: reader.flag("includeTables", defaults.include_tables)?,
            include_views: reader.flag("includeViews", defaults.include_views)?,
            include_tags: reader.flag("includeTags", defaults.include_tags)?,
            include_owners: reader.flag("includeOwners", defaults.include_owners)?,
            include_stored_procedures: reader.flag("includeStoredProcedures", defaults.include_stored_procedures)?,
            include_ddl: reader.flag("includeDDL", defaults.include_ddl)?,
            include_custom_properties: reader.flag("includeCustomProperties", defaults.include_custom_properties)?,
            override_metadata: reader.flag("overrideMetadata", defaults.override_metadata)?,
            use_fqn_for_filtering: reader.flag("useFqnForFiltering", defaults.use_fqn_for_filtering)?,
            extract_json_schema: reader.flag("extractJsonSchema", defaults.extract_json_schema)?,
            incremental: reader.incremental()?,
            threads: reader.number("threads", defaults.threads, 1..=i64::MAX)?,
            query_log_duration: reader.number("queryLogDuration", defaults.query_log_duration, 0..=i64::MAX)?,
            query_parsing_timeout_limit: reader.number(
                "queryParsingTimeoutLimit",
                defaults.query_parsing_timeout_limit,
                0..=i64::MAX,
            )?,
            json_schema_sample_size: reader.number(
                "jsonSchemaSampleSize",
                defaults.json_schema_sample_size,
                1..=1000,
            )?,
            database_filter: reader.filter("databaseFilterPattern")?,
            schema_filter: reader.filter("schemaFilterPattern")?,
            table_filter: reader.filter("tableFilterPattern")?,
            stored_procedure_filter: reader.filter("storedProcedureFilterPattern")?,
            changed: Vec::new(),
        };
        reader.owner_config()?;
        reader.default_filters()?;
        options.changed = reader.finish()?;
        Ok(options)
    }
}

/// Reads options and notes which differ from their defaults.
struct Reader {
    object: Object,
    changed: Vec<&'static str>,
}

impl Reader {
    fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, FieldError> {
        let value = self.object.boolean(key)?.unwrap_or(default);
        self.note(key, value != default);
        Ok(value)
    }

    fn number(&mut self, key: &'static str, default: i64, range: RangeInclusive<i64>) -> Result<i64, FieldError> {
        let value = self.object.integer(key, range)?.unwrap_or(default);
        self.note(key, value != default);
        Ok(value)
    }

    fn filter(&mut self, key: &'static str) -> Result<FilterPattern, FieldError> {
        let value = self.object.filter_pattern(key)?.unwrap_or_default();
        self.note(key, !value.is_empty());
        Ok(value)
    }

    /// The form always writes `incremental`; what is in it has no meaning unless it is enabled.
    fn incremental(&mut self) -> Result<bool, FieldError> {
        let Some(mut incremental) = self.object.object("incremental")? else { return Ok(false) };
        let enabled = incremental.boolean("enabled")?;
        let enabled = incremental.required("enabled", enabled)?;
        incremental.integer("lookbackDays", 0..=i64::MAX)?;
        incremental.integer("safetyMarginDays", 0..=i64::MAX)?;
        incremental.finish()?;
        self.note("incremental", enabled);
        Ok(enabled)
    }

    fn owner_config(&mut self) -> Result<(), FieldError> {
        let Some(mut config) = self.object.object("ownerConfig")? else { return Ok(()) };
        let mut given = config.boolean("enableInheritance")? == Some(false);
        for key in ["default", "service"] {
            given |= config.string(key)?.is_some();
        }
        for key in ["database", "databaseSchema", "table"] {
            if let Some(owners) = config.value(key) {
                given = true;
                check_owners(&config, key, &owners)?;
            }
        }
        config.finish()?;
        self.note("ownerConfig", given);
        Ok(())
    }

    /// `defaultFilters` was in the schema for a while between 1.6 and 1.13.
    fn default_filters(&mut self) -> Result<(), FieldError> {
        let Some(mut filters) = self.object.object("defaultFilters")? else { return Ok(()) };
        let mut given = false;
        for key in ["databaseFilterPattern", "schemaFilterPattern", "tableFilterPattern"] {
            given |= filters.filter_pattern(key)?.is_some_and(|pattern| !pattern.is_empty());
        }
        filters.finish()?;
        self.note("defaultFilters", given);
        Ok(())
    }

    fn note(&mut self, key: &'static str, differs: bool) {
        if differs {
            self.changed.push(key);
        }
    }

    fn finish(self) -> Result<Vec<String>, FieldError> {
        self.object.finish()?;
        let mut changed: Vec<String> = self.changed.into_iter().map(str::to_owned).collect();
        changed.sort_unstable();
        Ok(changed)
    }
}

/// One owner for all, or owners by name: a string, or a map of names to a string or a list of strings.
fn check_owners(config: &Object, key: &'static str, owners: &Value) -> Result<(), FieldError> {
    let is_owner = |value: &Value| {
        value.is_string() || value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_string))
    };
    let accepted = match owners {
        Value::String(_) => true,
        Value::Object(by_name) => by_name.values().all(is_owner),
        _ => false,
    };
    if accepted {
        return Ok(());
    }
    let detail = "accepted: the name of an owner, or a mapping of names to an owner or a list of owners";
    Err(config.error(key, format!("found {} that is not accepted; {detail}", crate::strict::kind(owners))))
}
