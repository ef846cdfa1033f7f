//! Parses the addresses of relays.
//!
//! Owns the forms that RELAY_URL and ADDITIONAL_RELAY_URLS may have. All of them lead to the method
//! `com.atproto.sync.subscribeRepos` of a host.

use std::fmt;

use url::Url;

const METHOD: &str = "/xrpc/com.atproto.sync.subscribeRepos";

/// A relay, or any other host that serves the method, such as a PDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayUrl {
    pub is_tls: bool,
    /// A name or an IP address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

impl RelayUrl {
    /// Parses one address. Allowed are the schemes `ws`, `wss`, `http` and `https`, and no path, `/xrpc` or the
    /// method's path.
    ///
    /// # Errors
    ///
    /// Says which part is unusable, and what is allowed.
    pub fn parse(text: &str) -> Result<RelayUrl, String> {
        let text = match text.contains("://") {
            true => text.to_owned(),
            false => format!("wss://{text}"),
        };
        let url = Url::parse(&text).map_err(|error| format!("it is no URL: {error}"))?;
        let is_tls = match url.scheme() {
            "wss" | "https" => true,
            "ws" | "http" => false,
            _ => return Err("the scheme must be wss, ws, https or http".to_owned()),
        };
        if !["", "/", "/xrpc", "/xrpc/", METHOD].contains(&url.path()) {
            return Err(format!("the path must be empty, /xrpc or {METHOD}"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it must not have a query: the cursor is kept in redis".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not have a user or a password: relays do not ask for one".to_owned());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        Ok(RelayUrl {
            is_tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(if is_tls { 443 } else { 80 }),
        })
    }

    /// Parses addresses separated by commas.
    ///
    /// # Errors
    ///
    /// As for `parse`, for the first unusable one.
    pub fn parse_list(text: &str) -> Result<Vec<RelayUrl>, String> {
        let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
        addresses.map(RelayUrl::parse).collect()
    }

    /// Host and port, as in the HTTP header `Host`. The port is omitted if it is the scheme's default.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The URL of the stream from `cursor` on; without a cursor, the stream from now on.
    pub fn stream(&self, cursor: Option<u64>) -> String {
        match cursor {
            Some(cursor) => format!("{self}{METHOD}?cursor={cursor}"),
            None => format!("{self}{METHOD}"),
        }
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_leads_to_the_same_stream() {
        for text in [
            "wss://bsky.network",
            "wss://bsky.network/",
            "https://bsky.network/xrpc",
            "bsky.network",
            "wss://bsky.network:443/xrpc/com.atproto.sync.subscribeRepos",
        ] {
            let url = RelayUrl::parse(text).unwrap();
            assert_eq!(
                url.stream(Some(7)),
                "wss://bsky.network/xrpc/com.atproto.sync.subscribeRepos?cursor=7",
                "{text}"
            );
        }
        let local = RelayUrl::parse("http://[::1]:2583").unwrap();
        assert_eq!(local.host, "::1");
        assert_eq!(
            local.stream(None),
            "ws://[::1]:2583/xrpc/com.atproto.sync.subscribeRepos"
        );
    }

    #[test]
    fn an_unusable_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("ftp://relay", "scheme"),
            ("wss://relay/path", "path"),
            ("wss://relay/?cursor=3", "query"),
            ("wss://me:secret@relay", "user"),
            ("wss://", "URL"),
        ] {
            let error = RelayUrl::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
