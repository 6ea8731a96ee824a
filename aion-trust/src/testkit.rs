//! The conformance suite of [`LedgerStore`]: one named case a promise.
//!
//! `ledger_store_tests!(async { MyStore::new().await })` makes one test of each case; the crate that
//! uses it needs `tokio` with `macros` and `rt`.
#![allow(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::sync::Arc;

use aion_types::{ForecasterId, MarketId, MilliTrust, PpmDist, Timestamp};

use crate::ledger::{Account, Delta, Settlement};
use crate::rule::Rule;
use crate::store::{Change, LedgerStore, Revision, StoreError};

/// Makes one test of each case of the suite: over the store that the expression gives, or, after
/// `with`, by a function that is given the case and runs it on a store of its own.
#[macro_export]
macro_rules! ledger_store_tests {
    (with $run:path) => {
        $crate::ledger_store_tests!(@list (with $run));
    };
    ($make:expr) => {
        $crate::ledger_store_tests!(@list (store $make));
    };
    (@list $how:tt) => {
        $crate::ledger_store_tests!(@cases $how;
            an_empty_ledger_is_at_revision_zero
            a_change_comes_back_as_it_was_written
            a_stale_change_writes_nothing
            a_market_is_settled_once
            lists_go_from_the_largest_down
        );
    };
    (@cases $how:tt; $($case:ident)*) => {
        $( $crate::ledger_store_tests!(@case $how $case); )*
    };
    (@case (store $make:expr) $case:ident) => {
        #[tokio::test]
        async fn $case() {
            $crate::testkit::$case(std::sync::Arc::new($make.await)).await;
        }
    };
    (@case (with $run:path) $case:ident) => {
        #[tokio::test]
        async fn $case() {
            $run($crate::testkit::$case).await;
        }
    };
}

fn who(name: &str) -> ForecasterId {
    ForecasterId::new(name).unwrap()
}

fn account(name: &str, milli: u64) -> Account {
    let balance = MilliTrust::new(milli);
    Account {
        id: who(name),
        balance,
        granted: MilliTrust::new(10),
        settlements: 1,
    }
}

fn change(n: u8, accounts: &[Account]) -> Change {
    let delta = |account: &Account| Delta {
        account: account.id.clone(),
        dist: PpmDist::new(vec![1, 999_999]).unwrap(),
        before: MilliTrust::new(0),
        after: account.balance,
        change_milli: account.balance.get() as i64,
    };
    let settlement = Settlement {
        market: MarketId::from_parts(Timestamp::from_ms(1), [n; 10]),
        report: "digest".to_owned(),
        rule: Rule::default(),
        target: None,
        deltas: accounts.iter().map(delta).collect(),
        at: Timestamp::from_ms(5),
    };
    Change {
        accounts: accounts.to_vec(),
        settlement,
    }
}

/// Nothing is there, and asking is no error.
pub async fn an_empty_ledger_is_at_revision_zero(store: Arc<dyn LedgerStore>) {
    assert_eq!(
        store.accounts(&[who("a")]).await.unwrap(),
        (Revision::new(0), Vec::new())
    );
    assert!(store.list(10).await.unwrap().is_empty());
    assert!(
        store
            .settlement(change(1, &[]).settlement.market)
            .await
            .unwrap()
            .is_none()
    );
}

/// Accounts and the settlement come back as written, one revision later.
pub async fn a_change_comes_back_as_it_was_written(store: Arc<dyn LedgerStore>) {
    let change = change(1, &[account("a", 7), account("b", 3)]);
    store.commit(Revision::new(0), &change).await.unwrap();
    let (revision, mut found) = store.accounts(&[who("b"), who("a"), who("c")]).await.unwrap();
    found.sort_by(|x, y| x.id.cmp(&y.id));
    assert_eq!((revision, found), (Revision::new(1), change.accounts.clone()));
    assert_eq!(
        store.settlement(change.settlement.market).await.unwrap(),
        Some(change.settlement)
    );
}

/// A writer that read an old revision is refused, and nothing of its change is kept.
pub async fn a_stale_change_writes_nothing(store: Arc<dyn LedgerStore>) {
    store
        .commit(Revision::new(0), &change(1, &[account("a", 7)]))
        .await
        .unwrap();
    let stale = change(2, &[account("a", 100)]);
    let refused = store.commit(Revision::new(0), &stale).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Conflict {
                expected: 0,
                found: 1
            }
        ),
        "{refused:?}"
    );
    assert_eq!(store.accounts(&[who("a")]).await.unwrap().1, [account("a", 7)]);
    assert!(store.settlement(stale.settlement.market).await.unwrap().is_none());
}

/// A market moves trust once, whatever the revision.
pub async fn a_market_is_settled_once(store: Arc<dyn LedgerStore>) {
    store
        .commit(Revision::new(0), &change(1, &[account("a", 7)]))
        .await
        .unwrap();
    let again = store
        .commit(Revision::new(1), &change(1, &[account("a", 8)]))
        .await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })));
    assert_eq!(
        store.accounts(&[who("a")]).await.unwrap(),
        (Revision::new(1), vec![account("a", 7)])
    );
}

/// The largest trust first, then by name, at most as many as asked for.
pub async fn lists_go_from_the_largest_down(store: Arc<dyn LedgerStore>) {
    let accounts = [account("a", 7), account("b", 9), account("c", 7)];
    store
        .commit(Revision::new(0), &change(1, &accounts))
        .await
        .unwrap();
    let names = |list: Vec<Account>| list.into_iter().map(|account| account.id).collect::<Vec<_>>();
    assert_eq!(
        names(store.list(10).await.unwrap()),
        [who("b"), who("a"), who("c")]
    );
    assert_eq!(names(store.list(1).await.unwrap()), [who("b")]);
}
