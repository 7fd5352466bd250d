use super::*;
use crate::{profile::Profile, workload::Fate};

fn journal(tight: f64) -> (Workload, Journal) {
    let mut profile = Profile::load("code").unwrap();
    profile.accounts = 3;
    profile.shares.tight_accounts = tight;
    let workload = Workload::new(profile, 1).unwrap();
    let journal = Journal::open(&workload, "t", None).unwrap();
    (workload, journal)
}

fn call(workload: &Workload, hold: i64, cost: i64) -> Call {
    Call { account: 0, key: 1, model: 0, hold, cost, fate: Fate::Settle, ..workload.call(0) }
}

#[test]
fn every_book_moves_by_the_cost() {
    let (workload, journal) = journal(0.0);
    for (hold, cost) in [(1_000, 700), (50, 90), (10, 0)] {
        let call = call(&workload, hold, cost);
        journal.promise(&call);
        journal.charging(&call);
        journal.charged(&call);
    }
    let other = Call { model: 1, key: 0, ..call(&workload, 10, 4) };
    journal.promise(&other);
    journal.charging(&other);
    journal.charged(&other);
    let given_back = call(&workload, 99, 0);
    journal.promise(&given_back);
    journal.released(&given_back);

    let expected = journal.expected(&workload);
    let first = &expected[0];
    assert_eq!(first.account, "load-t-0");
    assert_eq!(first.balance, workload.profile.initial_balance - 794);
    assert_eq!(first.all, Tally { used: 794, requests: 4 });
    assert_eq!(first.keys[0], Tally { used: 4, requests: 1 });
    assert_eq!(first.keys[1], Tally { used: 790, requests: 3 });
    // Day, week, month of all; day of openai, to which models 0 and 1 belong; requests of the hour.
    assert_eq!(first.windows, [794, 794, 794, 794, 4]);
    assert_eq!(expected[1].balance, workload.profile.initial_balance);
    assert_eq!(lock(&journal.books[0]).exposure.held, 0);
}

#[test]
fn windows_of_a_platform_count_that_platform() {
    let (workload, journal) = journal(0.0);
    let anthropic = Call { model: 2, ..call(&workload, 10, 7) };
    journal.promise(&anthropic);
    journal.charging(&anthropic);
    journal.charged(&anthropic);
    assert_eq!(journal.expected(&workload)[0].windows, [7, 7, 7, 0, 1]);
}

#[test]
fn a_denial_is_plausible_only_when_money_may_be_gone() {
    // All accounts tight: account 0 has little balance, 1 a low cap, 2 poor keys.
    let (workload, journal) = journal(1.0);
    let tight = workload.profile.tight_amount;
    let whole = call(&workload, tight, tight);
    let promise = journal.promise(&whole);
    let sentence = journal.denied(&whole, &promise, Ceiling::Balance, true).unwrap_err();
    assert!(sentence.contains("load-t-0") && sentence.contains(&tight.to_string()), "{sentence}");

    // One unit more than there is.
    let more = call(&workload, tight + 1, 0);
    let promise = journal.promise(&more);
    assert_eq!(journal.denied(&more, &promise, Ceiling::Balance, true), Ok(()));

    // Another call of the same moment may have taken it.
    let promise = journal.promise(&whole);
    let other = call(&workload, 1, 1);
    journal.promise(&other);
    assert_eq!(journal.denied(&whole, &promise, Ceiling::Balance, true), Ok(()));
    // It has: spent is spent.
    journal.charging(&other);
    journal.charged(&other);
    let promise = journal.promise(&whole);
    assert_eq!(journal.denied(&whole, &promise, Ceiling::Balance, true), Ok(()));

    // Caps and allowances are those of their own accounts.
    for (account, ceiling, other) in [(1, Ceiling::Cap, Ceiling::Balance), (2, Ceiling::Allowance, Ceiling::Cap)] {
        let over = Call { account, ..call(&workload, tight + 1, 0) };
        let promise = journal.promise(&over);
        assert_eq!(journal.denied(&over, &promise, ceiling, true), Ok(()));
        let promise = journal.promise(&over);
        assert!(journal.denied(&over, &promise, other, true).is_err());
    }
}

#[test]
fn findings_are_bounded_and_counted() {
    let (_, journal) = journal(0.0);
    (0..FINDINGS_MAX + 5).for_each(|index| journal.finding(format!("finding {index}")));
    let (kept, more) = journal.findings();
    assert_eq!((kept.len(), more), (FINDINGS_MAX, 5));
}
