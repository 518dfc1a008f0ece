//! What safety costs at the moment that counts, for `cargo xtask bench intent`: the intent durable in the ledger and then
//! the traffic moved through the router, as every rollback to a warm side does it, beside one `fdatasync` of the same
//! text and a bare admin command to the same proxy. The two take turns. Prints one line of JSON.
//!
//! `switch_bench BACKOUT FOLDER`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backout_core::ids::{LedgerId, ReleaseId, ServiceName, Slot, Version};
use backout_core::ports::{Ledger, Router, RouterSide, StepCx, TrafficChange};
use backout_ledger::{OpenMode, SqliteLedger, holder_for_this_process};
use backout_proxy::client::{BuiltinRouter, BuiltinRouterOptions};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::Leased;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Switches of each kind.
const SWITCHES: usize = 400;

/// Of each kind, before any is counted.
const WARM_UP: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(backout), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("give the program and a folder".into());
    };
    let bench = Bench::start(&backout, &folder).await?;
    let result = bench.run(&folder).await;
    bench.router.remove(bench.leased.lease.epoch).await?;
    let (ours, bare) = result?;
    let (ours, bare) = (Figures::of(ours), Figures::of(bare));
    println!("{}", json!({ "ours": ours.json(), "bare": bare.json() }));
    Ok(())
}

struct Bench {
    leased: Leased,
    router: BuiltinRouter,
    socket: PathBuf,
    listen: SocketAddr,
    sides: BTreeMap<Slot, RouterSide>,
    ledger: LedgerId,
}

/// An address that nobody uses.
fn address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Bench {
    async fn start(backout: &Path, folder: &Path) -> Outcome<Self> {
        let state = folder.join("state");
        let ledger = SqliteLedger::open(&state, OpenMode::ReadWrite).await?;
        let key = samples::key("bench", "production");
        let holder = holder_for_this_process("bench", false)?;
        let id = ledger.id().await?;
        let lease = ledger.claim(&key, &holder).await?;
        let leased = Leased { ledger: std::sync::Arc::new(ledger), lease, holder };
        leased.open("one").await;
        let (dir, listen) = (state.join("proxy"), address()?);
        let args = ["proxy", "--detached", "--exit-when-idle", "--dir"].map(str::to_owned);
        let router = BuiltinRouter::new(BuiltinRouterOptions {
            exe: backout.to_owned(),
            args: args.into_iter().chain([dir.display().to_string()]).collect(),
            dir: dir.clone(),
            key,
            service: ServiceName::new("web")?,
            listen,
            ledger: id.clone(),
            sticky: false,
        });
        let socket = dir.join("admin.sock");
        let bench = Self { leased, router, socket, listen, sides: sides()?, ledger: id };
        bench.router.ensure(&bench.step()).await?;
        Ok(bench)
    }

    fn step(&self) -> StepCx {
        StepCx {
            operation: samples::operation("one"),
            step_id: "op_one/01-shift_traffic".to_owned(),
            attempt: 1,
            epoch: self.leased.lease.epoch,
            timeout: Duration::from_secs(10),
            deployment: 2,
            from_version: None,
            reason: "bench".to_owned(),
            secrets: Default::default(),
        }
    }

    /// Each manner moves the traffic to the other side.
    async fn run(&self, folder: &Path) -> Outcome<(Vec<Duration>, Vec<Duration>)> {
        let mut file = File::create(folder.join("bare"))?;
        let text = serde_json::to_string(&self.leased.entry("what is about to be done"))?;
        let (mut ours, mut bare, mut length) = (Vec::new(), Vec::new(), 1);
        for turn in 0..SWITCHES + WARM_UP {
            let began = Instant::now();
            self.journaled(Slot::B, length).await?;
            let took_ours = began.elapsed();
            length += 1;
            let began = Instant::now();
            file.write_all(text.as_bytes())?;
            rustix::fs::fdatasync(&file)?;
            self.bare(Slot::A).await?;
            let took_bare = began.elapsed();
            if turn >= WARM_UP {
                ours.push(took_ours);
                bare.push(took_bare);
            }
        }
        Ok((ours, bare))
    }

    /// As the executor does it: the intent is durable before the router is told.
    async fn journaled(&self, to: Slot, length: u64) -> Outcome<()> {
        let intent = self.leased.entries("one", length, &["what is about to be done"]);
        self.leased.ledger.commit(&self.leased.lease, &[intent]).await?;
        let change = TrafficChange {
            sides: self.sides.clone(),
            weights: weights(to),
            new_side: Slot::B,
            stage: "100".to_owned(),
            dead_man: None,
            trip: None,
            cut: false,
            acknowledge_fired: false,
        };
        self.router.apply(&change, &self.step()).await?;
        Ok(())
    }

    /// One command, one answer, nothing else.
    async fn bare(&self, to: Slot) -> Outcome<()> {
        let side = |side: &RouterSide| {
            json!({ "upstream": side.address, "deployment": side.deployment, "release": side.release,
                    "version": side.version })
        };
        let sides: BTreeMap<String, Value> =
            self.sides.iter().map(|(slot, at)| (slot.to_string(), side(at))).collect();
        let weights: BTreeMap<String, u8> =
            weights(to).iter().map(|(slot, weight)| (slot.to_string(), *weight)).collect();
        let key = &self.leased.lease.key;
        let put = json!({
            "v": 1, "id": 1, "cmd": "put", "route": format!("{key}/web"), "listen": self.listen,
            "epoch": self.leased.lease.epoch, "sides": sides, "weights": weights,
            "owner": { "ledger": self.ledger, "app": key.app, "environment": key.environment },
        });
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{put}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        match answer["ok"].is_object() {
            true => Ok(()),
            false => Err(format!("the proxy refused: {answer}").into()),
        }
    }
}

fn sides() -> Outcome<BTreeMap<Slot, RouterSide>> {
    let side = |number: u64| -> Outcome<RouterSide> {
        Ok(RouterSide {
            address: Some(address()?),
            deployment: number,
            release: ReleaseId::new(format!("rel_{number}"))?,
            version: Version::new(format!("v{number}"))?,
            check_path: None,
        })
    };
    Ok(BTreeMap::from([(Slot::A, side(1)?), (Slot::B, side(2)?)]))
}

fn weights(to: Slot) -> BTreeMap<Slot, u8> {
    Slot::BOTH.into_iter().map(|slot| (slot, if slot == to { 100 } else { 0 })).collect()
}

/// Microseconds.
struct Figures {
    median: f64,
    p99: f64,
}

impl Figures {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
        Self { median: at(50), p99: at(99) }
    }

    fn json(&self) -> Value {
        json!({ "median_us": self.median, "p99_us": self.p99 })
    }
}
