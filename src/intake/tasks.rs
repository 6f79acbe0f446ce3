//! The tasks behind reception, watched: where one of them ends, objects would be acknowledged and never listed.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What works behind reception for as long as the server does. Dropping it ends them all.
#[derive(Debug, Default)]
pub struct Tasks(JoinSet<String>);

impl Tasks {
    pub(super) fn start(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.spawn(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(()) => format!("{name} ended"),
                // The panic itself is on standard error.
                Err(_) => format!("{name} broke"),
            }
        });
    }

    /// Waits until one of them ends before `stop` was asked for, and says which.
    pub async fn ended_early(&mut self, stop: &CancellationToken) -> String {
        while let Some(ended) = self.0.join_next().await {
            if stop.is_cancelled() {
                continue;
            }
            if let Ok(how) = ended {
                return how;
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_task_that_breaks_or_ends_is_named() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::default();
        tasks.start("waiting", stop.clone().cancelled_owned());
        tasks.start("recording", async { panic!("broken on purpose") });
        let first = timeout(SOON, tasks.ended_early(&stop)).await;
        assert_eq!(first.as_deref(), Ok("recording broke"));
        tasks.start("settling", async {});
        let second = timeout(SOON, tasks.ended_early(&stop)).await;
        assert_eq!(second.as_deref(), Ok("settling ended"));
    }

    #[tokio::test]
    async fn tasks_that_are_told_to_stop_end_as_they_should() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::default();
        tasks.start("waiting", stop.clone().cancelled_owned());
        stop.cancel();
        let ended = timeout(Duration::from_millis(100), tasks.ended_early(&stop)).await;
        assert!(ended.is_err(), "{ended:?}");
    }
}
