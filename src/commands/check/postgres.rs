//! The looks at PostgreSQL as a server: is it there, may it be written to, has it room.

use std::net::IpAddr;
use std::time::Duration;

use postgres::Client;
use postgres::config::Host;
use postgres::types::Type;
use r2d2::ManageConnection;

use super::{Looked, Report, Unusable, now, quoted, report_clock, tables};
use crate::postgres::address::{self, Database};
use crate::postgres::connect::Manager;
use crate::postgres::db;
use crate::postgres::fault::{ApplyError, describe_postgres};
use crate::postgres::row::Row;
use crate::postgres::sql;
use crate::runtime::retry::Outage;
use crate::runtime::shutdown::Stop;
use crate::settings::config::Config;

/// Less than the limit of a look, so that the reason is known.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// A setting that PostgreSQL takes at the start of a session, and a pooler does not hand on.
const MARK: &str = "firehose_worker.check";

/// What the server says of itself and the session.
pub struct Server {
    /// Quoted where that is needed.
    pub role: String,
    /// A shell's command line for psql that leads to it.
    pub psql: String,
    pub may_use_public: bool,
    pub may_make_schemas: bool,
    pub has_own_schema: bool,
    pub may_use_own_schema: bool,
    pub may_extend_own_schema: bool,
}

/// Looks at the servers of the address, and at the tables of the first that answers.
pub fn look(config: &Config, report: &Report) -> Looked {
    let mut database = config.postgres.clone();
    database.config.connect_timeout(CONNECT_TIMEOUT);
    let (mut client, server) = connect(&database, report)?;
    if let Err(error) = client.batch_execute(sql::CHECK_BEGIN.text) {
        report.fail("transactions", describe_postgres(&error), remedy(&error));
        return Err(Unusable);
    }
    let looked = check_server(&mut client, &server, config, report);
    // A connection that broke has been said.
    let _ = client.batch_execute("ROLLBACK");
    let about = looked?;
    check_pooler(&server, report);
    tables::look(&mut client, &about, report)
}

/// A connection to the first server that gives one, with an address of that server alone.
fn connect(database: &Database, report: &Report) -> Result<(Client, Database), Unusable> {
    let what = "postgresql";
    let is_alone = database.servers.len() == 1;
    let mut connected = None;
    for server in &database.servers {
        report.looking(what);
        let mut only = database.clone();
        only.servers = vec![server.clone()];
        match manager(&only).connect() {
            Ok(client) => {
                if !is_alone {
                    report.ok(what, format!("{server} answers"));
                }
                connected = connected.or(Some((client, only)));
            }
            Err(error) if is_alone => report.fail(what, error.to_string(), ADDRESS),
            Err(error) => report.warn(what, error.to_string(), ADDRESS),
        }
    }
    if connected.is_none() && !is_alone {
        report.fail(what, "none of the servers can be used", ADDRESS);
    }
    connected.ok_or(Unusable)
}

fn manager(database: &Database) -> Manager {
    Manager::new(database.clone(), &Outage::new("postgresql"), &Stop::default())
}

const ADDRESS: &str = "start PostgreSQL, or mend DATABASE_URL";

fn remedy(error: &postgres::Error) -> &'static str {
    if describe_postgres(error).contains("statement pooling") {
        return "set PgBouncer's pool_mode to transaction or session";
    }
    // Its last words may not come through before it hangs up.
    if error.is_closed() {
        return "see the server's log; if it is a PgBouncer, set its pool_mode to transaction or session";
    }
    "follow PostgreSQL's message"
}

fn check_server(
    client: &mut Client,
    database: &Database,
    config: &Config,
    report: &Report,
) -> Result<Server, Unusable> {
    let what = "postgresql";
    report.looking(what);
    let before = now();
    let row = match client.query_typed(sql::CHECK_SERVER.text, &[]) {
        Ok(rows) => rows.into_iter().next().map(|row| Row::new(row, sql::CHECK_SERVER)),
        Err(error) => {
            report.fail(what, describe_postgres(&error), remedy(&error));
            return Err(Unusable);
        }
    };
    let ours = (before + now()) / 2.0;
    let Some(row) = row else {
        report.fail(what, "the role or the database is not in the catalogue", ADDRESS);
        return Err(Unusable);
    };
    check_answer(&row, ours, database, config, report).map_err(|error| {
        report.fail(what, error.describe(), ADDRESS);
        Unusable
    })
}

fn check_answer(
    row: &Row,
    ours: f64,
    database: &Database,
    config: &Config,
    report: &Report,
) -> Result<Server, ApplyError> {
    check_version(row, database, report)?;
    report_clock(report, "postgresql clock", row.get("now")?, ours);
    check_encoding(row, report)?;
    check_writing(row, report)?;
    check_durability(row, report)?;
    check_room(row, config, report)?;
    Ok(Server {
        role: row.get("role")?,
        psql: psql(database),
        may_use_public: row.get("may_use_public")?,
        may_make_schemas: row.get("may_make_schemas")?,
        has_own_schema: row.get("has_own_schema")?,
        may_use_own_schema: row.get("may_use_own_schema")?,
        may_extend_own_schema: row.get("may_extend_own_schema")?,
    })
}

fn check_version(row: &Row, database: &Database, report: &Report) -> Result<(), ApplyError> {
    let what = "postgresql";
    let version: &str = row.get("version")?;
    let version = version.split(' ').next().unwrap_or(version);
    if row.get::<_, i32>("version_number")? < 130_000 {
        report.fail(what, format!("version {version}"), "13 or newer is needed");
        return Ok(());
    }
    let is_encrypted = row.get::<_, Option<bool>>("is_encrypted")?.unwrap_or(false);
    let is_far = database.servers.first().is_some_and(is_far);
    match (is_encrypted, is_far) {
        (true, _) => report.ok(what, format!("version {version}, with TLS")),
        (false, false) => report.ok(what, format!("version {version}, without TLS on this machine")),
        (false, true) => report.warn(
            what,
            format!("version {version}, without TLS to another machine"),
            "set ssl = on there, and sslmode=verify-full in DATABASE_URL",
        ),
    }
    Ok(())
}

/// Whether what is sent leaves this machine.
fn is_far(server: &address::Server) -> bool {
    match &server.host {
        Host::Unix(_) => false,
        Host::Tcp(name) => {
            let address = server.address.or_else(|| name.parse::<IpAddr>().ok());
            !address.map_or(name == "localhost", |address| address.is_loopback())
        }
    }
}

fn check_encoding(row: &Row, report: &Report) -> Result<(), ApplyError> {
    let encoding: &str = row.get("encoding")?;
    match db::encoding_fault(encoding) {
        None => report.ok("encoding", encoding),
        Some(fault) => report.fail("encoding", fault, db::ENCODING_REMEDY),
    }
    Ok(())
}

fn check_writing(row: &Row, report: &Report) -> Result<(), ApplyError> {
    let what = "writing";
    if row.get("is_in_recovery")? {
        report.fail(
            what,
            "a standby, which takes no writes",
            "let DATABASE_URL name the primary, or all servers with target_session_attrs=primary",
        );
    } else if row.get::<_, &str>("read_only")? == "on" {
        report.fail(
            what,
            "default_transaction_read_only is on",
            match row.get::<_, Option<&str>>("read_only_source")? {
                Some("client") => "take default_transaction_read_only out of DATABASE_URL".to_owned(),
                _ => format!(
                    "unless it was set for want of disk: BEGIN READ WRITE; ALTER ROLE {} IN DATABASE {} SET \
                     default_transaction_read_only = off; COMMIT",
                    row.get::<_, &str>("role")?,
                    row.get::<_, &str>("database")?
                ),
            },
        );
    } else {
        report.ok(what, "a primary that takes writes");
    }
    Ok(())
}

fn check_durability(row: &Row, report: &Report) -> Result<(), ApplyError> {
    let what = "durability";
    let synchronous: &str = row.get("synchronous_commit")?;
    if row.get::<_, &str>("fsync")? == "off" {
        report.warn(
            what,
            "fsync is off: a crash of the machine may damage the database",
            "unless the data may be lost: ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()",
        );
    } else if matches!(synchronous, "off" | "local") {
        report.ok(
            what,
            format!("synchronous_commit is {synchronous}; the worker switches it on for its own transactions"),
        );
    } else {
        report.ok(what, format!("synchronous_commit is {synchronous}"));
    }
    Ok(())
}

fn check_room(row: &Row, config: &Config, report: &Report) -> Result<(), ApplyError> {
    let needed = config.connections as i64;
    let (role, database): (&str, &str) = (row.get("role")?, row.get("database")?);
    let max_connections: i64 = row.get("max_connections")?;
    // Those of a worker that runs, and the one that asks, are not in the way.
    let ours: i64 = row.get("ours")?;
    let limits = [
        ("max_connections", "server_limit", "server_used"),
        ("the role's CONNECTION LIMIT", "role_limit", "role_used"),
        ("the database's CONNECTION LIMIT", "database_limit", "database_used"),
    ];
    let mut free = i64::MAX;
    for (name, limit, used) in limits {
        let (limit, used): (i64, Option<i64>) = (row.get(limit)?, row.get(used)?);
        if limit < 0 {
            continue;
        }
        let left = limit - used.unwrap_or(0) + ours;
        free = free.min(left);
        if left >= needed {
            continue;
        }
        let more = needed - left;
        let raise = match name {
            "max_connections" => format!(
                "restart PostgreSQL after ALTER SYSTEM SET max_connections = {}",
                max_connections + more
            ),
            "the role's CONNECTION LIMIT" => format!("ALTER ROLE {role} CONNECTION LIMIT {}", limit + more),
            _ => format!("ALTER DATABASE {database} CONNECTION LIMIT {}", limit + more),
        };
        let fewer = if left > 0 {
            format!(" set DB_POOL_SIZE={left},")
        } else {
            String::new()
        };
        report.fail(
            "connections",
            format!("{} left by {name}, and the worker opens {needed}", left.max(0)),
            format!("let others use fewer,{fewer} or {raise}"),
        );
    }
    if free >= needed {
        let left = if free == i64::MAX {
            "enough".to_owned()
        } else {
            free.to_string()
        };
        report.ok(
            "connections",
            format!("{left} left, of which the worker opens {needed}"),
        );
    }
    Ok(())
}

/// psql's command line for the server and database of an address with one server. It names no user: whom it is run by has
/// rights that the worker's role lacks.
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

/// Whether a pooler such as PgBouncer is between: it does not hand on what a session is started with.
fn check_pooler(database: &Database, report: &Report) {
    report.looking("pooler");
    let mut marked = database.clone();
    let options = marked.config.get_options().unwrap_or_default();
    marked.config.options(&format!("{options} -c {MARK}=1"));
    let is_direct = match manager(&marked).connect() {
        Ok(mut client) => client
            .query_typed(sql::CHECK_POOLER.text, &[(&MARK, Type::TEXT)])
            .is_ok_and(|rows| rows.first().and_then(|row| row.try_get(0).ok()) == Some(true)),
        // PgBouncer's words, unless it is told to swallow what it does not know.
        Err(error) if error.to_string().contains("startup parameter") => false,
        // Room for one connection more is not needed.
        Err(_) => return,
    };
    match is_direct {
        true => report.ok("pooler", "none between"),
        false => report.ok("pooler", "PgBouncer or the like is between, and allows transactions"),
    }
}
