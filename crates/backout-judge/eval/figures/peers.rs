//! B1b: beside models of the rules that other tools judge by.

use super::detection::{strict, told_the_rates};
use super::{Effort, delays, percent};
use crate::eval::rng::Rng;
use crate::eval::rollout::usual;
use crate::eval::rules::{Rule, second};
use crate::eval::stats::median;
use crate::eval::table::{Table, number, ratio};
use crate::eval::workers;
use backout_judge::Arm;

const SHARE: f64 = 0.05;
const RATE: f64 = 100.0;
/// Rules are watched for this long, healthy or not.
const SECONDS: usize = 3_600;
/// A rule that takes back more healthy releases than this is no rule for this baseline.
const USABLE: f64 = 0.05;

/// What one rule does at one baseline.
struct Measured {
    documented: bool,
    false_alarms: f64,
    /// Median requests of the canary for each fault.
    found: Vec<Option<f64>>,
}

/// B1b.
pub fn measure(effort: &Effort) -> Vec<Table> {
    let about = format!(
        "Median requests of the canary until failing, 5 % of 100 requests/s, α 0.01, everything on, nothing harmless; beside \
         models of other tools' rules (see `eval/rules.rs` for each rule and its source), {} runs a row (four times as many of ours). The best is the \
         fastest of the documented ones that take back at most 5 % of the healthy releases within an hour at that baseline. \
         Goals: 5 times fewer at one point, 22 times at five. *Told both rates*: median of the likelihood ratio with its line at 1/α \
         (SPRT, Wald 1945) that is told both and spends the whole budget on them.",
        effort.runs
    );
    let mut columns = vec!["baseline", "more", "ours"];
    columns.extend(Rule::ALL.map(Rule::name));
    columns.extend(["told both rates", "best/told", "best/ours", "goal"]);
    let mut table = Table::new("B1b", about, &columns);
    let faults = [0.01, 0.05, 0.5];
    for baseline in [0.001, 0.01] {
        let rules = Rule::ALL.map(|rule| measured(effort, rule, baseline, &faults));
        let mut healthy =
            vec![percent(baseline), "healthy, taken back".to_owned(), "≤ 1 %".to_owned()];
        healthy.extend(rules.iter().map(|rule| percent(rule.false_alarms)));
        healthy.extend(["–"; 4].map(str::to_owned));
        table.add(None, healthy);
        for (index, points) in faults.into_iter().enumerate() {
            let world = |rng: &mut Rng, arm: Arm| {
                usual(rng, if arm == Arm::Canary { baseline + points } else { baseline })
            };
            let often = Effort { runs: 4 * effort.runs, ..*effort };
            let ours = median(&delays(&often, &strict(0.01), SHARE, 200_000, world));
            let usable = rules.iter().filter(|rule| rule.documented && rule.false_alarms <= USABLE);
            let best = usable.filter_map(|rule| rule.found[index]).fold(f64::INFINITY, f64::min);
            // Where no usable rule finds it at all, there is nothing to divide by.
            let fewer = ours.map(|ours| best / ours).filter(|fewer| fewer.is_finite());
            let goal = [Some(5.0), Some(22.0), None][index];
            let met = goal.map(|goal| ours.is_some() && fewer.is_none_or(|fewer| fewer >= goal));
            let mut cells = vec![percent(baseline), format!("+{}", percent(points)), number(ours)];
            cells.extend(rules.iter().map(|rule| number(rule.found[index])));
            let told = median(&workers::run(effort.threads, often.runs, |run| {
                let mut rng = Rng::new(effort.seed + run);
                Some(told_the_rates(&mut rng, 0.01, baseline + points, baseline))
            }));
            cells.push(number(told));
            cells.push(ratio(told.map(|told| best / told).filter(|most| most.is_finite())));
            let none = ours.filter(|_| best.is_infinite()).map(|_| "∞".to_owned());
            cells.push(none.unwrap_or_else(|| ratio(fewer)));
            cells.push(goal.map_or("–".to_owned(), |goal| format!("≥ {goal}")));
            table.add(met, cells);
        }
    }
    vec![table]
}

fn measured(effort: &Effort, rule: Rule, baseline: f64, faults: &[f64]) -> Measured {
    let runs = |canary: f64| {
        workers::run(effort.threads, effort.runs, |run| {
            let mut rng = Rng::new(effort.seed + run);
            rule.canary_requests(SECONDS, || second(&mut rng, SHARE * RATE, [canary, baseline]))
                .map(|requests| requests as f64)
        })
    };
    let healthy = runs(baseline);
    let taken_back = healthy.iter().filter(|requests| requests.is_some()).count();
    Measured {
        documented: rule != Rule::ArgoTightened,
        false_alarms: taken_back as f64 / healthy.len() as f64,
        found: faults.iter().map(|points| median(&runs(baseline + points))).collect(),
    }
}
