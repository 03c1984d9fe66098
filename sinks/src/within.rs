//! How long a server is waited for.

use std::{future::Future, io, time::Duration};

/// How long a connection may take to be made.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How much longer than the server's own limit an answer is waited for: past that the way there is broken.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_secs(15);

/// Gives `work` an upper bound. What it leaves behind is a broken connection, which is never used again.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())))),
    }
}
