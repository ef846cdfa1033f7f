//! How a relay behaves: the differences between the implementations, and their faults. All of it can be changed while
//! subscribers are connected; what concerns the start of a connection holds for the next one.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Conduct {
    /// What `GET` is answered with.
    pub(crate) upgrade: Upgrade,
    /// `cursor=N` begins with N, as at rainbow, and not with the event after it, as at a PDS and indigo's relay.
    pub(crate) includes_cursor: bool,
    /// A cursor in the future gets the error FutureCursor and close code 1008; otherwise only live events, in silence.
    pub(crate) refuses_future: bool,
    /// A cursor before the oldest event gets `#info` OutdatedCursor before that event; otherwise only the event.
    pub(crate) announces_outdated: bool,
    /// Neither reads nor writes, as a network that swallows everything.
    pub(crate) stalls: bool,
    /// Sends no events, though it answers pings.
    pub(crate) withholds_events: bool,
    pub(crate) answers_pings: bool,
    pub(crate) answers_close: bool,
    /// Pings a subscriber this often.
    pub(crate) ping_every: Option<Duration>,
    /// Sends each message in fragments of so many bytes, with a ping after the first.
    pub(crate) fragment: Option<usize>,
    /// Sends at most so many events a second to each subscriber.
    pub(crate) rate: Option<u32>,
    /// Sends so many events on each connection, and then this.
    pub(crate) incident: Option<(u64, Incident)>,
    /// Ends the connection of a subscriber that has once caught up and is then so many events behind.
    pub(crate) queue: Option<usize>,
    /// A subscriber that is cut off so gets the error ConsumerTooSlow and close code 1008; otherwise a reset.
    pub(crate) announces_slow: bool,
    /// Bytes that the system buffers for a subscriber, at least; so that slowness shows early.
    pub(crate) send_buffer: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Upgrade {
    Accept,
    /// The response in full, and the end of the connection.
    Answer(String),
    /// The status line of a success, and then headers without end.
    EndlessHeaders,
    /// No answer.
    Silence,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Incident {
    /// The connection is reset.
    Reset,
    /// The connection ends without a close frame.
    End,
    /// Half of the next message, and a reset.
    HalfMessage,
    /// A close frame.
    Close(u16, &'static str),
    /// An error frame, and close code 1008.
    Error(&'static str),
    /// The next message claims this length; afterwards everything goes on as before.
    FalseLength(u64),
    /// A WebSocket frame whose reserved bits are set; afterwards everything goes on as before.
    ReservedBits,
    /// A text message; afterwards everything goes on as before.
    Text(&'static str),
}

impl Conduct {
    /// As the PDS of bluesky-social/atproto.
    pub(crate) fn pds() -> Self {
        Self {
            upgrade: Upgrade::Accept,
            includes_cursor: false,
            refuses_future: true,
            announces_outdated: true,
            stalls: false,
            withholds_events: false,
            answers_pings: true,
            answers_close: true,
            ping_every: None,
            fragment: None,
            rate: None,
            incident: None,
            queue: None,
            announces_slow: true,
            send_buffer: None,
        }
    }

    /// As indigo's relay: silent about bad cursors and, mostly, about slow subscribers.
    pub(crate) fn indigo() -> Self {
        Self {
            refuses_future: false,
            announces_outdated: false,
            announces_slow: false,
            ..Self::pds()
        }
    }

    /// As rainbow, which stands before bsky.network: the same, and the cursor's own event comes again.
    pub(crate) fn rainbow() -> Self {
        Self {
            includes_cursor: true,
            ..Self::indigo()
        }
    }
}

impl Upgrade {
    /// A response with these headers.
    pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let length = body.len();
        Self::Answer(format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    pub(crate) fn redirect(url: &str) -> Self {
        Self::answer("302 Found", &[("Location", url)], "")
    }
}
