//! The service manager's end of NOTIFY_SOCKET: a datagram socket that records a worker's reports.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::scratch;

/// What the socket is sent when its reader is to end.
const END: &[u8] = b"end";

pub(crate) struct Manager {
    path: PathBuf,
    messages: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let path = scratch::directory("manager").join("notify");
        let socket = UnixDatagram::bind(&path).expect("a datagram socket");
        let messages: Arc<Mutex<Vec<String>>> = Arc::default();
        let read = {
            let messages = Arc::clone(&messages);
            move || read(&socket, &messages)
        };
        let reader = thread::Builder::new().spawn(read).expect("a thread that reads");
        Self {
            path,
            messages,
            reader: Some(reader),
        }
    }

    /// What NOTIFY_SOCKET is to be.
    pub(crate) fn address(&self) -> &str {
        self.path.to_str().expect("a path of ASCII")
    }

    /// Every line of every message, in the order in which they came.
    pub(crate) fn lines(&self) -> Vec<String> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages
            .iter()
            .flat_map(|message| message.lines())
            .map(str::to_owned)
            .collect()
    }

    /// How many lines begin so.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }

    /// The newest status.
    pub(crate) fn status(&self) -> String {
        let lines = self.lines();
        let status = lines.iter().rev().find_map(|line| line.strip_prefix("STATUS="));
        status.unwrap_or_default().to_owned()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(END, &self.path));
        if let (Ok(_), Some(reader)) = (sent, self.reader.take()) {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!(
                "--- reported to the service manager ---\n{}\n---",
                self.lines().join("\n")
            );
        }
    }
}

fn read(socket: &UnixDatagram, messages: &Mutex<Vec<String>>) {
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        if &buffer[..length] == END {
            return;
        }
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}
