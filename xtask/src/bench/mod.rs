//! Measurements against the tools people use today: `cargo xtask bench`.

mod backend;
mod build;
mod client;
mod compose;
mod figures;
mod folder;
mod git;
mod idle;
mod intent;
mod ledger;
mod load;
mod peers;
mod process;
mod proxy_cpu;
mod proxy_switch;
mod report;
mod restore;
mod spent;
mod ssh;
mod standby;
mod status;
mod systemd;
mod trip;

use std::path::PathBuf;

use folder::Folder;
pub use trip::run_release;

use crate::{Outcome, needs, paths, run};

const BUILD: &str = "build";

/// One benchmark: a module that sets up, measures and gives rows.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    measure: fn(&Bench) -> Outcome<Vec<Row>>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark { name: BUILD, about: build::ABOUT, measure: build::measure },
    Benchmark { name: "proxy-switch", about: proxy_switch::ABOUT, measure: proxy_switch::measure },
    Benchmark { name: "proxy-cpu", about: proxy_cpu::ABOUT, measure: proxy_cpu::measure },
    Benchmark { name: "ledger", about: ledger::ABOUT, measure: ledger::measure },
    Benchmark { name: "intent", about: intent::ABOUT, measure: intent::measure },
    Benchmark { name: "status", about: status::ABOUT, measure: status::measure },
    Benchmark { name: "compose", about: compose::ABOUT, measure: compose::measure },
    Benchmark { name: "systemd", about: systemd::ABOUT, measure: systemd::measure },
    Benchmark { name: "git", about: git::ABOUT, measure: git::measure },
    Benchmark { name: "ssh", about: ssh::ABOUT, measure: ssh::measure },
    Benchmark { name: "standby", about: standby::ABOUT, measure: standby::measure },
    Benchmark { name: "trip", about: trip::ABOUT, measure: trip::measure },
];

/// One figure of ours beside the same figure of a peer.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    name: String,
    ours: String,
    /// Empty where there is none.
    peer: String,
    /// Ours divided by the peer's; none where a quotient says nothing.
    ratio: Option<f64>,
    /// Empty where the figure is only stated.
    goal: String,
    met: Option<bool>,
    how: String,
    /// A missed goal of this row is a fault, not a matter of speed.
    must: bool,
}

impl Row {
    fn is_broken(&self) -> bool {
        self.must && self.met == Some(false)
    }
}

/// What every benchmark gets.
struct Bench {
    /// The release build of the binary.
    backout: PathBuf,
    /// What that build took, if it began with nothing.
    cold: Option<build::Built>,
}

/// What the command line asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    name: Option<String>,
    may_install: bool,
}

impl Options {
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self { name: None, may_install: true };
        for word in words {
            match *word {
                "--no-install" => options.may_install = false,
                // As `test` has it; the name says it all.
                "--only" => {}
                name if BENCHMARKS.iter().any(|bench| bench.name == name) => {
                    options.name = Some(name.to_owned());
                }
                other => {
                    let names: Vec<&str> = BENCHMARKS.iter().map(|bench| bench.name).collect();
                    return Err(format!("bench knows {}, not `{other}`", names.join(", ")));
                }
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|wanted| wanted == name)
    }

    fn words(&self) -> Vec<&str> {
        let no_install = (!self.may_install).then_some("--no-install");
        self.name.as_deref().into_iter().chain(no_install).collect()
    }
}

/// Measures, prints, and updates the sections of `docs/benchmarks.md` that were measured.
///
/// A missed goal stands in the table; an error means that something could not be measured or was wrong.
pub fn run(options: &Options) -> Outcome<()> {
    if cfg!(debug_assertions) {
        // The load comes from this program: unoptimised it would take the processor from what it measures.
        let call = ["run", "--release", "--quiet", "--package", "xtask", "--", "bench"];
        return run::run(run::cargo(&[&call[..], &options.words()].concat())?);
    }
    needs::ensure(&["bench"], options.may_install)?;
    let folder = Folder::create(BUILD)?;
    let mut before = idle::share_used_by_others()?;
    let bench = build_binary(options.wants(BUILD), &folder)?;
    let (mut missed, mut broken) = (Vec::new(), Vec::new());
    for benchmark in BENCHMARKS.iter().filter(|benchmark| options.wants(benchmark.name)) {
        println!("\n== {}: {}", benchmark.name, benchmark.about);
        let rows = (benchmark.measure)(&bench)?;
        let after = idle::share_used_by_others()?;
        println!("{}", report::table(&rows));
        report::update(benchmark, &rows, &idle::sentence(before, after))?;
        before = after;
        broken.extend(rows.iter().filter(|row| row.is_broken()).map(|row| row.name.clone()));
        missed.extend(rows.into_iter().filter(|row| row.met == Some(false)).map(|row| row.name));
    }
    if !missed.is_empty() {
        println!("missed goals: {}", missed.join("; "));
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("not zero: {}", broken.join("; "))) }
}

/// With nothing to begin with where that is to be measured, else on top of earlier builds; or the binary that
/// `BACKOUT_UNDER_TEST` names.
fn build_binary(cold: bool, folder: &Folder) -> Outcome<Bench> {
    if let (Some(backout), false) = (std::env::var_os("BACKOUT_UNDER_TEST"), cold) {
        return Ok(Bench { backout: backout.into(), cold: None });
    }
    let (target, manner) = if cold {
        (folder.path().to_path_buf(), " from nothing, which takes minutes")
    } else {
        (paths::target_dir()?, "")
    };
    println!("building the release binary{manner}");
    let built = build::build(&target)?;
    Ok(Bench { backout: target.join("release/backout"), cold: cold.then_some(built) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_a_benchmark_that_exists() {
        let options = Options::parse(&["proxy-cpu", "--no-install"]).unwrap();
        assert_eq!(options, Options { name: Some("proxy-cpu".into()), may_install: false });
        assert_eq!(Options::parse(&options.words()).unwrap(), options);
        assert!(Options::parse(&["cpu"]).unwrap_err().contains(
            "build, proxy-switch, proxy-cpu, ledger, intent, status, compose, systemd, git, ssh, standby, trip, not `cpu`"
        ));
    }
}
