//! One module per verb, and the dispatch.

pub mod args;
mod audit;
mod background;
mod check;
mod completions;
mod control;
mod deploy;
mod doctor;
mod drill;
mod eject;
mod hand_over;
mod history;
mod init;
mod inspect;
mod judge;
mod ledger;
mod reading;
pub mod report;
mod rollback;
mod schema;
mod serve;
pub mod session;
mod shared_ledger;
mod signals;
mod status;
mod values;

use args::{Cli, Command};
use backout_core::model::RequestKind;

use crate::demo;
use crate::error::CommandError;
use crate::exit_code;
use crate::registry;

/// Runs the verb and returns its exit code.
///
/// # Errors
/// What went wrong, with the exit code of its kind.
pub fn run(cli: &Cli) -> Result<u8, CommandError> {
    let serves = matches!(cli.command, Command::Serve(_));
    if cli.global.files.len() > 1 && !serves {
        let message = "-f was given more than once, and only `serve` looks after several files";
        return Err(CommandError::usage(message).hint("name one file"));
    }
    // Needs no runtime, so that a stream of events is read as fast as it comes.
    if let Command::Judge(args) = &cli.command
        && let Some(result) = judge::run_replay(&args.command)
    {
        return result;
    }
    match &cli.command {
        Command::Init => init::run(&cli.global).map(|()| exit_code::OK),
        Command::Schema => schema::run().map(|()| exit_code::OK),
        Command::Completions(completions) => {
            completions::run(completions.shell).map(|()| exit_code::OK)
        }
        // These two must be the only thread of their process when they begin.
        Command::Proxy(args) => background::proxy(&cli.global, args),
        Command::Supervise(args) => Ok(background::supervise(args)),
        _ => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| CommandError::failed(format!("failed to start: {error}")))?;
            let result = runtime.block_on(async {
                let result = run_async(cli).await;
                session::close_ledgers().await;
                registry::close_connections().await;
                result
            });
            // A blocked read of standard input must not hold the exit up.
            runtime.shutdown_background();
            result
        }
    }
}

async fn run_async(cli: &Cli) -> Result<u8, CommandError> {
    let global = &cli.global;
    match &cli.command {
        Command::Adopt(args) => control::adopt(global, args).await,
        Command::Deploy(args) => deploy::run(global, args).await,
        Command::Rollback(args) => rollback::run(global, args).await,
        Command::Promote(args) if args.full => control::ask(global, RequestKind::PromoteFull).await,
        Command::Promote(_) => control::ask(global, RequestKind::Promote).await,
        Command::Pause => control::ask(global, RequestKind::Pause).await,
        Command::Resume => control::ask(global, RequestKind::Resume).await,
        Command::Retry => control::ask(global, RequestKind::Retry).await,
        Command::Abort => control::ask(global, RequestKind::Abort).await,
        Command::Recover => control::recover(global).await,
        Command::Resolve(args) => control::resolve(global, args).await,
        Command::Down => control::down(global).await,
        Command::Eject(args) => eject::run(global, args).await,
        Command::Drill(args) => drill::run(global, args).await,
        Command::Demo => demo::run(global).await,
        Command::DemoService(args) => demo::run_service(args).await,
        Command::DemoJanitor(args) => demo::run_janitor(args).await,
        Command::Serve(args) => serve::run(global, args).await,
        Command::Audit(args) => audit::run(global, &args.command).await,
        Command::Ledger(args) => ledger::run(global, &args.command).await,
        Command::Judge(args) => judge::run(global, &args.command).await,
        Command::Doctor => doctor::run(global).await,
        Command::Status(args) => status::run(global, args).await,
        Command::Check(args) => check::run(global, args).await,
        Command::Inspect(args) => inspect::run(global, args).await,
        Command::History(args) => history::run(global, args).await,
        other => Err(CommandError::failed(format!("`{other:?}` is not built into this program"))),
    }
}
