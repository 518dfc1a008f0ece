//! Measurements against the tools people use today: `cargo xtask bench`.

mod backend;
mod client;
mod figures;
mod folder;
mod load;
mod peers;
mod process;
mod proxy_cpu;
mod proxy_switch;
mod report;
mod status;

use std::path::PathBuf;

use crate::{Outcome, needs, paths, run};

/// One benchmark: a module that sets up, measures and gives rows.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    measure: fn(&Bench) -> Outcome<Vec<Row>>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark { name: "proxy-switch", about: proxy_switch::ABOUT, measure: proxy_switch::measure },
    Benchmark { name: "proxy-cpu", about: proxy_cpu::ABOUT, measure: proxy_cpu::measure },
    Benchmark { name: "status", about: status::ABOUT, measure: status::measure },
];

/// One figure of ours beside the same figure of a peer.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    ours: String,
    peer: String,
    /// Ours divided by the peer's; none where a quotient says nothing.
    ratio: Option<f64>,
    goal: String,
    met: bool,
    how: String,
}

/// What every benchmark gets.
struct Bench {
    /// The release build of the binary.
    backout: PathBuf,
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

    fn words(&self) -> Vec<&str> {
        let no_install = (!self.may_install).then_some("--no-install");
        self.name.as_deref().into_iter().chain(no_install).collect()
    }
}

/// Measures, prints, and updates the sections of `docs/benchmarks.md` that were measured.
pub fn run(options: &Options) -> Outcome<()> {
    if cfg!(debug_assertions) {
        // The load comes from this program: unoptimised it would take the processor from what it measures.
        let call = ["run", "--release", "--quiet", "--package", "xtask", "--", "bench"];
        return run::run(run::cargo(&[&call[..], &options.words()].concat())?);
    }
    needs::ensure(&["bench"], options.may_install)?;
    println!("building the release binary");
    let build = ["build", "--release", "--quiet", "--locked", "--package", "backout"];
    run::run(run::cargo(&[&build[..], &["--bin", "backout"]].concat())?)?;
    let bench = Bench { backout: paths::target_dir()?.join("release/backout") };
    let mut missed = Vec::new();
    for benchmark in BENCHMARKS {
        if options.name.as_deref().is_some_and(|name| name != benchmark.name) {
            continue;
        }
        println!("\n== {}: {}", benchmark.name, benchmark.about);
        let rows = (benchmark.measure)(&bench)?;
        println!("{}", report::table(&rows));
        report::update(benchmark, &rows)?;
        missed.extend(rows.iter().filter(|row| !row.met).map(|row| row.name.clone()));
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("missed goals: {}", missed.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_a_benchmark_that_exists() {
        let options = Options::parse(&["proxy-cpu", "--no-install"]).unwrap();
        assert_eq!(options, Options { name: Some("proxy-cpu".into()), may_install: false });
        assert_eq!(Options::parse(&options.words()).unwrap(), options);
        assert!(
            Options::parse(&["cpu"])
                .unwrap_err()
                .contains("proxy-switch, proxy-cpu, status, not `cpu`")
        );
    }
}
