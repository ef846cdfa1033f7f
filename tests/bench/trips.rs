//! Counts round trips, whatever the protocol: stands between a worker and its servers and hands everything on.
//!
//! For `tests/bench.sh`. Takes the servers' ports, prints one of its own for each, and for every line on stdin prints
//! how many round trips each server has had so far. All on 127.0.0.1; ends with stdin.

use std::env;
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut ports = Vec::new();
    let mut trips = Vec::new();
    for argument in env::args().skip(1) {
        let server_port: u16 = argument.parse().with_context(|| format!("{argument} is not a port"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen")?;
        ports.push(listener.local_addr()?.port().to_string());
        let counter = Arc::new(AtomicU64::new(0));
        trips.push(Arc::clone(&counter));
        spawn("accept", move || accept(&listener, server_port, &counter))?;
    }
    println!("{}", ports.join(" "));
    for line in io::stdin().lock().lines() {
        line?;
        let counts: Vec<String> = trips
            .iter()
            .map(|trips| trips.load(Ordering::Relaxed).to_string())
            .collect();
        println!("{}", counts.join(" "));
    }
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    // A connection that breaks is its two ends' business: they see it too.
    thread::Builder::new().name(name.to_owned()).spawn(|| drop(run()))?;
    Ok(())
}

fn accept(listener: &TcpListener, server_port: u16, trips: &Arc<AtomicU64>) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept()?;
        // Dropping the client's connection tells it that the server is away.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)) else {
            continue;
        };
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = (client.try_clone()?, client);
        let (from_server, to_server) = (server.try_clone()?, server);
        let is_answered = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&is_answered);
        let trips = Arc::clone(trips);
        // A round trip begins with the first bytes that the client sends after an answer, however many requests follow.
        spawn("requests", move || {
            hand_on(from_client, to_server, || {
                if asked.swap(false, Ordering::Relaxed) {
                    trips.fetch_add(1, Ordering::Relaxed);
                }
            })
        })?;
        spawn("answers", move || {
            hand_on(from_server, to_client, || is_answered.store(true, Ordering::Relaxed))
        })?;
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut()) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => return to.shutdown(Shutdown::Write),
            Ok(length) => {
                note();
                to.write_all(&buffer[..length])?;
            }
        }
    }
}
