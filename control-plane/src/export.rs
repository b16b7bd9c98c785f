//! Committed entities as JSON Lines: `{"kind","fqn","entity"}`, in FQN order, `entity` being OpenMetadata's request.
//!
//! The export reads page after page: what commits meanwhile may be in the later ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use crate::store::{EntityBody, Store, StoreError};

/// Entities read at once: with 20 KB each, a page is 4 MB.
const PAGE: u32 = 200;

/// Reads an export chunk by chunk.
#[derive(Debug)]
pub struct Export {
    store: Arc<dyn Store>,
    pipeline: Option<String>,
    after: Option<(String, String)>,
    done: bool,
}

/// An export could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file failed.
    #[error("write {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Export {
    /// The export of a pipeline, or of all.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, pipeline: Option<String>) -> Self {
        Self { store, pipeline, after: None, done: false }
    }

    /// The next lines; `None` after the last.
    ///
    /// # Errors
    /// [`StoreError`]
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn next_lines(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let after = self.after.as_ref().map(|(fqn, pipeline)| (fqn.as_str(), pipeline.as_str()));
        let page = self.store.bodies(self.pipeline.as_deref(), after, PAGE).await?;
        self.done = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        if let Some(last) = page.last() {
            self.after = Some((last.row.fqn.clone(), last.row.pipeline.clone()));
        }
        Ok(Some(page.iter().flat_map(line).collect()))
    }

    /// Writes all lines to a file, in place of one that is there, and returns how many there were. The file appears
    /// when it is whole.
    ///
    /// # Errors
    /// [`ExportError`]
    pub async fn write(mut self, path: &Path) -> Result<u64, ExportError> {
        let failed = |source| ExportError::File { path: path.to_owned(), source };
        let part = path.with_extension("part");
        let mut file = tokio::fs::File::create(&part).await.map_err(failed)?;
        let mut lines = 0;
        while let Some(chunk) = self.next_lines().await? {
            lines += chunk.iter().filter(|byte| **byte == b'\n').map(|_| 1).sum::<u64>();
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(&part, path).await.map_err(failed)?;
        Ok(lines)
    }
}

/// One line. The body is JSON already: its bytes are written as they came, but for line ends between its tokens (inside
/// of strings JSON has none).
fn line(entity: &EntityBody) -> Vec<u8> {
    let string = |text: &str| serde_json::Value::from(text).to_string();
    let (kind, fqn) = (string(&entity.row.kind), string(&entity.row.fqn));
    let mut line = format!("{{\"kind\":{kind},\"fqn\":{fqn},\"entity\":").into_bytes();
    line.extend(entity.body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EntityRow, RunId};

    #[test]
    fn an_entity_is_one_line_whose_body_is_as_sent() {
        let row = EntityRow {
            pipeline: "p".to_owned(),
            kind: "table".to_owned(),
            fqn: "a.\"b.c\"".to_owned(),
            columns: 0,
            run_id: RunId::new(),
        };
        let line = line(&EntityBody { row, body: "{\n\"name\":\"x\\n\"\n}".into() });
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"kind\":\"table\",\"fqn\":\"a.\\\"b.c\\\"\",\"entity\":{ \"name\":\"x\\n\" }}\n"
        );
    }
}
