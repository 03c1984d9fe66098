//! A wire to a server that a test can hold still: what a worker says waits in it, as in a network that stalls.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::wait::pause;

#[derive(Debug)]
pub struct Proxy {
    address: String,
    wire: Arc<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    server: OnceLock<String>,
    is_held: AtomicBool,
    something_waits: AtomicBool,
    /// By which the server knows its clients.
    ports: Mutex<Vec<u16>>,
}

impl Proxy {
    /// Whoever connects here is connected to `server`.
    pub fn to(server: &str) -> Self {
        let proxy = Self::listen();
        proxy.lead_to(server);
        proxy
    }

    /// For a server that must know this address before it has one itself; until then nobody gets through.
    pub fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let wire = Arc::new(Wire::default());
        let shared = wire.clone();
        // Ends with the tests' process; each connection ends with either of its sides.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(server) = shared.server.get().and_then(|server| TcpStream::connect(server).ok()) else { continue };
                shared.ports.lock().expect("nobody panics with it").push(server.local_addr().expect("an address").port());
                let (from_client, to_server) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                let holding = shared.clone();
                thread::spawn(move || forward(from_client, to_server, Some(&holding)));
                thread::spawn(move || forward(server, client, None));
            }
        });
        Self { address, wire }
    }

    pub fn lead_to(&self, server: &str) {
        self.wire.server.set(server.to_owned()).expect("it leads nowhere yet");
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on nothing that the worker says arrives.
    pub fn hold(&self) {
        self.wire.something_waits.store(false, Ordering::SeqCst);
        self.wire.is_held.store(true, Ordering::SeqCst);
    }

    pub fn release(&self) {
        self.wire.is_held.store(false, Ordering::SeqCst);
    }

    pub fn something_waits(&self) -> bool {
        self.wire.something_waits.load(Ordering::SeqCst)
    }

    /// The clients' ports as the server sees them, with commas.
    pub fn ports(&self) -> String {
        let ports = self.wire.ports.lock().expect("nobody panics with it");
        ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, wire: Option<&Wire>) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while let Some(wire) = wire.filter(|wire| wire.is_held.load(Ordering::SeqCst)) {
            wire.something_waits.store(true, Ordering::SeqCst);
            pause(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
