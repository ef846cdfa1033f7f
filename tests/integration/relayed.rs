//! The test relay itself: its frames are what a relay sends, and its cursors have the rules of each implementation.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firehose_worker::tls::{Roots, TlsMode, TlsSettings};
use ipld_core::ipld::Ipld;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error, Message as Received, WebSocket};

use crate::generator::Events;
use crate::relay::conduct::{Incident, Upgrade};
use crate::relay::frames::Frame;
use crate::relay::{Conduct, Message, Relay, encode, oracle, tls};
use crate::support::certificates::Authority;
use crate::support::entries::{did, post};
use crate::support::wait::{equal, wait_until};

/// A relay that sends nothing for so long is faulty.
const READ_LIMIT: Duration = Duration::from_secs(30);

type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

fn connect(relay: &Relay, cursor: Option<&str>) -> Socket {
    try_connect(relay, cursor).unwrap_or_else(|error| panic!("no connection to {}: {error}", relay.url()))
}

fn try_connect(relay: &Relay, cursor: Option<&str>) -> Result<Socket, Error> {
    let query = cursor.map_or_else(String::new, |cursor| format!("?cursor={cursor}"));
    let url = format!("{}/xrpc/com.atproto.sync.subscribeRepos{query}", relay.url());
    let config = WebSocketConfig::default();
    let (socket, _) = tungstenite::client::connect_with_config(url, Some(config), 0)?;
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(READ_LIMIT))?;
    }
    Ok(socket)
}

/// The next binary message; its error if the connection ends.
fn next(socket: &mut Socket) -> Result<Vec<u8>, Error> {
    loop {
        if let Received::Binary(bytes) = socket.read()? {
            return Ok(bytes.to_vec());
        }
    }
}

/// The body of a frame.
fn body(frame: &[u8]) -> BTreeMap<String, Ipld> {
    let (_, body) = frame.split_at(crate::relay::message::end_of_header(frame).expect("a header"));
    serde_ipld_dagcbor::from_slice(body).expect("a body in DAG-CBOR")
}

fn seq(frame: &[u8]) -> u64 {
    match body(frame)["seq"] {
        Ipld::Integer(seq) => seq.try_into().expect("a seq"),
        ref other => panic!("the seq is {other:?}"),
    }
}

fn identity(name: &str) -> Message {
    Frame::identity(&did(name), Some("alice.example")).message()
}

/// A relay with five events, 1 to 5, the first two no longer kept.
fn relay_with_events(conduct: Conduct) -> Relay {
    let relay = Relay::with(1, conduct, None);
    relay.append_all((1..=5).map(|n| identity(&n.to_string())));
    relay.keep(3);
    relay
}

#[test]
fn the_frames_of_made_up_events_hold_the_entries_that_a_consumer_must_make_of_them() {
    for event in Events::new(1, 3000).at(1_700_000_000_000) {
        let message = Frame::of(&event).message();
        for seq in [1, 23, 24, 255, 256, 65_536, 1 << 32, (1 << 53) - 1] {
            let time = "2026-11-29T10:00:00.000Z";
            let mut frame = Vec::new();
            message.write(seq, time, &mut frame);
            assert_eq!(frame.len(), message.length(seq, time), "{event:?}");
            let body = body(&frame);
            assert_eq!(body["seq"], Ipld::Integer(seq.into()));
            assert_eq!(body["time"], Ipld::String(time.to_owned()));
            let entry = message.entry(seq).map(|entry| {
                assert_eq!(entry.seq, seq.to_string());
                (entry.kind, serde_json::from_str::<Value>(&entry.data).expect("JSON"))
            });
            assert_eq!(oracle::entry(&frame), entry, "{event:?}");
        }
    }
}

#[test]
fn lexicon_json_survives_dag_cbor() {
    let link = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";
    let json = json!({
        "text": "a\u{0}\"\\\n\u{1f980}", "n": [0, -1, u64::MAX, i64::MIN], "f": 1.5, "none": null, "yes": true,
        "link": {"$link": link}, "bytes": {"$bytes": "aGVsbG8"}, "zz": {}, "a": [],
    });
    let block = encode::Block::of(&encode::ipld(&json));
    let decoded: Ipld = serde_ipld_dagcbor::from_slice(&block.bytes).expect("DAG-CBOR");
    assert_eq!(encode::json(&decoded), json);
    // The CID that other implementations compute for these bytes.
    let cid = encode::cid(encode::RAW, b"hello world").to_string();
    assert_eq!(cid, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
}

#[test]
fn a_cursor_begins_after_its_event_or_with_it_and_outside_the_window_with_the_oldest() {
    for (includes_cursor, wanted) in [(false, [5, 3, 3]), (true, [4, 3, 3])] {
        let relay = relay_with_events(Conduct {
            includes_cursor,
            ..Conduct::indigo()
        });
        let first = |cursor| seq(&next(&mut connect(&relay, Some(cursor))).expect("an event"));
        assert_eq!([first("4"), first("1"), first("0")], wanted, "{includes_cursor}");
    }
}

#[test]
fn a_pds_announces_an_outdated_cursor_and_refuses_one_in_the_future() {
    let relay = relay_with_events(Conduct::pds());
    let mut socket = connect(&relay, Some("1"));
    let info = body(&next(&mut socket).expect("an #info"));
    assert_eq!(info["name"], Ipld::String("OutdatedCursor".to_owned()));
    assert_eq!(seq(&next(&mut socket).expect("an event")), 3);
    for (cursor, error) in [("6", "FutureCursor"), ("abc", "InvalidRequest")] {
        let mut socket = connect(&relay, Some(cursor));
        let body = body(&next(&mut socket).expect("an error frame"));
        assert_eq!(body["error"], Ipld::String(error.to_owned()));
        let close = socket.read().expect("a close frame");
        assert!(
            matches!(&close, Received::Close(Some(frame)) if u16::from(frame.code) == 1008),
            "{close:?}"
        );
    }
    let requests = relay.seen().requests;
    let cursors: Vec<_> = requests.iter().map(|request| request.cursor()).collect();
    assert_eq!(cursors, [Some("1"), Some("6"), Some("abc")]);
}

#[test]
fn a_silent_relay_takes_a_cursor_in_the_future_for_none() {
    let relay = relay_with_events(Conduct::indigo());
    for cursor in [Some("4000"), None] {
        let mut socket = connect(&relay, cursor);
        let sent = relay.append(identity("later"));
        assert_eq!(seq(&next(&mut socket).expect("the live event")), sent);
    }
}

#[test]
fn seqs_are_given_out_again_after_a_loss_and_from_the_start_after_a_reset() {
    let relay = relay_with_events(Conduct::pds());
    let mut socket = connect(&relay, None);
    relay.lose_newest(2);
    next(&mut socket).expect_err("the relay has restarted");
    assert_eq!(relay.append(identity("again")), 4);
    relay.reset(1);
    assert_eq!(relay.append(identity("new")), 1);
    let entries = relay.entries_after(0);
    assert_eq!(entries.len(), 1, "{entries:?}");
}

#[test]
fn a_relay_pings_and_answers_pings_between_fragments() {
    let relay = Relay::start();
    relay.conduct(|conduct| {
        conduct.fragment = Some(10);
        conduct.ping_every = Some(Duration::from_millis(20));
    });
    let record = post("hello");
    let frame = Frame::commit(
        &did("alice"),
        &[json!({"action": "create", "path": "app.bsky.feed.post/1", "record": record})],
    );
    relay.append(frame.message());
    let mut socket = connect(&relay, Some("0"));
    socket.send(Received::Ping(b"hello".as_slice().into())).expect("a ping");
    let received = next(&mut socket).expect("an event");
    assert_eq!(oracle::entry(&received), frame.entry);
    wait_until("pings are answered both ways", || {
        let message = socket.read().expect("a ping or a pong");
        assert!(matches!(message, Received::Ping(_) | Received::Pong(_)), "{message:?}");
        let seen = relay.seen();
        equal((seen.n_pings, seen.n_pongs > 0), (1, true))
    });
}

#[test]
fn an_incident_comes_after_so_many_events_of_each_connection() {
    let relay = relay_with_events(Conduct::pds());
    let incidents = [
        Incident::Reset,
        Incident::End,
        Incident::HalfMessage,
        Incident::Close(1012, "restart"),
        Incident::Error("ConsumerTooSlow"),
        Incident::ReservedBits,
        Incident::FalseLength(1 << 62),
    ];
    for incident in incidents {
        relay.conduct(|conduct| conduct.incident = Some((1, incident)));
        let mut socket = connect(&relay, Some("2"));
        let received: Vec<_> = std::iter::from_fn(|| next(&mut socket).ok()).collect();
        let is_error = |frame: &&Vec<u8>| body(frame).contains_key("error");
        let (errors, events): (Vec<_>, Vec<_>) = received.iter().partition(is_error);
        assert_eq!(
            errors.len(),
            usize::from(matches!(incident, Incident::Error(_))),
            "{incident:?}"
        );
        // A reset takes even what was sent before it.
        if !(matches!(incident, Incident::Reset) && events.is_empty()) {
            let seqs: Vec<_> = events.iter().map(|frame| seq(frame)).collect();
            assert_eq!(seqs, [3], "{incident:?}");
        }
    }
}

#[test]
fn a_subscriber_that_reads_too_slowly_is_cut_off() {
    for announces_slow in [true, false] {
        let relay = Relay::with(
            1,
            Conduct {
                queue: Some(10),
                announces_slow,
                send_buffer: Some(4096),
                ..Conduct::pds()
            },
            None,
        );
        let mut socket = connect(&relay, None);
        wait_until("the subscriber is live", || equal(relay.seen().requests.len(), 1));
        let n_sent = relay.append(identity("first"));
        next(&mut socket).expect("the live event");
        let big = Arc::new(Message::raw(vec![0; 1 << 20]));
        for _ in 0..40 {
            relay.append(Arc::clone(&big));
        }
        let mut n_read = 0;
        while next(&mut socket).is_ok() {
            n_read += 1;
        }
        assert!(n_read < 40, "{n_read} after {n_sent}");
        equal(relay.seen().n_too_slow, 1).expect("one subscriber is too slow");
    }
}

#[test]
fn a_relay_may_answer_the_request_with_anything_and_may_be_away() {
    let relay = Relay::start();
    relay.conduct(|conduct| {
        conduct.upgrade = Upgrade::answer("429 Too Many Requests", &[("Retry-After", "7")], "slowly");
    });
    match try_connect(&relay, None) {
        Err(Error::Http(response)) => assert_eq!(response.headers()["Retry-After"], "7"),
        other => panic!("{other:?}"),
    }
    relay.stop();
    try_connect(&relay, None).expect_err("nothing listens");
    relay.conduct(|conduct| conduct.upgrade = Upgrade::Accept);
    relay.listen_again();
    connect(&relay, None);
}

#[test]
fn a_relay_with_a_certificate_serves_over_tls() {
    let authority = Authority::new();
    let identity_of_relay = authority.sign("relay", &["127.0.0.1"]);
    let settings = tls(
        Path::new(&identity_of_relay.certificate()),
        Path::new(&identity_of_relay.key()),
    );
    let relay = Relay::with(1, Conduct::pds(), Some(settings));
    relay.append(identity("alice"));
    let client = TlsSettings {
        mode: TlsMode::VerifyFull,
        roots: Roots::File(authority.path().into()),
        identity: None,
    };
    let config = Arc::new(client.client_config().expect("TLS settings"));
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let session = ClientConnection::new(config, name).expect("a session");
    let tcp = TcpStream::connect(("127.0.0.1", relay.port())).expect("a connection");
    let url = format!("{}/xrpc/com.atproto.sync.subscribeRepos?cursor=0", relay.url());
    let upgraded = tungstenite::client(url, StreamOwned::new(session, tcp));
    let (mut socket, _) = upgraded.unwrap_or_else(|error| panic!("no upgrade: {error}"));
    let Received::Binary(frame) = socket.read().expect("an event") else {
        panic!("no binary message");
    };
    assert_eq!(seq(&frame), 1);
    socket.close(None).expect("a close frame");
    wait_until("the relay has seen it", || equal(relay.seen().closes.len(), 1));
}

#[test]
fn recorded_frames_are_served_with_other_seqs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay/pds_frames_mixed.bin");
    let messages = crate::relay::frames::read(&path).expect("the recorded frames");
    assert_eq!(messages.len(), 22);
    let relay = Relay::with(1 << 33, Conduct::pds(), None);
    relay.append_all(messages);
    let mut socket = connect(&relay, Some("0"));
    for n in 0..22 {
        let frame = next(&mut socket).expect("an event");
        assert_eq!(seq(&frame), (1 << 33) + n);
    }
    let entries = relay.entries_after(0);
    assert_eq!(entries.len(), 17, "all but #sync and commits without ops: {entries:?}");
}
