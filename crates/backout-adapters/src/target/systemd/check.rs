//! What `doctor` asks: whether the service manager answers, and whether the units fit.

use backout_core::ids::{HostName, ServiceName, Unit};
use backout_core::model::SystemdSpec;
use backout_core::ports::AdapterError;
use futures_util::future::join_all;

use super::{Side, SystemdTarget, definition};

/// Hosts that are asked at the same time.
const AT_ONCE: usize = 10;

/// One line: what was looked at, and how it is.
pub type Finding = (&'static str, Result<String, AdapterError>);

/// Looks at the manager and at the units of each service. Nothing is started or changed.
pub async fn check(
    target: &SystemdTarget,
    services: &[(ServiceName, SystemdSpec)],
) -> Vec<Finding> {
    let mut found = Vec::new();
    for hosts in target.machines().chunks(AT_ONCE) {
        let all = hosts.iter().map(|host| on_host(target, services, host));
        found.extend(join_all(all).await.into_iter().flatten());
    }
    found
}

async fn on_host(
    target: &SystemdTarget,
    services: &[(ServiceName, SystemdSpec)],
    host: &HostName,
) -> Vec<Finding> {
    let named = |result: Result<String, AdapterError>| match host.is_local() {
        true => result,
        false => result.map(|words| format!("{host}: {words}")).map_err(|error| AdapterError {
            message: format!("{host}: {}", error.message),
            ..error
        }),
    };
    let mut found = Vec::new();
    for (service, spec) in services {
        for slot in definition::slots(spec, target.options.beside) {
            let unit = Unit {
                key: target.options.key.clone(),
                service: service.clone(),
                host: host.clone(),
                slot,
            };
            let side = match target.side_of(&unit, spec).await {
                Ok(side) => side,
                Err(error) => {
                    found.push(("service_manager", named(Err(error))));
                    return found;
                }
            };
            if found.is_empty() {
                let manager = manager(&side).await;
                let reached = manager.is_ok();
                found.push(("service_manager", named(manager)));
                if !reached {
                    return found;
                }
            }
            found.push(("unit", named(of_unit(&side).await)));
        }
    }
    found
}

async fn manager(side: &Side) -> Result<String, AdapterError> {
    let version = side.manager.version().await;
    let version = version.map_err(|fault| side.manager.unreachable("ask systemd", &fault))?;
    Ok(format!("systemd {version} answers"))
}

async fn of_unit(side: &Side) -> Result<String, AdapterError> {
    let state = side.usable_state().await?;
    if let Some(why) = side.unfit(&state).await? {
        return Err(AdapterError::permanent(why));
    }
    let at_boot = match state.file_state.as_str() {
        "enabled" | "enabled-runtime" | "alias" | "indirect" | "generated" => {
            "starts at boot".to_owned()
        }
        "static" => "starts at boot only where another unit wants it".to_owned(),
        // Which of two slots serves changes with each deploy: `recover` starts the right one.
        _ if side.spec.has_slots() => "is started at boot by `backout recover`".to_owned(),
        _ => format!("does not start at boot before `systemctl enable {}`", state.name),
    };
    Ok(format!("{} runs what is behind `{}`, and {at_boot}", state.name, side.place.link.display()))
}
