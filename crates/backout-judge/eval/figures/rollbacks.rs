//! B2: false rollbacks per family; and whether every regression is found.

use super::Effort;
use crate::eval::families::{self, Family, Played};
#[cfg(test)]
use crate::eval::stats::contradicts;
use crate::eval::stats::{quantile, upper_bound};
use crate::eval::table::{Table, number};
use crate::eval::workers;
use backout_judge::Settings;

const ALPHAS: [f64; 3] = [0.05, 0.01, 0.001];

/// Plays a family so often, once for all budgets: the e-values do not depend on the budget, so a
/// release is taken back at budget α exactly if they reach 1/α or another rule fails it.
pub fn plays(effort: &Effort, family: &Family, runs: u64) -> Vec<Played> {
    workers::run(effort.threads, runs, |run| {
        let settings = Settings { false_rollback_probability: 1e-9, ..(family.settings)() };
        family.play(settings, effort.seed + run, 1_000)
    })
}

/// Runs that ended in a rollback at this budget.
pub fn taken_back(played: &[Played], alpha: f64) -> u64 {
    let failed = |played: &&Played| played.failing.is_some() || played.peak >= 1.0 / alpha;
    played.iter().filter(failed).count() as u64
}

/// B2.
pub fn measure(effort: &Effort) -> Vec<Table> {
    let runs = effort.rollback_runs;
    let about = format!(
        "False rollbacks by the whole judge, every rule and metric on, {runs} runs a family or several times as many: how many, \
         and the exact upper 95 % bound (Clopper–Pearson) divided by α. Goal ≤ 1.0. With {runs} runs the quotient can't be \
         below {:.2} at α 0.001. *By other rules*: fixed limits, checks, traffic; they have no budget and are counted.",
        upper_bound(0, runs) / 0.001
    );
    let mut table = Table::new("B2", about, &HEALTHY_COLUMNS);
    for family in families::healthy() {
        healthy_row(effort, &mut table, &family);
    }
    vec![table]
}

const HEALTHY_COLUMNS: [&str; 7] =
    ["family", "what happens", "runs", "α 0.05", "α 0.01", "α 0.001", "by other rules"];

/// One family alone, whichever kind it is.
pub fn one(effort: &Effort, family: &Family) -> Table {
    if families::healthy().iter().any(|healthy| healthy.name == family.name) {
        let mut table = Table::new("family", String::new(), &HEALTHY_COLUMNS);
        healthy_row(effort, &mut table, family);
        return table;
    }
    let mut table = Table::new("family", String::new(), &REGRESSION_COLUMNS);
    regression_row(effort, &mut table, family);
    table
}

fn healthy_row(effort: &Effort, table: &mut Table, family: &Family) {
    let runs = effort.rollback_runs * family.weight;
    let played = plays(effort, family, runs);
    let mut met = true;
    let mut cells = vec![family.name.to_owned(), family.about.to_owned(), runs.to_string()];
    for alpha in ALPHAS {
        let seen = taken_back(&played, alpha);
        let quotient = upper_bound(seen, runs) / alpha;
        met &= quotient <= 1.0;
        cells.push(format!("{seen}: {quotient:.2}"));
    }
    let failing = || played.iter().filter_map(|played| played.failing.as_ref());
    for verdict in failing().take(3) {
        eprintln!("  {}: {}", family.name, verdict.evidence);
    }
    cells.push(match failing().count() {
        0 => "–".to_owned(),
        count => count.to_string(),
    });
    eprintln!("  {}", cells.join(" | "));
    table.add(Some(met), cells);
}

/// Whether a few runs contradict the bound.
#[cfg(test)]
pub fn is_contradicted(played: &[Played]) -> Option<f64> {
    let runs = played.len() as u64;
    ALPHAS.into_iter().find(|&alpha| contradicts(taken_back(played, alpha), runs, alpha))
}

/// Every regression, by the judge as it is delivered.
pub fn regressions(effort: &Effort) -> Vec<Table> {
    let about = format!(
        "Regressions before the whole judge as delivered (α 0.01, harmless rates and latency warm-up of 30 s by default), \
         10 % of 100 requests/s unless said otherwise, {} runs a family. Median (and 95th percentile) from the onset. \
         Goal: never \"never\".",
        effort.runs
    );
    let mut table = Table::new("Regressions", about, &REGRESSION_COLUMNS);
    for family in families::regressions() {
        regression_row(effort, &mut table, &family);
    }
    vec![table]
}

const REGRESSION_COLUMNS: [&str; 7] = [
    "family",
    "what happens",
    "seconds",
    "canary requests",
    "failed user requests",
    "not found",
    "found by",
];

fn regression_row(effort: &Effort, table: &mut Table, family: &Family) {
    let played = workers::run(effort.threads, effort.runs, |run| {
        family.play((family.settings)(), effort.seed + run, 0)
    });
    let of = |value: &dyn Fn(&Played) -> f64| {
        let found = |played: &Played| played.after_ms.map(|_| value(played));
        let all: Vec<Option<f64>> = played.iter().map(found).collect();
        format!("{} ({})", number(quantile(&all, 0.5)), number(quantile(&all, 0.95)))
    };
    let missed = played.iter().filter(|played| played.after_ms.is_none()).count();
    let metric = |played: &Played| played.failing.as_ref()?.metric.clone();
    let mut by: Vec<String> = played.iter().filter_map(metric).collect();
    by.sort_unstable();
    by.dedup();
    table.add(
        Some(missed == 0),
        vec![
            family.name.to_owned(),
            family.about.to_owned(),
            of(&|played| played.after_ms.unwrap_or_default() as f64 / 1e3),
            of(&|played| played.canary[0] as f64),
            of(&|played| played.canary[1] as f64),
            missed.to_string(),
            by.join(", "),
        ],
    );
}
