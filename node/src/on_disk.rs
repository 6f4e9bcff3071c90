//! Work that waits for the disk, done without holding up the other tasks of the runtime.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does the work here, after handing this thread's other tasks to another thread. A runtime of a single thread
/// has none to hand them to: there they wait.
pub(crate) fn on_disk<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on_meanwhile() {
        let (other, waiting) = mpsc::channel();
        // On the one worker, which then waits for what another task of the same worker says.
        let worked = tokio::spawn(async move {
            tokio::spawn(async move { other.send(()).unwrap() });
            on_disk(|| waiting.recv_timeout(Duration::from_secs(60)))
        });
        assert_eq!(worked.await.unwrap(), Ok(()));
    }
}
