//! Relays behind an HTTP proxy.

use std::path::Path;

use crate::relay::{Conduct, Relay, tls};
use crate::support::certificates::Authority;
use crate::support::consumer::{Line, wait_for_log};
use crate::support::tunnel::Tunnels;
use crate::support::{RedisServer, WorkerBuilder};

/// An encrypted relay of 300 events, an HTTP proxy, and a consumer that knows of both.
fn world() -> (Line, Tunnels, WorkerBuilder) {
    let authority = Authority::new();
    let identity = authority.sign("relay", &["127.0.0.1"]);
    let tls = tls(Path::new(&identity.certificate()), Path::new(&identity.key()));
    let line = Line::with(Relay::with(1, Conduct::pds(), Some(tls)), RedisServer::start());
    line.append(1, 300);
    let tunnels = Tunnels::start();
    let consumer = line
        .consumer()
        .env("SSL_CERT_FILE", &authority.path())
        .env("HTTPS_PROXY", &format!("http://me:p%40ss@127.0.0.1:{}", tunnels.port()));
    (line, tunnels, consumer)
}

#[test]
fn a_relay_is_read_through_the_proxy_that_https_proxy_names() {
    let (line, tunnels, consumer) = world();
    tunnels.refuse(Some("407 Proxy Authentication Required"));
    let consumer = consumer.spawn();
    wait_for_log(
        &consumer,
        "the proxy answered \"HTTP/1.1 407 Proxy Authentication Required\"",
    );
    tunnels.refuse(None);
    line.wait_until_read();
    line.relay.cut();
    line.append(2, 50);
    line.wait_until_read();
    line.assert_exact();
    let head = tunnels.heads().pop().expect("a request");
    let target = format!("CONNECT 127.0.0.1:{} HTTP/1.1\n", line.relay.port());
    assert!(head.starts_with(&target), "{head}");
    assert!(head.contains("\nProxy-Authorization: Basic bWU6cEBzcw==\n"), "{head}");
    assert!(
        !consumer.log().contains("p@ss") && !consumer.log().contains("p%40ss"),
        "{}",
        consumer.log()
    );
}

#[test]
fn a_relay_that_no_proxy_names_is_reached_directly() {
    let (line, tunnels, consumer) = world();
    let _consumer = consumer.env("NO_PROXY", "localhost,127.0.0.1").spawn();
    line.wait_until_read();
    line.assert_exact();
    assert_eq!(tunnels.heads(), Vec::<String>::new());
}
