//! A process with a ledger, for tests that kill it, race it or starve it of disk, and for measurements.
//!
//! `ledger_child seed DIR N` · `ledger_child status DIR`

use std::path::Path;
use std::time::Instant;

use backout_core::ids::{AppName, EnvironmentKey, EnvironmentName};
use backout_core::model::DeploymentFilter;
use backout_core::ports::Ledger;
use backout_ledger::{OpenMode, SqliteLedger, holder_for_this_process, seed_history};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["seed", folder, count] => seed(Path::new(folder), count.parse()?).await,
        ["status", folder] => status(Path::new(folder)).await,
        _ => Err("give a verb and its arguments".into()),
    }
}

fn key() -> Result<EnvironmentKey, Box<dyn std::error::Error>> {
    Ok(EnvironmentKey {
        app: AppName::new("shop")?,
        environment: EnvironmentName::new("production")?,
    })
}

async fn seed(folder: &Path, count: u64) -> Outcome {
    let ledger = SqliteLedger::open(folder, OpenMode::ReadWrite).await?;
    let began = Instant::now();
    let newest =
        seed_history(&ledger, &key()?, &holder_for_this_process("seed", false)?, count).await?;
    println!("#{newest} after {} ms", began.elapsed().as_millis());
    Ok(ledger.close().await?)
}

/// What `status` asks, cold.
async fn status(folder: &Path) -> Outcome {
    let began = Instant::now();
    let ledger = SqliteLedger::open(folder, OpenMode::ReadOnly).await?;
    let opened = began.elapsed();
    for environment in ledger.environments(None).await? {
        let key = environment.key;
        let live = match environment.live {
            Some(number) => ledger.deployment(&key, number).await?,
            None => None,
        };
        let filter = DeploymentFilter { limit: Some(20), ..DeploymentFilter::default() };
        let newest = ledger.deployments(&key, &filter).await?;
        let open = ledger.open_operation(&key).await?;
        let lease = ledger.lease(&key).await?;
        let (readiness, health) = (ledger.readiness(&key).await?, ledger.health(&key).await?);
        println!(
            "{key} {:?} {} {} {} {} {}",
            live.map(|live| live.number),
            newest.len(),
            open.is_some(),
            lease.is_some_and(|lease| lease.alive),
            readiness.is_some(),
            health.is_some()
        );
    }
    let asked = began.elapsed();
    ledger.close().await?;
    println!(
        "open {} us, asked {} us, closed {} us",
        opened.as_micros(),
        asked.as_micros(),
        began.elapsed().as_micros()
    );
    Ok(())
}
