//! Orders a deploy from a controller: what it cannot have is refused here, with what to do.

use std::time::Duration;

use backout_core::ids::{OperationId, RequestId};
use backout_core::model::{
    ControllerBeat, DeployOrder, Release, Request, RequestAnswer, RequestKind, Tended,
};
use tokio::time::Instant;

use super::beat::{PROGRAM, controller_of, policy_digest};
use crate::commands::deploy::{DeployWish, prepare_deploy, refuse_running_stages, resolve_wish};
use crate::commands::{EngineError, Refused};
use crate::config_snapshot::{Keep, keyed_hash};
use crate::context::Context;
use crate::journal;

/// A controller reads a changed file within this time.
const CATCH_UP: Duration = Duration::from_secs(6);
/// An order is taken at once; a bake that has to yield, and large artifacts, take their time.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_millis(100);

/// A deploy that a controller has begun.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// The operation.
    pub operation: OperationId,
    /// Who runs it: `user@host:pid`.
    pub controller: String,
    /// What is shipped.
    pub release: Box<Release>,
    /// In the controller's words.
    pub message: String,
}

/// Orders a deploy, and waits until a controller has begun it.
///
/// # Errors
/// Refused without a living controller, or by one; busy while another deploy is in its stages. Nothing was changed then.
pub async fn order_deploy(cx: &Context, wish: &DeployWish) -> Result<Ordered, EngineError> {
    require_controller(cx).await?;
    refuse_running_stages(cx).await?;
    let mut prepared = prepare_deploy(cx, wish).await?;
    // The controller's values count, not those here.
    prepared.checks.retain(|check| check.name != "secrets_available");
    prepared.refuse_on_error()?;
    let environment = journal::environment(cx.ledger.as_ref(), &cx.key).await?;
    let (release, restore_config) = resolve_wish(cx, wish, &environment, Keep::Yes).await?;
    fitting_controller(cx, &release).await?;
    for artifact in release.content.artifacts.iter().filter(|artifact| artifact.kept) {
        cx.artifacts.pin(&artifact.path, &artifact.digest).await?;
    }
    let order = DeployOrder {
        release,
        strategy: cx.policy.strategy.clone(),
        restore_config,
        overrides: wish.overrides.clone(),
        surface: cx.surface,
        policy: policy_digest(&cx.policy),
    };
    let request = Request {
        id: RequestId::from_entropy((cx.entropy)()),
        key: cx.key.clone(),
        operation: OperationId::from_entropy((cx.entropy)()),
        kind: RequestKind::Deploy,
        requested_by: cx.holder.label.clone(),
        reason: wish.reason.clone(),
        created_at: cx.now(),
        order: Some(Box::new(order)),
        answer: None,
    };
    cx.ledger.submit(&request).await?;
    wait(cx, request).await
}

/// The controller of this environment.
///
/// # Errors
/// Refused when none runs that looks after it.
pub async fn require_controller(cx: &Context) -> Result<ControllerBeat, EngineError> {
    if let Some(found) = controller_of(cx.ledger.as_ref(), &cx.key).await? {
        return Ok(found);
    }
    let others = cx.ledger.controllers().await?;
    let message = match others.iter().find(|view| view.alive) {
        Some(view) => format!(
            "the controller {} does not look after {}, so nobody would go on with a detached deploy",
            view.beat.holder.label, cx.key
        ),
        None => format!("no controller runs that looks after {}", cx.key),
    };
    let mut refused = Refused::new(
        message,
        "start one with `backout serve --headless`; `backout serve --print-unit` prints a systemd unit",
    );
    refused.hints.push("or deploy without --detach".to_owned());
    Err(refused.into())
}

/// A controller whose file, program and secrets are those of this order. One that reads a changed file just now is waited for.
async fn fitting_controller(cx: &Context, release: &Release) -> Result<(), EngineError> {
    let began = Instant::now();
    loop {
        let beat = require_controller(cx).await?;
        let Some(tended) = beat.tends(&cx.key) else { continue };
        match misfit(cx, release, &beat, tended).await? {
            None => return Ok(()),
            Some(refused) if began.elapsed() > CATCH_UP => return Err(refused.into()),
            Some(_) => tokio::time::sleep(PERIOD).await,
        }
    }
}

async fn misfit(
    cx: &Context,
    release: &Release,
    beat: &ControllerBeat,
    tended: &Tended,
) -> Result<Option<Refused>, EngineError> {
    let who = &beat.holder.label;
    if tended.folder != cx.folder {
        let message = format!(
            "the controller {who} reads {} from {}, not from {}",
            cx.key, tended.folder, cx.folder
        );
        return Ok(Some(Refused::new(message, "deploy from there, or without --detach")));
    }
    if beat.program != PROGRAM {
        let message =
            format!("the controller {who} is backout {}, this is {PROGRAM}", beat.program);
        return Ok(Some(Refused::new(message, "restart it with this version")));
    }
    if tended.policy != policy_digest(&cx.policy) {
        let message = format!(
            "the controller {who} has read other settings of {} than are in force here",
            cx.key
        );
        let mut refused = Refused::new(message, "its log says whether it could read the file");
        refused.hints.push(
            "settings from variables (`${VAR}`) must have the same value in its environment"
                .to_owned(),
        );
        return Ok(Some(refused));
    }
    let hash_key = cx.ledger.hash_key().await?;
    let (mut missing, mut different) = (Vec::new(), Vec::new());
    for name in release.content.secret_env_keys() {
        match tended.secrets.iter().find(|(known, _)| *known == name) {
            None => missing.push(name),
            Some((_, hash)) => {
                let here = cx.secrets.get(&name).map(|value| keyed_hash(&hash_key, value.expose()));
                if here.is_some_and(|here| here != *hash) {
                    different.push(name);
                }
            }
        }
    }
    let (what, names) = match (missing.is_empty(), different.is_empty()) {
        (true, true) => return Ok(None),
        (false, _) => ("has no value of", missing),
        (true, false) => ("has another value than you of", different),
    };
    let message = format!(
        "the controller {who} {what} {}: values of secrets are never written to the ledger",
        names.join(", ")
    );
    let mut refused =
        Refused::new(message, "set it in the controller's environment and restart it");
    refused.hints.push("or deploy without --detach: then your own values are used".to_owned());
    Ok(Some(refused))
}

/// Waits for the answer; an order that nobody takes is withdrawn, so that it is not begun behind anybody's back.
async fn wait(cx: &Context, request: Request) -> Result<Ordered, EngineError> {
    let began = Instant::now();
    loop {
        let now = cx.ledger.request(&request.id).await?;
        if let Some(answer) = now.and_then(|request| request.answer) {
            return taken(cx, request, answer).await;
        }
        let alive = controller_of(cx.ledger.as_ref(), &cx.key).await?.is_some();
        if !alive || began.elapsed() > ANSWER_LIMIT {
            let answer = RequestAnswer {
                accepted: false,
                message: "it was withdrawn".to_owned(),
                answered_at: cx.now(),
                busy: false,
            };
            if cx.ledger.answer(&request.id, &answer).await? {
                let message = if alive {
                    format!(
                        "no controller took the deploy within {} s: it is withdrawn, nothing was changed",
                        ANSWER_LIMIT.as_secs()
                    )
                } else {
                    "the controller is gone: the deploy is withdrawn, nothing was changed"
                        .to_owned()
                };
                return Err(Refused::new(
                    message,
                    "its log says why; `backout status` shows who is at work",
                )
                .into());
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn taken(
    cx: &Context,
    request: Request,
    answer: RequestAnswer,
) -> Result<Ordered, EngineError> {
    if !answer.accepted {
        if answer.busy
            && let Some(view) = cx.ledger.lease(&cx.key).await?.filter(|view| view.alive)
        {
            return Err(EngineError::Busy(Box::new(view)));
        }
        let hint = "`backout status` shows what is live";
        return Err(Refused::new(answer.message, hint).into());
    }
    let controller = answer.message.rsplit(' ').next().unwrap_or_default().to_owned();
    let release = request.order.map(|order| order.release);
    let Some(release) = release else {
        return Err(EngineError::Failed("the order holds no release".to_owned()));
    };
    Ok(Ordered {
        operation: request.operation,
        controller,
        release: Box::new(release),
        message: answer.message,
    })
}
