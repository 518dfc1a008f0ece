//! Progress on standard error: one line that changes on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backout_core::ids::Slot;
use backout_core::model::OperationKind;
use backout_core::plan::Plan;
use backout_engine::{Event, EventSink, SideReading, StepMark, WatchReading};
use backout_judge::Level;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::{question, words};

/// Elsewhere than on a terminal a watch is told this often, and when its verdict changes; so is a step that takes long.
const PLAIN_PERIOD: Duration = Duration::from_secs(10);
/// How often a terminal is told how long a step takes.
const TICK: Duration = Duration::from_secs(1);

/// Follows an engine's events until they end.
pub struct Progress {
    task: JoinHandle<()>,
    over: Arc<Notify>,
}

impl Progress {
    /// Begins to follow.
    pub fn follow(events: &EventSink, verbose: bool) -> Self {
        let mut receiver = events.subscribe();
        let mut printer = Printer::new(verbose);
        let over = Arc::new(Notify::new());
        let told = over.clone();
        let task = tokio::spawn(async move {
            let mut clock = tokio::time::interval(TICK);
            loop {
                let event = tokio::select! {
                    biased;
                    event = receiver.recv() => event,
                    () = told.notified() => break,
                    _ = clock.tick() => {
                        printer.tick();
                        continue;
                    }
                };
                match event {
                    Ok(event) => printer.print(&event),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                }
            }
            printer.end();
        });
        Self { task, over }
    }

    /// Prints what is left, and clears the line that changes.
    pub async fn finish(self) {
        self.over.notify_one();
        let _ = self.task.await;
    }
}

struct Printer {
    bar: Option<ProgressBar>,
    verbose: bool,
    plan: Option<Box<Plan>>,
    last_watch: Option<(Instant, String, Level)>,
    /// Steps under way, the oldest first: those of several hosts are at the same time.
    running: Vec<Running>,
    /// When one of them was told last.
    told: Option<Instant>,
}

struct Running {
    what: String,
    began: Instant,
}

impl Printer {
    fn new(verbose: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("  {spinner} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Self { bar, verbose, plan: None, last_watch: None, running: Vec::new(), told: None }
    }

    fn line(&self, text: &str) {
        if question::write_above(text) {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| {
                let _ = writeln!(anstream::stderr(), "{text}");
            }),
            None => {
                let _ = writeln!(anstream::stderr(), "{text}");
            }
        }
    }

    fn changing(&self, text: String) {
        if let Some(bar) = &self.bar {
            question::draw(|| {
                bar.set_message(text);
                bar.tick();
            });
        }
    }

    fn end(&self) {
        question::give_up();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn print(&mut self, event: &Event) {
        let bold = clap::builder::styling::Style::new().bold();
        match event {
            Event::Opened { plan, resumed } => {
                self.line(&format!("{bold}{}{bold:#}", headline(plan, *resumed)));
                self.plan = Some(plan.clone());
                // What was under way in the operation that this one takes back is over.
                self.running.clear();
            }
            Event::Step { name, subject, mark, message, .. } => {
                self.step(name, subject, *mark, message)
            }
            Event::Watch(reading) => self.watch(reading),
            Event::Failing { trigger, evidence, .. } => {
                let red = clap::builder::styling::AnsiColor::Red.on_default().bold();
                self.line(&format!("  {red}failing{red:#} ({trigger}): {}", evidence.join("; ")));
            }
            Event::TrafficSafe { after_ms } => {
                let green = clap::builder::styling::AnsiColor::Green.on_default().bold();
                self.line(&format!(
                    "  {green}users are on the good release again{green:#} after {}",
                    words::duration(*after_ms)
                ));
            }
            Event::Warning(message) => {
                let yellow = clap::builder::styling::AnsiColor::Yellow.on_default();
                self.line(&format!("  {yellow}warning:{yellow:#} {message}"));
            }
            Event::Note(message) if self.verbose => self.line(&format!("  note: {message}")),
            Event::Note(_) => {}
        }
    }

    fn step(&mut self, name: &str, subject: &str, mark: StepMark, message: &str) {
        let detail = if message.is_empty() { String::new() } else { format!(": {message}") };
        let who = if subject.contains('@') { format!(" {subject}") } else { String::new() };
        let what = format!("{name}{who}");
        let at = self.running.iter().position(|running| running.what == what);
        let ended = at.map(|at| self.running.remove(at));
        let took = ended.map(|running| format!(" [{}]", since(running.began))).unwrap_or_default();
        match mark {
            StepMark::Started => {
                self.changing(format!("{what}{detail}"));
                if self.running.is_empty() {
                    self.told = None;
                }
                self.running.push(Running { what, began: Instant::now() });
                self.last_watch = None;
            }
            StepMark::Done => self.line(&format!("  ok      {name}{who}{detail}{took}")),
            StepMark::Adopted => self.line(&format!("  ok      {name}{who}: was done already")),
            StepMark::Failed => self.line(&format!("  failed  {name}{who}{detail}{took}")),
            StepMark::Skipped => self.line(&format!("  skipped {name}{who}")),
        }
    }

    /// A step that takes its time is told, unless its watch does that.
    fn tick(&mut self) {
        let Some(oldest) = self.running.first().filter(|_| self.last_watch.is_none()) else {
            return;
        };
        let names: Vec<&str> = self.running.iter().map(|running| running.what.as_str()).collect();
        let text = match names[..] {
            [one] => format!("{one} {}", since(oldest.began)),
            [one, ..] => format!("{one} and {} more {}", names.len() - 1, since(oldest.began)),
            [] => return,
        };
        let is_due = self.told.unwrap_or(oldest.began).elapsed() >= PLAIN_PERIOD;
        if self.bar.is_some() {
            if oldest.began.elapsed() >= TICK {
                self.changing(text);
            }
        } else if is_due {
            self.told = Some(Instant::now());
            self.line(&format!("  ...     {text}"));
        }
    }

    fn watch(&mut self, reading: &WatchReading) {
        let text = watch_line(reading);
        self.changing(text.clone());
        if self.bar.is_some() {
            return;
        }
        let due = match &self.last_watch {
            None => true,
            Some((at, step, level)) => {
                at.elapsed() >= PLAIN_PERIOD
                    || *step != reading.step
                    || *level != reading.verdict.level
            }
        };
        if due {
            self.last_watch = Some((Instant::now(), reading.step.clone(), reading.verdict.level));
            self.line(&format!("  ...     {text}"));
        }
    }
}

fn since(at: Instant) -> String {
    words::duration(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn headline(plan: &Plan, resumed: bool) -> String {
    let what = match plan.kind {
        OperationKind::Deploy => "deploying",
        OperationKind::Rollback => "rolling back to",
        OperationKind::Adopt => "adopting",
        OperationKind::Down => "stopping",
        OperationKind::Eject => "letting go of",
        OperationKind::Drill => "rehearsing the way back to",
    };
    let number = plan.deployment.map(|n| format!(" as #{n}")).unwrap_or_default();
    let version = plan.version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
    let again = if resumed { " (resumed)" } else { "" };
    let how = if plan.kind == OperationKind::Deploy {
        format!(", {}", plan.strategy)
    } else {
        String::new()
    };
    format!("{what}{version}{number} in {}{how}{again}", plan.key)
}

/// One line about a watch.
fn watch_line(reading: &WatchReading) -> String {
    let clock = if reading.total_ms > 0 {
        format!(" {}/{}", words::duration(reading.elapsed_ms), words::duration(reading.total_ms))
    } else {
        format!(" {}", words::duration(reading.elapsed_ms))
    };
    let paused = if reading.paused { " (paused)" } else { "" };
    let level = match reading.verdict.level {
        Level::Healthy => "healthy",
        Level::Warning => "warning",
        Level::Failing => "failing",
        Level::NotEnoughData => "not enough data",
    };
    let sides: Vec<String> = Slot::BOTH
        .iter()
        .filter_map(|slot| {
            let weight = reading.weights.get(slot).copied()?;
            Some(side(weight, reading.sides.get(slot).copied().unwrap_or_default()))
        })
        .collect();
    let sides = if sides.is_empty() { String::new() } else { format!("; {}", sides.join("; ")) };
    let passes = format!(", {} passes", reading.passes);
    let why = match reading.verdict.level {
        Level::Healthy => String::new(),
        _ => format!(" - {}", reading.verdict.evidence),
    };
    format!("{}{clock}{paused} {level}{passes}{sides}{why}", reading.step)
}

fn side(weight: u8, reading: SideReading) -> String {
    let p95 = reading
        .p95_us
        .map(|us| format!(", p95 {}.{} ms", us / 1000, us % 1000 / 100))
        .unwrap_or_default();
    let number =
        if reading.deployment > 0 { format!("#{} ", reading.deployment) } else { String::new() };
    format!(
        "{number}{weight} %: {} requests, {} failed{p95}",
        reading.requests,
        words::percent(reading.failed, reading.requests)
    )
}
