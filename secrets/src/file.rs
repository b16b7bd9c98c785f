//! Secrets as files below one directory: mounted Secrets, `docker secret`, a folder on a laptop.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::kind::Kind;
use crate::{Read, ReadError, SecretPath, SecretStore, SecretValue};

/// Reads `secret:/a/b` from the file `DIR/a/b`.
///
/// The file must lie below the directory once every symbolic link is followed: a Secret that Kubernetes mounts is a link
/// to `..data`, which is swapped as a whole when the Secret changes. One newline at the end is cut, because editors and
/// `echo` add one.
#[derive(Debug, Clone)]
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// A store of the files below `directory`, which is looked at when a secret is read and not before.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

pub(crate) const KIND: Kind = Kind {
    name: "file",
    form: "file:DIR",
    open: |directory| match directory {
        None | Some("") => Err("names no directory; write file:DIR".to_owned()),
        Some(directory) => Ok(Box::new(FileStore::new(directory))),
    },
};

#[async_trait]
impl SecretStore for FileStore {
    fn kind(&self) -> &'static str {
        "file"
    }

    async fn read(&self, path: &SecretPath) -> Result<Read, ReadError> {
        if path.key().is_some() {
            return Err(ReadError::Unusable("is a file, which has no keys; leave `#` and what follows it out"));
        }
        let directory = self.directory.clone();
        let file = path.segments().iter().collect::<PathBuf>();
        let read = move || match read_below(&directory, &file) {
            // A link that was swapped between being followed and being opened; the second time it leads to the new file.
            Err(ReadError::NotFound) => read_below(&directory, &file),
            other => other,
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| ReadError::Unreachable(error.into()))?
    }

    async fn look(&self) -> Result<String, ReadError> {
        let directory = self.directory.clone();
        let look = move || {
            let found = real(&directory)?;
            fs::read_dir(&found).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => reason(error),
                _ => of_directory(&directory, &error),
            })?;
            Ok(format!("directory {} can be read", directory.display()))
        };
        tokio::task::spawn_blocking(look).await.map_err(|error| ReadError::Unreachable(error.into()))?
    }
}

/// Bytes that are read at most: the largest value, a newline of two characters, and one to see that there is more.
const READ_LIMIT: usize = SecretValue::MAX + 3;

fn read_below(directory: &Path, file: &Path) -> Result<Read, ReadError> {
    let directory = real(directory)?;
    let target = directory.join(file).canonicalize().map_err(reason)?;
    if !target.starts_with(&directory) {
        return Err(ReadError::Unusable("leads outside the directory of the store"));
    }
    // Before it is opened: opening a FIFO waits for a writer.
    check(&fs::metadata(&target).map_err(reason)?)?;
    let mut file = File::open(&target).map_err(reason)?;
    let metadata = file.metadata().map_err(reason)?;
    check(&metadata)?;

    // One buffer of the full size: one that grows would leave its earlier copies behind.
    let mut buffer = Zeroizing::new(vec![0; READ_LIMIT]);
    let filled = fill(&mut file, &mut buffer).map_err(reason)?;
    let text = buffer.get(..filled).unwrap_or_default();
    let text = str::from_utf8(text).ok().ok_or(ReadError::NotText)?;
    Ok(Read { value: SecretValue::new(without_newline(text).to_owned()), version: modified(&metadata) })
}

/// The directory itself, every link followed.
fn real(directory: &Path) -> Result<PathBuf, ReadError> {
    directory.canonicalize().map_err(|error| of_directory(directory, &error))
}

fn of_directory(directory: &Path, error: &io::Error) -> ReadError {
    let shown = directory.display();
    ReadError::Unreachable(io::Error::new(error.kind(), format!("directory {shown}: {error}")).into())
}

/// Without the one newline at its end that editors and `echo` add.
pub(crate) fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}

fn modified(metadata: &fs::Metadata) -> Option<String> {
    let modified = Timestamp::try_from(metadata.modified().ok()?).ok()?;
    Some(format!("modified {modified:.0}"))
}

fn check(metadata: &fs::Metadata) -> Result<(), ReadError> {
    if !metadata.is_file() {
        return Err(ReadError::Unusable("is not a regular file"));
    }
    if usize::try_from(metadata.len()).is_ok_and(|length| length < READ_LIMIT) {
        return Ok(());
    }
    Err(ReadError::TooLarge)
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn reason(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::NotFound,
        io::ErrorKind::PermissionDenied => {
            ReadError::Denied("read permission on its file, and search on the directories above".to_owned())
        }
        _ => ReadError::Unreachable(error.into()),
    }
}
