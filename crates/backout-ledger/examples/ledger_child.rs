//! A process with a ledger, for tests that kill it, race it or starve it of disk, and for measurements.
//!
//! `seed PLACE N` writes a history, `status DIR` asks what `status` asks, `append PLACE` commits entry after entry and
//! prints each length that was acknowledged, `claim PLACE` claims when a line comes, prints the epoch or `busy` and
//! holds until its input ends, `copy DIR URL N` moves a ledger and ends itself at the N-th step, `fill DIR` uses up a small disk and journals a rollback on the full one, `scarce DIR` goes back
//! with ever less room. A place is a folder or the address of a PostgreSQL database. `export DIR` exports the audit log on a disk that it filled,
//! `verify PLACE` checks it and says how long that took.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use backout_core::model::{DeploymentFilter, Trigger};
use backout_core::ports::{AppendError, Change, ClaimError, Commit, Lease, Ledger, LedgerError};
use backout_core::saga::{EntryKind, Failure};
use backout_ledger::audit;
use backout_ledger::{
    DatabaseUrl, OpenError, OpenMode, PostgresLedger, RESERVE_FILE, SqliteLedger, copy_ledger,
    holder_for_this_process, seed_history,
};
use backout_testkit::ledger::samples;
use rustix::process::Signal;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["seed", place, count] => seed(place, count.parse()?).await,
        ["status", folder] => status(Path::new(folder)).await,
        ["append", place] => append(place).await,
        ["claim", place] => claim(place).await,
        ["copy", folder, url, step] => copy(Path::new(folder), url, step.parse()?).await,
        ["fill", folder] => fill(Path::new(folder)).await,
        ["scarce", folder] => scarce(Path::new(folder)).await,
        ["export", folder] => export_on_a_full_disk(Path::new(folder)).await,
        ["verify", place] => verify(place).await,
        _ => Err("give a verb and its arguments".into()),
    }
}

async fn open(place: &str) -> Result<Box<dyn Ledger>, Box<dyn std::error::Error>> {
    if place.starts_with("postgres://") {
        let url: DatabaseUrl = place.parse()?;
        return Ok(Box::new(PostgresLedger::connect(&url, OpenMode::ReadWrite).await?));
    }
    Ok(Box::new(SqliteLedger::open(Path::new(place), OpenMode::ReadWrite).await?))
}

async fn seed(place: &str, count: u64) -> Outcome {
    let ledger = open(place).await?;
    let began = Instant::now();
    let newest = seed_history(
        ledger.as_ref(),
        &samples::key("shop", "production"),
        &holder_for_this_process("seed", false)?,
        count,
    )
    .await?;
    println!("#{newest} after {} ms", began.elapsed().as_millis());
    Ok(())
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

fn say(line: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// An open operation `op_one`, or the one that an earlier process left.
async fn begin(ledger: &dyn Ledger) -> Result<(Lease, u64), Box<dyn std::error::Error>> {
    let key = samples::key("shop", "production");
    let lease = ledger.claim(&key, &holder_for_this_process("deploy", false)?).await?;
    let operation = samples::operation("one");
    let length = ledger.journal_length(&operation).await?;
    if length == 0 {
        let plan = samples::plan(&key, &operation, 1, &samples::release(&key.app, "1.0.0"));
        let mut first = entry(&lease, 0);
        first.changes.push(Change::Open(Box::new(plan)));
        ledger.commit(&lease, &[first]).await?;
        return Ok((lease, 1));
    }
    Ok((lease, length))
}

/// The next entry, with a message for the outbox: both or none.
fn entry(lease: &Lease, length: u64) -> Commit {
    Commit {
        operation: samples::operation("one"),
        expected_sequence: length,
        entries: vec![samples::entry(lease.epoch, &format!("entry {}", length + 1))],
        changes: vec![Change::Outbox(samples::message(&format!("message {}", length + 1)))],
    }
}

async fn append(place: &str) -> Outcome {
    let ledger = open(place).await?;
    let (lease, mut length) = begin(ledger.as_ref()).await?;
    loop {
        ledger.commit(&lease, &[entry(&lease, length)]).await?;
        length += 1;
        say(&length.to_string())?;
    }
}

/// Ends itself with SIGKILL at the given step.
async fn copy(folder: &Path, url: &str, kill_at: u32) -> Outcome {
    let url: DatabaseUrl = url.parse()?;
    let mut step = 0;
    let mut progress = |_| {
        if step == kill_at {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        }
        step += 1;
    };
    copy_ledger(folder, &url, &mut progress).await?;
    Ok(())
}

async fn claim(place: &str) -> Outcome {
    let holder = holder_for_this_process("deploy", false)?;
    say("ready")?;
    std::io::stdin().read_line(&mut String::new())?;
    let ledger = open(place).await?;
    match ledger.claim(&samples::key("shop", "production"), &holder).await {
        Ok(lease) => say(&lease.epoch.to_string())?,
        Err(ClaimError::Busy(view)) => say(&format!("busy: {}", view.holder.label))?,
        Err(other) => return Err(other.into()),
    }
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// On a disk of its own that is small.
async fn fill(disk: &Path) -> Outcome {
    let state = disk.join("state");
    let ledger = SqliteLedger::open(&state, OpenMode::ReadWrite).await?;
    let (lease, mut length) = begin(&ledger).await?;
    let mut filler = fs_err::File::create(disk.join("filler"))?;
    while filler.write_all(&[1; 4096]).is_ok() {}
    length = commit_until_full(&ledger, &lease, length).await?;
    say(&format!("full after {length}"))?;
    // Nothing of the failed commit is there, and reading works.
    let found = ledger.journal_length(&samples::operation("one")).await?;
    say(&format!("writer reads {found}"))?;
    let reader = SqliteLedger::open(&state, OpenMode::ReadOnly).await?;
    say(&format!("reader reads {}", reader.entries(&samples::operation("one")).await?.len()))?;
    reader.close().await?;
    say(&format!("freed {}", ledger.free_reserve().await?))?;
    length = journal(&ledger, &lease, length).await?;
    say(&format!("rolled back at {length}"))?;
    length = commit_until_full(&ledger, &lease, length).await?;
    ledger.close().await?;
    cold(&state, length).await?;
    drop(filler);
    fs_err::remove_file(disk.join("filler"))?;
    let ledger = SqliteLedger::open(&state, OpenMode::ReadWrite).await?;
    say(&format!("reserve is back: {}", state.join(RESERVE_FILE).exists()))?;
    ledger.commit(&lease, &[entry(&lease, length)]).await?;
    let report = audit::verify(&ledger, &[]).await?;
    assert!(report.verified(), "{report:?}");
    say(&format!("log over {}", report.entries))
}

/// With so much left, KiB, of which each is too little for a journal, and some for a start.
const LEFT_KIB: [u64; 9] = [0, 4, 32, 48, 64, 128, 192, 320, 700];

/// A deploy on a disk with hardly any room leaves the reserve alone; what goes back has it, however much is left.
async fn scarce(disk: &Path) -> Outcome {
    let state = disk.join("state");
    for how in ["a person", "a verdict", "a request"] {
        for left in LEFT_KIB {
            let ledger = SqliteLedger::open(&state, OpenMode::ReadWrite).await?;
            assert!(state.join(RESERVE_FILE).exists(), "{how}, {left}: there is a reserve");
            let (mut lease, mut length) = begin(&ledger).await?;
            if how == "a person" {
                ledger.release(&lease).await?;
                leave(disk, left)?;
                let holder = holder_for_this_process("rollback", true)?;
                lease = ledger.claim(&lease.key, &holder).await?;
            } else {
                leave(disk, left)?;
                length = commit_until_full(&ledger, &lease, length).await?;
                assert!(state.join(RESERVE_FILE).exists(), "{how}, {left}: a deploy took it");
                let mut first = entry(&lease, length);
                first.entries[0].kind = begins(&ledger, &lease, how, left).await?;
                ledger.commit(&lease, &[first]).await?;
                length += 1;
            }
            length = journal(&ledger, &lease, length).await?;
            assert!(!state.join(RESERVE_FILE).exists(), "{how}, {left}: it was used");
            fs_err::remove_file(disk.join("filler"))?;
            ledger.release(&lease).await?;
            ledger.close().await?;
            let reader = SqliteLedger::open(&state, OpenMode::ReadOnly).await?;
            let found = reader.journal_length(&samples::operation("one")).await?;
            assert_eq!(found, length, "{how}, {left}: what was acknowledged");
            reader.close().await?;
        }
        say(&format!("{how} goes back"))?;
    }
    Ok(())
}

/// The entry with which a way back begins.
async fn begins(
    ledger: &SqliteLedger,
    lease: &Lease,
    how: &str,
    left: u64,
) -> Result<EntryKind, LedgerError> {
    if how == "a verdict" {
        return Ok(EntryKind::Failing { failure: failure() });
    }
    let name = format!("abort{left}");
    let request = samples::request(&lease.key, &samples::operation("one"), &name);
    ledger.submit(&request).await?;
    Ok(EntryKind::Requested { request: request.id, kind: request.kind, by: "ann".to_owned() })
}

fn failure() -> Failure {
    Failure {
        trigger: Trigger::Analysis,
        evidence: vec!["it fails".to_owned()],
        release_is_bad: true,
        by_router: false,
    }
}

/// Fills the disk but for so much.
fn leave(disk: &Path, kib: u64) -> Outcome {
    let mut filler = fs_err::File::create(disk.join("filler"))?;
    while filler.write_all(&[1; 4096]).is_ok() {}
    let size = filler.metadata()?.len();
    Ok(filler.set_len(size.saturating_sub(kib * 1024))?)
}

/// What a rollback writes.
async fn journal(
    ledger: &SqliteLedger,
    lease: &Lease,
    mut length: u64,
) -> Result<u64, Box<dyn std::error::Error>> {
    for _ in 0..JOURNAL_OF_A_ROLLBACK {
        ledger.commit(lease, &[entry(lease, length)]).await?;
        length += 1;
    }
    Ok(length)
}

/// A fresh process on the full disk: whatever it may do, it says why not, and reads.
async fn cold(state: &Path, length: u64) -> Outcome {
    let reader = SqliteLedger::open(state, OpenMode::ReadOnly).await?;
    let found = reader.entries(&samples::operation("one")).await?.len();
    say(&format!("cold reader misses {}", length - found as u64))?;
    reader.close().await?;
    match SqliteLedger::open(state, OpenMode::ReadWrite).await {
        Ok(_) => say("cold writer opened"),
        Err(OpenError::Ledger(LedgerError::DiskFull(_))) => say("cold writer: full"),
        Err(other) => Err(other.into()),
    }
}

/// More entries, each in a commit of its own, than a rollback of several services writes.
const JOURNAL_OF_A_ROLLBACK: u32 = 100;

/// Bounded: on a small disk it is full before.
async fn commit_until_full(
    ledger: &SqliteLedger,
    lease: &Lease,
    mut length: u64,
) -> Result<u64, Box<dyn std::error::Error>> {
    for _ in 0..100_000 {
        match ledger.commit(lease, &[entry(lease, length)]).await {
            Ok(()) => length += 1,
            Err(AppendError::Unavailable(LedgerError::DiskFull(_))) => return Ok(length),
            Err(other) => return Err(other.into()),
        }
    }
    Err("the disk never got full".into())
}

/// Checks a ledger against its log.
async fn verify(place: &str) -> Outcome {
    let ledger = open(place).await?;
    let began = Instant::now();
    let report = audit::verify(ledger.as_ref(), &[]).await?;
    assert!(report.verified(), "{report:?}");
    let (entries, leaves) = (report.entries, report.leaves);
    say(&format!("{entries} entries, {leaves} leaves in {} ms", began.elapsed().as_millis()))
}

/// The old export stays whole, and nothing of the new one is left.
async fn export_on_a_full_disk(state: &Path) -> Outcome {
    let ledger = SqliteLedger::open(state, OpenMode::ReadWrite).await?;
    let holder = holder_for_this_process("export", false)?;
    seed_history(&ledger, &samples::key("shop", "production"), &holder, 40).await?;
    let keeper = audit::Keeper::new(state, &ledger.id().await?);
    let out = state.join("out");
    let export = async || audit::export(&ledger, &keeper, &out, &[], || [1; 32]).await.map(|_| ());
    export().await?;
    let before = std::fs::read(&out)?;
    ledger.close().await?;
    let mut filler = std::fs::File::create(state.join("fill"))?;
    for size in [1 << 16, 1 << 12, 1] {
        while filler.write_all(&vec![0; size]).is_ok() {}
    }
    let ledger = SqliteLedger::open(state, OpenMode::ReadOnly).await?;
    let export = async || audit::export(&ledger, &keeper, &out, &[], || [1; 32]).await.map(|_| ());
    match export().await {
        Ok(()) => say("written")?,
        Err(error) => say(&error.to_string())?,
    }
    say(&format!("the old one is whole: {}", std::fs::read(&out)? == before))?;
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(state)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| !name.starts_with("ledger.db-"));
    names.sort();
    say(&format!("names: {}", names.join(", ")))?;
    filler.set_len(0)?;
    export().await?;
    say(&format!("with room again: {}", std::fs::read(&out)? != before))
}
