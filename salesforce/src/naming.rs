//! Where the tables of an org stand in OpenMetadata: the names that the peer connector gives, so that tags, owners and
//! lineage survive a switch.

use hybrid_runner_openmetadata::fqn;

/// The one schema of an org, as the peer connector names it.
pub const SCHEMA: &str = "salesforce";

/// Where the tables of an org stand in OpenMetadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    service: String,
    database: String,
    schema_fqn: String,
}

impl Naming {
    /// The names of a service and a database, as a definition gives them.
    #[must_use]
    pub fn new(service: &str, database: &str) -> Self {
        let database = fqn::reserve(database);
        let schema_fqn = fqn::child(&fqn::child(&fqn::quote(service), &database), SCHEMA);
        Self { service: service.to_owned(), database, schema_fqn }
    }

    /// Name of the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// FQN of the service.
    #[must_use]
    pub fn service_fqn(&self) -> String {
        fqn::quote(&self.service)
    }

    /// FQN of the database.
    #[must_use]
    pub fn database_fqn(&self) -> String {
        fqn::child(&self.service_fqn(), &self.database)
    }

    /// Name of the database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// FQN of the schema.
    #[must_use]
    pub fn schema_fqn(&self) -> &str {
        &self.schema_fqn
    }

    /// FQN of the table of an object, by its API name.
    #[must_use]
    pub fn table_fqn(&self, object: &str) -> String {
        fqn::child(&self.schema_fqn, &fqn::reserve(object))
    }

    /// The object whose table has this FQN; `None` for an FQN outside this schema.
    #[must_use]
    pub fn object_of<'a>(&self, table_fqn: &'a str) -> Option<&'a str> {
        let name = table_fqn.strip_prefix(&self.schema_fqn)?.strip_prefix('.')?;
        match name.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"'),
            None => (!name.contains('.')).then_some(name),
        }
    }
}
