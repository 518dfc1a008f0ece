//! Steps that are done at the same time, each on a host of its own.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use backout_core::plan::Action;
use backout_core::ports::{AdapterError, ErrorClass, Receipt, StepCx};
use backout_core::saga::{EntryKind, Try};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::{Executor, Turn, no_answer};
use crate::commands::requests::{consume_requests, take_over_wanted};
use crate::context::Context;
use crate::effects;
use crate::events::StepMark;
use crate::faults::boundary;
use crate::journal::JournalError;

/// One effect that runs beside others.
struct Begun {
    step: usize,
    action: Action,
    step_cx: StepCx,
    wait: Duration,
    timeout: Duration,
}

impl Begun {
    async fn run(self, cx: &Context) -> (usize, Result<Receipt, AdapterError>) {
        tokio::time::sleep(self.wait).await;
        let effect = effects::on_unit(cx, &self.action, &self.step_cx);
        let result = tokio::time::timeout(self.timeout, effect).await;
        (self.step, result.unwrap_or_else(|_| no_answer(self.timeout)))
    }
}

impl Executor<'_> {
    /// Makes tries side by side, as many at once as the policy allows. The intent of each is durable before it
    /// begins; what ends makes room for the next.
    pub(super) async fn run_wave(&mut self, tries: Vec<Try>) -> Result<Turn, JournalError> {
        let (cx, keeper) = (self.cx, self.keeper);
        if consume_requests(cx, &mut self.journal, &keeper.lease, None).await? {
            return Ok(Turn::Again);
        }
        let name = self.journal.plan.steps[tries[0].step].name.clone();
        let operation = self.journal.plan.operation.clone();
        let at_once = cx.policy.hosts.at_once.max(1);
        let (mut queue, mut open) = (VecDeque::from(tries), BTreeSet::new());
        let mut running = FuturesUnordered::new();
        let began = Instant::now();
        let mut lost = std::pin::pin!(keeper.lost());
        let mut wanted = std::pin::pin!(take_over_wanted(cx, &operation));
        let cut_off = loop {
            let room = at_once.saturating_sub(running.len()).min(queue.len());
            for begun in self.begin(queue.drain(..room).collect(), &name).await? {
                open.insert(begun.step);
                running.push(begun.run(cx));
            }
            tokio::select! {
                biased;
                why = &mut lost => break Some(format!("the lease was lost: {why}")),
                () = &mut wanted => break Some("cut off by a take-over".to_owned()),
                ended = running.next() => match ended {
                    None => break None,
                    Some((step, result)) => {
                        boundary("after_effect", &name);
                        open.remove(&step);
                        self.outcome(step, result)?;
                    }
                },
            }
        };
        drop(running);
        self.work_ms += u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
        if let Some(message) = cut_off {
            for step in open {
                let (class, message) = (ErrorClass::Unknown, message.clone());
                self.note(EntryKind::StepFailed { step, class, message })?;
            }
            consume_requests(cx, &mut self.journal, &keeper.lease, None).await?;
        }
        boundary("before_outcome", &name);
        Ok(Turn::Again)
    }

    /// Makes the intents of some tries durable together.
    async fn begin(&mut self, tries: Vec<Try>, name: &str) -> Result<Vec<Begun>, JournalError> {
        if tries.is_empty() {
            return Ok(Vec::new());
        }
        boundary("before_intent", name);
        for Try { step, attempt } in &tries {
            self.note(EntryKind::StepStarted { step: *step, attempt: *attempt })?;
        }
        self.flush().await?;
        boundary("after_intent", name);
        let mut begun = Vec::with_capacity(tries.len());
        for Try { step, attempt } in tries {
            let again = if attempt > 1 { format!("try {attempt}") } else { String::new() };
            self.tell(step, StepMark::Started, again);
            let timeout = match self.time_for(step) {
                Ok(timeout) => timeout,
                Err(error) => {
                    self.outcome(step, Err(error))?;
                    continue;
                }
            };
            let (plan, epoch) = (&self.journal.plan, self.keeper.lease.epoch);
            let of = &plan.steps[step];
            begun.push(Begun {
                step,
                action: of.action.clone(),
                step_cx: effects::step_cx(self.cx, plan, of, attempt, epoch, timeout),
                wait: self.jitter(),
                timeout,
            });
        }
        boundary("before_effect", name);
        if self.keeper.is_stale() {
            // It was stopped since its intents: somebody else may have gone on meanwhile.
            self.cx.ledger.renew(&self.keeper.lease).await?;
        }
        Ok(begun)
    }

    /// So that many hosts do not ask for the same thing in the same moment.
    fn jitter(&self) -> Duration {
        let [a, b, c, d, ..] = (self.cx.entropy)();
        let drawn = u64::from(u32::from_le_bytes([a, b, c, d]));
        Duration::from_millis(drawn % self.cx.policy.hosts.jitter_ms.saturating_add(1))
    }
}
