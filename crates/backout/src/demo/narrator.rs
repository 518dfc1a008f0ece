//! Tells what happens while it happens: lines that stay, and on a terminal one that changes.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use backout_core::model::{OperationKind, Trigger};
use backout_core::plan::{Action, Plan, WatchMode};
use backout_engine::{Event, EventSink, StepMark};
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinSet;

use super::load::Reader;
use super::tally::{Count, NOBODY};
use crate::cli::report::text::Text;
use crate::cli::report::words;

/// How often the changing line changes.
const TICK: Duration = Duration::from_millis(100);
/// The changing line shows who answered this long.
const RECENT_US: i64 = 1_000_000;

/// Something that a reader should know.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// What.
    pub text: String,
}

/// A release that was found to be bad.
#[derive(Debug, Clone)]
pub struct FoundBad {
    /// When it was decided, microseconds since the Unix epoch.
    pub at_us: i64,
    /// By what.
    pub trigger: Trigger,
    /// The sentences behind it.
    pub evidence: Vec<String>,
}

/// The line that changes; it goes with its narrator.
#[derive(Debug)]
struct LiveLine(ProgressBar);

impl Drop for LiveLine {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Tells, and remembers what it told.
#[derive(Debug)]
pub struct Narrator {
    bar: Option<LiveLine>,
    began_us: i64,
    reader: Reader,
    seen: usize,
    recent: Vec<(i64, Option<String>, bool)>,
    plan: Option<Box<Plan>>,
    /// What was told.
    pub moments: Vec<Moment>,
    /// The verdict, once there was one.
    pub found_bad: Option<FoundBad>,
    /// When all traffic was on the good release again, microseconds since the Unix epoch.
    pub safe_us: Option<i64>,
}

impl Narrator {
    /// Begins to tell at zero seconds.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("  {spinner:.cyan} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            LiveLine(ProgressBar::new_spinner().with_style(style))
        });
        Self {
            bar,
            began_us: Timestamp::now().as_microsecond(),
            reader,
            seen: 0,
            recent: Vec::new(),
            plan: None,
            moments: Vec::new(),
            found_bad: None,
            safe_us: None,
        }
    }

    /// When zero was, microseconds since the Unix epoch.
    #[must_use]
    pub fn began_us(&self) -> i64 {
        self.began_us
    }

    /// A line without a time.
    pub fn headline(&self, text: &str) {
        let write = || {
            let _ = writeln!(anstream::stderr(), "{text}");
        };
        match &self.bar {
            Some(LiveLine(bar)) => bar.suspend(write),
            None => write(),
        }
    }

    /// A line with its time.
    pub fn tell(&mut self, style: Style, text: &str) {
        let at_us = Timestamp::now().as_microsecond();
        self.tell_of(at_us, style, text);
    }

    #[allow(clippy::cast_precision_loss)] // for people
    fn tell_of(&mut self, at_us: i64, style: Style, text: &str) {
        let seconds = (at_us - self.began_us) as f64 / 1e6;
        let mut label = format!("{seconds:>6.1} s");
        let blank = " ".repeat(label.len());
        for line in Text::new(style, text).wrapped(columns().saturating_sub(label.len() + 2)) {
            self.headline(&format!("{label}  {}", line.styled()));
            label.clone_from(&blank);
        }
        self.moments.push(Moment { at_us, text: text.to_owned() });
    }

    /// Follows one operation until [`Following::end`].
    #[must_use]
    pub fn follow(mut self, events: &EventSink) -> Following {
        let mut receiver = events.subscribe();
        let over = Arc::new(Notify::new());
        let told = over.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    biased;
                    event = receiver.recv() => match event {
                        Ok(event) => self.hear(&event),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => break,
                    },
                    () = told.notified() => break,
                    _ = ticks.tick() => self.tick(),
                }
            }
            self.hear_the_rest(&mut receiver);
            if let Some(LiveLine(bar)) = &self.bar {
                bar.finish_and_clear();
                bar.reset();
            }
            self
        });
        Following { task, over }
    }

    fn hear_the_rest(&mut self, receiver: &mut Receiver<Event>) {
        loop {
            match receiver.try_recv() {
                Ok(event) => self.hear(&event),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Opened { plan, .. } => self.plan = Some(plan.clone()),
            Event::Step { index, mark: StepMark::Done, message, .. } => {
                if let Some(text) = self.step_done(*index, message) {
                    self.tell(Style::new(), &text);
                }
            }
            Event::Step { name, mark: StepMark::Failed, message, .. } => {
                self.tell(AnsiColor::Red.on_default(), &format!("{name} failed: {message}"));
            }
            Event::Failing { trigger, evidence, at_us } => {
                let red = AnsiColor::Red.on_default().bold();
                self.tell_of(*at_us, red, &format!("FAILING: {}", evidence.join("; ")));
                let (trigger, evidence) = (*trigger, evidence.clone());
                self.found_bad = Some(FoundBad { at_us: *at_us, trigger, evidence });
            }
            Event::TrafficSafe { .. } => {
                let green = AnsiColor::Green.on_default().bold();
                let text = format!("all users are on {} again", self.version());
                self.safe_us = Some(Timestamp::now().as_microsecond());
                self.tell(green, &text);
            }
            Event::Warning(message) => {
                self.tell(AnsiColor::Yellow.on_default(), &format!("warning: {message}"));
            }
            Event::Step { .. } | Event::Watch(_) | Event::Note(_) => {}
        }
    }

    fn version(&self) -> String {
        let version = self.plan.as_ref().and_then(|plan| plan.version.as_ref());
        version.map(ToString::to_string).unwrap_or_default()
    }

    /// What a step's end means for a reader; most mean nothing.
    fn step_done(&self, index: usize, message: &str) -> Option<String> {
        let plan = self.plan.as_deref()?;
        let version = self.version();
        let back = plan.kind == OperationKind::Rollback;
        match &plan.steps.get(index)?.action {
            Action::EnsureRouter if message == "started" => Some("the proxy is up".to_owned()),
            Action::Start { slot, .. } => Some(match plan.from.as_ref() {
                Some(from) => format!("{version} started in slot {slot}, beside {}", from.version),
                None => format!("{version} started in slot {slot}"),
            }),
            Action::SetTraffic(traffic) if !back => {
                Some(format!("{version} gets {} % of the traffic", traffic.percent))
            }
            Action::Watch { mode, .. } => Some(match mode {
                WatchMode::Ready { .. } => format!("{version} is ready: {message}"),
                WatchMode::Hold { stage, .. } => {
                    format!("healthy at {} %: {message}", stage.weight)
                }
                WatchMode::Bake { .. } => format!("{version} is stable: {message}"),
                WatchMode::Verify { .. } => format!("{version} is verified: {message}"),
                WatchMode::Keep { .. } | WatchMode::Pause { .. } => return None,
            }),
            Action::RestoreConfig { .. } => {
                Some(format!("the config files are those of {version} again"))
            }
            Action::Stop { .. } if back => {
                let left = plan.left.as_ref()?;
                Some(format!("{} is stopped", left.version))
            }
            _ => None,
        }
    }

    fn tick(&mut self) {
        let Some(bar) = self.bar.as_ref().map(|line| line.0.clone()) else { return };
        let (recent, reader) = (&mut self.recent, &self.reader);
        self.seen = reader.since(self.seen, |record| {
            recent.push((record.at_us, record.version.clone(), record.failed));
        });
        let now_us = Timestamp::now().as_microsecond();
        self.recent.retain(|(at_us, ..)| now_us - at_us < RECENT_US);
        // Room for what a terminal echoes of Ctrl-C: in a full line it would break it.
        bar.set_message(self.users().cut(columns().saturating_sub(8)).styled());
        bar.tick();
    }

    /// Who answered in the last second.
    fn users(&self) -> Text {
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for (_, version, failed) in &self.recent {
            counts.entry(version.as_deref().unwrap_or(NOBODY)).or_default().add(*failed);
        }
        let all = self.recent.len() as u64;
        if all == 0 {
            return Text::from("no users yet");
        }
        let mut text = Text::from(format!("{all} requests in the last second:"));
        for (index, (who, count)) in counts.into_iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            text = text.then(format!("{comma} {who} {}", words::percent(count.requests, all)));
            if count.failed > 0 {
                let red = AnsiColor::Red.on_default();
                text = text.and(red, format!(" ({} failed)", count.failed));
            }
        }
        text
    }
}

/// Columns of the terminal behind standard error; practically endless without one.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns > 0 { columns.max(40) } else { usize::MAX }
}

/// A narrator at work; dropped, it falls silent.
pub struct Following {
    task: JoinSet<Narrator>,
    over: Arc<Notify>,
}

impl Following {
    /// Tells what is left, and comes back; `None` if telling itself broke down.
    pub async fn end(mut self) -> Option<Narrator> {
        self.over.notify_one();
        self.task.join_next().await?.ok()
    }
}
