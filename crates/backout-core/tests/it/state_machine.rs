//! `docs/state-machine.md`: what the enumeration saw, as a diagram that can't grow old unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use backout_core::model::TargetKind;

use crate::enumeration::{Family, Job, scripts, stubborn};
use crate::fixtures::{How, Start};
use crate::sim::{After, End, Script, Sim};

const PROSE: &str = "# States of an operation

Generated from what `fold` and `decide` did in the enumeration of every journal prefix with every fault
(`crates/backout-core/tests/it/state_machine.rs`). After a change there:
`UPDATE_DOCS=1 cargo test -p backout-core --test it state_machine`.

Nothing but `fold(plan, entries)` knows how far an operation is, and nothing but `decide` says what comes next.
Every arrow is an entry of the journal. One step is under way at a time; `next_step` is the step that is due and
was not begun (or was seen not to have happened), the states from `running` to `refused` are those of that step.

- The intent (`step_started`) is durable before the effect begins, so a holder that dies leaves `running` behind.
  From there, and from `unknown`, only an observation leads on: `step_done (adopted)` or `step_not_applied`.
- Tries are counted as they begin. After the last one a step that may be left out is skipped, a deploy before its
  pivot goes back, and everything else becomes `stuck`.
- `going_back` ends the deploy as `taken_back` and opens the operation that takes it back in the same commit: a way
  back is an operation of its own. Where nothing was changed the end is `nothing_changed`; where automatic
  rollback is off it is `failed_live`.
- `stuck` and `yielding` are left by people and by the next holder: `retry`, `rollback`, `down`, `resolve`.
";

/// Families that together show every state.
fn families() -> Vec<Family> {
    let wanted = |family: &Family| {
        let setup = family.setup;
        let usual = matches!(setup.how, How::Canary | How::Recreate);
        let start = matches!(family.start, Start::LiveRuns | Start::NothingLive);
        setup.target == TargetKind::Process && usual && start
    };
    Family::all().into_iter().filter(wanted).collect()
}

type Edges = BTreeSet<(String, String, String)>;
type Words = BTreeSet<(String, &'static str)>;

fn watch(family: Family, script: Script, after: After, automatic: bool, all: &mut (Edges, Words)) {
    let mut sim = family.sim(script, None);
    sim.records = true;
    sim.policy.rollback.automatic = automatic;
    let end = family.run(&mut sim, after).unwrap_or_else(|why| panic!("{why}"));
    take(&sim, all);
    if let End::Stuck(_) = end {
        for way_out in [After::Recover, After::Rollback, After::Down, After::Resolve] {
            let mut out: Sim = sim.clone();
            out.script = Script::default();
            out.go_on(way_out).unwrap_or_else(|why| panic!("{why:?}"));
            take(&out, all);
        }
    }
}

fn take(sim: &Sim, all: &mut (Edges, Words)) {
    all.0.extend(sim.seen.iter().cloned());
    all.1.extend(sim.said.iter().cloned());
}

fn observed() -> (Edges, Words) {
    let mut all = (Edges::new(), Words::new());
    for family in families() {
        for (script, after) in scripts(family) {
            watch(family, script, after, true, &mut all);
        }
        for script in stubborn(family) {
            watch(family, script, After::Recover, true, &mut all);
        }
        if family.job == Job::DeployBad {
            watch(family, Script::default(), After::Recover, false, &mut all);
        }
    }
    all
}

fn rendered((edges, words): &(Edges, Words)) -> String {
    let mut text = format!("{PROSE}\n```mermaid\nstateDiagram-v2\n    [*] --> next_step\n");
    let mut arrows: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (from, entry, to) in edges {
        // A new holder, and what is noted on the way, changes no state.
        if from != to {
            arrows.entry((from, to)).or_default().push(entry);
        }
    }
    let from: BTreeSet<&str> = arrows.keys().map(|(from, _)| *from).collect();
    for ((from, to), entries) in &arrows {
        writeln!(text, "    {from} --> {to}: {}", entries.join(", ")).unwrap();
    }
    let to: BTreeSet<&str> = arrows.keys().map(|(_, to)| *to).collect();
    for end in to.difference(&from) {
        writeln!(text, "    {end} --> [*]").unwrap();
    }
    text.push_str("```\n\nWhat `decide` says in each state:\n\n| state | decision |\n|---|---|\n");
    let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (state, word) in words {
        said.entry(state).or_default().push(word);
    }
    for (state, words) in said {
        writeln!(text, "| `{state}` | {} |", words.join(", ")).unwrap();
    }
    text
}

#[test]
fn the_diagram_shows_what_happens() {
    let text = rendered(&observed());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-machine.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, text, "docs/state-machine.md is old: run this with UPDATE_DOCS=1");
}
