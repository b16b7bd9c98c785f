//! The export: `{"kind","fqn","entity"}` a line, parents first, whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use hybrid_runner_connector::{Checkpoint, Entity, EntitySink, Notice, SinkClosed};
use hybrid_runner_openmetadata::entity::Kind;
use memchr::memmem;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};

use super::summary::Display;

/// Bytes collected before a write. The entities of one call to Salesforce are of this order.
const BUFFER: usize = 256 * 1024;

/// Where the lines go.
pub(super) struct Destination {
    writer: BufWriter<Box<dyn AsyncWrite + Send + Unpin>>,
    shown: String,
    /// A file's own path, and the one it has until it is whole.
    file: Option<(PathBuf, Partial)>,
    /// The absolute path of what is written; none for stdout.
    path: Option<PathBuf>,
}

/// A file that is removed unless it was kept.
struct Partial(Option<PathBuf>);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // It may be gone already; then there is nothing to clean up.
            drop(std::fs::remove_file(path));
        }
    }
}

/// The export cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("write to stdout: whoever read it closed it")]
    Closed,
    #[error("write {path}: the disk is full")]
    Full { path: String },
    #[error("write {path}: {error}")]
    Write { path: String, error: io::Error },
    #[error("--out {path}: {error}")]
    Open { path: String, error: io::Error },
}

impl Destination {
    /// Opens stdout for `-`, else a new file beside the one that it becomes. A device or a pipe is written as it is.
    pub(super) async fn open(out: &Path) -> Result<Self, OutputError> {
        let shown = out.display().to_string();
        if out == Path::new("-") {
            let writer = Self::buffered(Box::new(tokio::io::stdout()));
            return Ok(Self { writer, shown: "stdout".to_owned(), file: None, path: None });
        }
        let refused = |error| OutputError::Open { path: shown.clone(), error };
        let absolute = std::path::absolute(out).map_err(refused)?;
        match tokio::fs::metadata(&absolute).await {
            Ok(found) if found.is_dir() => return Err(refused(io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => {
                let file = tokio::fs::OpenOptions::new().write(true).open(&absolute).await.map_err(refused)?;
                return Ok(Self { writer: Self::buffered(Box::new(file)), shown, file: None, path: Some(absolute) });
            }
            Ok(_) | Err(_) => {}
        }
        let name = absolute.file_name().ok_or_else(|| refused(io::ErrorKind::InvalidInput.into()))?;
        let name = format!(".{}.{}.partial", name.to_string_lossy(), uuid::Uuid::new_v4().simple());
        let partial = absolute.with_file_name(name);
        let file = File::create_new(&partial).await.map_err(refused)?;
        let writer = Self::buffered(Box::new(file));
        Ok(Self { writer, shown, file: Some((absolute.clone(), Partial(Some(partial)))), path: Some(absolute) })
    }

    fn buffered(writer: Box<dyn AsyncWrite + Send + Unpin>) -> BufWriter<Box<dyn AsyncWrite + Send + Unpin>> {
        BufWriter::with_capacity(BUFFER, writer)
    }

    async fn write(&mut self, entity: &Entity) -> io::Result<()> {
        let mut head = Vec::with_capacity(64 + entity.fqn.len());
        head.extend_from_slice(b"{\"kind\":");
        serde_json::to_writer(&mut head, entity.kind)?;
        head.extend_from_slice(b",\"fqn\":");
        serde_json::to_writer(&mut head, &entity.fqn)?;
        head.extend_from_slice(b",\"entity\":");
        self.writer.write_all(&head).await?;
        // Without a baseline nothing is unchanged.
        self.writer.write_all(entity.body().map_or(b"null", |body| body)).await?;
        self.writer.write_all(b"}\n").await
    }

    /// Everything was written: the file takes its place. Its absolute path, none for stdout.
    pub(super) async fn finish(mut self) -> Result<Option<PathBuf>, OutputError> {
        let result = self.flush().await;
        result.map_err(|error| self.failed(error))?;
        if let Some((path, mut partial)) = self.file.take()
            && let Some(from) = partial.0.take()
        {
            let renamed = tokio::fs::rename(&from, &path).await;
            if renamed.is_err() {
                partial.0 = Some(from);
            }
            renamed.map_err(|error| self.failed(error))?;
        }
        Ok(self.path)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await?;
        self.writer.shutdown().await
    }

    fn failed(&self, error: io::Error) -> OutputError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => OutputError::Closed,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OutputError::Full { path: self.shown.clone() },
            _ => OutputError::Write { path: self.shown.clone(), error },
        }
    }
}

/// Writes entities as they come.
pub(super) struct ExportSink {
    destination: Destination,
    display: Display,
    written: Written,
    error: Option<OutputError>,
}

/// What was written, counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) entities: u64,
    pub(super) tables: u64,
    pub(super) tags: u64,
    pub(super) columns: u64,
    pub(super) keys: u64,
}

/// What each key of a table has once.
const KEYS: [&str; 3] = [r#""constraint":"PRIMARY_KEY""#, r#""constraint":"UNIQUE""#, r#""constraintType":"#];

impl Written {
    fn count(&mut self, entity: &Entity) {
        self.entities += 1;
        self.tags += u64::from(entity.kind == Kind::Tag.as_str());
        if entity.kind == Kind::Table.as_str()
            && let Some(body) = entity.body()
        {
            self.tables += 1;
            // Inside a string the quotes would be escaped.
            let occurrences = |text: &str| {
                let found = memmem::find_iter(body, text.as_bytes()).count();
                u64::try_from(found).unwrap_or(u64::MAX)
            };
            self.columns += occurrences(r#""dataType":"#);
            self.keys += KEYS.iter().map(|key| occurrences(key)).sum::<u64>();
        }
    }
}

impl ExportSink {
    pub(super) fn new(destination: Destination, display: Display) -> Self {
        Self { destination, display, written: Written::default(), error: None }
    }

    pub(super) fn written(&self) -> Written {
        self.written
    }

    /// The destination, or why it could not be written.
    pub(super) fn into_error(self) -> Result<Destination, OutputError> {
        self.error.map_or(Ok(self.destination), Err)
    }
}

#[async_trait]
impl EntitySink for ExportSink {
    async fn emit(&mut self, entities: Vec<Entity>, _checkpoint: Checkpoint) -> Result<(), SinkClosed> {
        for entity in &entities {
            if let Err(error) = self.destination.write(entity).await {
                self.error = Some(self.destination.failed(error));
                return Err(SinkClosed);
            }
            self.written.count(entity);
        }
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        self.display.notice(&notice);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entity(fqn: &str) -> Entity {
        Entity::new("table", fqn.to_owned(), Bytes::from_static(b"{\"name\":\"x\"}"))
    }

    #[tokio::test]
    async fn a_file_appears_whole_under_its_name_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, "old").unwrap();
        let mut destination = Destination::open(&path).await.unwrap();
        destination.write(&entity("a.\"b.c\"")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(destination.finish().await.unwrap().unwrap(), path);
        let line = "{\"kind\":\"table\",\"fqn\":\"a.\\\"b.c\\\"\",\"entity\":{\"name\":\"x\"}}\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn columns_and_keys_are_counted_by_what_only_they_have() {
        let body = br#"{"description":"\"constraint\":\"UNIQUE\"","columns":[{"name":"Id","dataType":"VARCHAR","dataTypeDisplay":"id","constraint":"PRIMARY_KEY"},{"name":"Code","dataType":"VARCHAR","constraint":"UNIQUE"},{"name":"OwnerId","dataType":"VARCHAR","constraint":"NOT_NULL"}],"tableConstraints":[{"constraintType":"FOREIGN_KEY","columns":["OwnerId"]}]}"#;
        let mut written = Written::default();
        written.count(&Entity::new("table", "t".to_owned(), Bytes::from_static(body)));
        written.count(&Entity::new("tag", "c.t".to_owned(), Bytes::from_static(b"{}")));
        assert_eq!((written.entities, written.tables, written.tags), (2, 1, 1));
        assert_eq!((written.columns, written.keys), (3, 3));
    }

    #[tokio::test]
    async fn what_was_not_finished_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        drop(Destination::open(&folder.path().join("out.jsonl")).await.unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_folder_and_a_missing_one_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = Destination::open(folder.path()).await.err().unwrap().to_string();
        assert!(error.contains("directory"), "{error}");
        let missing = folder.path().join("none/out");
        let error = Destination::open(&missing).await.err().unwrap().to_string();
        assert!(error.contains("none/out"), "{error}");
    }

    #[tokio::test]
    async fn a_device_is_written_and_a_full_one_is_named() {
        let mut destination = Destination::open(Path::new("/dev/full")).await.unwrap();
        destination.write(&entity("a")).await.unwrap();
        assert!(matches!(destination.finish().await, Err(OutputError::Full { .. })));
        assert!(Path::new("/dev/full").exists());
    }
}
