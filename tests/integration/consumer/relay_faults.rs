//! Relays that cut, stall, refuse or misbehave.

use std::path::Path;
use std::time::Duration;

use crate::relay::conduct::{Incident, Upgrade};
use crate::relay::{Conduct, Relay, tls};
use crate::support::certificates::Authority;
use crate::support::consumer::{Line, wait_for_log};
use crate::support::wait::wait_until;
use crate::support::{RedisServer, scratch};

#[test]
fn every_kind_of_cut_resumes_without_loss() {
    for incident in [
        Incident::Reset,
        Incident::End,
        Incident::HalfMessage,
        Incident::Close(1000, ""),
        Incident::Close(1012, "restart"),
        Incident::Error("ConsumerTooSlow"),
        Incident::ReservedBits,
        Incident::Text("hello"),
    ] {
        let line = Line::new();
        line.append(1, 900);
        line.relay.conduct(|conduct| conduct.incident = Some((400, incident)));
        let _consumer = line.consumer().spawn();
        line.wait_until_read();
        line.assert_exact();
    }
}

#[test]
fn a_false_length_costs_no_event() {
    for length in [10, 1 << 62] {
        let line = Line::new();
        line.append(1, 300);
        line.relay
            .conduct(|conduct| conduct.incident = Some((100, Incident::FalseLength(length))));
        let consumer = line.consumer().spawn();
        wait_until("it has connected again", || line.relay.seen().requests.len() > 1);
        line.relay.conduct(|conduct| conduct.incident = None);
        line.wait_until_read();
        line.assert_exact();
        assert!(!consumer.log().contains("skipping"), "{}", consumer.log());
    }
}

#[test]
fn fragments_pings_and_text_do_not_disturb() {
    let line = Line::new();
    line.append(1, 200);
    line.relay.conduct(|conduct| {
        conduct.fragment = Some(500);
        conduct.ping_every = Some(Duration::from_millis(200));
    });
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    line.assert_exact();
    wait_until("an idle consumer answers pings", || line.relay.seen().n_pongs >= 3);
    assert_eq!(line.relay.seen().requests.len(), 1, "{}", consumer.log());
}

#[test]
fn a_cursor_in_the_future_is_recognized_by_the_error_frame() {
    let line = Line::new();
    line.append(1, 10);
    line.query::<()>(redis::cmd("SET").arg(crate::support::consumer::CURSOR).arg(999_999));
    let consumer = line.consumer().spawn();
    wait_for_log(&consumer, "does not know seq 999999 yet");
}

#[test]
fn an_answer_that_is_no_websocket_is_reported_with_its_status() {
    for (upgrade, text) in [
        (
            Upgrade::answer("503 Service Unavailable", &[], "<html>later</html>"),
            "it answered 503",
        ),
        (
            Upgrade::answer("429 Too Many Requests", &[("Retry-After", "1")], ""),
            "it answered 429",
        ),
    ] {
        let line = Line::new();
        line.append(1, 20);
        line.relay.conduct(|conduct| conduct.upgrade = upgrade);
        let consumer = line.consumer().spawn();
        wait_for_log(&consumer, text);
        line.relay.conduct(|conduct| conduct.upgrade = Upgrade::Accept);
        line.wait_until_read();
        line.assert_exact();
    }
}

#[test]
fn endless_headers_end_after_the_time_limit() {
    let line = Line::new();
    line.relay.conduct(|conduct| conduct.upgrade = Upgrade::EndlessHeaders);
    let consumer = line.consumer().spawn();
    wait_for_log(&consumer, "waiting for the relay");
}

#[test]
fn a_redirect_is_followed_with_the_cursor() {
    let line = Line::new();
    line.append(1, 20);
    let door = Relay::with(1, Conduct::pds(), None);
    door.conduct(|conduct| conduct.upgrade = Upgrade::redirect(&line.relay.url().replace("ws", "http")));
    let _consumer = line.consumer().env("RELAY_URL", &door.url()).spawn();
    line.wait_until_read();
    line.assert_exact();
}

#[test]
fn a_relay_that_drops_slow_readers_is_read_without_loss() {
    let line = Line::new();
    line.relay.conduct(|conduct| {
        conduct.queue = Some(300);
        conduct.send_buffer = Some(4096);
    });
    line.append(1, 100);
    let consumer = line.consumer().spawn();
    line.wait_until_read();
    consumer.signal(libc::SIGSTOP);
    for seed in 0..20 {
        line.append(seed, 500);
    }
    consumer.signal(libc::SIGCONT);
    line.wait_until_read();
    line.assert_exact();
}

#[test]
fn a_relay_with_a_certificate_of_a_private_authority_is_read_with_ssl_cert_file() {
    let authority = Authority::new();
    let identity = authority.sign("relay", &["127.0.0.1"]);
    let line = Line::with(
        Relay::with(
            1,
            Conduct::pds(),
            Some(tls(Path::new(&identity.certificate()), Path::new(&identity.key()))),
        ),
        RedisServer::start(),
    );
    line.append(1, 200);
    let stranger = line.consumer().spawn();
    wait_for_log(&stranger, "waiting for the relay");
    drop(stranger);
    let nobody = scratch::directory("no_authorities").join("ca.crt");
    std::fs::write(&nobody, "").expect("an empty file");
    let trusting = line
        .consumer()
        .env("SSL_CERT_FILE", &nobody.display().to_string())
        .spawn();
    wait_for_log(&trusting, "the system trusts no certificate authority");
    drop(trusting);
    let _consumer = line.consumer().env("SSL_CERT_FILE", &authority.path()).spawn();
    line.wait_until_read();
    line.assert_exact();
}
