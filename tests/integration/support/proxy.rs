//! A network that a test can break: a TCP proxy before a server, on a port that stays.
//!
//! Its behaviour can be changed at any time, also for open connections. Each direction of a connection is a thread that
//! polls the proxy's state every few milliseconds; all of them end with the proxy.

#![allow(
    clippy::disallowed_methods,
    reason = "a thread of the network's that ends early shows in the test"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::process::free_port;
use super::wait::wait_until;

/// How often a thread polls the proxy's state.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Everything is forwarded.
    Forward,
    /// New connections are refused; open ones are reset.
    Refuse,
    /// Connections are accepted and kept, but their data is held back until this changes.
    Stall,
    /// Connections are accepted and reset, open ones too.
    Reset,
}

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It arrives, its answer does not.
    AnswerLost,
    /// It arrives once it is released.
    Held,
    /// The same, and its sender's end of the connection is reset.
    Late,
}

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    network: Mutex<Network>,
    /// Port of the server that new connections go to.
    target: AtomicU16,
    /// Connections made before the last reset have a lower number.
    generation: AtomicU32,
    is_listening: AtomicBool,
    is_over: AtomicBool,
    /// Words in requests that something befalls, what, and how many more of them.
    fate: Mutex<Option<(&'static str, Fate, usize)>>,
    /// Answers lost, and requests held back.
    lost: AtomicUsize,
    /// Bytes in answers, and what becomes of them.
    rewrites: Mutex<Vec<(String, String)>>,
    is_released: AtomicBool,
    connections: AtomicUsize,
}

impl Proxy {
    /// Forwards to a port of 127.0.0.1.
    pub(crate) fn to(target: u16) -> Proxy {
        let shared = Arc::new(Shared {
            network: Mutex::new(Network::Forward),
            target: AtomicU16::new(target),
            generation: AtomicU32::new(0),
            is_listening: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            fate: Mutex::new(None),
            lost: AtomicUsize::new(0),
            rewrites: Mutex::default(),
            is_released: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let port = free_port();
        let listener = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.listen(port)
        });
        let proxy = Proxy {
            port,
            shared,
            listener: Some(listener),
        };
        wait_until("the proxy listens", || proxy.shared.is_listening.load(SeqCst));
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Changes what becomes of connections, open ones included.
    pub(crate) fn set(&self, network: Network) {
        *lock(&self.shared.network) = network;
        if matches!(network, Network::Refuse | Network::Reset) {
            self.reset();
        }
        let listens = network != Network::Refuse;
        wait_until("the proxy has changed", || {
            self.shared.is_listening.load(SeqCst) == listens
        });
    }

    /// Resets the open connections.
    pub(crate) fn reset(&self) {
        self.shared.generation.fetch_add(1, SeqCst);
    }

    /// Has new connections go to another server; open ones stay where they are.
    pub(crate) fn retarget(&self, target: u16) {
        self.shared.target.store(target, SeqCst);
    }

    /// Lets the next `number` requests with this word in them through to the server, and resets their connections when
    /// the answer comes.
    pub(crate) fn lose_answers(&self, word: &'static str, number: usize) {
        *lock(&self.shared.fate) = Some((word, Fate::AnswerLost, number));
    }

    /// Rewrites replies with a text of the same length, to imitate a server with another version or clock.
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len(), "{from} and {to}");
        lock(&self.shared.rewrites).push((from.to_owned(), to.to_owned()));
    }

    /// Holds back the next request with this word in it until `release`.
    pub(crate) fn hold(&self, word: &'static str) {
        self.shared.is_released.store(false, SeqCst);
        *lock(&self.shared.fate) = Some((word, Fate::Held, 1));
    }

    /// The same, and resets its sender's end of the connection.
    pub(crate) fn make_late(&self, word: &'static str) {
        self.shared.is_released.store(false, SeqCst);
        *lock(&self.shared.fate) = Some((word, Fate::Late, 1));
    }

    /// Forwards the request that is held back.
    pub(crate) fn release(&self) {
        self.shared.is_released.store(true, SeqCst);
    }

    /// The same, and loses its reply once the server has executed the request, as `is_carried_out` reports.
    pub(crate) fn lose_held(&self, is_carried_out: impl FnMut() -> bool) {
        self.set(Network::Stall);
        self.release();
        wait_until("what was held back is carried out", is_carried_out);
        self.reset();
        self.set(Network::Forward);
    }

    /// Answers lost so far, and requests held back.
    pub(crate) fn lost(&self) -> usize {
        self.shared.lost.load(SeqCst)
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn network(&self) -> Network {
        *lock(&self.network)
    }

    fn listen(self: Arc<Self>, port: u16) {
        let mut listener = None;
        while !self.is_over.load(SeqCst) {
            if self.network() == Network::Refuse {
                listener = None;
                self.is_listening.store(false, SeqCst);
            } else if listener.is_none() {
                listener = TcpListener::bind(("127.0.0.1", port)).ok();
                self.is_listening.store(listener.is_some(), SeqCst);
            }
            if let Some(listener) = &listener {
                self.accept(listener);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        listener.set_nonblocking(true).expect("a listener without blocking");
        while let Ok((client, _)) = listener.accept() {
            self.connections.fetch_add(1, SeqCst);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.connect(client));
        }
    }

    /// Waits while the network stalls, then connects to the server.
    fn connect(self: Arc<Self>, client: TcpStream) {
        let generation = self.generation.load(SeqCst);
        loop {
            match self.network() {
                _ if self.is_cut(generation) => return reset(&client),
                Network::Forward => break,
                Network::Stall => thread::sleep(POLL_INTERVAL),
                Network::Refuse | Network::Reset => return reset(&client),
            }
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target.load(SeqCst))) else {
            return reset(&client);
        };
        for stream in [&client, &server] {
            stream.set_nonblocking(false).expect("a blocking stream");
            stream.set_nodelay(true).expect("a stream without delay");
            stream.set_read_timeout(Some(POLL_INTERVAL)).expect("a time limit");
        }
        let connection = Arc::new(Ends {
            client,
            server,
            generation,
            loses_answer: AtomicBool::new(false),
        });
        let backwards = thread::spawn({
            let (shared, connection) = (Arc::clone(&self), Arc::clone(&connection));
            move || shared.pump(&connection, &connection.server, &connection.client)
        });
        self.pump(&connection, &connection.client, &connection.server);
        let _ = backwards.join();
    }

    fn is_cut(&self, generation: u32) -> bool {
        self.is_over.load(SeqCst) || self.generation.load(SeqCst) != generation
    }

    /// Carries bytes in one direction until either end has closed or the proxy cuts the connection.
    fn pump(&self, ends: &Ends, mut from: &TcpStream, mut to: &TcpStream) {
        let is_request = std::ptr::eq(from, &raw const ends.client);
        let mut buffer = [0; 1 << 16];
        loop {
            if self.is_cut(ends.generation) {
                return ends.reset();
            }
            if self.network() != Network::Forward {
                thread::sleep(POLL_INTERVAL);
                continue;
            }
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            // The network may have changed while this was read: then it is held back.
            while self.network() != Network::Forward && !self.is_cut(ends.generation) {
                thread::sleep(POLL_INTERVAL);
            }
            if is_request {
                self.handle(ends, &buffer[..read]);
            } else if ends.loses_answer.load(SeqCst) {
                self.lost.fetch_add(1, SeqCst);
                return ends.reset();
            } else {
                self.rewrite(&mut buffer[..read]);
            }
            if self.is_cut(ends.generation) || to.write_all(&buffer[..read]).is_err() {
                return ends.reset();
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn rewrite(&self, answer: &mut [u8]) {
        for (from, to) in lock(&self.rewrites).iter() {
            for at in 0..answer.len().saturating_sub(from.len() - 1) {
                if answer[at..].starts_with(from.as_bytes()) {
                    answer[at..at + to.len()].copy_from_slice(to.as_bytes());
                }
            }
        }
    }

    /// Decides what happens to a request, and carries it out.
    fn handle(&self, ends: &Ends, request: &[u8]) {
        let fate = self.fate_of(request);
        match fate {
            None => return,
            Some(Fate::AnswerLost) => return ends.loses_answer.store(true, SeqCst),
            Some(Fate::Late) => reset(&ends.client),
            Some(Fate::Held) => {}
        }
        self.lost.fetch_add(1, SeqCst);
        while !self.is_released.load(SeqCst) && !self.is_cut(ends.generation) {
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn fate_of(&self, request: &[u8]) -> Option<Fate> {
        let mut next = lock(&self.fate);
        let (word, fate, number) = (*next)?;
        if number == 0 || !request.windows(word.len()).any(|part| part == word.as_bytes()) {
            return None;
        }
        *next = Some((word, fate, number - 1));
        Some(fate)
    }
}

/// The two ends of a connection.
struct Ends {
    client: TcpStream,
    server: TcpStream,
    generation: u32,
    loses_answer: AtomicBool,
}

impl Ends {
    fn reset(&self) {
        reset(&self.client);
        reset(&self.server);
    }
}

/// Ends a stream with a reset, also for a blocked reader.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
