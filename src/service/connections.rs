//! The open connections to METRICS_ADDR.
//!
//! Owns their threads, one for each, named `http-connection`. They are not registered with `threads`: they end soon,
//! send no heartbeats, and a panic of one deprives its peer of the answer and has no other effect.
//!
//! Invariant: there are never more than `MAX_OPEN` of them, and none outlives `Connections`.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};

/// A client that requests a page is finished at once, so the oldest of so many connections is one without a request.
const MAX_OPEN: usize = 64;

/// The stack of a thread in bytes, several times what a page needs.
const STACK: usize = 256 << 10;

/// The connections, oldest first.
#[derive(Default)]
pub struct Connections(VecDeque<Connection>);

struct Connection {
    /// Owned by the thread, so that the connection is closed however the thread ends.
    peer: Weak<TcpStream>,
    thread: JoinHandle<()>,
}

impl Connections {
    /// Starts a thread that calls `answer` and closes the connection. If `MAX_OPEN` are open, closes the oldest first.
    pub fn open(&mut self, peer: TcpStream, answer: impl FnOnce(&TcpStream) + Send + 'static) {
        self.0.retain(|connection| !connection.thread.is_finished());
        if self.0.len() >= MAX_OPEN
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.close();
        }
        let owned = Arc::new(peer);
        let peer = Arc::downgrade(&owned);
        let thread = Builder::new().name("http-connection".into()).stack_size(STACK);
        match thread.spawn(move || answer(&owned)) {
            Ok(thread) => self.0.push_back(Connection { peer, thread }),
            Err(error) => log::debug!("failed to start a thread for a connection to METRICS_ADDR: {error}"),
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Connection::close);
    }
}

impl Connection {
    /// Closes it and waits for its thread, which no longer waits for the peer.
    fn close(self) {
        if let Some(peer) = self.peer.upgrade() {
            // Fails only where the peer has closed it already.
            let _ = peer.shutdown(Shutdown::Both);
        }
        // A panic has been logged already.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    fn connect() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// Waits for the peer, as for a request that does not come.
    fn wait(mut peer: &TcpStream) {
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the peer sends nothing");
    }

    /// Waits until the connection is closed.
    fn read_to_end(mut client: &TcpStream) {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn the_oldest_of_too_many_connections_is_closed() {
        let mut connections = Connections::default();
        let clients = (0..MAX_OPEN + 2).map(|_| {
            let (client, peer) = connect();
            connections.open(peer, wait);
            client
        });
        let clients: Vec<TcpStream> = clients.collect();
        clients[..2].iter().for_each(read_to_end);
        for client in &clients[2..] {
            client.set_nonblocking(true).unwrap();
            let mut client = client;
            assert!(client.read(&mut [0]).is_err(), "there was room for it");
            client.set_nonblocking(false).unwrap();
        }
        assert_eq!(connections.0.len(), MAX_OPEN);
        drop(connections);
        clients.iter().for_each(read_to_end);
    }

    #[test]
    fn a_panic_closes_its_connection_and_blocks_no_other() {
        let mut connections = Connections::default();
        let (client, peer) = connect();
        connections.open(peer, |_| panic!("as this test wants"));
        read_to_end(&client);
        let (client, peer) = connect();
        connections.open(peer, wait);
        drop(connections);
        read_to_end(&client);
    }
}
