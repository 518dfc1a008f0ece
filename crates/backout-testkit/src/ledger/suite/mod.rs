//! The behaviours of every ledger. [`ledger_conformance!`](crate::ledger_conformance) makes a test of each.

#![allow(clippy::unwrap_used, reason = "tests shall panic")]

pub mod audit;
pub mod blobs;
pub mod commits;
pub mod controllers;
pub mod damage;
pub mod history;
pub mod leases;
pub mod operations;
pub mod requests;

use std::sync::Arc;

use async_trait::async_trait;
use backout_core::ids::EnvironmentKey;
use backout_core::model::Release;
use backout_core::plan::Plan;
use backout_core::ports::{Change, Commit, Holder, Lease, Ledger};
use backout_core::saga::Entry;

use super::{Harm, Stored, samples};

/// A fresh, empty ledger whose clock and processes the suite decides.
#[async_trait]
pub trait LedgerHarness: Send + Sync {
    /// The ledger.
    fn ledger(&self) -> Arc<dyn Ledger>;

    /// The same store as another process sees it.
    async fn reopen(&self) -> Arc<dyn Ledger>;

    /// Term of its leases.
    fn term_ms(&self) -> u64;

    /// Lets the boot-time clock run on.
    fn advance_ms(&self, ms: u64);

    /// A living process; each time another one.
    fn holder(&self) -> Holder;

    /// Ends the process of a holder.
    fn kill(&self, holder: &Holder);

    /// Spoils a stored record.
    async fn damage(&self, record: &Stored, harm: Harm);
}

/// A leased environment with the lease and shorthands.
pub struct Leased {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The right to write.
    pub lease: Lease,
    /// Who holds it.
    pub holder: Holder,
}

impl Leased {
    /// Claims `shop/production`.
    pub async fn new(harness: &dyn LedgerHarness) -> Self {
        Self::of(harness, &samples::key("shop", "production")).await
    }

    /// Claims an environment.
    pub async fn of(harness: &dyn LedgerHarness, key: &EnvironmentKey) -> Self {
        let (ledger, holder) = (harness.ledger(), harness.holder());
        let lease = ledger.claim(key, &holder).await.expect("nobody else has it");
        Self { ledger, lease, holder }
    }

    /// The environment.
    #[must_use]
    pub fn key(&self) -> &EnvironmentKey {
        &self.lease.key
    }

    /// A release of the app.
    #[must_use]
    pub fn release(&self, version: &str) -> Release {
        samples::release(&self.key().app, version)
    }

    /// A plan of this environment.
    #[must_use]
    pub fn plan(&self, name: &str) -> Plan {
        samples::plan(self.key(), &samples::operation(name), 1, &self.release("1.0.0"))
    }

    /// An entry under this lease.
    #[must_use]
    pub fn entry(&self, message: &str) -> Entry {
        samples::entry(self.lease.epoch, message)
    }

    /// Opens an operation with one entry, `opened`.
    pub async fn open(&self, name: &str) {
        let changes = vec![Change::Open(Box::new(self.plan(name)))];
        let commit = Commit { changes, ..self.entries(name, 0, &["opened"]) };
        self.commit(&[commit]).await;
    }

    /// Entries for an operation.
    #[must_use]
    pub fn entries(&self, name: &str, expected_sequence: u64, messages: &[&str]) -> Commit {
        let entries = messages.iter().map(|message| self.entry(message)).collect();
        Commit { operation: samples::operation(name), expected_sequence, entries, changes: vec![] }
    }

    /// Changes without entries, for an operation without a journal.
    #[must_use]
    pub fn changes(&self, changes: Vec<Change>) -> Commit {
        Commit {
            operation: samples::operation("none"),
            expected_sequence: 0,
            entries: vec![],
            changes,
        }
    }

    /// Commits what must succeed.
    pub async fn commit(&self, commits: &[Commit]) {
        self.ledger.commit(&self.lease, commits).await.expect("a valid commit under a valid lease");
    }
}

/// A test for each behaviour of a ledger. Takes a function that makes a harness: `async fn() -> impl LedgerHarness`.
#[macro_export]
macro_rules! ledger_conformance {
    ($make:path) => {
        $crate::ledger_conformance! { @cases $make;
            leases: first_claim_makes_the_environment, a_living_holder_is_busy, a_dead_holder_is_free_at_once,
                a_reused_pid_is_another_process, another_boot_is_free_at_once, a_term_ends, renewing_extends_the_term,
                a_late_holder_goes_on_if_nobody_claimed, release_frees, a_lost_lease_releases_nothing,
                a_released_lease_writes_nothing, environments_are_apart, one_of_many_claims_wins,
                an_unknown_lease_writes_nothing;
            commits: entries_come_back_in_order, a_wrong_sequence_conflicts, all_commits_or_none,
                a_fenced_commit_writes_nothing, an_empty_commit_checks_the_lease, racing_commits_conflict,
                foreign_epochs_are_refused, foreign_environments_are_refused, what_is_committed_survives,
                many_entries_keep_their_order, a_conflict_in_the_last_commit_undoes_the_first;
            operations: one_is_open_at_a_time, hand_over_in_one_step, entries_need_an_open_operation,
                the_last_entries_come_with_the_close, only_an_open_operation_closes, an_id_is_used_once,
                environments_have_operations_of_their_own;
            history: deployments_are_filtered, deployments_are_updated, a_deployment_needs_its_release,
                a_deployment_keeps_its_id, an_id_belongs_to_one_deployment, a_release_is_kept_as_first_recorded,
                releases_are_counted_over_environments, rollbacks_are_found, environments_are_listed,
                what_is_not_there_is_none, nanoseconds_count;
            requests: requests_wait_for_answers, a_request_comes_once, answers_need_a_request,
                answers_stay_in_their_environment, messages_come_oldest_first, readiness_and_health_are_replaced,
                documents_are_replaced_and_bounded;
            controllers: orders_wait_for_their_operation, an_order_is_answered_once, a_controller_lives_by_its_beats, a_controller_leaves;
            audit: every_record_is_logged, what_changes_nothing_is_not_logged, a_refused_commit_logs_nothing,
                writers_share_the_log, a_large_commit_is_logged_whole;
            blobs: blobs_come_back, large_blobs_are_refused, a_damaged_blob_is_named_and_repaired, identity_stays;
            damage: a_list_leaves_a_bad_deployment_out, a_bad_environment_is_named, a_journal_is_whole_or_an_error,
                a_bad_plan_is_named, releases_for_pruning_are_whole_or_an_error, a_bad_request_stops_no_holder,
                a_bad_message_stops_no_other, a_bad_rollback_is_named;
        }
    };
    (@cases $make:path; $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $case() {
                $crate::ledger::suite::$module::$case(&$make().await).await;
            })+
        })+
    };
}
