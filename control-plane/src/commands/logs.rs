//! `control-plane logs`: what happened in a run, once or as it goes on.

mod row;

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Failure, Look, Outcome, existing_store, failed, load, output, refused};
use crate::store::{Event, LineId, LogLine, Run, RunId, RunState, Store};

/// How often the store is looked at: what the server has is shown well within a second.
const POLL: Duration = Duration::from_millis(250);

/// The last lines of a run may come after its end; when none came for so long, there are no more.
const SETTLE: Duration = Duration::from_secs(1);

/// Lines read at once.
const PAGE: u32 = 1_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The run, as `runs` shows it
    run: RunId,
    /// Go on until the run is committed, failed or cancelled; with --json an object a line
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    look: Look,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let store = existing_store(&load(&arguments.look.common)?).await?;
    let mut seen = Seen::default();
    if arguments.follow {
        return follow(&*store, arguments, seen).await;
    }
    look(&*store, arguments.run).await?;
    let rows = seen.news(&*store, arguments.run).await?;
    if arguments.look.json {
        return output::line(&Value::from(rows).to_string());
    }
    print(&rows, false)
}

async fn follow(store: &dyn Store, arguments: &Arguments, mut seen: Seen) -> Outcome {
    let json = arguments.look.json;
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet_since = Instant::now();
    loop {
        ticks.tick().await;
        // Before the rest: what it said until then is shown before its end.
        let run = look(store, arguments.run).await?;
        let is_final = run.state.is_final();
        let mut rows = Vec::new();
        rows.extend(seen.state(&run).filter(|_| !is_final));
        let news = seen.news(store, arguments.run).await?;
        let progress = store.progress(arguments.run).await.map_err(failed)?;
        rows.extend(progress.filter(|_| run.state.is_active()).and_then(|progress| seen.progress(&progress)));
        if !news.is_empty() || !is_final {
            quiet_since = Instant::now();
        }
        rows.extend(news);
        print(&rows, json)?;
        if is_final && quiet_since.elapsed() >= SETTLE {
            return print(&[row::of_state(&run)], json);
        }
    }
}

async fn look(store: &dyn Store, run_id: RunId) -> Result<Run, Failure> {
    store
        .run(run_id)
        .await
        .map_err(failed)?
        .ok_or_else(|| refused(anyhow!("there is no run {run_id}; `control-plane runs` shows those that there are")))
}

fn print(rows: &[Value], json: bool) -> Outcome {
    let text = |row: &Value| if json { format!("{row}\n") } else { format!("{}\n", row::for_people(row)) };
    output::print(rows.iter().map(text).collect::<String>().as_bytes())
}

/// What was shown.
#[derive(Debug, Default)]
struct Seen {
    events: usize,
    line: Option<LineId>,
    state: Option<(RunState, u32)>,
    progress: Option<Timestamp>,
}

impl Seen {
    /// Events and lines since the last look, in order.
    async fn news(&mut self, store: &dyn Store, run_id: RunId) -> Result<Vec<Value>, Failure> {
        let events = store.events(run_id).await.map_err(failed)?;
        let new = events.get(self.events..).unwrap_or_default();
        let mut lines: Vec<LogLine> = Vec::new();
        loop {
            let after = lines.last().map(|line| line.id).or(self.line);
            let page = store.log(run_id, after, PAGE).await.map_err(failed)?;
            let is_last = u32::try_from(page.len()).is_ok_and(|lines| lines < PAGE);
            lines.extend(page);
            if is_last {
                break;
            }
        }
        let rows = merged(new, &lines);
        self.events = events.len();
        self.line = lines.last().map(|line| line.id).or(self.line);
        Ok(rows)
    }

    fn state(&mut self, run: &Run) -> Option<Value> {
        let now = (run.state, run.attempt);
        (self.state.replace(now) != Some(now)).then(|| row::of_state(run))
    }

    fn progress(&mut self, progress: &crate::progress::RunProgress) -> Option<Value> {
        (self.progress.replace(progress.at) != Some(progress.at)).then(|| row::of_progress(progress))
    }
}

/// Events carry the time of this machine, lines that of the agent's. Each keeps its own order, so that clocks which
/// disagree move events against lines and nothing else.
fn merged(events: &[Event], lines: &[LogLine]) -> Vec<Value> {
    let mut rows = Vec::with_capacity(events.len() + lines.len());
    let mut events = events.iter().peekable();
    for line in lines {
        let (time, row) = row::of_line(line);
        while let Some(event) = events.next_if(|event| time.is_some_and(|time| event.at < time)) {
            rows.push(row::of_event(event));
        }
        rows.push(row);
    }
    rows.extend(events.map(row::of_event));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: &str, code: &str) -> Event {
        let (severity, text) = ("warning".to_owned(), "it said".to_owned());
        Event { at: at.parse().unwrap(), severity, code: code.to_owned(), text }
    }

    fn line(number: u64, text: &str) -> LogLine {
        LogLine { id: LineId { fence: 3, number }, text: text.to_owned() }
    }

    #[test]
    fn events_stand_between_the_lines_by_their_time_and_neither_is_reordered() {
        let events = [event("2026-05-01T12:00:01Z", "first"), event("2026-05-01T12:00:00Z", "second")];
        let lines = [
            line(0, r#"{"time":"2026-05-01T12:00:00.5Z","level":"INFO","target":"a","message":"one"}"#),
            line(1, "no JSON"),
            line(2, r#"{"time":"2026-05-01T12:00:03Z","level":"WARN","target":"a","message":"two","fields":{"n":1}}"#),
        ];
        let rows = merged(&events, &lines);
        let shown: Vec<String> = rows.iter().map(row::for_people).collect();
        assert_eq!(
            shown,
            [
                "2026-05-01T12:00:00.500Z INFO  a: one",
                "                         INFO  no JSON",
                "2026-05-01T12:00:01.000Z WARN  first: it said",
                "2026-05-01T12:00:00.000Z WARN  second: it said",
                "2026-05-01T12:00:03.000Z WARN  a: two n=1",
            ]
        );
        assert_eq!((&rows[4]["number"], &rows[4]["grant"], &rows[4]["kind"]), (&2.into(), &3.into(), &"line".into()));
    }

    #[test]
    fn what_an_agent_sends_does_not_reach_the_terminal_as_a_command() {
        let (_, row) = row::of_line(&line(0, r#"{"level":"INFO","message":"a\u001b[2Jb\nc","fields":{"k":"\u0007"}}"#));
        let shown = row::for_people(&row);
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}
