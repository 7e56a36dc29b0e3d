//! Runs checks side by side: so many at once, each with its own deadline, all of them with one. Owns the counting;
//! refuses to know what runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// Checks under way at once.
pub const CHECKS_AT_ONCE_MAX: usize = 16;
/// Longest that one of them may take.
pub const CHECK_MAX: Duration = Duration::from_secs(15);
/// Longest that the whole run may take.
pub const RUN_MAX: Duration = Duration::from_secs(60);

/// Runs everything; a `None` in its place did not end in time.
pub async fn all<T: Send + 'static>(
    checks: Vec<impl Future<Output = T> + Send + 'static>,
    each: Duration,
    until: Instant,
) -> Vec<Option<T>> {
    let mut results: Vec<Option<T>> = checks.iter().map(|_| None).collect();
    let turns = Arc::new(Semaphore::new(CHECKS_AT_ONCE_MAX));
    let mut running = JoinSet::new();
    for (index, check) in checks.into_iter().enumerate() {
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.ok()?;
            Some((index, timeout(each, check).await.ok()?))
        });
    }
    // What is still under way at the end is aborted with the set.
    while let Ok(Some(ended)) = timeout_at(until, running.join_next()).await {
        if let Ok(Some((index, result))) = ended
            && let Some(slot) = results.get_mut(index)
        {
            *slot = Some(result);
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_check_that_never_ends_is_missing_and_the_others_are_there_in_order() {
        let checks = (0..40).map(|number| async move {
            if number == 7 {
                std::future::pending::<()>().await;
            }
            number
        });
        let results = all(checks.collect(), Duration::from_millis(50), Instant::now() + RUN_MAX).await;
        assert_eq!(results.iter().flatten().count(), 39);
        assert!(results[7].is_none() && results[8] == Some(8) && results[39] == Some(39));
    }

    #[tokio::test]
    async fn the_end_of_the_run_is_the_end_of_every_check() {
        let checks = vec![std::future::pending::<()>(); 3];
        let results = all(checks, RUN_MAX, Instant::now() + Duration::from_millis(20)).await;
        assert_eq!(results, [None, None, None]);
    }

    #[tokio::test]
    async fn no_more_than_the_limit_run_at_once() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let check = || {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let checks: Vec<_> = (0..100).map(|_| check()).collect();
        all(checks, RUN_MAX, Instant::now() + RUN_MAX).await;
        let most = most.load(Ordering::SeqCst);
        assert!((2..=CHECKS_AT_ONCE_MAX).contains(&most), "{most}");
    }
}
