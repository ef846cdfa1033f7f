//! REDIS_URL → how to reach Redis.
//!
//! Owns which addresses are accepted (those that redis-py accepts) and the files for TLS. The `redis` crate parses the
//! URL up to the `?`; this module handles redis-py's parameters. Certificates are read for each connection, so that
//! renewed ones are used without a restart.

use std::borrow::Cow;
use std::path::PathBuf;
use std::{fmt, fs};

use percent_encoding::percent_decode_str;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    TlsCertificates,
};
use url::Url;

use crate::tls;

const ALLOWED: &str = "allowed is redis://[user:password@]host[:port][/database], the same with rediss:// for TLS, or \
                       unix:///path[?db=database]";

/// Parameters of redis-py that change nothing here.
const WITHOUT_EFFECT: &str = "client_name decode_responses encoding health_check_interval max_connections protocol \
                              retry_on_error retry_on_timeout single_connection_client socket_connect_timeout \
                              socket_keepalive socket_read_size socket_timeout ssl_min_version timeout";

/// How to reach Redis. Has no `Debug`: it holds a password.
#[derive(Clone)]
pub struct Address {
    info: ConnectionInfo,
    tls: Tls,
}

#[derive(Clone, Default)]
struct Tls {
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    accepts_any_certificate: bool,
    accepts_any_name: bool,
}

/// Parses a URL; also returns warnings about parameters that have no effect.
///
/// # Errors
///
/// The reason why the URL is unusable. It never quotes a value of the URL, which may be part of a password.
pub fn parse(text: &str) -> Result<(Address, Vec<String>), String> {
    let (plain, query) = text.split_once('?').unwrap_or((text, ""));
    ensure_encoded(plain, query)?;
    let mut address = Address {
        info: connection_info(plain)?,
        tls: Tls::default(),
    };
    let mut warnings = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            name if address.apply(name, &value)? => {}
            name if WITHOUT_EFFECT.split(' ').any(|listed| listed == name) => {
                warnings.push(format!("REDIS_URL: the parameter {name} has no effect"));
            }
            // The name is not quoted: it may be part of a password that contains a `?`.
            _ => warnings.push("REDIS_URL: a parameter that redis-py does not know has no effect".to_owned()),
        }
    }
    // Reads the files, so that unusable ones are reported before anything starts.
    if address.is_tls() {
        address
            .client()
            .map_err(|error| error.detail().unwrap_or("TLS cannot be set up").to_owned())?;
    }
    Ok((address, warnings))
}

/// An unencoded `/`, `?` or `#` in a password ends the authority part of the URL early. The text before it, or between
/// it and an `@`, would be parsed as a host and leak into error messages.
fn ensure_encoded(plain: &str, query: &str) -> Result<(), String> {
    let (_, rest) = plain.split_once("://").unwrap_or(("", plain));
    let (authority, path) = rest.split_once(['/', '#']).unwrap_or((rest, ""));
    let is_socket = authority.is_empty();
    if !is_socket && (path.contains('@') || query.contains('@')) {
        return Err(
            "there is an @ after the host: in a password write / as %2F, ? as %3F, # as %23 and @ as %40; elsewhere write \
             @ as %40 too"
                .to_owned(),
        );
    }
    Ok(())
}

/// Parses a URL without its query.
fn connection_info(plain: &str) -> Result<ConnectionInfo, String> {
    let parse = |url: &str| {
        let url = Url::parse(url).map_err(|error| format!("{error}; {ALLOWED}"))?;
        url.into_connection_info()
            .map_err(|error| format!("{}; {ALLOWED}", error.category()))
    };
    // The crate does not accept a user and password before a socket's path.
    let Some((scheme @ ("unix" | "redis+unix" | "valkey+unix"), rest)) = plain.split_once("://") else {
        return parse(plain);
    };
    let (login, path) = match rest.find('/') {
        Some(0) => ("", rest),
        _ => rest
            .rsplit_once('@')
            .ok_or_else(|| format!("the path is missing; {ALLOWED}"))?,
    };
    let info = parse(&format!("{scheme}://{path}"))?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut settings = info.redis_settings().clone();
    if !user.is_empty() {
        settings = settings.set_username(decoded(user)?);
    }
    if !password.is_empty() {
        settings = settings.set_password(decoded(password)?);
    }
    Ok(info.set_redis_settings(settings))
}

fn decoded(text: &str) -> Result<Cow<'_, str>, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "it is not UTF-8 once its percent signs are decoded".to_owned())
}

/// The address without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let database = self.info.redis_settings().db();
        write!(f, "{}, database {database}", self.info.addr())?;
        if self.is_tls() {
            write!(f, ", TLS")?;
        }
        Ok(())
    }
}

impl Address {
    pub fn user(&self) -> &str {
        self.info.redis_settings().username().unwrap_or("default")
    }

    /// Applies a parameter of redis-py; returns `false` if it has no effect here.
    fn apply(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let settings = self.info.redis_settings().clone();
        let settings = match name {
            "db" => settings.set_db(value.parse().map_err(|_| format!("db is not a number; {ALLOWED}"))?),
            "user" | "username" => settings.set_username(value),
            "pass" | "password" => settings.set_password(value),
            _ => return self.tls.apply(name, value),
        };
        self.info = self.info.clone().set_redis_settings(settings);
        Ok(true)
    }

    pub fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// The address with changed connection settings.
    pub fn map(self, change: impl FnOnce(ConnectionInfo) -> ConnectionInfo) -> Address {
        Address {
            info: change(self.info),
            tls: self.tls,
        }
    }

    /// A client for this address, with the certificate files as they are now.
    ///
    /// # Errors
    ///
    /// Fails if a file is unusable; the error names the file and the reason.
    pub fn client(&self) -> RedisResult<Client> {
        if !self.is_tls() {
            return Client::open(self.info.clone());
        }
        tls::use_one_provider();
        let certificates = self.tls.certificates().map_err(unusable)?;
        let client =
            Client::build_with_tls(self.info.clone(), certificates).map_err(|error| unusable(error.to_string()))?;
        let info = client.get_connection_info().clone();
        let mut address = info.addr().clone();
        if let ConnectionAddr::TcpTls { insecure, .. } = &mut address {
            *insecure |= self.tls.accepts_any_certificate;
        }
        address.set_danger_accept_invalid_hostnames(self.tls.accepts_any_name);
        Client::open(info.set_addr(address))
    }
}

fn unusable(reason: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, "TLS cannot be set up", reason).into()
}

impl Tls {
    /// Applies a TLS parameter of redis-py; returns `false` if it is not one.
    fn apply(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let path = || Some(PathBuf::from(value));
        match name {
            "ssl_ca_certs" => self.authority = path(),
            "ssl_certfile" => self.certificate = path(),
            "ssl_keyfile" => self.key = path(),
            "ssl_cert_reqs" => self.accepts_any_certificate = accepts_any_certificate(value)?,
            "ssl_check_hostname" => self.accepts_any_name = matches!(value, "false" | "False" | "0" | "no"),
            "ssl_password" | "ssl_ca_path" | "ssl_ca_data" => {
                return Err(format!("the parameter {name} is not supported"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn certificates(&self) -> Result<TlsCertificates, String> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        if let Some(path) = &self.authority {
            tls::certificates(path)?;
        }
        let client_tls = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                tls::certificates(certificate)?;
                Some(ClientTlsConfig {
                    client_cert: read(certificate)?,
                    client_key: read(key)?,
                })
            }
            _ => return Err("ssl_certfile and ssl_keyfile need each other".to_owned()),
        };
        Ok(TlsCertificates {
            client_tls,
            root_cert: self.authority.as_ref().map(read).transpose()?,
        })
    }
}

/// Parses `ssl_cert_reqs`. A client's TLS library demands a valid certificate for `optional` too.
fn accepts_any_certificate(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().trim_start_matches("cert_") {
        "none" => Ok(true),
        "optional" | "required" => Ok(false),
        _ => Err("ssl_cert_reqs must be none, optional or required".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> ConnectionInfo {
        let (address, _) = parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
        address.info
    }

    #[test]
    fn the_database_is_read_from_path_or_query() {
        for (url, db) in [
            ("redis://h/3", 3),
            ("redis://h?db=4", 4),
            ("unix:///run/redis.sock?db=5", 5),
            ("rediss://h/6?ssl_cert_reqs=none", 6),
            ("redis://h?ssl_cert_reqs=none", 0),
        ] {
            assert_eq!(info(url).redis_settings().db(), db, "{url}");
        }
    }

    #[test]
    fn users_and_passwords_are_accepted_wherever_redis_py_accepts_them() {
        for url in [
            "redis://me:p%40ss@h",
            "redis://h?username=me&password=p%40ss",
            "unix://me:p%40ss@/run/redis.sock",
            "unix://me:p@ss@/run/redis.sock",
            "unix:///run/redis.sock?user=me&pass=p%40ss",
        ] {
            let info = info(url);
            let settings = info.redis_settings();
            assert_eq!(
                (settings.username(), settings.password()),
                (Some("me"), Some("p@ss")),
                "{url}"
            );
        }
        assert_eq!(info("redis://:p%2Fss@h").redis_settings().password(), Some("p/ss"));
        assert_eq!(
            *info("unix:///run/a%20b.sock").addr(),
            ConnectionAddr::Unix("/run/a b.sock".into())
        );
    }

    #[test]
    fn unsupported_values_are_errors_and_parameters_without_effect_are_warnings() {
        for (url, reason) in [
            ("http://h", "allowed"),
            ("redis://h:port", "allowed"),
            ("redis://h?db=x", "db"),
            ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
            ("rediss://h?ssl_ca_certs=/not/there.crt", "/not/there.crt"),
            ("rediss://h?ssl_certfile=/x", "ssl_keyfile"),
        ] {
            let error = parse(url).err().unwrap_or_default();
            assert!(error.contains(reason), "{url}: {error}");
        }
        let (_, warnings) = parse("redis://h?socket_timeout=5&health_check_interval=30").unwrap();
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn no_error_quotes_part_of_an_unencoded_password() {
        for text in [
            "redis://me:12/secret@h",
            "redis://me:12?secret@h",
            "redis://me:12#secret@h",
            "redis://me:secret/3@h",
            "redis://me:p@secret/3@h",
            "redis://me:p@secret?w@h",
            "redis://me:p@secret?w=1@h",
            "redis://me:p@secret#w@h",
        ] {
            let error = parse(text).err().unwrap_or_default();
            assert!(!error.is_empty() && !error.contains("secret"), "{text}: {error}");
        }
    }
}
