//! Clocks that were set by an hour or a month: no lease is stolen, and nothing is over too early or never.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stages;
use crate::support::{Background, Ran, World, wait_until};
use crate::sweep::kept;

/// How far clocks were off, as the program `faketime` understands it.
const SHIFTS: [&str; 4] = ["-1h", "+1h", "-30d", "+30d"];

/// The library that `faketime` preloads.
fn library() -> String {
    let listed = Command::new("dpkg").args(["-L", "libfaketime"]).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines()
        .find(|line| line.ends_with("libfaketime.so.1"))
        .expect("`faketime` is installed by `cargo xtask test`")
        .to_owned()
}

/// A command whose wall clock is off by what stands in a file, whenever it looks.
fn shifted(world: &World, args: &[&str], clock: &str) -> Background {
    let mut command = world.command(args);
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME_TIMESTAMP_FILE", world.root().join(clock))
        .env("FAKETIME_NO_CACHE", "1")
        // Nobody can set the clock that runs since the machine was started.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    world.spawn_command(command)
}

fn set(world: &World, clock: &str, shift: &str) {
    // Replaced in one go: the library reads it all the time.
    let fresh = world.root().join(format!("{clock}.new"));
    fs::write(&fresh, format!("{shift}\n")).unwrap();
    fs::rename(fresh, world.root().join(clock)).unwrap();
}

fn run_shifted(world: &World, args: &[&str], shift: &str) -> Ran {
    set(world, "clock", shift);
    shifted(world, args, "clock").wait()
}

#[test]
fn a_lease_is_not_stolen_by_who_has_another_time() {
    let world = stages("20m");
    is_not_stolen(&world, &SHIFTS);
    kept(&world);
}

/// Commands with other times find the environment busy.
pub fn is_not_stolen(world: &World, shifts: &[&str]) {
    let holder = world.spawn(&["deploy", "--version", "v2", "--yes"]);
    world.wait_for_step("hold_50");
    for shift in shifts {
        let status = run_shifted(world, &["status", "--format", "json"], shift).expect(0).json();
        assert_ne!(status["environments"][0]["watched_by"], Value::Null, "{shift}: {status:#}");
        let busy = format!(":{} is busy with `deploy`", holder.pid());
        run_shifted(world, &["deploy", "--version", "v3", "--yes"], shift).expect(5).says(&busy);
        run_shifted(world, &["recover", "--yes"], shift).expect(5).says(&busy);
    }
    world.run(&["abort", "--yes"]).expect(0);
    holder.wait().expect(10);
}

#[test]
fn a_clock_that_is_set_meanwhile_ends_nothing() {
    std::thread::scope(|scope| {
        for shift in SHIFTS {
            scope.spawn(move || {
                let world = stages("20m");
                set(&world, "clock", "+0");
                let mut deploy = shifted(&world, &["deploy", "--version", "v2", "--yes"], "clock");
                world.wait_for_step("hold_50");
                set(&world, "clock", shift);
                // Neither the stage nor the deploy is over, and the lease is still held.
                let since = Instant::now();
                while since.elapsed() < Duration::from_secs(4) {
                    assert!(deploy.runs(), "{shift}: {}", deploy.stderr());
                    std::thread::sleep(Duration::from_millis(100));
                }
                assert_eq!(world.status()["operation"]["step"], "hold_50", "{shift}");
                world.run(&["promote"]).expect(0);
                // What comes after is over in its own time, however far the clock is off.
                deploy.wait().expect(0);
                assert_eq!(world.status()["version"], "v2", "{shift}");
                kept(&world);
            });
        }
    });
}

#[test]
fn a_killed_holder_with_another_time_is_recovered() {
    for shift in SHIFTS {
        let world = stages("200ms");
        world.run_killed(&["deploy", "--version", "v2", "--yes"], "after_intent/hold_50:1");
        let began = Instant::now();
        let ran = run_shifted(&world, &["recover", "--yes"], shift);
        assert!(matches!(ran.code, Some(0 | 10)), "{shift}: {ran:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "{shift}: nothing waits for a clock");
        wait_until("the end", || world.status()["operation"] == Value::Null);
        kept(&world);
    }
}
