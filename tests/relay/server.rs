//! The relay: the events it holds, its listener, and what its subscribers did.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::SockRef;

use super::conduct::Conduct;
use super::log::Log;
use super::message::Message;
use super::subscriber;
use super::websocket::Request;
use crate::generator::Event;

/// How often the listener checks whether the relay is to stop.
const ACCEPT_INTERVAL: Duration = Duration::from_millis(5);

/// Another socket may hold the port for a moment when a relay starts again.
const N_BINDS_TRIED: u32 = 400;

pub(crate) struct Relay {
    shared: Arc<Shared>,
    port: u16,
    listener: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct Shared {
    pub(super) tls: Option<Arc<ServerConfig>>,
    state: Mutex<State>,
}

/// What the relay knows and does, and what happened at it.
pub(super) struct State {
    pub(super) log: Log,
    pub(super) conduct: Conduct,
    pub(super) seen: Seen,
    subscribers: Vec<Subscriber>,
    next_id: u64,
    is_stopping: bool,
}

/// What subscribers did so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Their requests, in order.
    pub(crate) requests: Vec<Request>,
    /// Frames sent that hold an event.
    pub(crate) n_events: u64,
    pub(crate) n_pings: u64,
    /// Answers to the relay's own pings.
    pub(crate) n_pongs: u64,
    pub(crate) n_pings_sent: u64,
    /// Code and reason of the close frames that subscribers sent.
    pub(crate) closes: Vec<(u16, String)>,
    /// Subscribers that were cut off because they were slow.
    pub(crate) n_too_slow: u64,
}

/// An open connection, as others may act on it.
struct Subscriber {
    id: u64,
    stream: TcpStream,
    waker: UnixStream,
    /// The index of the next event to send, once it has caught up for the first time.
    live_at: Option<u64>,
}

impl Relay {
    /// A relay without events, whose first seq is 1. It behaves as a PDS.
    pub(crate) fn start() -> Self {
        Self::with(1, Conduct::pds(), None)
    }

    pub(crate) fn with(first_seq: u64, conduct: Conduct, tls: Option<Arc<ServerConfig>>) -> Self {
        Self::on_port(0, first_seq, conduct, tls)
    }

    pub(crate) fn on_port(port: u16, first_seq: u64, conduct: Conduct, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = State {
            log: Log::new(first_seq),
            conduct,
            seen: Seen::default(),
            subscribers: Vec::new(),
            next_id: 0,
            is_stopping: false,
        };
        let shared = Arc::new(Shared {
            tls,
            state: Mutex::new(state),
        });
        let relay = Self {
            shared,
            port,
            listener: Mutex::new(None),
        };
        relay.listen(listener);
        relay
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address as RELAY_URL takes it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Appends an event of this moment, and returns its seq.
    pub(crate) fn append(&self, message: impl Into<Arc<Message>>) -> u64 {
        self.append_at(message, now_millis())
    }

    /// The same with another time, in milliseconds since 1970.
    pub(crate) fn append_at(&self, message: impl Into<Arc<Message>>, millis: u64) -> u64 {
        let mut state = self.shared.lock();
        let seq = state.log.append(message.into(), millis);
        state.cut_off_slow();
        state.wake();
        seq
    }

    /// Appends many events of this moment.
    pub(crate) fn append_all<M: Into<Arc<Message>>>(&self, messages: impl IntoIterator<Item = M>) {
        let mut state = self.shared.lock();
        let now = now_millis();
        for message in messages {
            state.log.append(message.into(), now);
        }
        state.cut_off_slow();
        state.wake();
    }

    /// Leaves so many seqs out.
    pub(crate) fn skip_seqs(&self, n_seqs: u64) {
        self.shared.lock().log.skip(n_seqs);
    }

    /// The entries that a consumer makes of the events after this seq that the relay still holds.
    pub(crate) fn entries_after(&self, seq: u64) -> Vec<Event> {
        let state = self.shared.lock();
        let after = state.log.iter().filter(|held| held.seq > seq);
        after.filter_map(|held| held.message.entry(held.seq)).collect()
    }

    /// The newest event's seq.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.shared.lock().log.iter().next_back().map(|held| held.seq)
    }

    /// Drops all events but the newest.
    pub(crate) fn keep(&self, n_events: usize) {
        self.shared.lock().log.keep(n_events);
    }

    /// Restarts the relay without its newest events, whose seqs it gives out again.
    pub(crate) fn lose_newest(&self, n_events: usize) {
        let mut state = self.shared.lock();
        state.log.lose_newest(n_events);
        state.end_connections();
    }

    /// Restarts the relay without any event; it numbers the next ones from this seq on.
    pub(crate) fn reset(&self, first_seq: u64) {
        let mut state = self.shared.lock();
        state.log = Log::new(first_seq);
        state.end_connections();
    }

    /// Changes how the relay behaves.
    pub(crate) fn conduct(&self, change: impl FnOnce(&mut Conduct)) {
        let mut state = self.shared.lock();
        change(&mut state.conduct);
        state.wake();
    }

    pub(crate) fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    /// Connections that are open.
    pub(crate) fn n_subscribers(&self) -> usize {
        self.shared.lock().subscribers.len()
    }

    /// Resets all connections.
    pub(crate) fn cut(&self) {
        self.shared.lock().reset_connections();
    }

    /// Resets all connections and refuses new ones until `listen_again`.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.shared.lock();
            state.is_stopping = true;
            state.reset_connections();
        }
        if let Some(listener) = lock(&self.listener).take() {
            listener.join().expect("the listener ends");
        }
    }

    /// Listens again, on the same port and with the same events.
    pub(crate) fn listen_again(&self) {
        self.stop();
        self.shared.lock().is_stopping = false;
        let bind = |_| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port));
            listener.inspect_err(|_| thread::sleep(ACCEPT_INTERVAL)).ok()
        };
        let listener = (0..N_BINDS_TRIED).find_map(bind);
        self.listen(listener.expect("the port is free again"));
    }

    fn listen(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let accept = move || shared.accept(&listener);
        let thread = thread::Builder::new().name("relay".to_owned()).spawn(accept);
        *lock(&self.listener) = Some(thread.expect("a thread"));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        listener.set_nonblocking(true).expect("a listener without blocking");
        while !self.lock().is_stopping {
            match listener.accept() {
                Ok((stream, _)) => self.subscribe(stream).expect("a thread for the subscriber"),
                Err(_) => thread::sleep(ACCEPT_INTERVAL),
            }
        }
    }

    fn subscribe(self: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let (waker, wakes) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakes.set_nonblocking(true)?;
        let id = self.lock().add(stream.try_clone()?, waker);
        let shared = Arc::clone(self);
        let serve = move || {
            // An error ends this connection only: its other end sees that, and so does the test.
            drop(subscriber::serve(&shared, id, stream, wakes));
            shared.lock().remove(id);
        };
        thread::Builder::new().name("subscriber".to_owned()).spawn(serve)?;
        Ok(())
    }
}

impl State {
    fn add(&mut self, stream: TcpStream, waker: UnixStream) -> u64 {
        self.next_id += 1;
        self.subscribers.push(Subscriber {
            id: self.next_id,
            stream,
            waker,
            live_at: None,
        });
        self.next_id
    }

    fn remove(&mut self, id: u64) {
        self.subscribers.retain(|subscriber| subscriber.id != id);
    }

    /// Whether the connection is still to be served. Notes that the subscriber is sent the event of this index next.
    pub(super) fn advance(&mut self, id: u64, index: u64) -> bool {
        let end = self.log.end();
        let Some(subscriber) = self.subscribers.iter_mut().find(|subscriber| subscriber.id == id) else {
            return false;
        };
        if subscriber.live_at.is_some() || index == end {
            subscriber.live_at = Some(index);
        }
        true
    }

    /// Whether a subscriber that has caught up once is now too far behind.
    pub(super) fn is_too_slow(&self, id: u64) -> bool {
        let of_id = self.subscribers.iter().find(|subscriber| subscriber.id == id);
        of_id.is_some_and(|subscriber| self.is_behind(subscriber))
    }

    fn is_behind(&self, subscriber: &Subscriber) -> bool {
        match (self.conduct.queue, subscriber.live_at) {
            (Some(limit), Some(index)) => self.log.end().saturating_sub(index) > limit as u64,
            _ => false,
        }
    }

    /// Without an announcement, a slow subscriber is cut off even while a write to it blocks.
    fn cut_off_slow(&mut self) {
        if self.conduct.announces_slow {
            return;
        }
        let (slow, others) = std::mem::take(&mut self.subscribers)
            .into_iter()
            .partition(|subscriber| self.is_behind(subscriber));
        self.subscribers = others;
        self.seen.n_too_slow += slow.len() as u64;
        slow.iter().for_each(Subscriber::reset);
    }

    fn wake(&mut self) {
        for subscriber in &mut self.subscribers {
            // If its buffer is full, the subscriber wakes anyway.
            let _ = subscriber.waker.write(&[1]);
        }
    }

    fn reset_connections(&mut self) {
        self.subscribers.drain(..).for_each(|subscriber| subscriber.reset());
    }

    /// Ends the connections as a server does that stops.
    fn end_connections(&mut self) {
        for subscriber in self.subscribers.drain(..) {
            let _ = subscriber.stream.shutdown(Shutdown::Both); // it may have ended already
        }
    }
}

impl Subscriber {
    fn reset(&self) {
        reset(&self.stream);
    }
}

/// Ends a stream with a reset, also for a blocked writer.
pub(super) fn reset(stream: &TcpStream) {
    // Either fails only on a stream that has ended already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Both);
}

/// The TLS settings of a relay with this certificate and key, both in PEM files.
pub(crate) fn tls(certificate: &Path, key: &Path) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key);
    Arc::new(config.expect("a certificate and its key"))
}

pub(crate) fn now_millis() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock set after 1970");
    now.as_millis() as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
