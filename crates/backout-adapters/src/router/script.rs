//! Traffic moved by the user's script: `update-traffic PERCENT STAGE`.
//!
//! A script can't be asked what it does, so the last change that it accepted is remembered durably and is what
//! [`Router::read`] returns. A change with an unknown outcome is not remembered: whoever reads sees the one
//! before it, and makes the change again.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backout_core::ids::{EnvironmentKey, LedgerId, ServiceName, Slot};
use backout_core::model::ScriptSpec;
use backout_core::ports::{
    AdapterError, FrameStream, Marker, Receipt, Router, StepCx, Traffic, TrafficChange,
};
use serde::{Deserialize, Serialize};

use crate::host::{create_private_dirs, read_bounded, remove_file_if_there, write_atomic};
use crate::target::{Answer, CallContext, ScriptCall, ScriptHome};

const FORMAT: u32 = 1;

/// What a [`ScriptRouter`] needs to know.
#[derive(Debug, Clone)]
pub struct ScriptRouterOptions {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The folder of `backout.yaml`, which is the script's working folder too.
    pub folder: PathBuf,
    /// The caller's environment.
    pub env: Vec<(OsString, OsString)>,
    /// The script.
    pub spec: ScriptSpec,
    /// App and environment.
    pub key: EnvironmentKey,
    /// The service that gets traffic.
    pub service: ServiceName,
    /// The ledger that manages it.
    pub ledger: LedgerId,
}

/// Moves traffic by a script.
#[derive(Debug, Clone)]
pub struct ScriptRouter {
    options: Arc<ScriptRouterOptions>,
    home: ScriptHome,
}

/// The last accepted change.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    format: u32,
    traffic: Traffic,
}

impl ScriptRouter {
    /// A router for one environment.
    #[must_use]
    pub fn new(options: ScriptRouterOptions) -> Self {
        let home = ScriptHome {
            folder: options.folder.clone(),
            state_dir: options.state_dir.clone(),
            env: options.env.clone(),
        };
        Self { options: Arc::new(options), home }
    }

    fn path(&self) -> PathBuf {
        self.home
            .folder_of(&self.options.key)
            .join(format!("{}.traffic.json", self.options.service))
    }

    fn remembered(&self) -> Result<Option<Traffic>, AdapterError> {
        let failed = |e: &dyn std::fmt::Display| {
            AdapterError::permanent(format!("failed to read `{}`: {e}", self.path().display()))
        };
        let Some(bytes) = read_bounded(&self.path(), 1 << 20).map_err(|e| failed(&e))? else {
            return Ok(None);
        };
        let memory: Memory = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
        if memory.format > FORMAT {
            return Err(failed(&format!(
                "it has format {}, this version knows up to {FORMAT}",
                memory.format
            )));
        }
        Ok(Some(memory.traffic))
    }

    fn remember(&self, traffic: &Traffic) -> std::io::Result<()> {
        create_private_dirs(&self.home.folder_of(&self.options.key))?;
        let memory = Memory { format: FORMAT, traffic: traffic.clone() };
        write_atomic(&self.path(), &serde_json::to_vec_pretty(&memory)?, 0o600)
    }

    fn refuse(&self, now: Option<&Traffic>, epoch: u64) -> Result<(), AdapterError> {
        let Some(now) = now else { return Ok(()) };
        if let Some(marker) = now.marker.as_ref().filter(|m| m.ledger != self.options.ledger) {
            return Err(AdapterError::permanent(format!(
                "failed to move traffic of {}: ledger {} manages it, not {}",
                self.options.key, marker.ledger, self.options.ledger
            )));
        }
        if epoch < now.epoch {
            return Err(AdapterError::permanent(format!(
                "failed to move traffic of {}: epoch {epoch} is older than {}",
                self.options.key, now.epoch
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl Router for ScriptRouter {
    async fn ensure(&self, _cx: &StepCx) -> Result<Receipt, AdapterError> {
        Ok(Receipt::default())
    }

    async fn read(&self) -> Result<Option<Traffic>, AdapterError> {
        self.remembered()
    }

    async fn apply(&self, change: &TrafficChange, cx: &StepCx) -> Result<Traffic, AdapterError> {
        self.refuse(self.remembered()?.as_ref(), cx.epoch)?;
        let percent = change.weights.get(&change.new_side).copied().unwrap_or_default();
        let side = change.sides.get(&change.new_side);
        let call = ScriptCall {
            home: &self.home,
            spec: &self.options.spec,
            words: vec!["update-traffic".to_owned(), percent.to_string(), change.stage.clone()],
            context: CallContext {
                key: &self.options.key,
                service: &self.options.service,
                slot: change.new_side,
                version: side.map(|s| &s.version),
                release: side.map(|s| &s.release),
                deployment: side.map(|s| s.deployment),
                cx: Some(cx),
            },
            timeout: Duration::from_millis(self.options.spec.timeout_ms).min(cx.timeout),
            changes: true,
        };
        if let Answer::UnknownVerb = call.run().await? {
            return Err(AdapterError::permanent("failed to move traffic: the script does not know `update-traffic` (exit 64)")
                .with_hint("teach the script `update-traffic PERCENT STAGE`, or take `router: script` out of backout.yaml"));
        }
        let traffic = Traffic {
            weights: change.weights.clone(),
            sides: change.sides.clone(),
            epoch: cx.epoch,
            listen: None,
            dead_man: None,
            fired: None,
            trip: None,
            tripped: None,
            unbound: None,
            marker: Some(Marker { ledger: self.options.ledger.clone() }),
        };
        // The script has done it; what is not remembered is observed as undone and is done again.
        self.remember(&traffic).map_err(|e| {
            AdapterError::unknown(format!("failed to remember the accepted traffic change: {e}"))
        })?;
        Ok(traffic)
    }

    async fn renew(&self, _epoch: u64, _after_ms: u64) -> Result<(), AdapterError> {
        Err(AdapterError::permanent("failed to renew a deadline: a script router has none"))
    }

    async fn drain(
        &self,
        side: Slot,
        epoch: u64,
        _timeout: Duration,
    ) -> Result<Receipt, AdapterError> {
        self.refuse(self.remembered()?.as_ref(), epoch)?;
        Ok(Receipt {
            message: format!("side {side} is drained by the script, if at all"),
            ..Receipt::default()
        })
    }

    async fn remove(&self, epoch: u64) -> Result<Receipt, AdapterError> {
        self.refuse(self.remembered()?.as_ref(), epoch)?;
        remove_file_if_there(&self.path()).map_err(|e| {
            AdapterError::transient(format!(
                "failed to forget the traffic of {}: {e}",
                self.options.key
            ))
        })?;
        Ok(Receipt::default())
    }

    async fn frames(&self) -> Result<Option<Box<dyn FrameStream>>, AdapterError> {
        Ok(None)
    }

    fn has_dead_man(&self) -> bool {
        false
    }
}
