//! The org: its objects, who may log in, and what changes in it.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::{Field, Object};
use crate::payload::Fragment;
use crate::{describe, generate, recordings, rest};

/// When the generated org's metadata last changed as a whole, 2026-05-04T03:46:54Z.
const ORG_MODIFIED: i64 = 1_777_866_414;

/// The first and the last API version that Salesforce offers today (Summer '26).
const OFFERED: RangeInclusive<u16> = 31..=67;

/// An API version without its `.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(pub u16);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.0", self.0)
    }
}

impl FromStr for ApiVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let major = text.strip_suffix(".0").with_context(|| format!("API version {text:?} is not of the form 59.0"))?;
        Ok(Self(major.parse().with_context(|| format!("API version {text:?} is not of the form 59.0"))?))
    }
}

/// Who may log in, and how. All invented.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password, without the security token.
    pub password: String,
    /// Security token; empty when the org asks for none.
    pub security_token: String,
    /// Client id of the OAuth app.
    pub consumer_key: String,
    /// Client secret of the OAuth app.
    pub consumer_secret: String,
    /// Certificate or public key that the app checks JWT assertions with, PEM; empty when the app has none.
    pub jwt_certificate: String,
    /// Whether the user is approved for the app, without which JWT bearer does not let it in.
    pub jwt_approved: bool,
    /// Whether clients come from a trusted address: the password alone will do.
    pub trusted_address: bool,
    /// Whether SOAP `login()` is on; in new orgs it is off.
    pub soap_login: bool,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            username: "integration@example.com".into(),
            password: "sandbox-password".into(),
            security_token: "sandbox-token".into(),
            consumer_key: "sandbox-consumer-key".into(),
            consumer_secret: "sandbox-consumer-secret".into(),
            jwt_certificate: String::new(),
            jwt_approved: true,
            trusted_address: false,
            soap_login: true,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What org to make.
#[derive(Clone, Debug)]
pub struct OrgConfig {
    /// Exactly so many objects are listed. Not used with recordings.
    pub objects: usize,
    /// Equal seeds give equal orgs.
    pub seed: u64,
    /// Mean number of fields an object over the whole org, reached by adding custom fields; without it every object has
    /// what is natural for it. A figure below the natural mean changes nothing. Not used with recordings.
    pub fields_per_object: Option<usize>,
    /// A folder of recorded responses to serve instead of a generated org.
    pub recordings: Option<PathBuf>,
    /// Who may log in.
    pub credentials: Credentials,
    /// The API versions offered, within 31–67.
    pub api_versions: RangeInclusive<u16>,
}

impl Default for OrgConfig {
    fn default() -> Self {
        Self {
            objects: 60,
            seed: 1,
            fields_per_object: None,
            recordings: None,
            credentials: Credentials::default(),
            api_versions: OFFERED,
        }
    }
}

/// A simulated org. Cheap to clone: clones share their objects until one is changed.
#[derive(Clone, Debug)]
pub struct Org {
    pub(crate) objects: Vec<Arc<Object>>,
    by_name: HashMap<String, usize>,
    pub(crate) rows: RecordedRows,
    pub(crate) credentials: Credentials,
    pub(crate) api_versions: RangeInclusive<u16>,
    pub(crate) modified: Timestamp,
}

/// Recorded rows of the Tooling API, by the object's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordedRows {
    pub(crate) entities: HashMap<String, Arc<Map<String, Value>>>,
    pub(crate) fields: HashMap<String, Arc<Vec<Map<String, Value>>>>,
}

impl Org {
    /// Makes the org that `config` asks for, from recordings or by generating it.
    ///
    /// # Errors
    ///
    /// When the recordings cannot be read; the error names the file.
    pub fn new(config: &OrgConfig) -> anyhow::Result<Self> {
        match &config.recordings {
            Some(dir) => Self::from_recordings(dir, config),
            None => Ok(Self::generate(config)),
        }
    }

    /// Generates an org of `config.objects` objects.
    #[must_use]
    pub fn generate(config: &OrgConfig) -> Self {
        let objects = generate::objects(config.objects, config.seed, config.fields_per_object);
        Self::assemble(objects, RecordedRows::default(), config)
    }

    /// Reads an org from a folder of recorded responses: the longest list in `dir/global`, every describe in `dir/describe`
    /// and `dir/composite`, the rows in `dir/tooling`. A listed object without a recorded describe gets a generated one.
    ///
    /// # Errors
    ///
    /// When there is no list, or a file cannot be read; the error names the file.
    pub fn from_recordings(dir: &Path, config: &OrgConfig) -> anyhow::Result<Self> {
        let recorded = recordings::read(dir).with_context(|| format!("read recordings from {}", dir.display()))?;
        let objects = generate::around(recorded.objects, config.seed);
        Ok(Self::assemble(objects, recorded.rows, config))
    }

    fn assemble(objects: Vec<Object>, rows: RecordedRows, config: &OrgConfig) -> Self {
        let by_name = objects.iter().enumerate().map(|(at, object)| (object.entry.name.to_lowercase(), at)).collect();
        let org_modified = Timestamp::from_second(ORG_MODIFIED).unwrap_or_default();
        let objects = objects
            .into_iter()
            .map(|mut object| {
                object.modified = object.modified.max(org_modified);
                object.prepared = OFFERED.map(|_| OnceLock::new()).collect();
                Arc::new(object)
            })
            .collect::<Vec<_>>();
        let modified = objects.iter().map(|object| object.modified).max().unwrap_or(org_modified);
        let api_versions = clamp(&config.api_versions);
        Self { objects, by_name, rows, credentials: config.credentials.clone(), api_versions, modified }
    }

    /// The objects, in the list's order.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = &Object> {
        self.objects.iter().map(AsRef::as_ref)
    }

    /// The object with this name; the case does not matter, as in Salesforce.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<&Object> {
        self.find(name).map(AsRef::as_ref)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Object>> {
        self.by_name.get(&name.to_lowercase()).and_then(|at| self.objects.get(*at))
    }

    /// Fields of all objects together.
    #[must_use]
    pub fn field_count(&self) -> usize {
        self.objects().map(|object| object.fields.len()).sum()
    }

    /// Fields an object, mean over the org.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an org has fewer than 2^52 fields")]
    pub fn mean_fields(&self) -> f64 {
        self.field_count() as f64 / self.objects.len().max(1) as f64
    }

    /// Who may log in.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Gives the integration user another password. The old one is refused from then on; sessions live on.
    pub fn change_password(&mut self, password: impl Into<String>) {
        self.credentials.password = password.into();
    }

    /// The newest API version offered.
    #[must_use]
    pub fn newest_version(&self) -> ApiVersion {
        ApiVersion(*self.api_versions.end())
    }

    /// The oldest API version offered.
    #[must_use]
    pub fn oldest_version(&self) -> ApiVersion {
        ApiVersion(*self.api_versions.start())
    }

    /// Removes an object, as if it was deleted in the org.
    ///
    /// # Errors
    ///
    /// When there is no such object.
    pub fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        let at = self.position(name)?;
        self.objects.remove(at);
        self.by_name =
            self.objects.iter().enumerate().map(|(at, object)| (object.entry.name.to_lowercase(), at)).collect();
        self.tick();
        Ok(())
    }

    /// Adds a text field to an object and moves the object's stamp.
    ///
    /// # Errors
    ///
    /// When there is no such object, it has such a field, or its describe is a recording.
    pub fn add_field(&mut self, object: &str, field: &str) -> anyhow::Result<()> {
        let at = self.position(object)?;
        let modified = self.tick();
        let Some(changed) = self.objects.get_mut(at) else { bail!("no object {object}") };
        ensure!(changed.recorded.is_none(), "{object} is a recording: it cannot be changed");
        ensure!(changed.fields.iter().all(|f| f.name != field), "{object} already has a field {field}");
        let changed = Arc::make_mut(changed);
        changed.fields.push(Field {
            name: field.into(),
            label: field.trim_end_matches("__c").replace('_', " "),
            length: 80,
            nillable: true,
            custom: field.ends_with("__c"),
            ..Field::default()
        });
        changed.touch(modified);
        changed.rows.clear();
        Ok(())
    }

    /// Writes about an object, or unwrites. No stamp moves: only the Tooling API shows it.
    ///
    /// # Errors
    ///
    /// When there is no such object, or what the Tooling API says about it is a recording.
    pub fn describe_object(&mut self, object: &str, text: Option<&str>) -> anyhow::Result<()> {
        self.unstamped(object)?.description = text.map(ToOwned::to_owned);
        Ok(())
    }

    /// Writes about a field, or unwrites. No stamp moves: only the Tooling API shows it.
    ///
    /// # Errors
    ///
    /// When there is no such field, or what the Tooling API says about its object is a recording.
    pub fn describe_field(&mut self, object: &str, field: &str, text: Option<&str>) -> anyhow::Result<()> {
        self.unstamped_field(object, field)?.description = text.map(ToOwned::to_owned);
        Ok(())
    }

    /// Sets a field's data sensitivity level and compliance groups. No stamp moves.
    ///
    /// # Errors
    ///
    /// As [`Org::describe_field`].
    pub fn classify_field(
        &mut self,
        object: &str,
        field: &str,
        level: Option<&str>,
        groups: &[&str],
    ) -> anyhow::Result<()> {
        let field = self.unstamped_field(object, field)?;
        field.classification = level.map(|level| level.to_owned().into());
        field.compliance = (!groups.is_empty()).then(|| groups.join(";").into());
        Ok(())
    }

    /// Gives a field to the user or group with this id, or to nobody. No stamp moves.
    ///
    /// # Errors
    ///
    /// As [`Org::describe_field`].
    pub fn own_field(&mut self, object: &str, field: &str, owner: Option<&str>) -> anyhow::Result<()> {
        self.unstamped_field(object, field)?.owner = owner.map(|owner| owner.to_owned().into());
        Ok(())
    }

    fn unstamped_field(&mut self, object: &str, field: &str) -> anyhow::Result<&mut Field> {
        let fields = &mut self.unstamped(object)?.fields;
        let found = fields.iter_mut().find(|other| other.name.eq_ignore_ascii_case(field));
        found.with_context(|| format!("no field {object}.{field}"))
    }

    /// An object to change in what no describe shows.
    fn unstamped(&mut self, name: &str) -> anyhow::Result<&mut Object> {
        let at = self.position(name)?;
        let key = name.to_lowercase();
        let recorded = self.rows.entities.contains_key(&key) || self.rows.fields.contains_key(&key);
        ensure!(!recorded, "what the Tooling API says about {name} is a recording: it cannot be changed");
        let object = Arc::make_mut(self.objects.get_mut(at).with_context(|| format!("no object {name}"))?);
        object.rows.clear();
        Ok(object)
    }

    /// Moves every object's stamp without changing anything, as a change of a profile or a label does.
    pub fn touch_all(&mut self) {
        let modified = self.tick();
        for object in &mut self.objects {
            Arc::make_mut(object).touch(modified);
        }
    }

    fn position(&self, name: &str) -> anyhow::Result<usize> {
        self.by_name.get(&name.to_lowercase()).copied().with_context(|| format!("no object {name}"))
    }

    /// A minute later than the last change.
    fn tick(&mut self) -> Timestamp {
        self.modified = self.modified.saturating_add(SignedDuration::from_mins(1)).unwrap_or(self.modified);
        self.modified
    }

    /// Builds every describe of a version and the rows of its fields, on all cores, so that no request has to.
    pub(crate) fn prepare(&self, version: ApiVersion) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = self.objects.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for objects in self.objects.chunks(share) {
                scope.spawn(move || {
                    for object in objects {
                        drop(object.describe(version));
                        rest::prepare(object, version);
                    }
                });
            }
        });
    }
}

impl Object {
    /// The describe as served at this version.
    pub(crate) fn describe(&self, version: ApiVersion) -> Arc<Fragment> {
        let make = || Arc::new(Fragment::new(describe::describe(self, version).as_bytes()));
        let slot =
            usize::from(version.0).checked_sub(usize::from(*OFFERED.start())).and_then(|at| self.prepared.get(at));
        match slot {
            Some(slot) => Arc::clone(slot.get_or_init(make)),
            None => make(),
        }
    }

    fn touch(&mut self, modified: Timestamp) {
        self.modified = modified;
        self.prepared.iter_mut().for_each(|slot| drop(slot.take()));
    }
}

fn clamp(versions: &RangeInclusive<u16>) -> RangeInclusive<u16> {
    (*versions.start()).clamp(*OFFERED.start(), *OFFERED.end())
        ..=(*versions.end()).clamp(*OFFERED.start(), *OFFERED.end())
}
