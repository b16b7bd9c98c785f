//! Each fault at each call of a run: the result is the one without the fault, or the run says that it is not.
//!
//! Rows are faults (`faults/matrix.rs`), columns the calls of a run, or parts of composites, that they meet: `describes2`
//! and `tooling2` are the second such call, `one` is one object's describe, `entities`, `fields`, `values` and `users` are
//! sub-requests. Each cell is run as a first run and as a second one, of an org that has changed in between. What becomes
//! of both is a letter:
//!
//! | letter | the run |
//! |---|---|
//! | `r` | is complete, and its entities are those of a run without faults |
//! | `i` | is incomplete: nothing is gone, and each table is either as without faults or named as failed |
//! | `w` | is complete with less in its tables, because Salesforce refuses it, and a warning says so |
//! | `U` `P` `T` `D` `A` `B` | fails: unreachable, protocol, throttled, denied, login, definition |
//! | `.` | is not run |

mod cell;
mod matrix;

use std::collections::BTreeMap;

use hybrid_runner_connector::Reason;
use sandbox::{Disturbance, Kind, Target, Wrong};
use tokio::task::JoinSet;

use crate::case::Case;
use cell::{Cell, Judged, Often, Org};
use matrix::Column;

/// Cells that one org is put through, one after the other. Most of their time is waiting, most of all where a fault
/// stays, so orgs are many.
const CELLS_AN_ORG: usize = 11;
const CELLS_AN_ORG_ALWAYS: usize = 2;

const ONCE: &str = "
               soap token versions list limits describes describes2 one tooling tooling2 entities fields values counts owners users
 503           r    r     r        r    r      r         r          r   r       r        r        r      r      r      r      r
 503_after_1s  r    r     r        r    r      r         r          .   r       r        .        .      .      r      r      .
 429           r    r     r        r    r      r         r          r   r       r        r        r      r      r      r      r
 500_unknown   P    P     r        r    r      r         r          r   r       r        r        r      r      r      r      r
 500_page      P    P     r        r    r      r         r          r   r       r        r        r      r      r      r      r
 403_access    D    D     D        D    r      D         D          i   w       w        w        w      w      w      w      w
 403_daily     T    T     T        T    r      T         T          T   T       T        T        T      T      T      T      T
 403_at_once   T    T     r        r    r      r         r          r   r       r        r        r      r      r      r      r
 401           A    A     r        r    r      r         r          r   r       r        r        r      r      r      r      r
 expired       .    .     .        r    r      r         r          .   r       r        .        .      .      r      r      .
 404           P    P     P        B    r      P         P          i   w       w        r        r      w      w      w      w
 410           P    P     P        B    r      P         P          i   P       P        r        r      w      P      P      w
 reset         U    U     r        r    r      r         r          .   r       r        .        .      .      r      r      .
 truncated     U    U     r        r    r      r         r          .   r       r        .        .      .      r      r      .
 late          U    U     r        r    r      r         r          .   r       r        .        .      .      r      r      .
 page          P    P     P        P    r      r         r          r   r       r        r        r      r      r      r      r
 empty         P    P     P        P    r      r         r          r   r       r        r        r      r      r      r      r
 other_json    P    P     P        P    r      r         r          r   r       r        r        r      r      r      r      r
 list_json     P    P     P        P    r      r         r          r   r       r        r        r      r      r      r      r
 304           P    P     P        P    r      P         P          r   P       P        r        r      r      P      P      r
 missing       .    .     .        .    .      .         .          r   .       .        r        r      r      .      .      r
 reversed      .    .     .        .    .      r         r          .   r       r        .        .      .      .      r      .
";

const ALWAYS: &str = "
               soap token versions list limits describes one tooling entities fields values counts owners users
 503           U    .     U        U    r      U         i   U       .        .      .      U      .      U
 429           .    .     .        T    .      .         i   .       .        .      .      .      .      T
 500_unknown   .    .     .        .    .      P         .   .       .        i      .      P      .      .
 403_access    D    D     D        D    r      D         i   w       w        w      w      w      w      w
 403_daily     T    T     T        T    r      T         T   T       T        T      T      T      T      T
 403_at_once   .    .     .        .    .      T         i   .       i        .      .      .      .      .
 401           A    A     A        A    r      A         A   A       A        A      A      A      A      A
 expired       .    .     .        A    r      A         .   A       .        .      .      A      A      .
 404           P    P     P        B    r      P         i   w       w        w      w      w      w      w
 410           P    P     P        B    r      P         i   P       w        w      w      P      P      w
 reset         .    .     U        .    .      U         .   .       .        .      .      U      .      .
 truncated     .    .     .        U    .      .         .   U       .        .      .      .      U      .
 late          U    .     .        U    .      .         .   .       .        .      .      .      .      .
 page          P    P     P        P    r      P         i   .       .        .      P      P      .      P
 other_json    P    .     P        P    .      .         i   P       .        .      .      P      .      P
 304           .    .     .        .    .      .         .   .       i        .      .      .      .      P
 missing       .    .     .        .    .      .         i   .       .        .      P      .      .      .
 reversed      .    .     .        .    .      r         .   r       .        .      .      .      r      .
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_happens_once_at_any_call_changes_nothing_or_is_told() {
    check(ONCE, Often::Once).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_stays_at_any_call_changes_nothing_or_is_told() {
    check(ALWAYS, Often::Always).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_304_that_was_not_asked_for_is_no_redirect() {
    let case = Case::of(3).await;
    let fault = Disturbance::once(Target::Call(Kind::Global, String::new()), Wrong::NotModified);
    case.org.faults().change(|plan| plan.disturbances = vec![fault]);
    let error = case.error().await;
    assert_eq!(error.reason, Reason::SourceProtocol);
    assert!(error.detail.contains("304") && !error.detail.contains("redirect"), "{error}");
}

/// Runs every cell and shows all that failed, with the table as it came out.
async fn check(table: &str, often: Often) {
    let mut by_column: BTreeMap<&str, Vec<Cell>> = BTreeMap::new();
    for cell in cells(table) {
        by_column.entry(cell.column.name).or_default().push(cell);
    }
    let an_org = if often == Often::Once { CELLS_AN_ORG } else { CELLS_AN_ORG_ALWAYS };
    let mut orgs = JoinSet::new();
    for cells in by_column.values().flat_map(|cells| cells.chunks(an_org)) {
        let cells = cells.to_vec();
        orgs.spawn(async move {
            let mut org = Org::new(&cells.first().unwrap().column).await;
            let mut judged = Vec::new();
            for cell in cells {
                judged.push(org.judge(cell, often).await);
            }
            judged
        });
    }
    let judged: Vec<Judged> = orgs.join_all().await.into_iter().flatten().collect();
    let wrong: Vec<_> = judged.iter().filter_map(wrong_with).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cells:\n{}\n{}",
        wrong.len(),
        judged.len(),
        wrong.join("\n"),
        as_became(table, &judged)
    );
}

/// A table's cells: rows are faults, columns are calls; `.` is no cell.
fn cells(table: &str) -> Vec<Cell> {
    let mut lines = table.lines().filter(|line| !line.trim().is_empty()).map(str::split_whitespace);
    let columns: Vec<_> = lines.next().unwrap().map(|name| Column::named(name).unwrap()).collect();
    let mut cells = Vec::new();
    for mut row in lines {
        let fault = row.next().unwrap();
        let letters: Vec<_> = row.map(|letter| letter.chars().next().unwrap()).collect();
        assert_eq!(letters.len(), columns.len(), "row {fault}");
        let filled = columns.iter().zip(letters).filter(|(_, letter)| *letter != '.');
        cells.extend(filled.map(|(column, expected)| Cell { fault: fault.to_owned(), column: *column, expected }));
    }
    cells
}

fn wrong_with(judged: &Judged) -> Option<String> {
    let Judged { cell, became, problems } = judged;
    let as_expected = became.iter().all(|letter| *letter == cell.expected);
    (!as_expected || !problems.is_empty()).then(|| {
        let (fault, column, expected) = (&cell.fault, cell.column.name, cell.expected);
        let [first, second] = became;
        format!("{fault} at {column}: expected {expected}, became {first} and {second} {}", problems.join("; "))
    })
}

/// The table with what each cell became, where it differs from what is expected.
fn as_became(table: &str, judged: &[Judged]) -> String {
    let became: BTreeMap<_, _> =
        judged.iter().map(|judged| ((judged.cell.fault.as_str(), judged.cell.column.name), judged.became)).collect();
    let mut lines = table.lines().filter(|line| !line.trim().is_empty());
    let header = lines.next().unwrap_or_default();
    let columns: Vec<_> = header.split_whitespace().collect();
    let mut text = format!("{header}\n");
    for row in lines {
        let fault = row.split_whitespace().next().unwrap_or_default();
        text.push_str(&format!(" {fault:14}"));
        for column in &columns {
            let [first, second] = became.get(&(fault, column)).copied().unwrap_or(['.'; 2]);
            let letters = if first == second { first.to_string() } else { format!("{first}/{second}") };
            text.push_str(&format!("{letters:width$} ", width = column.len()));
        }
        text.push('\n');
    }
    text
}
