//! The answers at METRICS_ADDR, with the headers that keep browsers from misusing them.

use std::sync::Arc;

/// An answer whose text is shared by all clients.
pub struct Document {
    pub kind: &'static str,
    pub text: Arc<str>,
    /// The Content-Security-Policy, if the text may load or run anything.
    pub policy: Option<Arc<str>>,
}

/// A complete answer.
pub struct Answer {
    pub status: &'static str,
    pub document: Document,
}

pub const OK: &str = "200 OK";

/// For browsers: answers are not kept, not taken for another type, and neither embedded nor told to other sites. There
/// is no Access-Control-Allow-Origin, so that the scripts of other sites cannot read them.
const HEADERS: &str = "Allow: GET, HEAD\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
                       Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n";

const NO_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

impl Answer {
    pub fn new(status: &'static str, kind: &'static str, text: String) -> Answer {
        let document = Document {
            kind,
            text: text.into(),
            policy: None,
        };
        Answer { status, document }
    }

    /// A line of plain text.
    pub fn text(status: &'static str, line: &str) -> Answer {
        Answer::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }

    pub fn head(&self) -> String {
        let Document { kind, text, policy } = &self.document;
        format!(
            "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{HEADERS}Content-Security-Policy: {}\r\n\
             Connection: close\r\n\r\n",
            self.status,
            text.len(),
            policy.as_deref().unwrap_or(NO_POLICY)
        )
    }
}
