//! What the router did by itself while nobody told it to, and what that means for the deploy: the one place
//! where a trip or a dead-man that fired becomes a failure of its operation.

use backout_core::model::Trigger;
use backout_core::ports::{
    AdapterError, DeadManFired, ErrorClass, Router, StepCx, Traffic, TrafficChange, Tripped,
};
use backout_core::saga::Failure;

use crate::commands::clock;
use crate::context::Context;
use crate::journal::Journal;

/// Why the deploy goes back, if the router acted. A trip is a verdict on the release; a dead-man is not.
pub(crate) fn failure(tripped: Option<&Tripped>, fired: Option<&DeadManFired>) -> Option<Failure> {
    let mut evidence = Vec::new();
    if let Some(tripped) = tripped {
        let what = words(tripped.moved, tripped.reason.as_deref());
        evidence.push(tripped.evidence.clone());
        evidence.push(format!("the proxy's trip fired at {}: it {what}", clock(tripped.at)));
    }
    if let Some(fired) = fired {
        let what = words(fired.moved, fired.reason.as_deref());
        evidence.push(format!(
            "nobody renewed the dead-man deadline, so the proxy {what} at {}",
            clock(fired.at)
        ));
    }
    if evidence.is_empty() {
        return None;
    }
    Some(Failure {
        trigger: if tripped.is_some() { Trigger::Analysis } else { Trigger::Timeout },
        evidence,
        release_is_bad: tripped.is_some(),
        by_router: tripped.is_some_and(|t| t.moved) || fired.is_some_and(|f| f.moved),
    })
}

fn words(moved: bool, reason: Option<&str>) -> String {
    match (moved, reason) {
        (true, _) => "moved traffic to the stable side".to_owned(),
        (false, Some(why)) => {
            format!("left traffic where it was, since both sides are bad ({why})")
        }
        (false, None) => "left traffic where it was".to_owned(),
    }
}

/// Asks the router. One that can't be asked has nothing to say: whatever it did it refuses to be commanded over,
/// and is asked again then.
pub(crate) async fn seen(cx: &Context) -> Option<Failure> {
    let traffic = cx.router.as_ref()?.read().await.ok().flatten()?;
    failure(traffic.tripped.as_ref(), traffic.fired.as_ref())
}

/// A move that was not made.
pub(crate) struct Stopped {
    /// Why not.
    pub error: AdapterError,
    /// What the router did by itself, where the journal does not have that yet.
    pub heard: Option<String>,
}

impl From<AdapterError> for Stopped {
    fn from(error: AdapterError) -> Self {
        Self { error, heard: None }
    }
}

/// Moves traffic on a way back, which adopts whatever the router did by itself meanwhile. Adopting makes the router
/// forget it, so what it did after the way back was decided on has to be in the journal first: nothing is moved until
/// it is `noted`. It is asked for only once the router has refused, so that nothing can fire in between.
pub(crate) async fn move_and_adopt(
    router: &dyn Router,
    change: &TrafficChange,
    step: &StepCx,
    journal: &Journal,
    noted: bool,
) -> Result<Traffic, Stopped> {
    let blind = TrafficChange { acknowledge_fired: false, ..change.clone() };
    let refused = match router.apply(&blind, step).await {
        Err(error) if error.class == ErrorClass::Permanent => error,
        other => return Ok(other?),
    };
    if let Ok(now) = router.read().await {
        let acted = now.and_then(|now| failure(now.tripped.as_ref(), now.fired.as_ref()));
        // It refused for another reason, and would again.
        let Some(acted) = acted else { return Err(refused.into()) };
        let heard = news(journal, acted).filter(|_| !noted);
        if heard.is_some() {
            return Err(Stopped { error: refused, heard });
        }
    }
    Ok(router.apply(change, step).await?)
}

/// What neither the reasons for the way back nor a warning of a try before this one says.
fn news(journal: &Journal, acted: Failure) -> Option<String> {
    let known = &journal.plan.evidence;
    let news: Vec<String> =
        acted.evidence.into_iter().filter(|sentence| !known.contains(sentence)).collect();
    let words = format!("while it was being taken back: {}", news.join("; "));
    (!news.is_empty() && !journal.state.warnings.contains(&words)).then_some(words)
}

#[cfg(test)]
mod tests {
    use backout_core::ids::Slot;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_trip_rejects_and_a_dead_man_does_not() {
        let at = Timestamp::UNIX_EPOCH;
        let reason = Some("refused".to_owned());
        let fired = |moved| DeadManFired {
            at,
            stable: Slot::A,
            moved,
            reason: reason.clone().filter(|_| !moved),
        };
        let tripped = |moved| Tripped {
            at,
            stable: Slot::A,
            moved,
            evidence: "canary errors".to_owned(),
            reason: reason.clone().filter(|_| !moved),
        };
        assert_eq!(failure(None, None), None);
        let alone = failure(None, Some(&fired(true))).unwrap();
        assert_eq!(
            (alone.trigger, alone.release_is_bad, alone.by_router),
            (Trigger::Timeout, false, true)
        );
        let by_trip = failure(Some(&tripped(true)), None).unwrap();
        assert_eq!(
            (by_trip.trigger, by_trip.release_is_bad, by_trip.by_router),
            (Trigger::Analysis, true, true)
        );
        assert_eq!(by_trip.evidence[0], "canary errors");
        let held = failure(Some(&tripped(false)), None).unwrap();
        assert!(!held.by_router && held.evidence[1].contains("both sides are bad (refused)"));
        // It held, the watcher went, and by then the stable side was well again.
        let both = failure(Some(&tripped(false)), Some(&fired(true))).unwrap();
        assert!(both.by_router && both.release_is_bad && both.evidence.len() == 3);
    }
}
