//! DATABASE_URL → connection settings.
//!
//! Owns what of libpq's parameters is taken, and the time limits that every connection has. Parameters that change
//! nothing here are accepted with a warning, so that an environment file of another program just works.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use postgres::Config;
use postgres::config::SslMode;

/// A peer that answers nothing is given up after about this long, whether it is connecting, silent or unreachable.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;

/// Parameters that the postgres crate takes itself.
const TAKEN: [&str; 17] = [
    "user",
    "password",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "options",
    "application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// The connection settings in a URL or in key=value pairs, and warnings about what has no effect.
///
/// # Errors
///
/// Why the text is unusable; holds none of its values.
pub fn parse(text: &str) -> Result<(Config, Vec<String>), String> {
    let is_url = ["postgresql://", "postgres://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    let pairs = if is_url {
        url_pairs(text)?
    } else {
        key_value_pairs(text)?
    };
    let mut config = Config::new();
    let mut warnings = Vec::new();
    let mut taken = Vec::new();
    for (name, value) in pairs {
        match name.as_str() {
            "sslmode" => config_ssl_mode(&mut config, &value, &mut warnings)?,
            name if TAKEN.contains(&name) => taken.push(format!("{name}='{}'", quoted(&value))),
            name => warnings.push(format!("DATABASE_URL: the parameter {name} has no effect")),
        }
    }
    let ssl_mode = config.get_ssl_mode();
    let mut config: Config = taken.join(" ").parse().map_err(|_| {
        "a host, port or parameter is malformed; allowed is postgresql://user:password@host:port/database".to_owned()
    })?;
    config.ssl_mode(ssl_mode);
    limit_times(&mut config);
    Ok((config, warnings))
}

fn config_ssl_mode(config: &mut Config, mode: &str, warnings: &mut Vec<String>) -> Result<(), String> {
    match mode {
        "disable" => _ = config.ssl_mode(SslMode::Disable),
        "allow" | "prefer" => {
            config.ssl_mode(SslMode::Disable);
            warnings.push(format!("DATABASE_URL: sslmode={mode} connects without TLS"));
        }
        "require" | "verify-ca" | "verify-full" => return Err(format!("sslmode={mode}: this version speaks no TLS")),
        _ => return Err("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full".to_owned()),
    }
    Ok(())
}

fn limit_times(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PEER_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(PEER_TIMEOUT);
    }
    config.keepalives(true);
    config.keepalives_idle(KEEPALIVE_IDLE);
    config.keepalives_interval(KEEPALIVE_INTERVAL);
    config.keepalives_retries(KEEPALIVE_RETRIES);
    if config.get_application_name().is_none() {
        config.application_name("firehose-worker");
    }
}

type Pairs = Vec<(String, String)>;

fn url_pairs(text: &str) -> Result<Pairs, String> {
    let (_, rest) = text.split_once("://").ok_or("it is no URL")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let mut pairs = Pairs::new();
    let mut push = |name: &str, value: &str| {
        let value = percent_decode_str(value).decode_utf8();
        match value {
            Ok(value) if value.is_empty() => Ok(()),
            Ok(value) => {
                pairs.push((name.to_owned(), value.into_owned()));
                Ok(())
            }
            Err(_) => Err(format!("{name} is not UTF-8 once its percent signs are decoded")),
        }
    };
    push("user", user)?;
    push("password", password)?;
    push("dbname", database)?;
    let (names, ports) = split_hosts(hosts);
    push("host", &names)?;
    push("port", &ports)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        push(name, value)?;
    }
    Ok(pairs)
}

/// Hosts and ports, each with commas between them, as key=value pairs have them.
fn split_hosts(hosts: &str) -> (String, String) {
    let split = |host: &str| match host.rsplit_once(':') {
        // An IPv6 address stands in brackets, which the key=value form does not have.
        Some((name, port)) if !port.contains(']') => (name.to_owned(), port.to_owned()),
        _ => (host.to_owned(), "5432".to_owned()),
    };
    let unbracketed = |name: String| name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (names, ports): (Vec<_>, Vec<_>) = hosts.split(',').map(split).unzip();
    if hosts.is_empty() {
        return (String::new(), String::new());
    }
    let names: Vec<String> = names.into_iter().map(unbracketed).collect();
    (names.join(","), ports.join(","))
}

fn key_value_pairs(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once('=')
            .ok_or("it is neither a postgresql:// URL nor key=value pairs")?;
        let (value, after) = value(after.trim_start())?;
        pairs.push((name.trim().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// A value, quoted or not, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let is_quoted = text.starts_with('\'');
    let text = text.strip_prefix('\'').unwrap_or(text);
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Ok((value, &text[at + 1..])),
            _ if character.is_whitespace() && !is_quoted => return Ok((value, &text[at..])),
            _ => value.push(character),
        }
    }
    if is_quoted {
        return Err("a quoted value does not end".to_owned());
    }
    Ok((value, ""))
}

fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use postgres::config::Host;

    use super::*;

    fn config(text: &str) -> Config {
        parse(text).unwrap().0
    }

    #[test]
    fn a_url_and_its_key_value_form_are_the_same() {
        let url = config("postgresql://me:p%40ss%20w%27ord@db.example:6432/app%20view?application_name=x");
        let pairs =
            config(r"host=db.example port = 6432 user=me password='p@ss w\'ord' dbname='app view' application_name=x");
        for config in [url, pairs] {
            assert_eq!(config.get_user(), Some("me"));
            assert_eq!(config.get_password(), Some("p@ss w'ord".as_bytes()));
            assert_eq!(config.get_dbname(), Some("app view"));
            assert_eq!(config.get_hosts(), [Host::Tcp("db.example".into())]);
            assert_eq!(config.get_ports(), [6432]);
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
                config(text).get_hosts(),
                [Host::Unix("/run/postgresql".into())],
                "{text}"
            );
        }
        let several = config("postgresql://a:1,b,[::1]:3/db");
        assert_eq!(several.get_ports(), [1, 5432, 3]);
        assert_eq!(several.get_hosts()[2], Host::Tcp("::1".into()));
    }

    #[test]
    fn what_does_not_matter_is_a_warning_and_what_cannot_be_kept_an_error() {
        let (_, warnings) = parse("postgresql://h/db?gssencmode=disable&sslcompression=0").unwrap();
        assert_eq!(warnings.len(), 2);
        assert!(parse("postgresql://h/db?sslmode=verify-full").is_err());
        assert!(parse("postgresql://h/db?sslmode=maybe").is_err());
        assert!(parse("postgresql://h:port/db").is_err());
        assert!(parse("just text").is_err());
    }

    #[test]
    fn every_connection_has_time_limits() {
        let config = config("postgresql://h/db");
        assert!(config.get_connect_timeout().is_some());
        assert!(config.get_tcp_user_timeout().is_some());
        assert!(config.get_keepalives());
    }
}
