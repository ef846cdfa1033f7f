//! The pool of PostgreSQL connections.
//!
//! Owns when connections are opened (`connect` knows how), what is said of the server, and the wait for it and the schema
//! at the start. A connection holds no state of ours; each transaction brings its settings (sql/begin.sql).

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::Client;
use postgres::error::SqlState;
use r2d2::{HandleError, PooledConnection};

use crate::postgres::address::Database;
use crate::postgres::columns;
use crate::postgres::connect::{ConnectError, Manager};
use crate::postgres::fault::{ApplyError, Fault};
use crate::postgres::params::Params;
use crate::postgres::schema::{self, Table};
use crate::postgres::sql;
use crate::runtime::heartbeat;
use crate::runtime::retry::{Backoff, Outage, Waiter};
use crate::runtime::shutdown::{Stop, Stopped};

/// A connection out of the pool.
type Connection = PooledConnection<Manager>;

/// How long a worker waits for a connection before it looks whether it is to stop.
const CHECKOUT: Duration = Duration::from_secs(1);

/// Tries that fail and are not worth a line: another process's commit, or a restart, passes by itself.
const QUIET_TRIES: u32 = 2;

/// The pool, and whether its server serves who has this.
pub struct Db {
    pool: r2d2::Pool<Manager>,
    connections: Arc<AtomicU64>,
    last_error: LastError,
    pub outage: Arc<Outage>,
    waiter: RefCell<Waiter>,
}

impl Clone for Db {
    /// The same pool for somebody else, who waits for himself.
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
    /// Opens no connection yet: the server may not be there.
    pub fn new(database: Database, size: usize, stop: &Stop) -> Db {
        let outage = Outage::new("postgresql");
        let last_error = LastError::default();
        let manager = Manager::new(database, &outage, stop);
        let connections = Arc::clone(&manager.made);
        let pool = r2d2::Pool::builder()
            .max_size(size as u32)
            .min_idle(Some(0))
            // Errors are classified and retried anyhow; a test would be a round trip per batch.
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

    /// Has `work` use a connection.
    ///
    /// # Errors
    ///
    /// None could be had within a second, which is said in the log once per outage; or those of `work`.
    pub fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, ApplyError>) -> Result<T, ApplyError> {
        let mut connection = self.get()?;
        let result = use_it(&mut connection, work);
        // Before the connection goes, which may be the one that waits for the server.
        if let Err(error) = &result
            && error.is_of_connection()
            && (error.is_timeout() || self.outage.reason().is_some())
        {
            self.report_down(&error.describe());
        }
        result
    }

    /// The same for what can wait: that there is no connection is not said.
    ///
    /// # Errors
    ///
    /// None could be had within a second, or those of `work`.
    pub fn with_spare<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, ApplyError>) -> Result<T, ApplyError> {
        use_it(&mut self.pool.get().map_err(ApplyError::Connect)?, work)
    }

    /// How often a connection was asked for: once that is another number, an answer may come from another server.
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
                // A try that has not ended yet ends with a reason, and that is what is worth a line.
                if let Some(reason) = self.last_error.reason() {
                    self.waiter.borrow_mut().down(&reason);
                }
                Err(ApplyError::Connect(error))
            }
        }
    }

    /// The server has done what was asked. A connection alone says little: it may be a broken one, or end at once.
    pub fn report_up(&self) {
        self.waiter.borrow_mut().up();
    }

    /// The server is there, but does not do what is asked.
    pub fn report_down(&self, reason: &str) {
        self.waiter.borrow_mut().down(reason);
    }

    /// The server does not do what is asked before somebody mends something.
    pub fn report_blocked(&self, reason: &str) {
        self.waiter.borrow_mut().blocked(reason);
    }

    /// Says why the server is waited for after `tries` that failed.
    pub fn say(&self, error: &ApplyError, tries: u32) {
        let description = error.describe();
        log::debug!("try {tries} failed: {description}");
        match error.fault() {
            // Said when no connection could be had.
            _ if matches!(error, ApplyError::Connect(_)) => {}
            Fault::Transient if tries <= QUIET_TRIES => {}
            // A pooler's own words, which it may say once only: it hangs up with them, and its next answer is none.
            Fault::Transient if error.sqlstate() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                self.report_blocked(&description)
            }
            Fault::Transient => self.report_down(&description),
            _ => self.report_blocked(&description),
        }
    }

    /// Makes the worker's own tables again if an error says that one is not there, as after a failover to before they were
    /// made.
    pub fn make_missing_own_tables(&self, error: &ApplyError) {
        let is_missing = [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME].map(Some);
        if is_missing.contains(&error.sqlstate())
            && let Err(error) = self.with(make_own_tables)
        {
            log::debug!("failed to make the worker's own tables: {}", error.describe());
        }
    }

    /// Waits until the server answers, the worker's own tables are there and the AppView's tables too; fails if a stop is
    /// requested first.
    pub fn wait_until_ready(&self, stop: &Stop) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        let mut said = String::new();
        for tries in 1.. {
            stop.check()?;
            match self.with(missing) {
                Ok(None) => break,
                Ok(Some(missing)) if missing != said => {
                    log::warn!("waiting for the schema: {missing}");
                    said = missing;
                }
                Ok(Some(_)) => {}
                Err(error) => self.say(&error, tries),
            }
            backoff.wait(stop)?;
        }
        self.report_up();
        Ok(())
    }
}

/// Ends a session that turns out to be read-only: after a failover the next one leads to another server. A pooler ends one
/// by itself that it cannot serve.
fn use_it<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Client) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let result = work(connection);
    let state = result.as_ref().err().and_then(ApplyError::sqlstate);
    let is_read_only = state == Some(&SqlState::READ_ONLY_SQL_TRANSACTION);
    if is_read_only {
        // Fails by its nature: there is nobody left to answer.
        let _ = connection.batch_execute(sql::SESSION_END.text);
    }
    if is_read_only || state == Some(&SqlState::PROTOCOL_VIOLATION) {
        // Finds the end of the connection, by which the pool knows that it is none any more.
        let _ = connection.is_valid(CHECKOUT);
    }
    result
}

/// Keeps the last connection error, which r2d2 hands over to this and not to who waits.
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

/// What is missing for the worker to run; makes its own tables if it may.
///
/// # Errors
///
/// The server could not be asked, or will take the tables at another time.
pub fn missing(client: &mut Client) -> Result<Option<String>, ApplyError> {
    let rows = Params::new().query(client, sql::DATABASE_ENCODING)?;
    let encoding: &str = rows.first().map_or(Ok("UTF8"), |row| row.get(0))?;
    if let Some(fault) = encoding_fault(encoding) {
        return Ok(Some(format!("{fault}; {ENCODING_REMEDY}")));
    }
    let tables = missing_tables(client, schema::tables())?;
    if !tables.is_empty() {
        return Ok(Some(format!(
            "tables are missing: {}; start the AppView, which makes them, or run `firehose-worker schema | psql`",
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

/// What is wrong with a database in another encoding than UTF-8, in which not every record can be stored.
pub fn encoding_fault(encoding: &str) -> Option<String> {
    (encoding != "UTF8").then(|| format!("the database's encoding is {encoding}, and records need UTF8"))
}

pub const ENCODING_REMEDY: &str = "make another database (createdb --template=template0 --encoding=UTF8 NAME), restore a dump of \
                                   this one into it, and let DATABASE_URL name it";

fn missing_tables(client: &mut Client, tables: Vec<Table>) -> Result<Vec<String>, ApplyError> {
    missing_relations(client, tables.iter().map(|table| table.name).collect())
}

fn missing_relations(client: &mut Client, names: Vec<&str>) -> Result<Vec<String>, ApplyError> {
    let rows = Params::new().texts(names.iter()).query(client, sql::MISSING_TABLES)?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Makes the worker's own tables, or indexes on them that earlier versions did not make: what needs those also works
/// without, only slower.
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
