//! DATABASE_URL → connection settings.
//!
//! Owns which of libpq's parameters are honored, and the time limits of every connection. The `postgres` crate parses
//! hosts and most parameters; this module handles those that the crate lacks or gives another meaning. Parameters that
//! change nothing here are accepted with a warning, so that an environment file of another program just works.

use std::path::PathBuf;
use std::time::Duration;

use postgres::Config;
use postgres::config::TargetSessionAttrs;

use self::parameters::Parameters;
pub use self::servers::Server;
use crate::tls::{Roots, TlsMode, TlsSettings};

mod parameters;
mod servers;

/// A peer that does not answer is given up after about this long, whether it is connecting, silent or unreachable.
/// Parameters in the address override these.
const LIMITS: &str = "connect_timeout=10 keepalives=1 keepalives_idle=5 keepalives_interval=2 keepalives_retries=3";

/// How long sent data may stay unacknowledged by the peer's system.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Parameters that the postgres crate parses as libpq does.
const PARSED_BY_CRATE: &str = "user password dbname options application_name connect_timeout keepalives keepalives_idle \
                               keepalives_interval keepalives_retries channel_binding load_balance_hosts";

/// Parameters of libpq, and of other programs that share the address, that have no effect here.
const WITHOUT_EFFECT: &str = "client_encoding connection_limit fallback_application_name gssdelegation gssencmode gsslib \
                              krbsrvname max_protocol_version min_protocol_version passfile pool_timeout \
                              replication schema service ssl_max_protocol_version ssl_min_protocol_version sslcertmode \
                              sslcompression sslkeylogfile sslnegotiation sslsni uselibpqcompat";

/// Parameters that demand a protection the worker cannot give: ignoring one would be unsafe.
const UNSUPPORTED: &str = "require_auth requirepeer requiressl sslcrl sslcrldir sslpassword";

const ALLOWED: &str = "allowed is postgresql://user:password@host:port/database";

/// How to reach PostgreSQL. Has no `Debug`: it holds a password.
#[derive(Clone)]
pub struct Database {
    /// All settings except the servers and TLS.
    pub config: Config,
    /// The servers, in the order to try them.
    pub servers: Vec<Server>,
    pub tls: TlsSettings,
    /// Whether a session that leads directly to a server may keep statements prepared.
    pub keeps_statements: bool,
}

/// Parses a URL or key=value pairs; also returns warnings about parameters that have no effect.
///
/// # Errors
///
/// The reason why the text is unusable. It never quotes a value of the text, which may be part of a password.
pub fn parse(text: &str) -> Result<(Database, Vec<String>), String> {
    let mut parameters = Parameters::parse(text)?;
    let servers = servers::take(&mut parameters)?;
    let tls = tls(&mut parameters)?;
    let timeout = parameters.take("tcp_user_timeout");
    let timeout = timeout.map_or(Ok(TCP_USER_TIMEOUT), |value| tcp_user_timeout(&value))?;
    let session = parameters.take("target_session_attrs");
    let session = session.map_or(Ok(TargetSessionAttrs::Any), |value| target_session(&value))?;
    // The names of other programs for a pooler that passes each transaction to another server.
    let is_pooled = parameters.take("pgbouncer").is_some_and(|value| value == "true");
    let is_uncached = parameters
        .take("statement_cache_size")
        .is_some_and(|value| value == "0");
    let keeps_statements = !is_pooled && !is_uncached;
    // libpq's name for the crate's keepalives_retries.
    parameters.rename("keepalives_count", "keepalives_retries");
    let defaults = format!("{LIMITS} application_name=firehose-worker");
    let mut config = parameters.take_config(&defaults, PARSED_BY_CRATE)?;
    config.tcp_user_timeout(timeout).target_session_attrs(session);
    let warnings = warnings(parameters)?;
    let database = Database {
        config,
        servers,
        tls,
        keeps_statements,
    };
    Ok((database, warnings))
}

/// Warnings about the parameters that are not used.
fn warnings(parameters: Parameters) -> Result<Vec<String>, String> {
    let is_one_of = |names: &str, name: &str| names.split(' ').any(|listed| listed == name);
    let is_url = parameters.is_url;
    let warning = |name: String| match name.as_str() {
        name if is_one_of(UNSUPPORTED, name) => Err(format!("the parameter {name} is not supported")),
        name if is_one_of(WITHOUT_EFFECT, name) => Ok(format!("DATABASE_URL: the parameter {name} has no effect")),
        // The name is not quoted: it may be part of a password that contains a `?` or a space.
        _ if is_url => Ok("DATABASE_URL: a parameter that libpq does not know has no effect".to_owned()),
        _ => Err("libpq does not know a parameter; quote values that contain spaces: password='a b'".to_owned()),
    };
    parameters.into_names().map(warning).collect()
}

/// Reads the TLS parameters. As in libpq, a certificate authority that is given is used in every mode, and the files in
/// ~/.postgresql are the default.
fn tls(parameters: &mut Parameters) -> Result<TlsSettings, String> {
    let roots = match parameters.take("sslrootcert").as_deref() {
        Some("system") => Roots::System,
        Some(path) => Roots::File(path.into()),
        None => home_file("root.crt").map_or(Roots::None, Roots::File),
    };
    let default = match roots {
        Roots::System => TlsMode::VerifyFull,
        _ => TlsMode::Prefer,
    };
    let ssl = parameters.take("ssl").map(|value| ssl(&value)).transpose()?;
    let mode = parameters.take("sslmode").map(|value| ssl_mode(&value)).transpose()?;
    let mode = mode.or(ssl).unwrap_or(default);
    if mode >= TlsMode::VerifyCa && roots == Roots::None {
        return Err("sslmode verify-ca and verify-full need sslrootcert: a file, or system".to_owned());
    }
    if mode < TlsMode::VerifyFull && roots == Roots::System {
        return Err("sslrootcert=system needs sslmode=verify-full: anybody can have a certificate signed".to_owned());
    }
    let mut file = |name, default| parameters.take(name).map(PathBuf::from).or_else(|| home_file(default));
    let identity = match (file("sslcert", "postgresql.crt"), file("sslkey", "postgresql.key")) {
        (Some(_), None) => return Err("sslcert needs sslkey".to_owned()),
        (certificate, key) => certificate.zip(key),
    };
    let settings = TlsSettings { mode, roots, identity };
    if mode != TlsMode::Disable {
        settings.client_config()?;
    }
    Ok(settings)
}

fn home_file(name: &str) -> Option<PathBuf> {
    let path = std::env::home_dir()?.join(".postgresql").join(name);
    path.is_file().then_some(path)
}

fn ssl_mode(value: &str) -> Result<TlsMode, String> {
    TlsMode::parse(value)
        .ok_or_else(|| "sslmode must be disable, allow, prefer, require, verify-ca or verify-full".to_owned())
}

/// Parses `ssl`, which drivers of other languages use in place of sslmode, as a switch or with sslmode's values.
fn ssl(value: &str) -> Result<TlsMode, String> {
    match value {
        "true" | "1" => Ok(TlsMode::Require),
        "false" | "0" => Ok(TlsMode::Disable),
        name => TlsMode::parse(name).ok_or_else(|| "ssl must be true, false or a value of sslmode".to_owned()),
    }
}

/// Parses tcp_user_timeout, which libpq gives in milliseconds, with 0 for the default.
fn tcp_user_timeout(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(0) => Ok(TCP_USER_TIMEOUT),
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => Err("tcp_user_timeout is not a number of milliseconds".to_owned()),
    }
}

fn target_session(value: &str) -> Result<TargetSessionAttrs, String> {
    match value {
        "any" => Ok(TargetSessionAttrs::Any),
        // The worker could not use a primary that refuses writes either.
        "read-write" | "primary" => Ok(TargetSessionAttrs::ReadWrite),
        _ => Err("target_session_attrs must be any, primary or read-write: the worker writes".to_owned()),
    }
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
            "postgres://me@db.example/db?host=/run/postgresql",
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
        assert_eq!(database("postgresql://a:1/db?port=2").servers, [tcp("a", 2)]);
        assert_eq!(
            database("hostaddr=10.0.0.1").servers[0].host,
            Host::Tcp("10.0.0.1".to_owned())
        );
        assert!(parse("host=a,b,c port=1,2").is_err());
    }

    #[test]
    fn what_does_not_matter_is_a_warning_and_what_cannot_be_kept_an_error() {
        let (_, warnings) = parse("postgresql://h/db?gssencmode=disable&sslcompression=0&schema=public").unwrap();
        assert_eq!(warnings.len(), 3);
        for (text, word) in [
            ("postgresql://h/db?sslmode=maybe", "sslmode"),
            ("postgresql://h/db?sslcrl=/x", "sslcrl"),
            ("postgresql://h/db?target_session_attrs=standby", "target_session_attrs"),
            ("postgresql://h/db?connect_timeout=soon", "connect_timeout"),
            ("postgresql://h/db?tcp_user_timeout=soon", "tcp_user_timeout"),
            ("postgresql://h/db?ssl=maybe", "ssl"),
            ("postgresql://h:port/db", "port"),
            ("host=h port=port", "port"),
            ("hostaddr=h", "hostaddr"),
        ] {
            let reason = parse(text).err().unwrap_or_default();
            assert!(reason.contains(word), "{text}: {reason}");
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
        // As asyncpg accepts it.
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
