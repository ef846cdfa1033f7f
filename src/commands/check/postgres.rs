//! Checks PostgreSQL as a server: whether it answers, takes writes, keeps them, and has room for the worker's
//! connections.

use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;
use postgres::config::Host;
use postgres::types::Type;
use r2d2::ManageConnection;

use super::report::{Checked, Report, Unusable};
use super::{check_clock, growth, indexes, now, savings, tables};
use crate::figures::finding::Level;
use crate::figures::text::quoted;
use crate::postgres::address::{self, Database};
use crate::postgres::client::Client;
use crate::postgres::connect::Manager;
use crate::postgres::db;
use crate::postgres::fault::{ApplyError, describe_postgres};
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::schema;
use crate::postgres::sql;
use crate::report::growth::history::History;
use crate::runtime::retry::Outage;
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

/// Less than the time limit of a check, so that the reason is reported.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The same for what the check of Redis finds meanwhile.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(4);

/// A setting that PostgreSQL accepts at the start of a session, and a pooler does not pass on.
const MARK: &str = "firehose_worker.check";

const ADDRESS: &str = "start PostgreSQL, or correct DATABASE_URL";

/// What the checks of the tables need to know.
pub struct Server {
    /// Quoted if necessary.
    pub role: String,
    /// A shell command that connects psql to the server.
    pub psql: String,
    pub may_use_public: bool,
    /// True if there is no such schema.
    pub may_use_own_schema: bool,
    pub may_create_own_tables: bool,
}

/// Checks the servers of the address, and the tables of the first that answers. The check of Redis sends the history of
/// the database's growth, if there is one.
pub fn check(config: &Config, history: &Receiver<Option<History>>, report: &Report) -> Checked {
    let mut database = config.postgres.clone();
    database.config.connect_timeout(CONNECT_TIMEOUT);
    let (mut client, database) = connect(&database, report)?;
    if let Err(error) = client.batch_execute(sql::CHECK_BEGIN.text) {
        report.about("transactions");
        // The last message of a PgBouncer may be lost when it closes the connection.
        let remedy =
            "if it is a PgBouncer, set its pool_mode to transaction or session; else follow PostgreSQL's message";
        return Err(Unusable::new(describe_postgres(&error), remedy));
    }
    let server = check_server(&mut client, &database, config, report)?;
    client
        .batch_execute("ROLLBACK")
        .map_err(|error| Unusable::new(describe_postgres(&error), ADDRESS))?;
    check_pooler(&database, report);
    tables::check(&mut client, &server, report)?;
    // What follows is for information: a lock on a table, or a server of another kind, fails no check.
    report.limit(Level::Warn);
    report.about("growth");
    let history = history.recv_timeout(HISTORY_TIMEOUT).ok().flatten();
    check_space(&mut client, &database, &server, history.as_ref(), config, report)?;
    Ok(())
}

/// How much space the database takes, and will take.
fn check_space(
    client: &mut Client,
    database: &Database,
    server: &Server,
    history: Option<&History>,
    config: &Config,
    report: &Report,
) -> Result<(), ApplyError> {
    let begun = client.batch_execute(sql::CHECK_BEGIN.text);
    begun.map_err(|source| ApplyError::of_statement(sql::CHECK_BEGIN, source))?;
    let (size, growth) = growth::check(client, database, &server.role, history, report)?;
    let tables = schema::tables();
    let mut tables: Vec<&str> = tables.iter().map(|table| table.name).collect();
    indexes::check(client, &tables, report)?;
    if !server.may_use_own_schema {
        return Ok(());
    }
    tables.extend(schema::own_tables().iter().map(|table| table.name));
    savings::check(client, &tables, size, growth.as_ref(), config, report)
}

/// A connection to the first server that accepts one, with an address of only that server.
fn connect(database: &Database, report: &Report) -> Checked<(Client, Database)> {
    let is_alone = database.servers.len() == 1;
    let mut connected = None;
    for server in &database.servers {
        report.about("postgresql");
        let mut only = database.clone();
        only.servers = vec![server.clone()];
        match manager(&only).connect() {
            Ok(client) if is_alone => return Ok((client, only)),
            Ok(client) => {
                report.ok(format!("{server} answers"));
                connected = connected.or(Some((client, only)));
            }
            Err(error) if is_alone => return Err(Unusable::new(error.to_string(), ADDRESS)),
            Err(error) => report.warn(error.to_string(), ADDRESS),
        }
    }
    connected.ok_or_else(|| Unusable::new("none of the servers can be used", ADDRESS))
}

fn manager(database: &Database) -> Manager {
    Manager::new(database.clone(), &Outage::new("postgresql"), &Stop::default())
}

fn check_server(client: &mut Client, database: &Database, config: &Config, report: &Report) -> Checked<Server> {
    report.about("postgresql");
    let asked_at = now();
    let rows = Params::new().query(client, sql::CHECK_SERVER)?;
    let Some(row) = rows.first() else {
        return Err(Unusable::new("the server's settings are unknown", ADDRESS));
    };
    check_version(row, database, report)?;
    report.about("postgresql clock");
    check_clock(report, row.get("now")?, asked_at);
    check_encoding(row, report)?;
    check_writing(row, report)?;
    check_durability(row, report)?;
    check_connections(client, config, report)?;
    Ok(Server {
        role: row.get("role")?,
        psql: psql(database),
        may_use_public: row.get("may_use_public")?,
        may_use_own_schema: row.get("may_use_own_schema")?,
        may_create_own_tables: row.get("may_create_own_tables")?,
    })
}

fn check_version(row: &Row, database: &Database, report: &Report) -> Result<(), ApplyError> {
    let version: &str = row.get("version")?;
    let version = format!("version {}", version.split(' ').next().unwrap_or(version));
    let is_far = database.servers.first().is_some_and(is_far);
    match (row.get::<_, i32>("version_number")?, row.get("is_encrypted")?, is_far) {
        (..130_000, _, _) => report.fail(version, "13 or newer is needed"),
        (_, true, _) => report.ok(format!("{version}, with TLS")),
        (_, false, false) => report.ok(format!("{version}, without TLS on this machine")),
        (_, false, true) => report.warn(
            format!("{version}, without TLS to another machine"),
            "set ssl = on there, and sslmode=verify-full in DATABASE_URL",
        ),
    }
    Ok(())
}

/// Whether the connection leaves this machine.
pub fn is_far(server: &address::Server) -> bool {
    match &server.host {
        Host::Unix(_) => false,
        Host::Tcp(name) => {
            let address = server.address.or_else(|| name.parse::<IpAddr>().ok());
            !address.map_or(name == "localhost", |address| address.is_loopback())
        }
    }
}

fn check_encoding(row: &Row, report: &Report) -> Result<(), ApplyError> {
    report.about("encoding");
    let encoding: &str = row.get("encoding")?;
    match db::encoding_fault(encoding) {
        None => report.ok(encoding),
        Some(fault) => report.fail(fault, db::ENCODING_REMEDY),
    }
    Ok(())
}

fn check_writing(row: &Row, report: &Report) -> Result<(), ApplyError> {
    report.about("writing");
    if row.get("is_in_recovery")? {
        report.fail(
            "a standby, which takes no writes",
            "let DATABASE_URL name the primary, or all servers with target_session_attrs=primary",
        );
    } else if row.get::<_, &str>("read_only")? == "off" {
        report.ok("a primary that takes writes");
    } else if row.get::<_, Option<&str>>("read_only_source")? == Some("client") {
        report.fail(
            "default_transaction_read_only is on",
            "remove default_transaction_read_only from DATABASE_URL",
        );
    } else {
        let (role, database): (&str, &str) = (row.get("role")?, row.get("database")?);
        report.fail(
            "default_transaction_read_only is on",
            format!(
                "unless it was set because the disk is full: BEGIN READ WRITE; ALTER ROLE {role} IN DATABASE {database} SET \
                 default_transaction_read_only = off; COMMIT"
            ),
        );
    }
    Ok(())
}

fn check_durability(row: &Row, report: &Report) -> Result<(), ApplyError> {
    report.about("durability");
    let synchronous: &str = row.get("synchronous_commit")?;
    if row.get::<_, &str>("fsync")? == "off" {
        report.warn(
            "fsync is off: a crash of the machine may damage the database",
            "unless the data may be lost: ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()",
        );
    } else if matches!(synchronous, "off" | "local") {
        report.ok(format!(
            "synchronous_commit is {synchronous}; the worker switches it on for its own transactions"
        ));
    } else {
        report.ok(format!("synchronous_commit is {synchronous}"));
    }
    Ok(())
}

fn check_connections(client: &mut Client, config: &Config, report: &Report) -> Result<(), ApplyError> {
    report.about("connections");
    let needed = config.connections as i64;
    let limits = Params::new().long(needed).query(client, sql::CHECK_CONNECTIONS)?;
    for (index, limit) in limits.iter().enumerate() {
        let (name, free, raise): (&str, i64, &str) = (limit.get("name")?, limit.get("free")?, limit.get("raise")?);
        if free < needed {
            let fewer = if free > 0 {
                format!(" set DB_POOL_SIZE={free},")
            } else {
                String::new()
            };
            report.fail(
                format!("{} left by {name}, and the worker opens {needed}", free.max(0)),
                format!("let other clients use fewer,{fewer} or {raise}"),
            );
        } else if index == 0 {
            // The tightest limit comes first.
            report.ok(format!("{free} left, of which the worker opens {needed}"));
        }
    }
    Ok(())
}

/// The command line of psql for the server and database of an address with one server. It names no user: the person who
/// runs it connects as a role with more rights than the worker's.
fn psql(database: &Database) -> String {
    let mut words = vec!["psql".to_owned()];
    if let Some(server) = database.servers.first() {
        let host = match &server.host {
            Host::Unix(path) => path.to_string_lossy().into_owned(),
            Host::Tcp(name) => name.clone(),
        };
        words.extend(["-h".to_owned(), quoted(&host), "-p".to_owned(), server.port.to_string()]);
    }
    if let Some(name) = database.config.get_dbname().or(database.config.get_user()) {
        words.extend(["-d".to_owned(), quoted(name)]);
    }
    words.join(" ")
}

/// Whether a pooler such as PgBouncer is in between: it does not pass on the settings that a session is started with.
fn check_pooler(database: &Database, report: &Report) {
    report.about("pooler");
    let mut marked = database.clone();
    let options = marked.config.get_options().unwrap_or_default();
    marked.config.options(&format!("{options} -c {MARK}=1"));
    let is_direct = match manager(&marked).connect() {
        Ok(mut client) => client
            .query_typed(sql::CHECK_POOLER.text, &[(&MARK, Type::TEXT)])
            .is_ok_and(|rows| rows.first().and_then(|row| row.try_get(0).ok()) == Some(true)),
        // PgBouncer's message, unless it is configured to ignore unknown parameters.
        Err(error) if error.to_string().contains("startup parameter") => false,
        // The worker does not need room for one more connection.
        Err(_) => return,
    };
    match is_direct {
        true => report.ok("none in between"),
        false => report.ok("PgBouncer or similar is in between, and allows transactions"),
    }
}
