//! What a person sees, on stderr: a progress bar on a terminal, plain lines otherwise.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this module is the program's output")]

use std::fmt::Write;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hybrid_runner::{AgentEvent, RunEnd, RunProgress, RunSnapshot, Severity, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::report::Report;

/// The screen of a first look.
pub(crate) struct Screen {
    bar: ProgressBar,
    is_terminal: bool,
    run: Option<RunProgress>,
    last: RunSnapshot,
}

impl Screen {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        // The template is a constant; if it did not parse, the default style is as good.
        if let Ok(style) = ProgressStyle::with_template("  {msg:<10} {bar:40.cyan} {pos}/{len} objects{left}") {
            bar.set_style(style.with_key("left", left));
        }
        Self { bar, is_terminal, run: None, last: RunSnapshot::default() }
    }

    /// A line of its own.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if self.bar.is_hidden() {
            eprintln!("{}", text.as_ref());
        } else {
            self.bar.println(text.as_ref());
        }
    }

    /// Something happened in the agent.
    pub(crate) fn on_event(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Connected { control_plane } => self.line(format!("✓ agent connected to {control_plane}")),
            AgentEvent::Disconnected { problem } => self.line(format!("! agent not connected: {problem}")),
            AgentEvent::DefinitionAccepted { pipeline, .. } => {
                self.line(format!("✓ definition of `{pipeline}` accepted"));
            }
            AgentEvent::DefinitionRejected { pipeline, reason, detail, .. } => {
                self.line(format!("✗ definition of `{pipeline}` rejected ({reason}): {detail}"));
            }
            AgentEvent::Granted { pipeline, run_id, progress, .. } => {
                self.line(format!("✓ pipeline `{pipeline}` granted, run {run_id}"));
                self.run = Some(progress);
                self.last = RunSnapshot::default();
                if self.is_terminal {
                    self.bar.reset();
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                }
            }
            AgentEvent::Notice { notice, .. } => {
                let mark = if notice.severity == Severity::Warning { '!' } else { '·' };
                self.line(format!("{mark} {}", notice.text));
            }
            AgentEvent::RunEnded { end, .. } => {
                self.run = None;
                self.bar.finish_and_clear();
                self.bar.set_draw_target(ProgressDrawTarget::hidden());
                match end {
                    RunEnd::Committed(figures) => self.line(format!("✓ {} entities committed", figures.entities)),
                    RunEnd::Failed { reason, detail } => self.line(format!("✗ run failed ({reason}): {detail}")),
                    RunEnd::HandedBack { reason, .. } => self.line(format!("· run handed back ({reason})")),
                    RunEnd::LeaseLost { reason } => self.line(format!("! lease lost ({reason})")),
                }
            }
        }
    }

    /// Time passed: the bar moves; without a terminal a stage is a line.
    pub(crate) fn on_tick(&mut self) {
        let Some(run) = &self.run else { return };
        let now = run.snapshot();
        let (before, seen) = (std::mem::replace(&mut self.last, now).source, now.source);
        if self.is_terminal {
            self.bar.set_length(seen.objects_total);
            self.bar.set_position(seen.objects_done + seen.objects_failed);
            self.bar.set_message(stage(seen.stage));
        } else if seen.stage != before.stage {
            let of = match seen.objects_total {
                0 => String::new(),
                total => format!(": {} of {total} objects", seen.objects_done),
            };
            self.line(format!("· {}{of}", stage(seen.stage)));
        }
    }

    /// A run ended.
    pub(crate) fn ended(&self, report: &Report<'_>) {
        self.line(report.table());
    }
}

/// How long the rest may take, once that means something.
fn left(state: &ProgressState, text: &mut dyn Write) {
    let left = state.len().unwrap_or_default().saturating_sub(state.pos());
    if left > 0 && state.pos() >= 10 && state.elapsed() >= Duration::from_secs(2) {
        // The bar can do without.
        write!(text, ", about {} s left", state.eta().as_secs().max(1)).unwrap_or_default();
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting => "starting",
        Stage::Login => "login",
        Stage::List => "listing",
        Stage::Extract => "describing",
        Stage::Flush => "committing",
    }
}

/// Where the results are, and how to look at them.
pub(crate) fn results(screen: &Screen, export: &Path, config: &Path) {
    screen.line(format!("\nEntities, one JSON line each:  {}", export.display()));
    screen.line("Look at them:");
    for command in ["runs", "logs RUN", "entities", "export"] {
        screen.line(format!("  cargo run -q -p control-plane -- {command} --config {}", config.display()));
    }
}

/// The one line for programs.
pub(crate) fn json(report: &Report<'_>) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&report.line())?);
    Ok(())
}

/// `--write` is done.
pub(crate) fn written(dir: &Path) -> ExitCode {
    eprintln!(
        "Wrote {0}. Start the commands of {0}/commands.json in their order, with {0} as working directory.",
        dir.display()
    );
    ExitCode::SUCCESS
}

/// Why the program does not start.
pub(crate) fn refuse(problem: &str) {
    eprintln!("error: {problem}");
}

/// How often [`Screen::on_tick`] is called: fast enough for a bar, slow enough to cost nothing.
pub(crate) const TICK: Duration = Duration::from_millis(80);
