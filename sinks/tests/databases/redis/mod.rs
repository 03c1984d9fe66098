//! Remembered events in real Redis: one server, a primary behind sentinels, a Cluster.

mod down;
mod refused;
mod remembered;
mod rewind;
mod server;
mod shop;

/// Runs each test on each kind of server, each on one of its own.
#[macro_export]
macro_rules! on_each_redis {
    ($($test:ident),+ $(,)?) => {
        $crate::on_each_redis!(@ single Single [$($test),+]);
        $crate::on_each_redis!(@ sentinel Sentinel [$($test),+]);
        $crate::on_each_redis!(@ cluster Cluster [$($test),+]);
    };
    (@ $name:ident $kind:ident [$($test:ident),+]) => {
        mod $name {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test($crate::redis::server::Kind::$kind).await; })+
        }
    };
}
