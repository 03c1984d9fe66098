//! `TCP_NODELAY` on the connections of a driver that leaves it out.
//!
//! Without it the kernel holds the end of a statement back until the server has confirmed its beginning, and a server confirms up to
//! 40 ms late: a transaction of 440 rows took 51 ms over loopback, and 12 ms with it. sqlx 0.9.0 sets it nowhere and shows nobody its
//! socket; <https://github.com/launchbadge/sqlx/pull/4336> sets it in the release after. Then this file goes.

/// Sets it on every connection of this process to a server's port; where that fails, statements are slower and nothing else.
#[cfg(unix)]
pub(crate) fn send_at_once(port: u16) {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    // All names first: the directory itself is one of them while it is read.
    let descriptors: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in descriptors {
        set_if_to(descriptor, port);
    }
}

#[cfg(unix)]
fn set_if_to(descriptor: i32, port: u16) {
    #[allow(unsafe_code, reason = "the driver shows nobody its socket, so it is found by its number")]
    // Sound: the two calls answer an error for what was closed meanwhile or is no socket, and change nothing but this option of
    // a connection to that port.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    let socket = socket2::SockRef::from(&descriptor);
    let leads_there = socket.peer_addr().is_ok_and(|peer| peer.as_socket().is_some_and(|peer| peer.port() == port));
    if leads_there && let Err(error) = socket.set_tcp_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY: statements may take up to 40 ms longer");
    }
}

#[cfg(not(unix))]
pub(crate) fn send_at_once(_port: u16) {}

#[cfg(all(test, unix))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_connections_to_that_port_are_changed() {
        let (listener, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (ours, theirs) = (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), TcpStream::connect(other.local_addr().unwrap()).unwrap());
        send_at_once(listener.local_addr().unwrap().port());
        assert!(ours.nodelay().unwrap() && !theirs.nodelay().unwrap());
    }
}
