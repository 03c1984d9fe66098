//! `TCP_NODELAY` on the connections of a driver that leaves it out.
//!
//! Without it the kernel holds the end of a message back until the server has confirmed its beginning, and a server confirms up to
//! 40 ms late: a transaction of 440 rows took 51 ms over loopback, and 12 ms with it; a connection with TLS 100 ms, 88 of them waits.
//! sqlx 0.9.0 sets it nowhere and shows nobody its socket; <https://github.com/launchbadge/sqlx/pull/4336> sets it in the release
//! after. Then this file goes.

use std::{
    future::{Future, poll_fn},
    pin::pin,
};

/// Makes a connection to a server's port that sends at once. Where that fails, it is slower and nothing else.
pub(crate) async fn sending_at_once<C: Future>(port: u16, connect: C) -> C::Output {
    let mut connect = pin!(connect);
    let mut is_set = false;
    poll_fn(|context| {
        let connected = connect.as_mut().poll(context);
        // As soon as the socket is there: TLS and the login wait for each other as much as statements do.
        is_set = is_set || set_nodelay(port);
        connected
    })
    .await
}

/// Sets it on what this process has connected to that port, and tells whether there was one without it.
#[cfg(unix)]
fn set_nodelay(port: u16) -> bool {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return false };
    // All names first: the directory itself is one of them while it is read.
    let descriptors: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    descriptors.into_iter().filter(|descriptor| set_if_to(*descriptor, port)).count() > 0
}

#[cfg(unix)]
fn set_if_to(descriptor: i32, port: u16) -> bool {
    #[allow(unsafe_code, reason = "the driver shows nobody its socket, so it is found by its number")]
    // Sound: the calls answer an error for what was closed meanwhile or is no socket, and change nothing but this option of a
    // connection to that port.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    let socket = socket2::SockRef::from(&descriptor);
    let leads_there = socket.peer_addr().is_ok_and(|peer| peer.as_socket().is_some_and(|peer| peer.port() == port));
    leads_there && socket.tcp_nodelay().is_ok_and(|is_set| !is_set) && socket.set_tcp_nodelay(true).is_ok()
}

#[cfg(not(unix))]
fn set_nodelay(_port: u16) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn only_connections_to_that_port_are_changed() {
        let (listener, another) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, theirs) = (listener.local_addr().unwrap(), TcpStream::connect(another.local_addr().unwrap()).await.unwrap());
        for _ in 0..2 {
            let ours = sending_at_once(address.port(), TcpStream::connect(address)).await.unwrap();
            assert!(ours.nodelay().unwrap() && !theirs.nodelay().unwrap());
        }
    }
}
