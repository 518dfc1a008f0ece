//! Seeded mistakes in what drives the journal: the enumeration must catch every one of them.

use backout_core::model::TargetKind;

use crate::enumeration::{Family, Job, case, scripts, stubborn};
use crate::fixtures::{How, Start};
use crate::sim::{After, Mutant};

/// Enough of the families to show any of the mistakes.
fn families() -> Vec<Family> {
    let wanted = |family: &Family| {
        let setup = family.setup;
        let small = matches!(setup.how, How::Canary | How::Recreate);
        let start = matches!(family.start, Start::LiveRuns | Start::Baking);
        setup.target == TargetKind::Process && small && start && family.job != Job::Restart
    };
    Family::all().into_iter().filter(wanted).collect()
}

/// The first case that shows a mistake.
fn caught(mutant: Mutant) -> Option<String> {
    families().into_iter().find_map(|family| {
        let stubborn = stubborn(family).into_iter().map(|script| (script, After::Recover));
        let mut all = scripts(family).into_iter().chain(stubborn);
        all.find_map(|(script, after)| case(family, &script, after, Some(mutant)).err())
    })
}

#[test]
fn no_mutant_survives() {
    let survivors: Vec<Mutant> =
        Mutant::ALL.into_iter().filter(|mutant| caught(*mutant).is_none()).collect();
    assert_eq!(survivors, [], "the enumeration does not see these mistakes");
}
