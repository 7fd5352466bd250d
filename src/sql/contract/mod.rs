//! What every backend must do. Each case is a function over an open [`Store`], on a database of its
//! own; `contract!` runs all of them against every backend. SQLite has a test for each case; the servers
//! have one test for all, because a server takes longer to start than the cases run.

mod cases_audit;
mod cases_changes;
mod cases_codes;
mod cases_concurrent;
mod cases_ledger;
mod cases_onboarding;
mod cases_outbox;
mod cases_policy;
mod cases_posting;
mod cases_recovery;
mod cases_settings;
mod cases_values;
#[path = "../../tests/harness/loopback.rs"]
mod loopback;
mod made;
mod servers;
#[path = "../../tests/harness/sql_server.rs"]
mod sql_server;
mod upgrade;

use std::{pin::Pin, sync::Arc};

use super::{Store, open};
use crate::quota::window::Zone;
use sql_server::{MariaDb, Postgres, SqlServer};

/// A database that goes away with the value, or with its server.
struct Place {
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("data").join("quotad.db").display());
        Self { url, _folder: Some(folder) }
    }

    fn of(server: &SqlServer) -> Self {
        Self { url: server.database(), _folder: None }
    }

    /// Opens the database, again if need be.
    async fn store(&self) -> Arc<Store> {
        open(&self.url, Zone::utc()).await.expect("a database")
    }
}

/// A case by its name.
type Case = (&'static str, fn(Place) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// Runs all cases, a few at once, and names those that failed.
async fn all_on(server: &SqlServer, cases: &'static [Case]) {
    const AT_ONCE: usize = 4;
    let mut failed = Vec::new();
    let mut rest = cases.iter();
    let mut running = tokio::task::JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && let Some((name, case)) = rest.next()
        {
            let run = tokio::spawn(case(Place::of(server)));
            running.spawn(async move { (*name, run.await) });
        }
        match running.join_next().await {
            Some(done) => {
                let (name, result) = done.expect("this task only waits");
                if result.is_err() {
                    failed.push(name);
                }
            }
            None => break,
        }
    }
    assert!(failed.is_empty(), "on {:?} failed: {}", server.kind, failed.join(", "));
}

macro_rules! contract {
    ($($file:ident :: { $($case:ident),* $(,)? })*) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$file::$case(&super::Place::sqlite()).await;
                }
            )*)*
        }

        const CASES: &[Case] = &[$($(
            (stringify!($case), |place| Box::pin(async move { $file::$case(&place).await })),
        )*)*];
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    all_on(&Postgres::start_with(&["-c", "max_connections=200"]), CASES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_keeps_the_contract() {
    all_on(&MariaDb::start_with(&["--max-connections=200"]), CASES).await;
}

contract! {
    cases_policy::{
        an_account_is_created_merged_and_read_back,
        a_key_reads_back_whole,
        limits_are_replaced_whole,
        what_cannot_stand_is_refused_and_changes_nothing,
        a_secret_belongs_to_one_key,
        an_account_has_a_bounded_number_of_keys,
        accounts_are_listed_in_pages,
        a_page_of_accounts_has_one_more_than_a_thousand,
        a_deleted_account_is_gone_and_can_come_back,
        versions_grow_by_one_under_concurrency,
        a_version_that_redis_has_seen_is_overtaken_once,
        a_new_key_gets_the_secret_of_one_creation,
        price_lists_are_numbered,
        price_lists_imported_at_once_all_get_a_number,
        one_of_two_keys_gets_a_secret_that_both_ask_for,
        policies_survive_reopening,
    }
    cases_posting::{
        constants_are_written_once,
        a_shard_is_opened_once,
        a_generation_follows_its_mark,
        a_batch_moves_sums_and_mark,
        a_mark_that_moved_leaves_everything_alone,
        two_posters_of_one_batch_apply_it_once,
        a_batch_that_does_not_fit_its_marks_is_refused,
        an_unknown_account_refuses_the_whole_batch,
        a_sum_out_of_range_refuses_the_whole_batch,
        an_operation_posted_before_is_kept_as_rejected,
        the_initial_balance_is_due_until_it_is_posted,
        windows_follow_the_rule_of_the_scripts,
        usage_outlives_keys_limits_and_the_account,
        many_rows_are_posted_fast,
    }
    cases_recovery::{
        a_generation_goes_on_with_the_digest,
        the_audit_of_a_generation_is_kept,
        every_open_shard_is_listed,
        rows_come_oldest_first_across_generations,
        operations_are_known_in_bulk,
        what_was_not_taken_back_is_found,
    }
    cases_concurrent::{
        batches_of_many_shards_are_posted_at_once,
        an_error_in_one_batch_posts_none,
        two_posters_of_overlapping_shards_post_each_once,
        four_sidecars_post_everything_once,
        a_new_database_is_opened_by_many_at_once,
        one_of_many_opens_the_first_generation,
    }
    cases_values::{
        ids_that_differ_in_case_are_different,
        texts_of_any_script_are_kept,
        the_largest_amounts_are_kept,
        a_zero_character_does_not_stop_the_ledger,
    }
    cases_audit::{
        the_sums_are_what_the_ledger_adds_up_to,
        sums_are_set_to_what_the_ledger_adds_up_to,
        sums_are_mended_beside_a_poster,
    }
    cases_codes::{
        codes_are_made_once_whoever_repeats_the_call,
        one_call_of_many_makes_the_codes,
        a_code_is_redeemed_once_with_the_credit_that_is_owed,
        one_of_many_accounts_redeems_a_code,
        a_credit_that_is_posted_uses_its_code_up,
        what_cannot_be_redeemed_says_why_and_counts,
        parallel_guesses_are_bounded_all_the_same,
        codes_are_listed_and_searched,
        codes_are_edited_deleted_and_purged,
    }
    cases_outbox::{
        what_is_owed_is_due_until_the_ledger_has_it,
        one_of_many_takes_a_credit_that_is_owed,
        a_credit_is_owed_with_its_cause_or_not_at_all,
        what_is_owed_for_long_is_counted_between_its_looks,
        every_change_of_rules_leaves_its_version_to_be_raised,
        a_version_goes_when_it_was_raised_and_no_newer_one_came,
    }
    cases_settings::{
        a_setting_is_kept_with_its_version,
        a_change_that_another_one_overtook_is_a_conflict,
        what_is_refused_leaves_the_old_value,
        changes_of_settings_come_one_after_the_other,
    }
    cases_changes::{
        every_change_has_a_row,
        what_is_refused_has_no_row,
        the_audit_is_read_by_subject_and_by_page,
        an_operation_is_kept_once,
        the_audit_only_grows,
    }
    cases_onboarding::{
        quotas_are_replaced_and_all_other_limits_stay,
        defaults_are_replaced_layer_by_layer,
        an_account_is_provisioned_once_with_all_that_it_begins_with,
        another_provisioning_of_an_account_is_refused_and_names_the_field,
        what_cannot_be_provisioned_leaves_nothing,
        a_hundred_provisionings_at_once_make_one_account,
        a_name_is_invited_once,
        rewards_are_moved_all_or_nothing_and_once,
        transfers_at_once_never_move_more_than_is_pending,
        what_is_pending_goes_with_the_account,
    }
    cases_ledger::{
        an_operation_is_found_by_its_name,
        the_latest_record_of_a_reservation_is_found,
        rows_can_be_neither_changed_nor_deleted,
        columns_are_filled_from_entry_and_log,
        recent_entries_come_newest_first_and_byte_for_byte,
    }
}

#[tokio::test]
async fn urls_that_cannot_stand_are_named() {
    for (url, says) in [
        ("sqlite::memory:", "in memory"),
        ("sqlite://x?mode=memory", "in memory"),
        ("postgres://localhost/q?sslmod=require", "`sslmod`"),
        ("mysql://localhost/q?sslmode=require&password=x", "`password`"),
        ("mysql://localhost:port/q", "no URL of a MySQL server"),
        ("redis://localhost", "`redis`"),
        ("quotad.db", "no database URL"),
    ] {
        let error = open(url, Zone::utc()).await.err().expect(url).to_string();
        assert!(error.contains(says), "{url}: {error}");
    }
}
