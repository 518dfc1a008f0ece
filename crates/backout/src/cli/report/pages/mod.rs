//! What people see of several services and of several hosts, at 80 and at 120 columns.

mod shop;

use backout_core::ids::EnvironmentName;
use backout_core::model::{Deployment, Health, ReadinessCheck, Severity, Trigger};
use backout_core::plan::Live;
use clap::Parser as _;
use unicode_width::UnicodeWidthStr as _;

use super::commands::Commands;
use super::inspect::{self, Inspected};
use super::{confirm, outcome, status};
use crate::cli::args::Cli;
use crate::cli::history;
use shop::{Ran, Shop};

/// A page at both widths; no line is wider than its terminal.
#[track_caller]
fn page(name: &str, lines: impl Fn(usize) -> Vec<String>) {
    for width in [80, 120] {
        let lines = lines(width);
        let plain: Vec<String> =
            lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        for line in &plain {
            // Commands are copied as one.
            assert!(
                line.width() <= width || line.contains("backout "),
                "{name} at {width}: {line}"
            );
        }
        insta::assert_snapshot!(format!("{name}_{width}"), plain.join("\n"));
    }
}

/// A shop behind the built-in proxy: one service with traffic, one worker, one job.
fn beside() -> Shop {
    Shop::new(
        r#"app: shop
target: { process: { artifact: bin/shop, command: ["{artifact}"], port: auto } }
router: { builtin: { listen: "127.0.0.1:8080" } }
strategy: blue_green
services:
  checkout: { depends_on: [migrate] }
  mailer: { traffic: none, command: ["{artifact}", mailer], health: { exec: { command: ["true"] } } }
  migrate: { job: true, command: ["{artifact}", migrate] }
health: { http: { url: "http://127.0.0.1:{port}/health" } }
"#,
        true,
    )
}

/// Two services of a script on four hosts.
fn fleet() -> Shop {
    Shop::new(
        r#"app: shop
target: { script: { program: ./deploy.sh, timeout: 2m } }
hosts: [web1.example.net, web2.example.net, web3.example.net, web4.example.net]
services:
  checkout: { depends_on: [catalogue] }
  catalogue: {}
health: { http: { url: "http://{host}:8080/health" } }
"#,
        false,
    )
}

fn commands(shop: &Shop) -> Commands {
    let cli = Cli::try_parse_from(["backout", "status"]).unwrap();
    let environment: &EnvironmentName = &shop.key().environment;
    Commands::new(&cli.global, environment)
}

fn status_of(shop: &Shop, failing: &[(&str, Health)]) -> impl Fn(usize) -> Vec<String> {
    let (view, commands) = (shop.view(failing), commands(shop));
    move |width| status::lines(&status::Described::new(&view, &commands), width)
}

fn history_of(shop: &Shop) -> impl Fn(usize) -> Vec<String> {
    let rows: Vec<Deployment> = shop.rows.values().rev().cloned().collect();
    let now = shop.now;
    move |width| history::page_of(&rows, now, width)
}

fn inspected(shop: &Shop, ran: &Ran) -> Inspected {
    let number = ran.plan.deployment.unwrap();
    Inspected {
        key: Some(shop.key().clone()),
        deployment: Ok(shop.rows.get(&number).cloned()),
        rollback: Ok(ran.finished.rows.rollback.clone()),
        operation: Ok(Some(ran.plan.clone())),
        state: Ok(Some(ran.finished.state.clone())),
        journal: Ok(Some(ran.entries.clone())),
        at: shop.now,
        ..Inspected::new("deployment", format!("#{number}"))
    }
}

fn check(name: &str, status: Severity, message: &str) -> ReadinessCheck {
    ReadinessCheck { name: name.to_owned(), status, message: message.to_owned() }
}

fn live(ran: &Ran) -> Live {
    let plan = &ran.plan;
    Live {
        number: plan.deployment.unwrap(),
        release: plan.release.clone().unwrap(),
        version: plan.version.clone().unwrap(),
        slot: plan.slot,
    }
}

#[test]
fn services_beside_each_other() {
    let mut shop = beside();
    let first = shop.release("1.4.0", &[]);
    shop.deployed(&first);
    let second = shop.release("1.5.0-rc1", &["mailer", "migrate"]);
    let checks = [
        check("artifact_available", Severity::Pass, "3 copies, each whole"),
        check(
            "service_dependencies",
            Severity::Warning,
            "checkout 1.5.0-rc1 and migrate 1.4.0, which it depends on, were never live and stable together",
        ),
    ];
    let plan = shop.planned(&second);
    page("plan_of_one_service_beside", |width| confirm::lines(&plan, &checks, &[], width));
    let ran = shop.deployed(&second);
    page("deploy_of_one_service_beside", |width| outcome::lines(&ran.outcome(None), width));
    page("status_of_services_beside", status_of(&shop, &[("mailer", Health::Failing)]));
    page("inspect_of_one_service_beside", |width| inspect::lines(&inspected(&shop, &ran), width));
    let mut plan = shop.plan_back(&first, live(&ran), (&["checkout"], Trigger::Manual, ""));
    plan.reason = Some(
        "checkout is slow since the release of this evening; see the call of the on-call channel"
            .to_owned(),
    );
    let back = shop.run(plan, None, None, "");
    page("rollback_of_one_service_beside", |width| outcome::lines(&back.outcome(None), width));
    page("history_of_services_beside", history_of(&shop));
}

#[test]
fn services_on_several_hosts() {
    let mut shop = fleet();
    let first = shop.release("1.4.0", &[]);
    shop.deployed(&first);
    let second = shop.release("1.5.0-rc1", &["catalogue"]);
    let plan = shop.planned(&second);
    page("plan_on_hosts", |width| {
        let warning = "config files belong to the whole app: .env differ from those of 1.4.0; checkout starts with them, the other services go on with what they read when they started";
        confirm::lines(&plan, &[], &[warning.to_owned()], width)
    });
    shop.deployed(&second);
    page("status_on_hosts", status_of(&shop, &[]));
    page(
        "status_mixed_on_hosts",
        status_of(
            &shop,
            &[
                ("checkout@web2.example.net", Health::Failing),
                ("checkout@web3.example.net", Health::Unknown),
            ],
        ),
    );
    let third = shop.release("1.5.0", &["catalogue"]);
    let why = "start mixed, done on 3 of 4; failed: checkout@web3.example.net: failed to run `./deploy.sh deploy` on web3.example.net: exit code 3: no space left on device";
    let (deploy, back) = shop.taken_back(&third, "checkout@web3", why);
    page("deploy_mixed_on_hosts", |width| {
        outcome::lines(&deploy.outcome(Some(back.outcome(None))), width)
    });
    page("inspect_mixed_on_hosts", |width| inspect::lines(&inspected(&shop, &deploy), width));
    page("history_on_hosts", history_of(&shop));
}
