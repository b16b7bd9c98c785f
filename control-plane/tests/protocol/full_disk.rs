//! The control plane's disk is full: nothing that was acknowledged is lost, nothing is half applied, it says so, and it
//! goes on when there is room again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use hybrid_runner_proto::v1::{self, Reason, push_response};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing_subscriber::fmt::MakeWriter;

use crate::agent::{Client, Push, Session, eof, granted, hello, reason, table, west};
use crate::plane::{PIPELINE, Plane, soon};

/// A file system of a few MiB, for as long as this lives.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where it may not be mounted: that takes root.
    #[expect(clippy::print_stderr, reason = "a test that cannot run has to say so")]
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "none"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { folder }),
            refused => {
                eprintln!("not run: a tmpfs cannot be mounted here, which takes root: {refused:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all room but so many bytes, and proves that there is no more.
    fn fill(&self, but: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let page = [0xb5; 4096];
        let full = loop {
            if let Err(full) = ballast.write_all(&page) {
                break full;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        let taken = ballast.metadata().unwrap().len();
        ballast.set_len(taken.saturating_sub(u64::try_from(but).unwrap())).unwrap();
    }

    fn is_full(&self) -> bool {
        let probe = std::fs::write(self.path().join("probe"), vec![1; 256 * 1024]);
        drop(std::fs::remove_file(self.path().join("probe")));
        probe.is_err_and(|error| error.kind() == ErrorKind::StorageFull)
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the store may be open still.
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

/// What this process logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The one log of all tests: with one for each thread, `tracing` may take a line for one that nobody wants, when another
    /// test logs it first.
    fn begin() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
            log
        })
    }

    /// The lines that name this place.
    fn lines_about(&self, place: &str) -> String {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        text.lines().filter(|line| line.contains(place)).collect::<Vec<_>>().join("\n")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn says_that_it_is_full(status: &Status) {
    assert_eq!((status.code(), reason(status)), (Code::Unavailable, Reason::Internal));
    assert!(status.message().contains("store is full"), "{}", status.message());
    let pause = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(pause, Some(Duration::from_secs(5)));
}

fn record(seq: u64) -> v1::Record {
    table(
        seq,
        &format!("T{seq:05}"),
        &format!("{{\"name\":\"T{seq:05}\",\"description\":\"{}\"}}", "x".repeat(8 * 1024)),
    )
}

/// Pushes batches until one is refused; the first record that was not acknowledged, and why the push ended.
async fn push_until_refused(client: &mut Client, token: &v1::WriteToken) -> (u64, Status) {
    let (mut push, opened) = Push::open(client, token).await;
    let mut next_seq = opened.next_seq;
    loop {
        let records: Vec<v1::Record> = (next_seq..next_seq + 20).map(record).collect();
        push.batch(token, &records).await;
        match push.answer().await {
            Ok(push_response::Message::Ack(ack)) => next_seq = ack.next_seq,
            Ok(other) => panic!("expected Ack, got {other:?}"),
            Err(status) => return (next_seq, status),
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_the_disk_was_full_is_durable_and_work_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let log = Log::begin();
    let path = disk.path().join("store.db");
    let plane = Plane::with_store(&path).await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    disk.fill(1024 * 1024);
    let (acked, refused) = push_until_refused(&mut client, &token).await;
    assert!(disk.is_full(), "the fault took place");
    assert!(acked > 0, "some of it fitted");
    says_that_it_is_full(&refused);
    let log = log.lines_about(&plane.handle.store().place());
    assert!(log.contains("the store is full") && log.contains("make room on its file system"), "{log}");
    // What needs no room goes on: the run is there, and its records are not visible.
    let run_id = token.run_id.parse().unwrap();
    assert!(plane.handle.store().run(run_id).await.unwrap().unwrap().state.is_active());
    assert_eq!(plane.handle.store().entities(None, None, 10).await.unwrap(), []);
    // Refused again, and again nothing is half applied.
    if let Ok((mut push, opened)) = Push::try_open(&mut client, &token).await {
        assert_eq!(opened.next_seq, acked);
        let records: Vec<v1::Record> = (acked..acked + 100).map(record).collect();
        push.batch(&token, &records).await;
        says_that_it_is_full(&push.answer().await.unwrap_err());
    }

    disk.make_room();
    let (mut push, opened) = Push::open(&mut client, &token).await;
    assert_eq!(opened.next_seq, acked);
    let records: Vec<v1::Record> = (0..acked + 20).map(record).collect();
    push.batch(&token, &records[usize::try_from(acked).unwrap()..]).await;
    assert_eq!(push.ack().await, acked + 20);
    push.say(eof(&token, &records)).await;
    match push.hear().await {
        push_response::Message::Committed(committed) => assert_eq!(committed.entities, acked + 20),
        other => panic!("expected Committed, got {other:?}"),
    }
    session.ask(1).await;
    plane.trigger().await;
    session.grant().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_served_for_lack_of_room_ends_and_the_lease_is_taken_up_again_when_there_is() {
    let Some(disk) = SmallDisk::mount() else { return };
    Log::begin();
    let plane = Plane::with_store(&disk.path().join("store.db")).await;
    let mut client = west(&plane).await;
    let (mut session, token) = granted(&plane, &mut client).await;
    disk.fill(0);
    // Each heartbeat is a transaction: the room that the log has already is used up by some of them.
    let status = soon("a heartbeat that finds no room", async {
        for id in 1.. {
            if let Err(status) = session.try_beat(id, &token).await {
                return status;
            }
        }
        unreachable!("heartbeats do not run out")
    });
    let status = status.await;
    assert!(disk.is_full(), "the fault took place");
    says_that_it_is_full(&status);
    disk.make_room();
    let held = vec![v1::HeldLease { token: Some(token.clone()), pipeline: PIPELINE.to_owned() }];
    let (mut session, welcome) = Session::hello_with(&mut client, v1::Hello { held, ..hello() }).await;
    assert_eq!(welcome.resumed_run_ids, [token.run_id.as_str()]);
    session.definition().await;
    assert_eq!(session.beat(1, std::slice::from_ref(&token)).await, [token.run_id.as_str()]);
    let (mut push, _) = Push::open(&mut client, &token).await;
    push.say(eof(&token, &[])).await;
    assert!(matches!(push.hear().await, push_response::Message::Committed(_)));
}
