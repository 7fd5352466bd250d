//! What every backend must do. Each case is a function over an open [`Store`]; `contract!` runs all
//! of them against one backend, each on a database of its own. A new backend adds one line.

mod cases_ledger;
mod cases_policy;
mod cases_posting;
mod made;

use std::sync::Arc;

use super::{Store, open};
use crate::quota::window::Zone;

/// A database that goes away with the value.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Opens the database, again if need be.
    async fn store(&self) -> Arc<Store> {
        let path = self.folder.path().join("data").join("quotad.db");
        open(&format!("sqlite://{}", path.display()), Zone::utc()).await.expect("a database")
    }
}

macro_rules! contract {
    ($backend:ident, $place:expr, $($file:ident :: { $($case:ident),* $(,)? })*) => {
        mod $backend {
            $($(
                #[tokio::test]
                async fn $case() {
                    super::$file::$case(&$place).await;
                }
            )*)*
        }
    };
}

contract! { sqlite, super::Place::sqlite(),
    cases_policy::{
        an_account_is_created_merged_and_read_back,
        a_key_reads_back_whole,
        limits_are_replaced_whole,
        what_cannot_stand_is_refused_and_changes_nothing,
        a_secret_belongs_to_one_key,
        an_account_has_a_bounded_number_of_keys,
        accounts_are_listed_in_pages,
        a_deleted_account_is_gone_and_can_come_back,
        versions_grow_by_one_under_concurrency,
        price_lists_are_numbered,
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
        ("postgres://localhost/q", "next version"),
        ("mysql://localhost/q", "next version"),
        ("redis://localhost", "`redis`"),
        ("quotad.db", "no database URL"),
    ] {
        let error = open(url, Zone::utc()).await.err().expect(url).to_string();
        assert!(error.contains(says), "{url}: {error}");
    }
}
