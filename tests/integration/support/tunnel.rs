//! An HTTP proxy that opens tunnels with CONNECT, as HTTPS_PROXY names one.

#![allow(
    clippy::disallowed_methods,
    reason = "a thread of the proxy's that ends early shows in the test"
)]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

pub(crate) struct Tunnels {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// The heads of the requests so far.
    heads: Vec<String>,
    /// The status line with which requests are refused, if they are.
    refusal: Option<&'static str>,
}

impl Tunnels {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Mutex::new(Shared {
            heads: Vec::new(),
            refusal: None,
        }));
        let of_listener = Arc::clone(&shared);
        // Ends with the process: nothing wakes it.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&of_listener);
                // An error ends this tunnel only, which both its ends see.
                thread::spawn(move || drop(serve(&client, &shared)));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        lock(&self.shared).heads.clone()
    }

    pub(crate) fn refuse(&self, status: Option<&'static str>) {
        lock(&self.shared).refusal = status;
    }
}

fn serve(client: &TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    let mut lines = BufReader::with_capacity(1, client).lines();
    let mut head = String::new();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        head += &line;
        head.push('\n');
    }
    let refusal = {
        let mut shared = lock(shared);
        shared.heads.push(head.clone());
        shared.refusal
    };
    let target = head.split(' ').nth(1).unwrap_or_default();
    let mut to_client = client;
    if let Some(status) = refusal {
        return write!(to_client, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    }
    let server = TcpStream::connect(target)?;
    write!(
        to_client,
        "HTTP/1.1 200 Connection established\r\nVia: 1.1 tunnel\r\n\r\n"
    )?;
    thread::scope(|scope| {
        scope.spawn(|| copy(&server, client));
        copy(client, &server);
    });
    Ok(())
}

/// Copies until an end closes, and then ends both.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
