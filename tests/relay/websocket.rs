//! The server's side of HTTP upgrade and WebSocket frames, written out, so that a test can violate them.

use std::io::{self, ErrorKind, Read, Write};

use tungstenite::handshake::derive_accept_key;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame that its message continues beyond lacks this.
pub(crate) const FINAL: u8 = 0x80;
pub(crate) const RESERVED: u8 = 0x70;

/// A client that sends more is no consumer.
const MAX_REQUEST: usize = 16 * 1024;

/// What a subscriber asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    /// The cursor as the query has it.
    pub(crate) fn cursor(&self) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix("cursor="))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let is_named = |(of, _): &&(String, String)| of.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_named).map(|(_, value)| value.as_str())
    }
}

/// Reads a request up to the empty line.
pub(crate) fn read_request(stream: &mut impl Read) -> io::Result<Request> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
        if bytes.len() > MAX_REQUEST {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData)?;
    let (first, rest) = text.split_once("\r\n").ok_or(ErrorKind::InvalidData)?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    Ok(Request {
        target: first.split(' ').nth(1).ok_or(ErrorKind::InvalidData)?.to_owned(),
        headers: rest.lines().filter_map(header).collect(),
    })
}

pub(crate) fn accept(request: &Request, stream: &mut impl Write) -> io::Result<()> {
    let key = request.header("Sec-WebSocket-Key").ok_or(ErrorKind::InvalidData)?;
    let accept = derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(response.as_bytes())?;
    stream.flush()
}

/// Appends the head of a frame; a server's frames are not masked.
pub(crate) fn push_head(out: &mut Vec<u8>, first_byte: u8, length: u64) {
    out.push(first_byte);
    match length {
        0..126 => out.push(length as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend(length.to_be_bytes());
        }
    }
}

pub(crate) fn push_frame(out: &mut Vec<u8>, first_byte: u8, payload: &[u8]) {
    push_head(out, first_byte, payload.len() as u64);
    out.extend(payload);
}

pub(crate) fn push_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    push_frame(out, FINAL | CLOSE, &payload);
}

/// What a client sends: control frames only, if it is a consumer.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
}

impl Input {
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Opcode and payload of the next frame, once it is complete.
    pub(crate) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, rest @ ..] = self.bytes.as_slice() else {
            return None;
        };
        assert!(second & 0x80 != 0, "a client masks its frames");
        let (length, rest): (usize, &[u8]) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u16::from_be_bytes(*length).into(), rest)
            }
            127 => panic!("a consumer sends control frames only"),
            length => (length.into(), rest),
        };
        let (mask, rest) = rest.split_first_chunk::<4>()?;
        let payload = rest.get(..length)?.iter().zip(mask.iter().cycle());
        let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
        let opcode = first & 0x0f;
        let n_left = rest.len() - length;
        self.bytes.drain(..self.bytes.len() - n_left);
        Some((opcode, payload))
    }
}
