//! What the world sees of a running process: logs, metrics, and the small web server.

pub mod http;
pub mod logs;
pub mod metrics;
