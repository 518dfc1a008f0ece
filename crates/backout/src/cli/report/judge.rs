//! What `judge explain` shows: the verdict, the evidence over time, and what it would take to fail.

use backout_engine::{JudgeAccount, SideAccount};
use backout_judge::{Level, chart};
use jiff::Timestamp;

use super::table::{Align, Table};
use super::text::{self, Text};
use super::words;

/// Characters of a chart at most, its labels aside.
const CHART_WIDTH: usize = 72;
const LABEL_WIDTH: usize = 7;

/// The chart as a file.
#[must_use]
pub fn svg(account: &JudgeAccount) -> String {
    let title = format!("{} (#{}): {}", account.version, account.deployment, word(account));
    chart::svg(&account.points, account.threshold, &title)
}

fn word(account: &JudgeAccount) -> &'static str {
    match account.verdict.level {
        Level::Healthy => "healthy",
        Level::Warning if account.verdict.shared_fault => "a fault of both sides",
        Level::Warning => "healthy, with a warning",
        Level::Failing => "failing",
        Level::NotEnoughData => "not enough data",
    }
}

/// An e-value as people read it.
fn e_value(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{value:.0e}"),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value if value >= 0.001 => format!("{value:.3}"),
        _ => "0".to_owned(),
    }
}

/// All lines.
#[must_use]
pub fn lines(account: &JudgeAccount, width: usize, now: Timestamp) -> Vec<String> {
    let style = match account.verdict.level {
        Level::Healthy => text::good(),
        Level::Failing => text::bad(),
        Level::Warning | Level::NotEnoughData => text::warn(),
    };
    let against = match &account.baseline {
        Some(version) => format!(" beside {version}"),
        None => " with nothing beside it".to_owned(),
    };
    let head =
        Text::new(text::PLAIN, format!("{} (#{}){against}: ", account.version, account.deployment))
            .and(style, word(account));
    let mut out = vec![head.styled()];
    let mut say = |words: &str| {
        let wrapped = Text::from(words.to_owned()).wrapped(width.saturating_sub(2));
        out.extend(wrapped.iter().map(|line| format!("  {}", line.styled())));
    };
    say(&account.verdict.evidence);
    if let Some(missing) = account
        .verdict
        .missing
        .as_ref()
        .filter(|missing| !account.verdict.evidence.contains(*missing))
    {
        say(&format!("missing: {missing}"));
    }
    // What failed it says more than what was on the way there.
    let warns = account.verdict.level != Level::Failing;
    for warning in
        account.verdict.warnings.iter().filter(|w| warns && **w != account.verdict.evidence)
    {
        say(&format!("warning: {warning}"));
    }
    say(&seen(account, now));
    out.extend(chart_lines(account, width));
    out.extend(budget(account, width));
    out.push(String::new());
    let last = Text::from(to_fail(account)).wrapped(width);
    out.extend(last.iter().map(Text::styled));
    out
}

fn seen(account: &JudgeAccount, now: Timestamp) -> String {
    let side = |name: &str, side: SideAccount| {
        let percent = words::percent(side.failed, side.requests);
        format!("{name} {} requests, {percent} failed", side.requests)
    };
    let mut parts = vec![side("new side", account.canary)];
    if account.baseline.is_some() {
        parts.push(side("other side", account.other));
    }
    if let Some(percent) = account.percent {
        parts.push(format!("{percent:.0} % of users go to the new side"));
    }
    format!("{}; as of {}, in {}", parts.join("; "), words::age(account.at, now), account.step)
}

fn chart_lines(account: &JudgeAccount, width: usize) -> Vec<String> {
    let (Some(first), Some(last)) = (account.points.first(), account.points.last()) else {
        return Vec::new();
    };
    let powers = account.threshold.max(1.0).log10() + 3.0;
    let rows = (powers.round() as usize) * 2 + 1;
    let columns = width.saturating_sub(LABEL_WIDTH + 2).clamp(10, CHART_WIDTH);
    let drawn = chart::terminal(&account.points, account.threshold, columns, rows);
    let mut out = vec![
        String::new(),
        format!("Evidence against it (e-value; from {} on it fails)", e_value(account.threshold)),
    ];
    let labels = labels(account.threshold, rows);
    for (label, line) in labels.iter().zip(&drawn) {
        out.push(format!("{label:>LABEL_WIDTH$} |{line}"));
    }
    let span_ms = u64::try_from(last.0.saturating_sub(first.0)).unwrap_or(0);
    let legend = format!("{} from left to right", words::duration(span_ms));
    out.push(format!("{:>LABEL_WIDTH$} +{}", "", "-".repeat(columns)));
    out.push(format!("{:>LABEL_WIDTH$}  {legend}", ""));
    out
}

/// One label per power of ten, and the line's own. The top is one power above the line, the bottom 0.01.
fn labels(threshold: f64, rows: usize) -> Vec<String> {
    let top = threshold.max(1.0).log10() + 1.0;
    let row = |power: f64| ((top - power) / (top + 2.0) * (rows - 1) as f64).round() as usize;
    let mut labels = vec![String::new(); rows];
    for power in -2..=top.floor() as i32 {
        let text = match power {
            ..0 => 10f64.powi(power).to_string(),
            _ => format!("{:.0}", 10f64.powi(power)),
        };
        labels[row(f64::from(power)).min(rows - 1)] = text;
    }
    labels[row(top - 1.0).min(rows - 1)] = e_value(threshold);
    labels
}

fn budget(account: &JudgeAccount, width: usize) -> Vec<String> {
    let mut table =
        Table::new(&[("test", Align::Left), ("budget", Align::Right), ("e-value", Align::Right)]);
    for part in &account.parts {
        table.row([
            Text::from(part.name.clone()),
            Text::from(format!("{:.1} %", part.weight * 100.0)),
            Text::from(e_value(part.e_value)),
        ]);
    }
    let percent = account.false_rollback_probability * 100.0;
    let bound =
        format!("At most {percent} % of harmless releases are taken back by these tests together:");
    let mut out = vec![String::new()];
    out.extend(Text::from(bound).wrapped(width).iter().map(Text::styled));
    out.extend(table.render(2, width, false));
    out.push(format!("  together {}", e_value(account.e_value)));
    out
}

fn to_fail(account: &JudgeAccount) -> String {
    if account.verdict.level == Level::Failing {
        return "It has failed; a verdict stays.".to_owned();
    }
    match account.errors_to_fail {
        Some(1) => "It would fail with the next failed request of the new side.".to_owned(),
        Some(more) => format!(
            "It would fail with {more} more failed requests of the new side, and none of the other in between."
        ),
        None if account.percent.is_some_and(|percent| percent >= 100.0) => {
            "Nothing is beside it now: it fails by the service's past, by fixed limits and by its checks."
                .to_owned()
        }
        None => "Errors are not compared now: it fails by fixed limits and by its checks.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use backout_engine::PartAccount;
    use backout_judge::Verdict;

    use super::*;

    fn account() -> JudgeAccount {
        let verdict = Verdict {
            level: Level::Healthy,
            cause: None,
            evidence: "canary errors 0.0 % of 200 requests".to_owned(),
            missing: None,
            shared_fault: false,
            warnings: vec!["no traffic".to_owned()],
            metric: None,
        };
        let part =
            |name: &str, weight, e_value| PartAccount { name: name.to_owned(), weight, e_value };
        JudgeAccount {
            format: 1,
            deployment: 42,
            version: "2.0.0".to_owned(),
            baseline: Some("1.0.0".to_owned()),
            step: "hold_10".to_owned(),
            at: Timestamp::from_second(1_000_000).unwrap(),
            verdict,
            e_value: 0.25,
            threshold: 100.0,
            false_rollback_probability: 0.01,
            percent: Some(10.0),
            canary: SideAccount { requests: 200, failed: 0 },
            other: SideAccount { requests: 1_800, failed: 9 },
            errors_to_fail: Some(7),
            parts: vec![part("errors", 0.8, 0.2), part("latency", 0.2, 0.45)],
            points: (0..50).map(|i| (i * 1_000, 10f64.powf(-(i as f64) / 40.0))).collect(),
        }
    }

    #[test]
    fn a_person_sees_verdict_chart_budget_and_what_it_takes() {
        let now = Timestamp::from_second(1_000_012).unwrap();
        let text = lines(&account(), 60, now).join("\n");
        let plain = anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!("explained", plain);
        assert!(plain.lines().all(|line| line.chars().count() <= 62), "{plain}");
    }

    #[test]
    fn what_it_takes_is_said_for_each_state() {
        let of = |change: &dyn Fn(&mut JudgeAccount)| {
            let mut account = account();
            change(&mut account);
            to_fail(&account)
        };
        assert!(of(&|_| {}).contains("7 more failed requests"));
        assert!(of(&|a| a.errors_to_fail = Some(1)).contains("next failed request"));
        assert!(of(&|a| a.verdict.level = Level::Failing).contains("has failed"));
        assert!(of(&|a| (a.errors_to_fail, a.percent) = (None, Some(100.0))).contains("past"));
        assert!(of(&|a| (a.errors_to_fail, a.percent) = (None, None)).contains("not compared"));
    }

    #[test]
    fn e_values_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.250"),
            (7.0, "7.0"),
            (100.0, "100"),
            (23_456.0, "23456"),
            (1e300, "1e300"),
        ] {
            assert_eq!(e_value(value), text);
        }
    }
}
