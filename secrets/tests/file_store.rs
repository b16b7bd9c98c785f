//! The file store: what it reads and what it refuses.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hybrid_runner_secrets::{FileStore, ReadError, SecretError, SecretRef, SecretStore, SecretValue, Stores};
use tempfile::TempDir;

/// What a read came to, for comparing.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Value(String),
    NotFound,
    Denied,
    NotText,
    TooLarge,
    Unusable(&'static str),
    Unreachable,
    NotOfAFile,
}

async fn read(directory: &Path, reference: &str) -> Outcome {
    let reference: SecretRef = reference.parse().unwrap();
    match FileStore::new(directory).read(reference.path()).await {
        Ok(read) => Outcome::Value(read.value.expose().to_owned()),
        Err(ReadError::NotFound) => Outcome::NotFound,
        Err(ReadError::Denied(_)) => Outcome::Denied,
        Err(ReadError::NotText) => Outcome::NotText,
        Err(ReadError::TooLarge) => Outcome::TooLarge,
        Err(ReadError::Unusable(problem)) => Outcome::Unusable(problem),
        Err(ReadError::Unreachable(_)) => Outcome::Unreachable,
        Err(ReadError::KeyMissing | ReadError::Sealed | ReadError::Throttled) => Outcome::NotOfAFile,
    }
}

fn value(text: &str) -> Outcome {
    Outcome::Value(text.to_owned())
}

fn directory_with(files: &[(&str, &[u8])]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (path, content) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

#[tokio::test]
async fn a_path_is_a_file_below_the_directory() {
    let directory = directory_with(&[("password", b"one"), ("salesforce/prod/password", b"two"), ("..data", b"three")]);
    assert_eq!(read(directory.path(), "secret:/password").await, value("one"));
    assert_eq!(read(directory.path(), "secret:/salesforce/prod/password").await, value("two"));
    assert_eq!(read(directory.path(), "secret:/..data").await, value("three"));
}

#[tokio::test]
async fn one_newline_at_the_end_is_cut() {
    for (content, expected) in [
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        ("a", "a"),
        (" a \n", " a "),
        ("a\r", "a\r"),
        ("-----BEGIN\nx\n", "-----BEGIN\nx"),
        ("\n", ""),
    ] {
        let directory = directory_with(&[("a", content.as_bytes())]);
        assert_eq!(read(directory.path(), "secret:/a").await, value(expected), "{content:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let directory = directory_with(&[("a/b", b"x")]);
    for reference in ["secret:/b", "secret:/a/c", "secret:/a/b/c", "secret:/A/b"] {
        assert_eq!(read(directory.path(), reference).await, Outcome::NotFound, "{reference}");
    }
}

#[tokio::test]
async fn a_directory_that_is_missing_is_no_missing_secret() {
    let directory = directory_with(&[]);
    assert_eq!(read(&directory.path().join("none"), "secret:/a").await, Outcome::Unreachable);
}

/// Mounts version `number` as the kubelet does: a directory of its own, to which `..data` is swapped; then the one before
/// it is removed.
fn mount(directory: &Path, number: u32, value: &str) {
    let named = |number: u32| format!("..2026_11_22_23_41_04.{number}");
    let folder = directory.join(named(number));
    fs::create_dir_all(folder.join("tls")).unwrap();
    fs::write(folder.join("password"), value).unwrap();
    fs::write(folder.join("tls/key"), value).unwrap();
    symlink(named(number), directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    if number > 1 {
        fs::remove_dir_all(directory.join(named(number - 1))).unwrap();
    }
}

fn mounted(value: &str) -> TempDir {
    let directory = directory_with(&[]);
    mount(directory.path(), 1, value);
    for name in ["password", "tls"] {
        symlink(format!("..data/{name}"), directory.path().join(name)).unwrap();
    }
    directory
}

#[tokio::test]
async fn a_secret_that_the_kubelet_mounts_is_read_before_and_after_a_swap() {
    let directory = mounted("old\n");
    for (number, expected) in [(2, "old"), (3, "new")] {
        for reference in ["secret:/password", "secret:/tls/key"] {
            assert_eq!(read(directory.path(), reference).await, value(expected), "{reference}");
        }
        mount(directory.path(), number, "new\n");
    }
    // What it kept is gone.
    fs::remove_file(directory.path().join("..data")).unwrap();
    assert_eq!(read(directory.path(), "secret:/password").await, Outcome::NotFound);
}

#[tokio::test]
async fn a_read_during_a_swap_finds_the_old_value_or_the_new_one() {
    let directory = mounted("value 1");
    for number in 2..=200 {
        let path = directory.path().to_owned();
        let swap = std::thread::spawn(move || mount(&path, number, &format!("value {number}")));
        let found = read(directory.path(), "secret:/password").await;
        let either = [value(&format!("value {}", number - 1)), value(&format!("value {number}"))];
        assert!(either.contains(&found), "{number}: {found:?}");
        swap.join().unwrap();
    }
}

#[tokio::test]
async fn a_mount_whose_data_leads_outside_is_refused() {
    let outside = directory_with(&[("password", b"hunter2")]);
    let directory = mounted("x");
    symlink(outside.path(), directory.path().join("..data_tmp")).unwrap();
    fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).unwrap();
    let refused = Outcome::Unusable("leads outside the directory of the store");
    assert_eq!(read(directory.path(), "secret:/password").await, refused);
}

#[tokio::test]
async fn the_directory_itself_may_be_a_symbolic_link() {
    let directory = directory_with(&[("real/a", b"x")]);
    let link = directory.path().join("link");
    symlink("real", &link).unwrap();
    assert_eq!(read(&link, "secret:/a").await, value("x"));
}

#[tokio::test]
async fn a_symbolic_link_that_leads_outside_is_refused() {
    let outside = directory_with(&[("secret", b"hunter2"), ("dir/secret", b"hunter2")]);
    let directory = directory_with(&[("inside/a", b"x")]);
    let store = directory.path().join("inside");
    symlink(outside.path().join("secret"), store.join("absolute")).unwrap();
    symlink(outside.path().join("dir"), store.join("dir")).unwrap();
    symlink("../sibling", store.join("relative")).unwrap();
    symlink("/proc/self/environ", store.join("environ")).unwrap();
    fs::write(directory.path().join("sibling"), "hunter2").unwrap();
    // A name that begins like the directory is not below it.
    fs::create_dir(directory.path().join("inside-too")).unwrap();
    fs::write(directory.path().join("inside-too/a"), "hunter2").unwrap();
    symlink("../inside-too/a", store.join("prefix")).unwrap();
    for reference in ["secret:/absolute", "secret:/dir/secret", "secret:/relative", "secret:/environ", "secret:/prefix"]
    {
        let refused = Outcome::Unusable("leads outside the directory of the store");
        assert_eq!(read(&store, reference).await, refused, "{reference}");
    }
    symlink("/", store.join("outside")).unwrap();
    assert_ne!(read(&store, "secret:/outside/etc/hostname").await, Outcome::NotFound);
    symlink("loop", store.join("loop")).unwrap();
    assert_eq!(read(&store, "secret:/loop").await, Outcome::Unreachable);
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_at_once() {
    let directory = directory_with(&[("dir/a", b"x")]);
    let fifo = directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
    for reference in ["secret:/dir", "secret:/fifo", "secret:/socket"] {
        let refused = Outcome::Unusable("is not a regular file");
        assert_eq!(read(directory.path(), reference).await, refused, "{reference}");
    }
}

#[tokio::test]
async fn values_above_64_kib_are_refused() {
    let full = "x".repeat(SecretValue::MAX);
    let directory = directory_with(&[
        ("full", full.as_bytes()),
        ("newline", format!("{full}\r\n").as_bytes()),
        ("longer", format!("{full}xxx").as_bytes()),
    ]);
    assert_eq!(read(directory.path(), "secret:/full").await, value(&full));
    assert_eq!(read(directory.path(), "secret:/newline").await, value(&full));
    assert_eq!(read(directory.path(), "secret:/longer").await, Outcome::TooLarge);

    fs::write(directory.path().join("one"), format!("{full}x")).unwrap();
    let stores = Stores::default().with("file", FileStore::new(directory.path()));
    let error = stores.read(&"secret:/one".parse().unwrap()).await.err().unwrap();
    assert_eq!(error.to_string(), "secret secret:/one in store `file` is longer than 64 KiB");

    // A sparse file: the size is looked at before a byte is read.
    fs::File::create(directory.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(read(directory.path(), "secret:/huge").await, Outcome::TooLarge);
}

#[tokio::test]
async fn what_is_not_utf_8_is_refused() {
    let directory = directory_with(&[("a", b"\xff\xfe")]);
    assert_eq!(read(directory.path(), "secret:/a").await, Outcome::NotText);
}

#[tokio::test]
async fn a_key_is_refused() {
    let directory = directory_with(&[("a", b"{\"k\":\"v\"}")]);
    let refused = Outcome::Unusable("is a file, which has no keys; leave `#` and what follows it out");
    assert_eq!(read(directory.path(), "secret:/a#k").await, refused);
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_denied() {
    let directory = directory_with(&[("a", b"x")]);
    let file = directory.path().join("a");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything, and the build may run as root.
    let expected = if fs::read(&file).is_ok() { value("x") } else { Outcome::Denied };
    assert_eq!(read(directory.path(), "secret:/a").await, expected);
}

#[tokio::test]
async fn an_empty_value_and_an_unknown_store_are_errors() {
    let directory = directory_with(&[("empty", b"\n")]);
    let stores = Stores::default().with("file", FileStore::new(directory.path()));
    let empty = stores.read(&"secret:/empty".parse().unwrap()).await.err().unwrap();
    assert_eq!(empty.to_string(), "secret secret:/empty in store `file` is empty");
    let unknown = stores.read(&"secret://vault/empty".parse().unwrap()).await.err().unwrap();
    assert!(matches!(unknown, SecretError::UnknownStore { .. }));
    let named = stores.read(&"secret://file/none".parse().unwrap()).await.err().unwrap();
    assert_eq!(named.to_string(), "secret secret://file/none not found in store `file`");
}

#[tokio::test]
async fn the_version_of_a_file_is_when_it_was_modified() {
    let folder = directory_with(&[("one", b"hunter2")]);
    let file = fs::File::options().write(true).open(folder.path().join("one")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(1_769_848_200_750)).unwrap();
    let stores = Stores::default().with("file", FileStore::new(folder.path()));
    let read = stores.read_with_version(&"secret:/one".parse().unwrap()).await.unwrap();
    assert_eq!((read.value.expose(), read.version.as_deref()), ("hunter2", Some("modified 2026-01-31T08:30:00Z")));
    assert!(!format!("{read:?}").contains("hunter2"), "{read:?}");
}

#[tokio::test]
async fn a_look_tells_whether_the_directory_can_be_listed() {
    let directory = directory_with(&[("a", b"1")]);
    let seen = FileStore::new(directory.path()).look().await.unwrap();
    assert_eq!(seen, format!("directory {} can be read", directory.path().display()));
    for nowhere in ["none", "a"] {
        let nowhere = FileStore::new(directory.path().join(nowhere)).look().await;
        assert!(matches!(nowhere, Err(ReadError::Unreachable(_))), "{nowhere:?}");
    }
}
