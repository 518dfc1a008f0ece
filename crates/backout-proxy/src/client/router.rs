//! The core's `Router` port on the built-in proxy.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use backout_core::{
    ids::{EnvironmentKey, LedgerId, ReleaseId, ServiceName, Slot, Version},
    model::TripRule,
    ports::{
        AdapterError, DeadMan, DeadManFired, FrameStream, Marker, Receipt, Router, RouterSide,
        SessionOutcome, SessionOutcomes, SideCounters, StepCx, Traffic, TrafficChange,
        TrafficFrame, Trip, Tripped,
    },
};
use jiff::Timestamp;

use super::{AdminClient, AdminError, Certainty, Subscription};
use crate::{
    latency,
    wire::{
        self, DeadManArm, DeadManOutcome, Fault, Owner, PutArgs, RouteState, SideName, SideSpec,
        TripArm,
    },
};

/// Between two frames when nothing fails; failures come at once.
const FRAME_PERIOD: Duration = Duration::from_millis(50);
/// A proxy that was just started answers within this.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The proxy's own log is begun anew beyond this.
const LOG_BYTES_MAX: u64 = 5 << 20;

/// What a [`BuiltinRouter`] needs to know.
#[derive(Debug, Clone)]
pub struct BuiltinRouterOptions {
    /// The proxy's folder, `<state>/proxy`.
    pub dir: PathBuf,
    /// What is started as proxy, normally this very program …
    pub exe: PathBuf,
    /// … with these arguments.
    pub args: Vec<String>,
    /// App and environment.
    pub key: EnvironmentKey,
    /// The service that gets the traffic.
    pub service: ServiceName,
    /// Where users come in.
    pub listen: SocketAddr,
    /// The ledger that manages the route.
    pub ledger: LedgerId,
    /// Clients stay on the side that they were drawn to.
    pub sticky: bool,
}

/// Moves traffic with the built-in proxy.
#[derive(Debug, Clone)]
pub struct BuiltinRouter {
    options: BuiltinRouterOptions,
}

impl BuiltinRouter {
    /// A router for one environment.
    #[must_use]
    pub fn new(options: BuiltinRouterOptions) -> Self {
        Self { options }
    }

    fn route(&self) -> String {
        format!("{}/{}", self.options.key, self.options.service)
    }

    fn holder(&self, epoch: u64) -> wire::Holder {
        wire::Holder { ledger: Some(self.options.ledger.to_string()), epoch }
    }

    async fn state(&self) -> Result<Option<RouteState>, AdapterError> {
        match self.client().get(&self.route()).await {
            Ok(state) => Ok(Some(state)),
            Err(AdminError::NotRunning { .. } | AdminError::Refused(Fault::NoSuchRoute { .. })) => {
                Ok(None)
            }
            Err(error) => Err(classify(&error)),
        }
    }

    fn client(&self) -> AdminClient {
        AdminClient::not_greeted(&self.options.dir)
    }

    /// The proxy runs and users of this route come in where they should.
    async fn listens_already(&self) -> Result<bool, AdapterError> {
        let route = self.state().await?;
        Ok(route.is_some_and(|route| route.listen == self.options.listen && route.bound.is_some()))
    }

    /// Says before anything is started that users could not reach it.
    fn refuse_taken_address(&self) -> Result<(), AdapterError> {
        let listen = self.options.listen;
        match TcpListener::bind(listen) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(AdapterError::permanent(format!("failed to listen on {listen}: {error}"))
                    .with_hint("stop what listens there, or change router.builtin.listen"))
            }
        }
    }

    fn log(&self) -> std::io::Result<File> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.options.dir)?;
        let path = self.options.dir.join("proxy.log");
        let full = std::fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(full).append(!full).mode(0o600);
        options.open(path)
    }

    async fn start(&self) -> Result<(), AdapterError> {
        let failed = |error: std::io::Error| {
            AdapterError::transient(format!("failed to start the proxy: {error}"))
        };
        let log = self.log().map_err(failed)?;
        let mut child = Command::new(&self.options.exe)
            .args(&self.options.args)
            .current_dir("/")
            // Whoever supervises this command must not end what users depend on together with it.
            .env("BACKOUT_DETACHED", "1")
            // It lives long, and needs no way into the ledger.
            .env_remove("BACKOUT_DATABASE_URL")
            .env_remove("PGPASSWORD")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let began = Instant::now();
        while began.elapsed() < START_LIMIT {
            if AdminClient::connect(&self.options.dir).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                let log = self.options.dir.join("proxy.log");
                return Err(AdapterError::transient(format!(
                    "failed to start the proxy: {status}"
                ))
                .with_hint(format!("see {}", log.display())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(AdapterError::unknown("failed to start the proxy: no answer on its admin socket"))
    }
}

fn classify(error: &AdminError) -> AdapterError {
    let message = error.to_string();
    match error.certainty() {
        Certainty::Transient => AdapterError::transient(message),
        Certainty::Permanent => AdapterError::permanent(message),
        Certainty::Unknown => AdapterError::unknown(message),
    }
}

fn side_name(slot: Slot) -> SideName {
    match slot {
        Slot::A => SideName::A,
        Slot::B => SideName::B,
    }
}

fn slot(side: SideName) -> Slot {
    match side {
        SideName::A => Slot::A,
        SideName::B => Slot::B,
    }
}

fn slots<T: Clone>(sides: &BTreeMap<SideName, T>) -> BTreeMap<Slot, T> {
    sides.iter().map(|(side, value)| (slot(*side), value.clone())).collect()
}

fn micros(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn fired(fired: &wire::DeadManFired) -> DeadManFired {
    let moved = fired.outcome == DeadManOutcome::Moved;
    DeadManFired {
        at: fired.at,
        stable: slot(fired.moved_to),
        moved,
        reason: (!moved).then(|| fired.reason.clone()),
    }
}

fn tripped(fired: &wire::TripFired) -> Tripped {
    Tripped {
        at: fired.at,
        stable: slot(fired.moved_to),
        moved: fired.outcome == DeadManOutcome::Moved,
        evidence: fired.evidence.clone(),
        reason: fired.reason.clone(),
    }
}

fn trip(arm: &TripArm) -> Trip {
    let rule = TripRule {
        false_trip_ppt: arm.false_trip_ppt,
        harmless_ppt: arm.harmless_ppt,
        tolerance_ppt: arm.tolerance_ppt,
        from_start_ppt: arm.from_start_ppt,
        warm_up_ms: arm.warm_up_ms,
        watch_ms: arm.watch_ms,
    };
    Trip { stable: slot(arm.stable), rule }
}

fn trip_arm(Trip { stable, rule }: Trip) -> TripArm {
    TripArm {
        stable: side_name(stable),
        false_trip_ppt: rule.false_trip_ppt,
        harmless_ppt: rule.harmless_ppt,
        tolerance_ppt: rule.tolerance_ppt,
        from_start_ppt: rule.from_start_ppt,
        warm_up_ms: rule.warm_up_ms,
        watch_ms: rule.watch_ms,
    }
}

fn traffic(state: &RouteState) -> Result<Traffic, AdapterError> {
    let invalid = |error: backout_core::ids::InvalidId| {
        AdapterError::permanent(format!("failed to read the proxy's route: {error}"))
    };
    let mut sides = BTreeMap::new();
    for (side, spec) in &state.sides {
        let side_now = RouterSide {
            address: Some(spec.upstream),
            deployment: spec.deployment,
            release: ReleaseId::new(spec.release.clone()).map_err(invalid)?,
            version: Version::new(spec.version.clone()).map_err(invalid)?,
            check_path: spec.check_path.clone(),
        };
        sides.insert(slot(*side), side_now);
    }
    Ok(Traffic {
        weights: slots(&state.weights),
        sides,
        epoch: state.epoch,
        listen: Some(state.bound.unwrap_or(state.listen)),
        dead_man: state
            .dead_man
            .as_ref()
            .map(|armed| DeadMan { stable: slot(armed.stable), after_ms: armed.after_ms }),
        fired: state.dead_man_fired.as_ref().map(fired),
        trip: state.trip.as_ref().map(trip),
        tripped: state.trip_fired.as_ref().map(tripped),
        unbound: state.unbound.clone(),
        marker: Some(Marker {
            ledger: LedgerId::new(state.owner.ledger.clone()).map_err(invalid)?,
        }),
    })
}

fn counters(stats: &wire::SideStats) -> SideCounters {
    let latency = stats.latency.iter().enumerate().filter(|(_, count)| **count > 0);
    SideCounters {
        deployment: stats.deployment,
        requests: stats.trials(),
        failed: stats.failed,
        status: stats.answers,
        no_answer: stats.no_answer,
        latency: latency
            .map(|(index, count)| (latency::upper_bound_us(index).unwrap_or(u64::MAX / 2), *count))
            .collect(),
        endpoints: stats
            .endpoints
            .iter()
            .map(|(kind, (trials, failed))| (kind.clone(), *trials, *failed))
            .collect(),
        sessions: stats.sessions.as_ref().map(sessions),
        first_failed_us: stats.first_failed_at.map(micros),
        last_failed_us: stats.last_failed_at.map(micros),
        last_answer_us: stats.last_answer_at.map(micros),
    }
}

fn sessions(sessions: &wire::Sessions) -> SessionOutcomes {
    let bound = |bucket| latency::upper_bound_us(usize::from(bucket)).unwrap_or(u64::MAX / 2);
    let seen = sessions
        .seen
        .iter()
        .map(|seen| SessionOutcome { session: seen.session, latency_us: seen.bucket.map(bound) });
    SessionOutcomes { lost: sessions.lost, seen: seen.collect() }
}

struct Frames(Subscription);

#[async_trait]
impl FrameStream for Frames {
    async fn next(&mut self) -> Option<TrafficFrame> {
        let frame = self.0.next().await?.ok()?;
        Some(TrafficFrame {
            at: Timestamp::from_microsecond(micros(frame.at)).unwrap_or(Timestamp::UNIX_EPOCH),
            weights: slots(&frame.weights),
            sides: frame.sides.iter().map(|(side, stats)| (slot(*side), counters(stats))).collect(),
            fired: frame.dead_man_fired.as_ref().map(fired),
            tripped: frame.trip_fired.as_ref().map(tripped),
            unbound: frame.unbound,
            instance: frame.instance,
        })
    }
}

#[async_trait]
impl Router for BuiltinRouter {
    async fn ensure(&self, _cx: &StepCx) -> Result<Receipt, AdapterError> {
        let running = AdminClient::connect(&self.options.dir).await.is_ok();
        if !self.listens_already().await? {
            self.refuse_taken_address()?;
        }
        if running {
            return Ok(Receipt { message: "it runs".to_owned(), ..Receipt::default() });
        }
        self.start().await?;
        let data = serde_json::json!({ "started": true });
        Ok(Receipt { message: "started".to_owned(), data, ..Receipt::default() })
    }

    async fn obstacles(&self) -> Result<Vec<String>, AdapterError> {
        if self.listens_already().await? {
            return Ok(Vec::new());
        }
        Ok(self.refuse_taken_address().err().iter().map(ToString::to_string).collect())
    }

    async fn read(&self) -> Result<Option<Traffic>, AdapterError> {
        self.state().await?.as_ref().map(traffic).transpose()
    }

    async fn apply(&self, change: &TrafficChange, cx: &StepCx) -> Result<Traffic, AdapterError> {
        let mut sides = BTreeMap::new();
        for (slot, side) in &change.sides {
            let Some(upstream) = side.address else {
                // A side that is gone gets no weight, so it needs no place in the route.
                continue;
            };
            let spec = SideSpec {
                upstream,
                deployment: side.deployment,
                release: side.release.to_string(),
                version: side.version.to_string(),
                check_path: side.check_path.clone(),
            };
            sides.insert(side_name(*slot), spec);
        }
        let known = |slot: &Slot| sides.contains_key(&side_name(*slot));
        let weights = change
            .weights
            .iter()
            .filter(|(slot, weight)| **weight > 0 || known(slot))
            .map(|(slot, weight)| (side_name(*slot), *weight))
            .collect();
        let put = PutArgs {
            route: self.route(),
            listen: self.options.listen,
            owner: Owner {
                ledger: self.options.ledger.to_string(),
                app: self.options.key.app.to_string(),
                environment: self.options.key.environment.to_string(),
            },
            epoch: cx.epoch,
            sides,
            weights,
            dead_man: change
                .dead_man
                .map(|arm| DeadManArm { stable: side_name(arm.stable), after_ms: arm.after_ms }),
            trip: change.trip.map(trip_arm),
            take_over: false,
            acknowledge_fired: change.acknowledge_fired,
            rescue: change.cut,
            sticky: self.options.sticky,
            response_timeout_ms: None,
        };
        let state = self.client().put(put).await.map_err(|error| classify(&error))?;
        let now = traffic(&state)?;
        let holds = change
            .weights
            .iter()
            .all(|(slot, weight)| now.weights.get(slot).copied().unwrap_or(0) == *weight);
        if !holds {
            return Err(AdapterError::unknown(
                "the proxy does not show the weights that it acknowledged",
            ));
        }
        Ok(now)
    }

    async fn renew(&self, epoch: u64, after_ms: u64) -> Result<(), AdapterError> {
        self.client()
            .renew(&self.route(), self.holder(epoch), after_ms)
            .await
            .map(|_| ())
            .map_err(|error| classify(&error))
    }

    async fn drain(
        &self,
        side: Slot,
        epoch: u64,
        timeout: Duration,
    ) -> Result<Receipt, AdapterError> {
        let client = self.client();
        let (route, name) = (self.route(), side_name(side));
        let drain = async |wait: Duration, cut: bool| {
            client.drain(&route, name, self.holder(epoch), wait, cut).await
        };
        let nothing = Receipt { message: "nothing is in flight".to_owned(), ..Receipt::default() };
        let drained = match drain(timeout, false).await {
            Ok(drained) => drained,
            Err(AdminError::Refused(Fault::NoSuchRoute { .. })) => return Ok(nothing),
            Err(error) => return Err(classify(&error)),
        };
        if drained.remaining == 0 {
            return Ok(nothing);
        }
        let warning = format!(
            "{} requests or connections were still open on slot {side} after {} s and were closed",
            drained.remaining,
            timeout.as_secs()
        );
        drain(Duration::from_secs(1), true).await.map_err(|error| classify(&error))?;
        Ok(Receipt { message: "closed".to_owned(), warnings: vec![warning], ..Receipt::default() })
    }

    async fn remove(&self, epoch: u64) -> Result<Receipt, AdapterError> {
        let client = self.client();
        match client.remove(&self.route(), self.holder(epoch)).await {
            Ok(()) | Err(AdminError::Refused(Fault::NoSuchRoute { .. })) => {}
            Err(AdminError::NotRunning { .. }) => {
                return Ok(Receipt { message: "no proxy runs".to_owned(), ..Receipt::default() });
            }
            Err(error) => return Err(classify(&error)),
        }
        let message = match client.shutdown(true).await {
            Ok(()) => "route removed, proxy stopped",
            Err(AdminError::Refused(Fault::NotIdle { .. })) => {
                "route removed, the proxy serves others"
            }
            // It went down while it answered.
            Err(AdminError::Lost(_) | AdminError::NotRunning { .. }) => {
                "route removed, proxy stopped"
            }
            Err(error) => return Err(classify(&error)),
        };
        Ok(Receipt { message: message.to_owned(), ..Receipt::default() })
    }

    async fn frames(&self) -> Result<Option<Box<dyn FrameStream>>, AdapterError> {
        let subscription = self
            .client()
            .subscribe(&self.route(), FRAME_PERIOD)
            .await
            .map_err(|error| classify(&error))?;
        Ok(Some(Box::new(Frames(subscription))))
    }

    fn has_dead_man(&self) -> bool {
        true
    }

    fn has_trip(&self) -> bool {
        true
    }
}
