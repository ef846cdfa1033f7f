//! The pool of PostgreSQL connections.
//!
//! Owns when connections are opened (`connect` owns how), how outages of the server are reported, and the wait for the
//! server and the schema at the start. A session holds no state of the worker: each transaction sets what it needs
//! (sql/begin.sql).

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::error::SqlState;
use r2d2::{HandleError, PooledConnection};

use crate::postgres::address::Database;
use crate::postgres::client::Client;
use crate::postgres::columns;
use crate::postgres::connect::{ConnectError, Manager};
use crate::postgres::fault::{ApplyError, Fault};
use crate::postgres::params::Params;
use crate::postgres::schema::{self, Table};
use crate::postgres::sql;
use crate::runtime::heartbeat;
use crate::runtime::retry::{Backoff, Outage, Waiter};
use crate::runtime::shutdown::{Stop, Stopped};

/// A connection from the pool.
type Connection = PooledConnection<Manager>;

/// How long a thread waits for a connection before it checks for a stop.
const CHECKOUT: Duration = Duration::from_secs(1);

/// How many failed attempts are not logged: a conflict with another process, or a restart, resolves itself.
const QUIET_TRIES: u32 = 2;

/// A thread's use of the pool, with its own state of waiting for the server.
pub struct Db {
    pool: r2d2::Pool<Manager>,
    connections: Arc<AtomicU64>,
    last_error: LastError,
    pub outage: Arc<Outage>,
    waiter: RefCell<Waiter>,
}

impl Clone for Db {
    /// Clones share the pool, but each tracks its own waiting.
    fn clone(&self) -> Db {
        Db {
            pool: self.pool.clone(),
            connections: Arc::clone(&self.connections),
            last_error: self.last_error.clone(),
            outage: Arc::clone(&self.outage),
            waiter: RefCell::new(Waiter::new(&self.outage)),
        }
    }
}

impl Db {
    /// Creates the pool without opening a connection: the server may be down.
    pub fn new(database: Database, size: usize, stop: &Stop) -> Db {
        let outage = Outage::new("postgresql");
        let last_error = LastError::default();
        let manager = Manager::new(database, &outage, stop);
        let connections = Arc::clone(&manager.made);
        let pool = r2d2::Pool::builder()
            .max_size(size as u32)
            .min_idle(Some(0))
            // Errors are classified and retried in any case, and a test would cost a round trip per batch.
            .test_on_check_out(false)
            .connection_timeout(CHECKOUT)
            .error_handler(Box::new(last_error.clone()))
            .build_unchecked(manager);
        Db {
            pool,
            connections,
            last_error,
            waiter: RefCell::new(Waiter::new(&outage)),
            outage,
        }
    }

    /// Calls `work` with a connection.
    ///
    /// # Errors
    ///
    /// Fails if no connection is available within a second, which is logged once per outage, or if `work` fails.
    pub fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, ApplyError>) -> Result<T, ApplyError> {
        let mut connection = self.get()?;
        let result = use_it(&mut connection, work);
        // Before the connection is dropped: it may be the waiter that keeps the outage going.
        if let Err(error) = &result
            && error.is_of_connection()
            && (error.is_timeout() || self.outage.reason().is_some())
        {
            self.report_down(&error.describe());
        }
        result
    }

    /// Like `with`, for work that can wait: the lack of a connection is not logged.
    ///
    /// # Errors
    ///
    /// Fails if no connection is available within a second, or if `work` fails.
    pub fn with_spare<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, ApplyError>) -> Result<T, ApplyError> {
        use_it(&mut self.pool.get().map_err(ApplyError::Connect)?, work)
    }

    /// The number of attempts to connect. If it has changed, a reply may come from a different server.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    fn get(&self) -> Result<Connection, ApplyError> {
        match self.pool.get() {
            Ok(connection) => {
                self.last_error.clear();
                Ok(connection)
            }
            Err(error) => {
                // An attempt that is still under way has no reason yet. Its reason is logged when it ends.
                if let Some(reason) = self.last_error.reason() {
                    self.waiter.borrow_mut().down(&reason);
                }
                Err(ApplyError::Connect(error))
            }
        }
    }

    /// Reports that the server has executed a request. A connection alone does not prove that it serves: the connection
    /// may be broken, or end at once.
    pub fn report_up(&self) {
        self.waiter.borrow_mut().up();
    }

    /// Reports that the server is reachable but does not execute requests.
    pub fn report_down(&self, reason: &str) {
        self.waiter.borrow_mut().down(reason);
    }

    /// Reports that the server does not execute requests until an operator fixes something.
    pub fn report_blocked(&self, reason: &str) {
        self.waiter.borrow_mut().blocked(reason);
    }

    /// Reports why the work is retried, after `tries` failed attempts.
    pub fn report_retry(&self, error: &ApplyError, tries: u32) {
        let description = error.describe();
        log::debug!("attempt {tries} failed: {description}");
        match error.fault() {
            // Already reported by `get`.
            _ if matches!(error, ApplyError::Connect(_)) => {}
            Fault::Transient if tries <= QUIET_TRIES => {}
            // A pooler's own message, which it may send only once: it closes the connection, and later attempts get no
            // reply.
            Fault::Transient if error.sqlstate() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                self.report_blocked(&description)
            }
            Fault::Transient => self.report_down(&description),
            _ => self.report_blocked(&description),
        }
    }

    /// Recreates the worker's own tables if the error is that one is missing, as after a failover to a state from
    /// before they were created.
    pub fn make_missing_own_tables(&self, error: &ApplyError) {
        let is_missing = [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME].map(Some);
        if is_missing.contains(&error.sqlstate())
            && let Err(error) = self.with(make_own_tables)
        {
            log::debug!("failed to create the worker's own tables: {}", error.describe());
        }
    }

    /// Waits until the server answers and the AppView's and the worker's own tables exist.
    ///
    /// # Errors
    ///
    /// Fails if a stop is requested first.
    pub fn wait_until_ready(&self, stop: &Stop) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        let mut logged = String::new();
        for tries in 1.. {
            stop.check()?;
            match self.with(missing) {
                Ok(None) => break,
                Ok(Some(missing)) if missing != logged => {
                    log::warn!("waiting for the schema: {missing}");
                    logged = missing;
                }
                Ok(Some(_)) => {}
                Err(error) => self.report_retry(&error, tries),
            }
            backoff.wait(stop)?;
        }
        self.report_up();
        Ok(())
    }
}

/// Calls `work`, and ends the session if it turns out to be read-only: after a failover the next one reaches another
/// server. A pooler ends a session that it cannot serve by itself.
fn use_it<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Client) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let result = work(connection);
    let state = result.as_ref().err().and_then(ApplyError::sqlstate);
    let is_read_only = state == Some(&SqlState::READ_ONLY_SQL_TRANSACTION);
    if result.is_err() {
        connection.forget_prepared();
    }
    if is_read_only {
        // Always fails, because the statement ends the session.
        let _ = connection.batch_execute(sql::SESSION_END.text);
    }
    if is_read_only || state == Some(&SqlState::PROTOCOL_VIOLATION) {
        // Notices that the connection has ended, so that the pool drops it.
        let _ = connection.is_valid(CHECKOUT);
    }
    result
}

/// Keeps the last connection error. r2d2 passes it to its error handler, not to the callers that wait for a connection.
#[derive(Clone, Debug, Default)]
struct LastError(Arc<Mutex<Option<String>>>);

impl LastError {
    fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl HandleError<ConnectError> for LastError {
    fn handle_error(&self, error: ConnectError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }
}

/// What the database lacks for the worker to run. Creates the worker's own tables if the role may.
///
/// # Errors
///
/// Fails if the server cannot be queried, or if the own tables could not be created for a transient reason.
pub fn missing(client: &mut Client) -> Result<Option<String>, ApplyError> {
    let rows = Params::new().query(client, sql::DATABASE_ENCODING)?;
    let encoding: &str = rows.first().map_or(Ok("UTF8"), |row| row.get(0))?;
    if let Some(fault) = encoding_fault(encoding) {
        return Ok(Some(format!("{fault}; {ENCODING_REMEDY}")));
    }
    let tables = missing_tables(client, schema::tables())?;
    if !tables.is_empty() {
        return Ok(Some(format!(
            "tables are missing: {}; start the AppView, which creates them, or run `firehose-worker schema | psql`",
            tables.join(", ")
        )));
    }
    let columns = columns::of_other_types(client)?;
    if !columns.is_empty() {
        return Ok(Some(columns.join("; ")));
    }
    match make_own_tables(client) {
        Err(error) if error.fault() != Fault::Transient => Ok(Some(format!(
            "cannot create the worker's own tables: {}; run `firehose-worker schema --own | psql` as a role that may",
            error.describe()
        ))),
        made => made.map(|()| None),
    }
}

/// The fault of a database that is not encoded in UTF-8, which cannot store every record.
pub fn encoding_fault(encoding: &str) -> Option<String> {
    (encoding != "UTF8").then(|| format!("the database's encoding is {encoding}, and records need UTF8"))
}

pub const ENCODING_REMEDY: &str = "create another database (createdb --template=template0 --encoding=UTF8 NAME), restore a dump of \
                                   this one into it, and let DATABASE_URL name it";

fn missing_tables(client: &mut Client, tables: Vec<Table>) -> Result<Vec<String>, ApplyError> {
    missing_relations(client, tables.iter().map(|table| table.name).collect())
}

fn missing_relations(client: &mut Client, names: Vec<&str>) -> Result<Vec<String>, ApplyError> {
    let rows = Params::new().texts(names.iter()).query(client, sql::MISSING_TABLES)?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Creates the worker's own tables, or indexes on them that earlier versions did not create. Without such an index the
/// worker still runs, only slower.
fn make_own_tables(client: &mut Client) -> Result<(), ApplyError> {
    if !missing_tables(client, schema::own_tables())?.is_empty() {
        run_own_schema(client)?;
        log::info!("created the worker's own tables in the schema firehose_worker");
        return Ok(());
    }
    let indexes: Vec<String> = schema::own_indexes().map(|(name, _)| name).collect();
    let missing = missing_relations(client, indexes.iter().map(String::as_str).collect())?;
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    match run_own_schema(client) {
        Ok(()) => log::info!("created the index {missing}"),
        Err(error) if error.fault() == Fault::Transient => return Err(error),
        Err(error) => log::warn!(
            "cannot create the index {missing}: {}; without it, the worker slows down as rows accumulate: run \
             `firehose-worker schema --own | psql` as the owner of the tables",
            error.describe()
        ),
    }
    Ok(())
}

fn run_own_schema(client: &mut Client) -> Result<(), ApplyError> {
    let made = client.batch_execute(&format!("{}{}", sql::OWN_SCHEMA_LOCK.text, sql::OWN_SCHEMA));
    heartbeat::beat();
    made.map_err(|source| ApplyError::Statement {
        name: "own_schema",
        source,
    })
}
