//! One test per rule, with cases small enough to compute by hand.

use crate::*;

const SECOND: i64 = 1_000;

fn judge() -> Judge {
    Judge::new(Settings::default(), 0)
}

fn with_check(settings: Settings) -> (Judge, CheckId) {
    let mut judge = Judge::new(settings, 0);
    let check = judge.add_check("http", "web", Arm::Canary, SECOND);
    (judge, check)
}

fn show(judge: &mut Judge, at_ms: i64, check: CheckId, outcome: CheckOutcome) {
    let sample = CheckSample::new(outcome, 5.0);
    judge.observe(Event::Check { at_ms, arm: Arm::Canary, check, sample });
}

fn fail(words: &str) -> CheckOutcome {
    CheckOutcome::Fail(words.to_owned())
}

fn starting() -> CheckOutcome {
    CheckOutcome::Starting("connection refused".to_owned())
}

fn traffic(judge: &mut Judge, at_ms: i64, canary: (u64, u64), baseline: (u64, u64)) {
    for (arm, (failed, total)) in [(Arm::Canary, canary), (Arm::Baseline, baseline)] {
        judge.observe(Event::Requests {
            at_ms,
            arm,
            ok: total - failed,
            failed,
            latency: &[(2_000, total)],
        });
    }
}

fn exit(judge: &mut Judge, at_ms: i64, restarts: u32, before_first_pass: bool) {
    judge.observe(Event::Exited {
        at_ms,
        arm: Arm::Canary,
        service: "web",
        code: Some(3),
        restarts,
        before_first_pass,
    });
}

#[test]
fn nothing_known_is_not_healthy() {
    let verdict = judge().verdict(0);
    assert_eq!(verdict.level, Level::NotEnoughData);
    let (judge, _) = with_check(Settings::default());
    let verdict = judge.verdict(0);
    assert_eq!(verdict.level, Level::NotEnoughData);
    assert_eq!(verdict.missing.as_deref(), Some("web/http has not been checked yet"));
}

#[test]
fn three_passes_make_it_healthy_and_old_data_do_not() {
    let (mut judge, check) = with_check(Settings::default());
    for second in 0..3 {
        assert_eq!(judge.passes(Arm::Canary), Some(second as u32));
        assert_eq!(judge.verdict(second * SECOND).level, Level::NotEnoughData);
        show(&mut judge, second * SECOND, check, CheckOutcome::Pass);
    }
    assert_eq!(judge.verdict(2 * SECOND).level, Level::Healthy);
    assert_eq!(judge.verdict(2 * SECOND).evidence, "its check passes");
    assert_eq!(judge.verdict(4 * SECOND).level, Level::Healthy, "two intervals old is fresh");
    let verdict = judge.verdict(4 * SECOND + 1);
    assert_eq!(verdict.level, Level::NotEnoughData);
    assert_eq!(verdict.missing.as_deref(), Some("web/http was last checked 2 s ago"));
}

#[test]
fn could_not_check_is_neither_good_nor_bad() {
    let (mut judge, check) = with_check(Settings::default());
    for second in 0..3 {
        show(&mut judge, second * SECOND, check, CheckOutcome::Pass);
    }
    for second in 3..20 {
        show(&mut judge, second * SECOND, check, CheckOutcome::Unreachable("no route".into()));
    }
    let verdict = judge.verdict(20 * SECOND);
    assert_eq!(verdict.level, Level::NotEnoughData);
    assert_eq!(verdict.missing.as_deref(), Some("web/http could not be checked: no route"));
    assert_eq!(judge.passes(Arm::Canary), Some(3));
}

#[test]
fn failures_in_a_row_fail_inclusively_and_for_good() {
    let (mut judge, check) = with_check(Settings::default());
    for (at, expected) in
        [(0, Level::NotEnoughData), (30, Level::NotEnoughData), (60, Level::Failing)]
    {
        show(&mut judge, at * SECOND, check, fail("status 500"));
        assert_eq!(judge.verdict(at * SECOND).level, expected, "at {at} s");
    }
    let verdict = judge.verdict(60 * SECOND);
    assert_eq!(verdict.cause, Some(Cause::HealthCheckFailed));
    assert_eq!(
        verdict.evidence,
        "web: check http failed 3 times in a row in 60 s, last: status 500"
    );
    for second in 61..80 {
        show(&mut judge, second * SECOND, check, CheckOutcome::Pass);
    }
    assert!(judge.verdict(80 * SECOND).is_failing(), "failing is latched");
}

#[test]
fn failures_too_far_apart_or_interrupted_fail_nothing() {
    let (mut judge, check) = with_check(Settings::default());
    for at_ms in [0, 30_000, 60_001] {
        show(&mut judge, at_ms, check, fail("status 500"));
    }
    assert!(!judge.verdict(60_001).is_failing());
    show(&mut judge, 61_000, check, CheckOutcome::Pass);
    show(&mut judge, 62_000, check, fail("status 500"));
    show(&mut judge, 63_000, check, fail("status 500"));
    assert!(!judge.verdict(63_000).is_failing());
    assert_eq!(judge.passes(Arm::Canary), Some(0));
}

#[test]
fn only_the_canary_can_fail_a_release() {
    let (mut judge, check) = with_check(Settings::default());
    let other = judge.add_check("http", "web", Arm::Baseline, SECOND);
    for second in 0..5 {
        show(&mut judge, second * SECOND, check, CheckOutcome::Pass);
        let sample = CheckSample::new(fail("status 503"), 5.0);
        judge.observe(Event::Check {
            at_ms: second * SECOND,
            arm: Arm::Baseline,
            check: other,
            sample,
        });
    }
    let verdict = judge.verdict(4 * SECOND);
    assert_eq!(verdict.level, Level::Warning);
    assert_eq!(verdict.evidence, "baseline web/http fails: status 503");
    assert!(verdict.may_go_on());
}

#[test]
fn starting_is_no_failure_until_its_time_is_over() {
    let (mut judge, check) = with_check(Settings::default());
    for second in 0..=60 {
        show(&mut judge, second * SECOND, check, starting());
        assert_eq!(judge.verdict(second * SECOND).level, Level::NotEnoughData);
    }
    let verdict = judge.verdict(60 * SECOND + 1);
    assert_eq!(verdict.cause, Some(Cause::StartupFailure));
    assert_eq!(
        verdict.evidence,
        "web: check http did not pass within 60 s of the start, last: connection refused"
    );
    // A pass that comes too late changes nothing.
    show(&mut judge, 61 * SECOND, check, CheckOutcome::Pass);
    assert!(judge.verdict(61 * SECOND).is_failing());
}

#[test]
fn refused_after_the_first_pass_is_a_failure() {
    let (mut judge, check) = with_check(Settings::default());
    show(&mut judge, 0, check, starting());
    show(&mut judge, SECOND, check, CheckOutcome::Pass);
    for second in 2..5 {
        show(&mut judge, second * SECOND, check, starting());
    }
    assert_eq!(judge.verdict(4 * SECOND).cause, Some(Cause::HealthCheckFailed));
}

#[test]
fn a_bad_answer_before_the_first_pass_counts_at_once() {
    let (mut judge, check) = with_check(Settings::default());
    for second in 0..3 {
        show(&mut judge, second * SECOND, check, fail("status 500"));
    }
    assert_eq!(judge.verdict(2 * SECOND).cause, Some(Cause::HealthCheckFailed));
}

#[test]
fn exits_before_the_first_pass_are_startup_failures() {
    let mut judge = judge();
    exit(&mut judge, 100, 0, true);
    exit(&mut judge, 200, 1, true);
    assert!(!judge.verdict(200).is_failing());
    exit(&mut judge, 300, 2, true);
    let verdict = judge.verdict(300);
    assert_eq!(verdict.cause, Some(Cause::StartupFailure));
    assert_eq!(verdict.evidence, "web exited with code 3, 3 times before its first passing check");
}

#[test]
fn exits_that_nobody_saw_are_counted_by_their_restarts() {
    let mut judge = judge();
    exit(&mut judge, 100, 3, true);
    assert_eq!(judge.verdict(100).cause, Some(Cause::StartupFailure));
}

#[test]
fn an_exit_after_the_first_pass_that_stays_down_fails_at_once() {
    let mut judge = judge();
    exit(&mut judge, 100, 0, false);
    let verdict = judge.verdict(100);
    assert_eq!(verdict.cause, Some(Cause::HealthCheckFailed));
    assert_eq!(verdict.evidence, "web exited with code 3 and was not restarted");
}

#[test]
fn a_restarted_exit_warns_and_a_crash_loop_fails() {
    let (mut judge, check) = with_check(Settings::default());
    for second in 0..3 {
        show(&mut judge, second * SECOND, check, CheckOutcome::Pass);
    }
    exit(&mut judge, 2 * SECOND, 1, false);
    let verdict = judge.verdict(2 * SECOND);
    assert_eq!(verdict.level, Level::Warning);
    assert_eq!(verdict.evidence, "canary web exited with code 3 0 ms ago");
    exit(&mut judge, 12 * SECOND, 2, false);
    assert!(!judge.verdict(12 * SECOND).is_failing());
    exit(&mut judge, 22 * SECOND, 3, false);
    let verdict = judge.verdict(22 * SECOND);
    assert_eq!(verdict.cause, Some(Cause::HealthCheckFailed));
    assert_eq!(verdict.evidence, "web exited with code 3, 3 times in 20 s: a crash-loop");
}

#[test]
fn another_version_fails_at_once() {
    let (mut judge, check) = with_check(Settings::default());
    let mut sample = CheckSample::pass(5.0);
    sample.version_mismatch = Some("runs 1.0 instead of 1.1".to_owned());
    judge.observe(Event::Check { at_ms: 0, arm: Arm::Canary, check, sample });
    let verdict = judge.verdict(0);
    assert_eq!(verdict.cause, Some(Cause::VersionMismatch));
    assert_eq!(verdict.evidence, "web: runs 1.0 instead of 1.1");
}

#[test]
fn a_slow_check_warns_and_a_slower_one_is_a_failed_check() {
    let (mut judge, check) = with_check(Settings::default());
    for (second, latency_ms) in [(0, 1499.0), (1, 1500.0), (2, 1999.9)] {
        let sample = CheckSample::pass(latency_ms);
        judge.observe(Event::Check { at_ms: second * SECOND, arm: Arm::Canary, check, sample });
    }
    let verdict = judge.verdict(2 * SECOND);
    assert_eq!(verdict.level, Level::Warning);
    assert_eq!(verdict.evidence, "canary web/http: response time 2000 ms");
    let mut sample = CheckSample::pass(5.0);
    sample.response_time_ms = Some(2000.0);
    for second in 3..6 {
        let sample = sample.clone();
        judge.observe(Event::Check { at_ms: second * SECOND, arm: Arm::Canary, check, sample });
    }
    assert_eq!(
        judge.verdict(5 * SECOND).evidence,
        "web: check http failed 3 times in a row in 2 s, last: response time 2000 ms"
    );
}

#[test]
fn a_limit_that_the_baseline_breaks_too_is_a_shared_fault() {
    let (mut judge, check) = with_check(Settings::default());
    let other = judge.add_check("http", "web", Arm::Baseline, SECOND);
    let mut sample = CheckSample::pass(5.0);
    sample.error_rate = Some(7.0);
    for second in 0..6 {
        let at_ms = second * SECOND;
        for (arm, check) in [(Arm::Canary, check), (Arm::Baseline, other)] {
            let sample = sample.clone();
            judge.observe(Event::Check { at_ms, arm, check, sample });
        }
    }
    let verdict = judge.verdict(5 * SECOND);
    assert_eq!(verdict.level, Level::Warning);
    assert!(verdict.shared_fault && !verdict.may_go_on());
    assert!(verdict.evidence.contains("error rate 7.0 %"), "{}", verdict.evidence);
}

#[test]
fn availability_of_checks_needs_samples_and_more_than_a_flake() {
    let settings = Settings { minimum_samples: 20, ..Settings::default() };
    let (mut judge, check) = with_check(settings);
    // 2 of 40 failed: 95 %, under the limit of 99 %, yet only two.
    for second in 0..40 {
        let bad = second == 10 || second == 25;
        let outcome = if bad { fail("status 500") } else { CheckOutcome::Pass };
        show(&mut judge, second * SECOND, check, outcome);
    }
    let verdict = judge.verdict(39 * SECOND);
    assert_eq!(verdict.level, Level::Warning);
    show(&mut judge, 40 * SECOND, check, fail("status 500"));
    let verdict = judge.verdict(40 * SECOND);
    assert_eq!(verdict.cause, Some(Cause::Threshold));
    assert_eq!(verdict.evidence, "web: 92.7 % of 41 checks http passed in the last 5 min");
}

#[test]
fn errors_of_the_canary_alone_fail_by_analysis() {
    let mut judge = judge();
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
    traffic(&mut judge, SECOND, (15, 312), (6, 5930));
    let verdict = judge.verdict(SECOND);
    assert_eq!(verdict.cause, Some(Cause::Analysis));
    assert_eq!(verdict.metric.as_deref(), Some("errors"));
    assert_eq!(
        verdict.evidence,
        "canary errors 4.8 % of 312 requests, baseline 0.1 % of 5930; \
         odds of a false alarm < 1 in 1 000 000"
    );
}

#[test]
fn a_fault_of_both_sides_holds_whichever_is_shown_first() {
    for canary_first in [true, false] {
        let mut judge = judge();
        judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
        for second in 1..=30 {
            let at_ms = second * SECOND;
            let mut sides = [(Arm::Canary, 10u64), (Arm::Baseline, 90)];
            if !canary_first {
                sides.reverse();
            }
            for (arm, total) in sides {
                let failed = if second > 10 { total / 2 } else { 0 };
                let ok = total - failed;
                judge.observe(Event::Requests { at_ms, arm, ok, failed, latency: &[] });
            }
            let verdict = judge.verdict(at_ms);
            assert!(!verdict.is_failing(), "second {second}: {}", verdict.evidence);
        }
        let verdict = judge.verdict(30 * SECOND);
        assert!(verdict.shared_fault, "{verdict:?}");
        assert_eq!(verdict.level, Level::Warning);
    }
}

#[test]
fn without_a_baseline_the_threshold_decides() {
    let mut judge = judge();
    judge.observe(Event::Weight { at_ms: 0, canary_share: 1.0 });
    traffic(&mut judge, SECOND, (4, 100), (0, 0));
    assert_eq!(judge.verdict(SECOND).level, Level::Warning);
    traffic(&mut judge, 2 * SECOND, (6, 100), (0, 0));
    let verdict = judge.verdict(2 * SECOND);
    assert_eq!(verdict.cause, Some(Cause::Threshold));
    assert_eq!(verdict.evidence, "canary errors 5.0 % of 200 requests in the last 5 min");
}

#[test]
fn no_traffic_on_either_side_is_a_warning() {
    let (mut judge, check) = with_check(Settings::default());
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
    judge.observe(Event::StageBegan { at_ms: 0 });
    for second in 0..3 {
        show(&mut judge, second * SECOND, check, CheckOutcome::Pass);
    }
    let verdict = judge.verdict(2 * SECOND);
    assert_eq!((verdict.level, verdict.evidence.as_str()), (Level::Warning, "no traffic"));
    assert!(verdict.may_go_on());
}

#[test]
fn a_starved_canary_fails_once_chance_is_ruled_out() {
    let mut judge = judge();
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
    judge.observe(Event::StageBegan { at_ms: 0 });
    // 272 requests without one for the canary: 272·-ln(0.95) = 13.95.
    traffic(&mut judge, SECOND, (0, 0), (0, 272));
    let verdict = judge.verdict(SECOND);
    assert_eq!(verdict.level, Level::NotEnoughData);
    assert_eq!(
        verdict.missing.as_deref(),
        Some("canary has answered 0 of 20 requests in this stage")
    );
    traffic(&mut judge, 2 * SECOND, (0, 0), (0, 1));
    let verdict = judge.verdict(2 * SECOND);
    assert_eq!(verdict.cause, Some(Cause::NoTraffic));
    assert_eq!(
        verdict.evidence,
        "canary got none of the last 273 requests although it should get 5.0 %"
    );
}

#[test]
fn a_canary_that_falls_silent_fails() {
    let mut judge = judge();
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
    judge.observe(Event::StageBegan { at_ms: 0 });
    for second in 1..=20 {
        traffic(&mut judge, second * SECOND, (0, 10), (0, 90));
    }
    for second in 21..=29 {
        traffic(&mut judge, second * SECOND, (0, 0), (0, 100));
        assert!(!judge.verdict(second * SECOND).is_failing());
    }
    traffic(&mut judge, 30 * SECOND, (0, 0), (0, 100));
    let verdict = judge.verdict(30 * SECOND);
    assert_eq!(verdict.cause, Some(Cause::NoTraffic));
    assert_eq!(
        verdict.evidence,
        "canary has answered nothing for 10 s while the baseline answered 1090 requests"
    );
}

#[test]
fn warm_up_mutes_comparisons_only() {
    let settings = Settings { warm_up_ms: 30_000, ..Settings::default() };
    let (mut judge, check) = with_check(settings);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
    traffic(&mut judge, SECOND, (4, 100), (0, 1900));
    assert_ne!(judge.verdict(SECOND).level, Level::Failing);
    for second in 1..4 {
        show(&mut judge, second * SECOND, check, fail("status 500"));
    }
    assert_eq!(judge.verdict(3 * SECOND).cause, Some(Cause::HealthCheckFailed));
}

#[test]
fn under_sticky_routing_requests_say_nothing_of_starvation() {
    let mut judge = Judge::new(Settings { sticky_sessions: true, ..Settings::default() }, 0);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.5 });
    judge.observe(Event::StageBegan { at_ms: 0 });
    traffic(&mut judge, 60 * SECOND, (0, 0), (0, 10_000));
    let verdict = judge.verdict(60 * SECOND);
    assert_eq!(verdict.level, Level::NotEnoughData, "one busy client may be all there is");
}

#[test]
fn too_few_requests_while_baking_are_a_warning() {
    let (mut judge, check) = with_check(Settings::default());
    judge.observe(Event::Weight { at_ms: 0, canary_share: 1.0 });
    judge.observe(Event::BakeBegan { at_ms: 0 });
    for second in 0..3 {
        show(&mut judge, second * SECOND, check, CheckOutcome::Pass);
    }
    traffic(&mut judge, 2 * SECOND, (0, 7), (0, 0));
    let verdict = judge.verdict(2 * SECOND);
    assert_eq!(verdict.level, Level::Warning);
    assert_eq!(verdict.evidence, "canary has answered 7 of 20 requests in this stage");
}

#[test]
fn stages_count_on_their_own() {
    let mut judge = judge();
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
    traffic(&mut judge, SECOND, (1, 50), (0, 450));
    assert_eq!(judge.requests(Arm::Canary), (50, 1));
    assert!(judge.stage_had_traffic(Arm::Baseline));
    judge.observe(Event::StageBegan { at_ms: 2 * SECOND });
    assert_eq!(judge.requests(Arm::Canary), (0, 0));
    assert!(!judge.stage_had_traffic(Arm::Canary));
    traffic(&mut judge, 3 * SECOND, (0, 12), (0, 90));
    let verdict = judge.verdict(3 * SECOND);
    assert_eq!(verdict.level, Level::NotEnoughData);
    assert_eq!(
        verdict.missing.as_deref(),
        Some("canary has answered 12 of 20 requests in this stage")
    );
}

#[test]
fn the_medium_window_drives_verdicts_only_while_baking() {
    for baking in [false, true] {
        let mut judge = judge();
        judge.observe(Event::Weight { at_ms: 0, canary_share: 1.0 });
        if baking {
            judge.observe(Event::BakeBegan { at_ms: 0 });
        }
        // 20 of 79 requests fail, never 20 of them within the short window.
        traffic(&mut judge, SECOND, (0, 19), (0, 0));
        for minute in 1..=20 {
            traffic(&mut judge, minute * 60 * SECOND, (1, 3), (0, 0));
        }
        let verdict = judge.verdict(20 * 60 * SECOND);
        assert_eq!(verdict.is_failing(), baking, "{verdict:?}");
        assert_ne!(verdict.level, Level::Healthy);
    }
}

fn counts(judge: &mut Judge, second: i64, arm: Arm, ok: u64, failed: u64) {
    judge.observe(Event::Requests { at_ms: second * 1_000, arm, ok, failed, latency: &[] });
}

#[test]
fn a_side_that_could_not_be_read_is_waited_for() {
    let mut judge = Judge::new(Settings { minimum_samples: 1, ..Settings::default() }, 0);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.1 });
    counts(&mut judge, 1, Arm::Canary, 100, 0);
    counts(&mut judge, 1, Arm::Baseline, 900, 0);
    // Both fail from here on, and only the canary's counters can be read.
    for second in 2..30 {
        judge.observe(Event::Unread { at_ms: second * 1_000, arm: Arm::Baseline });
        counts(&mut judge, second, Arm::Canary, 5, 5);
    }
    let during = judge.verdict(30_000);
    assert_eq!(during.level, Level::NotEnoughData, "{during:?}");
    let words = "the baseline's requests could not be read for 28 s";
    assert!(during.evidence.contains(words), "{}", during.evidence);
    counts(&mut judge, 30, Arm::Canary, 5, 5);
    counts(&mut judge, 30, Arm::Baseline, 1_300, 1_300);
    let after = judge.verdict(31_000);
    assert!(after.shared_fault && !after.is_failing(), "{after:?}");
    // What covers the gap counts in full: now only the canary fails.
    for second in 31..60 {
        judge.observe(Event::Unread { at_ms: second * 1_000, arm: Arm::Canary });
        counts(&mut judge, second, Arm::Baseline, 90, 0);
    }
    assert!(!judge.verdict(60_000).is_failing(), "a gap is no silence");
    counts(&mut judge, 60, Arm::Canary, 0, 300);
    counts(&mut judge, 60, Arm::Baseline, 90, 0);
    assert_eq!(judge.verdict(60_000).cause, Some(Cause::Analysis));
}

#[test]
fn sessions_count_once_for_every_rule() {
    let mut judge = Judge::new(Settings { sticky_sessions: true, ..Settings::default() }, 0);
    judge.observe(Event::Weight { at_ms: 0, canary_share: 0.05 });
    for number in 0..2_000i64 {
        let (arm, session, ok) = match number % 10 {
            0 => (Arm::Canary, 1, false),
            1 => (Arm::Canary, 100 + number as u64, true),
            _ => (Arm::Baseline, 100 + number as u64, true),
        };
        let at_ms = number * 10;
        judge.observe(Event::Session { at_ms, arm, session, ok, latency_us: Some(900) });
    }
    assert!(!judge.verdict(20_000).is_failing(), "{:?}", judge.verdict(20_000));
    for number in 2_000..2_100i64 {
        let (at_ms, session) = (number * 10, 10_000 + number as u64);
        let arm = Arm::Canary;
        judge.observe(Event::Session { at_ms, arm, session, ok: false, latency_us: None });
    }
    assert!(judge.verdict(21_000).is_failing());
}
