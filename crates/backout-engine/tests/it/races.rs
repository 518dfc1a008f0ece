//! A thousand rounds of several commands at once, in virtual time: of those that change something one is accepted,
//! the others are told who is at work, and what is left is sound.

use std::collections::BTreeMap;
use std::time::Duration;

use backout_core::ports::Ledger;
use backout_engine::{EngineError, Outcome, deploy, recover, rollback};
use backout_testkit::fixtures;

use crate::sweep::check;
use crate::world::{How, World};

const ROUNDS: u64 = 1_000;

/// SplitMix64: the same rounds each time.
fn draw(state: &mut u64, most: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % most
}

/// How a command of a round ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    Done,
    GaveWay,
    Busy(String),
    Refused,
    Failed(String),
}

fn ended(result: Result<Outcome, EngineError>) -> Ended {
    match result {
        Ok(Outcome::Yielded { .. }) => Ended::GaveWay,
        Ok(Outcome::Lost { taken_over: true, .. }) => Ended::GaveWay,
        Ok(Outcome::Ended { .. }) => Ended::Done,
        Ok(other) => Ended::Failed(format!("{other:?}")),
        Err(EngineError::Busy(view)) => Ended::Busy(view.holder.label.clone()),
        Err(EngineError::Refused(_)) => Ended::Refused,
        Err(error) => Ended::Failed(error.to_string()),
    }
}

async fn later(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Two deploys, a person's way back and a recovery, within three seconds of each other.
async fn round(how: How, seed: u64) -> Vec<Ended> {
    let mut state = seed;
    let world = World::new(how).await;
    world.deploy("v0").await.unwrap();
    world.deploy("v1").await.unwrap();
    let mut delay = || draw(&mut state, 3_000);
    let delays = [delay(), delay(), delay(), delay()];
    let contexts =
        ["deploy", "deploy", "rollback", "recover"].map(|activity| world.context(activity));
    let holders = contexts.each_ref().map(|cx| cx.holder.clone());
    let all = async {
        tokio::join!(
            async {
                later(delays[0]).await;
                let result = deploy(&contexts[0], &World::wish("v2")).await;
                world.ledger.kill(&holders[0]);
                ended(result)
            },
            async {
                later(delays[1]).await;
                let result = deploy(&contexts[1], &World::wish("v3")).await;
                world.ledger.kill(&holders[1]);
                ended(result)
            },
            async {
                later(delays[2]).await;
                let result = rollback(&contexts[2], &World::back()).await;
                world.ledger.kill(&holders[2]);
                ended(result)
            },
            async {
                later(delays[3]).await;
                let result = recover(&contexts[3]).await;
                world.ledger.kill(&holders[3]);
                match result {
                    Ok(_) => Ended::Done,
                    Err(EngineError::Busy(view)) => Ended::Busy(view.holder.label.clone()),
                    Err(error) => Ended::Failed(error.to_string()),
                }
            },
        )
    };
    let (first, second, back, recovery) =
        tokio::time::timeout(Duration::from_secs(600), all).await.expect("a round ends");
    let case = format!("{how:?}, round {seed}");
    let open = world.ledger.open_operation(&fixtures::key()).await.unwrap();
    assert!(open.is_none(), "{case}: {open:?}");
    check(&world, &case).await;
    vec![first, second, back, recovery]
}

#[tokio::test(start_paused = true)]
async fn of_several_commands_at_once_one_works_at_a_time() {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..ROUNDS {
        let how = How::ALL[usize::try_from(seed % 4).unwrap()];
        let all = round(how, seed).await;
        for one in &all {
            assert!(!matches!(one, Ended::Failed(_)), "{how:?}, round {seed}: {all:?}");
            if let Ended::Busy(holder) = one {
                assert!(!holder.is_empty(), "{how:?}, round {seed}: names nobody");
            }
        }
        assert!(all.contains(&Ended::Done), "{how:?}, round {seed}: nobody was accepted: {all:?}");
        for one in all {
            let word =
                if matches!(one, Ended::Busy(_)) { "Busy".to_owned() } else { format!("{one:?}") };
            *counts.entry(word).or_default() += 1;
        }
    }
    // They did get into each other's way.
    assert!(counts.get("Busy").is_some_and(|busy| *busy > ROUNDS / 4), "{counts:?}");
    assert!(counts.get("GaveWay").is_some_and(|gave_way| *gave_way > ROUNDS / 20), "{counts:?}");
}
