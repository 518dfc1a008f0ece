//! `docs/benchmarks.md`: one section per benchmark, replaced when it is measured again.

use std::fs;
use std::process::Command;

use super::{Benchmark, Row};
use crate::{Outcome, paths, run};

const PATH: &str = "docs/benchmarks.md";
const PREAMBLE: &str = "\
# Benchmarks

Measured by `cargo xtask bench`; each section tells when and on what. Lower is better unless said
otherwise, and a ratio is ours divided by the peer's.
";

/// The rows as a Markdown table.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text =
        "| figure | ours | peer | ratio | goal | met | how |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let digits = |ratio| if ratio < 0.1 { 3 } else { 2 };
        let ratio = row.ratio.map_or("–".to_owned(), |r| format!("{r:.*}", digits(r)));
        let met = row.met.map_or("–", |met| if met { "yes" } else { "**no**" });
        let or_none = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        let (peer, goal) = (or_none(&row.peer), or_none(&row.goal));
        let Row { name, ours, how, .. } = row;
        text.push_str(&format!(
            "| {name} | {ours} | {peer} | {ratio} | {goal} | {met} | {how} |\n"
        ));
    }
    text
}

/// Writes the section of this benchmark and leaves the others as they are.
pub(super) fn update(benchmark: &Benchmark, rows: &[Row], idle: &str) -> Outcome<()> {
    let path = paths::workspace_root()?.join(PATH);
    let old = fs::read_to_string(&path).unwrap_or_else(|_| PREAMBLE.to_owned());
    let mut date = Command::new("date");
    date.args(["+%Y-%m-%d"]);
    let date = run::output(date)?;
    let section = format!(
        "## {}\n\n{}\n\n{} on {}. {idle}\n\n{}",
        benchmark.name,
        benchmark.about,
        date.trim(),
        machine()?,
        table(rows)
    );
    let new = with_section(&old, benchmark.name, &section);
    fs::write(&path, new).map_err(|e| format!("failed to write {PATH}: {e}"))?;
    println!("updated {PATH}");
    Ok(())
}

fn machine() -> Outcome<String> {
    let read =
        |path: &str| fs::read_to_string(path).map_err(|e| format!("failed to read {path}: {e}"));
    let processor = read("/proc/cpuinfo")?;
    let processor = field(&processor, "model name").unwrap_or("an unknown processor").to_owned();
    let memory = read("/proc/meminfo")?;
    let memory_kib: u64 = field(&memory, "MemTotal")
        .and_then(|value| value.split_whitespace().next())
        .and_then(|value| value.parse().ok())
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let gib = memory_kib as f64 / 1024.0 / 1024.0;
    Ok(format!("{cores} cores of {processor}, {gib:.0} GiB, Linux {}", kernel.trim()))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// The text with the section `## name` replaced, or added at the end.
fn with_section(text: &str, name: &str, section: &str) -> String {
    let heading = format!("## {name}\n");
    let section = section.trim_end();
    let Some(start) = text.find(&heading) else {
        return format!("{}\n\n{section}\n", text.trim_end());
    };
    let after = &text[start + heading.len()..];
    let rest = after.find("\n## ").map_or("", |at| &after[at + 1..]);
    let separator = if rest.is_empty() { "" } else { "\n" };
    format!("{}{section}\n{separator}{rest}", &text[..start])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_then_replaced_and_others_stay() {
        let text = with_section(PREAMBLE, "a", "## a\n\none");
        let text = with_section(&text, "b", "## b\n\ntwo");
        assert!(text.starts_with(PREAMBLE));
        assert!(text.ends_with("\n\n## a\n\none\n\n## b\n\ntwo\n"), "{text}");
        let first = with_section(&text, "a", "## a\n\nthree\n");
        assert!(first.ends_with("\n\n## a\n\nthree\n\n## b\n\ntwo\n"), "{first}");
        let last = with_section(&first, "b", "## b\n\nfour\n");
        assert!(last.ends_with("\n\n## a\n\nthree\n\n## b\n\nfour\n"), "{last}");
    }

    #[test]
    fn a_missed_goal_stands_out() {
        let row = Row {
            name: "n".into(),
            ours: "2".into(),
            peer: "1".into(),
            ratio: Some(2.0),
            goal: "≤ 1".into(),
            met: Some(false),
            how: "h".into(),
            must: false,
        };
        let free = Row { name: "f".into(), ours: "3".into(), ..Row::default() };
        let table = table(&[row, free]);
        assert!(
            table.ends_with(
                "| n | 2 | 1 | 2.00 | ≤ 1 | **no** | h |\n| f | 3 | – | – | – | – |  |\n"
            )
        );
    }
}
