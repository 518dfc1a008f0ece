//! Jobs: what the manager does to a unit when it is asked to.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use zbus::{MatchRule, MessageStream, OwnedObjectPath, message};

use super::{Fault, MANAGER, Manager, NAME, PATH, PATIENCE, UnitState, patiently};

/// Between two looks while no signal comes.
const LOOK: Duration = Duration::from_millis(100);
/// Signals that may wait for us.
const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// What a unit is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Start anew, whether it runs or not.
    Restart,
    /// Stop.
    Stop,
}

impl Verb {
    fn method(self) -> &'static str {
        match self {
            Verb::Restart => "RestartUnit",
            Verb::Stop => "StopUnit",
        }
    }
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ended with this word: `done`, `failed`, `timeout`, `canceled`, `dependency`, `skipped` …
    As(String),
    /// It goes on, and what was waited for has happened already.
    Enough,
    /// It goes on, and time is over.
    Late,
}

/// Ends of jobs, from the moment on in which somebody began to listen.
pub(crate) struct Ends(MessageStream);

impl Manager {
    /// Asks for a job and waits until it has ended, or until a look at the unit says that this is enough.
    pub(crate) async fn job(
        &self,
        verb: Verb,
        unit: &str,
        until: Instant,
        Ends(mut removed): Ends,
        enough: impl Fn(&UnitState) -> bool,
    ) -> Result<Ended, Fault> {
        let answer = self.call(PATH, MANAGER, verb.method(), &(unit, "replace")).await?;
        let ours: OwnedObjectPath = answer.body().deserialize().map_err(Fault::of)?;
        let number = number_of(&ours);
        loop {
            if Instant::now() >= until {
                return Ok(Ended::Late);
            }
            let signal = tokio::time::timeout(LOOK, removed.next()).await;
            if let Ok(Some(message)) = &signal {
                let message = message.as_ref().map_err(|error| Fault::Lost(error.to_string()))?;
                if let Some((job, result)) = ended(message)
                    && job == ours
                {
                    return Ok(Ended::As(result));
                }
                continue;
            }
            if matches!(signal, Ok(None)) {
                self.disconnect().await;
                return Err(Fault::Lost("the connection to the bus was closed".to_owned()));
            }
            // No signal for a while: one may have been missed while the manager read its files again.
            let state = self.state_patiently(unit).await?;
            if state.job != number {
                return Ok(Ended::As(word_for(verb, &state).to_owned()));
            }
            if enough(&state) {
                return Ok(Ended::Enough);
            }
        }
    }

    /// Listens for the ends of jobs: before one is asked for, so that nothing was changed where that fails. The manager
    /// may be busy with itself for a while.
    pub(crate) async fn listen(&self) -> Result<Ends, Fault> {
        patiently(PATIENCE, || self.subscribe()).await.map_err(Fault::before_asking)
    }

    async fn subscribe(&self) -> Result<Ends, Fault> {
        // The manager only tells those who have asked to be told.
        match self.call(PATH, MANAGER, "Subscribe", &()).await {
            Ok(_) => {}
            Err(Fault::Refused { name, .. }) if name.ends_with(".AlreadySubscribed") => {}
            Err(fault) => return Err(fault),
        }
        let connection = self.connect().await?;
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .sender(NAME)
            .path(PATH)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(Fault::of)?;
        match MessageStream::for_match_rule(rule, &connection, Some(QUEUE)).await {
            Ok(stream) => Ok(Ends(stream)),
            Err(error) => {
                self.disconnect().await;
                Err(Fault::of(error))
            }
        }
    }
}

impl Fault {
    /// What was lost before the question itself was put has changed nothing.
    fn before_asking(self) -> Self {
        match self {
            Fault::Lost(words) => Fault::Away(words),
            other => other,
        }
    }
}

fn ended(message: &zbus::Message) -> Option<(OwnedObjectPath, String)> {
    let body = message.body();
    let (_, job, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize().ok()?;
    Some((job, result))
}

fn number_of(job: &OwnedObjectPath) -> u32 {
    job.as_str().rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The result that a job must have had, by what became of the unit.
fn word_for(verb: Verb, state: &UnitState) -> &'static str {
    let well = match verb {
        Verb::Restart => !state.is_down(),
        Verb::Stop => state.is_down(),
    };
    if well { "done" } else { "failed" }
}
