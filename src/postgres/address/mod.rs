//! DATABASE_URL → connection settings.
//!
//! Owns what of libpq's parameters is taken, and the time limits that every connection has. Parameters that change
//! nothing here are accepted with a warning, so that an environment file of another program just works.

use std::path::PathBuf;
use std::time::Duration;

use postgres::Config;

use self::pairs::Form;
pub use self::servers::Server;
use crate::tls::{Roots, TlsMode, TlsSettings};

mod pairs;
mod servers;

/// A peer that answers nothing is given up after about this long, whether it is connecting, silent or unreachable. What
/// the address says comes after it, and wins.
const LIMITS: &str = "connect_timeout=10 keepalives=1 keepalives_idle=5 keepalives_interval=2 keepalives_retries=3";

/// For what was sent and is not confirmed by the peer's system.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Parameters that the postgres crate takes itself.
const TAKEN: [&str; 12] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "channel_binding",
    "load_balance_hosts",
];

/// Parameters that change nothing here, of libpq and of other programs that share the address.
const WITHOUT_EFFECT: [&str; 24] = [
    "client_encoding",
    "connection_limit",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "pgbouncer",
    "pool_timeout",
    "replication",
    "schema",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslkeylogfile",
    "sslnegotiation",
    "sslsni",
    "statement_cache_size",
    "uselibpqcompat",
];

/// Parameters that forbid what would happen without them.
const NOT_KEPT: [&str; 6] = [
    "require_auth",
    "requirepeer",
    "requiressl",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
];

/// How to reach PostgreSQL. Has no `Debug`: it holds a password.
#[derive(Clone)]
pub struct Database {
    /// All but the servers and TLS.
    pub config: Config,
    /// In the order to try them.
    pub servers: Vec<Server>,
    pub tls: TlsSettings,
}

const ALLOWED: &str = "allowed is postgresql://user:password@host:port/database";

/// The connection settings in a URL or in key=value pairs, and warnings about what has no effect.
///
/// # Errors
///
/// Why the text is unusable; holds none of its values.
pub fn parse(text: &str) -> Result<(Database, Vec<String>), String> {
    let (pairs, form) = pairs::parse(text)?;
    let mut warnings = Vec::new();
    let mut taken = format!("{LIMITS} application_name=firehose-worker");
    let mut apart = Apart::default();
    for (name, value) in pairs {
        match name.as_str() {
            "keepalives_count" => taken += &format!(" keepalives_retries='{}'", quoted(&value)),
            name if TAKEN.contains(&name) => taken += &format!(" {name}='{}'", quoted(&value)),
            name if apart.take(name, &value)? => {}
            name if NOT_KEPT.contains(&name) => return Err(format!("the parameter {name} cannot be kept here")),
            name if WITHOUT_EFFECT.contains(&name) => {
                warnings.push(format!("DATABASE_URL: the parameter {name} has no effect"));
            }
            // Its name may be a piece of a password with a ? or a space in it.
            _ if form == Form::Url => {
                warnings.push("DATABASE_URL: a parameter that is none of libpq's has no effect".to_owned());
            }
            _ => {
                return Err(
                    "a parameter is none of libpq's; a value with blanks stands in quotes: password='a b'".to_owned(),
                );
            }
        }
    }
    let mut config: Config = taken
        .parse()
        .map_err(|_| format!("a parameter is malformed; {ALLOWED}"))?;
    config.tcp_user_timeout(apart.tcp_user_timeout.unwrap_or(TCP_USER_TIMEOUT));
    if apart.is_for_writing {
        config.target_session_attrs(postgres::config::TargetSessionAttrs::ReadWrite);
    }
    let database = Database {
        config,
        servers: servers::parse(&apart.hosts, &apart.addresses, &apart.ports)?,
        tls: apart.tls()?,
    };
    Ok((database, warnings))
}

/// The parameters that the postgres crate does not take, or not as libpq does.
#[derive(Default)]
struct Apart {
    hosts: String,
    addresses: String,
    ports: String,
    ssl_mode: Option<TlsMode>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    tcp_user_timeout: Option<Duration>,
    is_for_writing: bool,
}

impl Apart {
    /// Whether the parameter is one of these.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let own = || Some(value.to_owned());
        match name {
            "host" => value.clone_into(&mut self.hosts),
            "hostaddr" => value.clone_into(&mut self.addresses),
            "port" => value.clone_into(&mut self.ports),
            "sslmode" => self.ssl_mode = Some(ssl_mode(value)?),
            "ssl" => self.ssl_mode = Some(ssl(value)?),
            "sslrootcert" => self.root = own(),
            "sslcert" => self.certificate = own(),
            "sslkey" => self.key = own(),
            "tcp_user_timeout" => self.tcp_user_timeout = milliseconds(value)?,
            "target_session_attrs" => self.is_for_writing = is_for_writing(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// As libpq: an authority that is there is asked, whatever the mode; the files in ~/.postgresql are the default.
    fn tls(self) -> Result<TlsSettings, String> {
        let roots = match self.root.as_deref() {
            Some("system") => Roots::System,
            Some(path) => Roots::File(path.into()),
            None => home_file("root.crt").map_or(Roots::None, Roots::File),
        };
        let default = if roots == Roots::System {
            TlsMode::VerifyFull
        } else {
            TlsMode::Prefer
        };
        let mode = self.ssl_mode.unwrap_or(default);
        if mode >= TlsMode::VerifyCa && roots == Roots::None {
            return Err("sslmode verify-ca and verify-full need sslrootcert: a file, or system".to_owned());
        }
        if mode < TlsMode::VerifyFull && roots == Roots::System {
            return Err(
                "sslrootcert=system needs sslmode=verify-full: anybody can have a certificate signed".to_owned(),
            );
        }
        let is_named = self.certificate.is_some();
        let certificate = self
            .certificate
            .map(PathBuf::from)
            .or_else(|| home_file("postgresql.crt"));
        let key = self.key.map(PathBuf::from).or_else(|| home_file("postgresql.key"));
        if is_named && key.is_none() {
            return Err("sslcert needs sslkey".to_owned());
        }
        let identity = certificate.zip(key);
        let settings = TlsSettings { mode, roots, identity };
        if mode != TlsMode::Disable {
            settings.client_config()?;
        }
        Ok(settings)
    }
}

fn home_file(name: &str) -> Option<PathBuf> {
    let path = std::env::home_dir()?.join(".postgresql").join(name);
    path.is_file().then_some(path)
}

fn ssl_mode(value: &str) -> Result<TlsMode, String> {
    TlsMode::parse(value)
        .ok_or_else(|| "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".to_owned())
}

/// The drivers of other languages have this instead, as a switch or with the names of sslmode.
fn ssl(value: &str) -> Result<TlsMode, String> {
    match value {
        "true" | "1" => Ok(TlsMode::Require),
        "false" | "0" => Ok(TlsMode::Disable),
        name => TlsMode::parse(name).ok_or_else(|| "ssl is none of true, false and what sslmode may be".to_owned()),
    }
}

/// libpq's unit; 0 is the default.
fn milliseconds(value: &str) -> Result<Option<Duration>, String> {
    let number: u64 = value
        .parse()
        .map_err(|_| "tcp_user_timeout is not a number of milliseconds".to_owned())?;
    Ok((number > 0).then(|| Duration::from_millis(number)))
}

fn is_for_writing(value: &str) -> Result<bool, String> {
    match value {
        "any" => Ok(false),
        // A primary that takes no writes is of no use either.
        "read-write" | "primary" => Ok(true),
        _ => Err("target_session_attrs is none of any, primary, read-write: the worker writes".to_owned()),
    }
}

fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use postgres::config::Host;

    use super::*;

    fn database(text: &str) -> Database {
        parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}")).0
    }

    fn tcp(name: &str, port: u16) -> Server {
        Server {
            host: Host::Tcp(name.to_owned()),
            address: None,
            port,
        }
    }

    #[test]
    fn a_url_and_its_key_value_form_are_the_same() {
        let url = database("postgresql://me:p%40ss%20w%27ord@db.example:6432/app%20view?application_name=x");
        let pairs = database(
            r"host=db.example port = 6432 user=me password='p@ss w\'ord' dbname='app view' application_name=x",
        );
        for database in [url, pairs] {
            assert_eq!(database.config.get_user(), Some("me"));
            assert_eq!(database.config.get_password(), Some("p@ss w'ord".as_bytes()));
            assert_eq!(database.config.get_dbname(), Some("app view"));
            assert_eq!(database.config.get_application_name(), Some("x"));
            assert_eq!(database.servers, [tcp("db.example", 6432)]);
        }
    }

    #[test]
    fn sockets_several_hosts_and_ipv6_are_taken() {
        for text in [
            "postgres://me@/db?host=/run/postgresql",
            "postgres://me@%2Frun%2Fpostgresql/db",
            "host=/run/postgresql user=me dbname=db",
        ] {
            assert_eq!(
                database(text).servers[0].host,
                Host::Unix("/run/postgresql".into()),
                "{text}"
            );
        }
        let several = database("postgresql://a:1,b,[::1]:3/db");
        assert_eq!(several.servers, [tcp("a", 1), tcp("b", 5432), tcp("::1", 3)]);
        let one_port = database("host=a,b port=7 hostaddr=10.0.0.1,10.0.0.2");
        assert_eq!(one_port.servers[1].port, 7);
        assert_eq!(one_port.servers[1].address, Some([10, 0, 0, 2].into()));
        assert_eq!(
            database("dbname=db").servers[0].host,
            Host::Unix(servers::DEFAULT_HOST.into())
        );
        assert!(parse("host=a,b,c port=1,2").is_err());
    }

    #[test]
    fn what_does_not_matter_is_a_warning_and_what_cannot_be_kept_an_error() {
        let (_, warnings) = parse("postgresql://h/db?gssencmode=disable&sslcompression=0&schema=public").unwrap();
        assert_eq!(warnings.len(), 3);
        for text in [
            "postgresql://h/db?sslmode=maybe",
            "postgresql://h/db?sslcrl=/x",
            "postgresql://h/db?target_session_attrs=standby",
            "postgresql://h:port/db",
            "postgresql://h/db?ssl=maybe",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_neither_form_is_an_error_and_never_another_server() {
        for text in [
            "just text",
            "postgresql+asyncpg://me:hunter2@h/db?sslmode=require",
            "jdbc:postgresql://h/db?user=me&password=hunter2",
            "mysql://me:hunter2@h/db?a=b",
            "'postgresql://me:hunter2@h/db?sslmode=require'",
            "\"host=h password=hunter2\"",
            "me:hunter2@h/db?a=b",
            "host=h password=hunter2 database=db",
            "host=h password=my hunter2",
            "host=h password=my hunter2=x",
            "HOST=h",
            "=h",
        ] {
            let said = parse(text).err().unwrap_or_default();
            assert!(!said.is_empty() && !said.contains("hunter2"), "{text}: {said}");
        }
        assert!(
            parse("postgresql+asyncpg://h/db")
                .err()
                .unwrap()
                .contains("write that instead")
        );
        // As asyncpg takes it.
        assert_eq!(database("POSTGRESQL://h/db").servers, [tcp("h", 5432)]);
    }

    #[test]
    fn pieces_of_a_password_that_was_not_encoded_are_in_no_message() {
        for text in [
            "postgresql://me:12/secret@h/db",
            "postgresql://me:12?secret=3@h/db",
            "postgresql://me:secret word=@h:port/db",
            "postgresql://me:p@secret/w@h/db",
            "postgresql://me:p@secret?w@h/db",
            "postgresql://me:p@secret?w=1@h/db",
            "postgresql://me:p?secret=%ff",
            "user=me password=my secret=word host=h",
        ] {
            let said = match parse(text) {
                Ok((_, warnings)) => warnings.join(" "),
                Err(reason) => reason,
            };
            assert!(!said.is_empty() && !said.contains("secret"), "{text}: {said}");
        }
    }

    #[test]
    fn tls_is_as_libpq_has_it() {
        for (parameters, mode) in [
            ("", TlsMode::Prefer),
            ("?sslmode=disable", TlsMode::Disable),
            ("?sslmode=allow", TlsMode::Allow),
            ("?sslmode=require", TlsMode::Require),
            ("?ssl=true", TlsMode::Require),
            ("?ssl=1", TlsMode::Require),
            ("?ssl=require", TlsMode::Require),
            ("?ssl=false", TlsMode::Disable),
            ("?ssl=prefer", TlsMode::Prefer),
        ] {
            assert_eq!(
                database(&format!("postgresql://h/db{parameters}")).tls.mode,
                mode,
                "{parameters}"
            );
        }
        for (parameters, reason) in [
            ("sslmode=verify-full", "sslrootcert"),
            ("ssl=verify-full", "sslrootcert"),
            ("sslmode=verify-ca", "sslrootcert"),
            ("sslmode=require&sslrootcert=system", "verify-full"),
            ("sslmode=require&sslrootcert=/not/there.crt", "/not/there.crt"),
            ("sslmode=require&sslcert=/not/there.crt", "sslkey"),
        ] {
            let said = parse(&format!("postgresql://h/db?{parameters}"))
                .err()
                .unwrap_or_default();
            assert!(said.contains(reason), "{parameters}: {said}");
        }
    }

    #[test]
    fn every_connection_has_time_limits() {
        let config = database("postgresql://h/db").config;
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(10)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert!(config.get_keepalives());
        let own = database("postgresql://h/db?connect_timeout=3&tcp_user_timeout=4000&keepalives_idle=7").config;
        assert_eq!(own.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(own.get_tcp_user_timeout(), Some(&Duration::from_secs(4)));
        assert_eq!(own.get_keepalives_idle(), Duration::from_secs(7));
    }
}
