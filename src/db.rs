//! The pool of PostgreSQL connections.
//!
//! Owns when connections are opened (`connect` knows how), what is said of the server, and the wait for it and the schema
//! at the start. A connection holds no state of ours; each transaction brings its settings (sql/begin.sql).

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::Client;
use postgres::error::SqlState;
use r2d2::{HandleError, PooledConnection};

use crate::connect::{ConnectError, Manager};
use crate::database_url::Database;
use crate::fault::{ApplyError, describe_postgres};
use crate::retry::{Backoff, Outage, Party};
use crate::schema::{self, Table};
use crate::shutdown::Stop;
use crate::sql;

/// A connection out of the pool.
pub type Connection = PooledConnection<Manager>;

/// How long a worker waits for a connection before it looks whether it is to stop.
const CHECKOUT: Duration = Duration::from_secs(1);

/// The pool, and whether its server serves who has this.
pub struct Db {
    pool: r2d2::Pool<Manager>,
    last_error: LastError,
    pub outage: Arc<Outage>,
    party: RefCell<Party>,
}

impl Clone for Db {
    /// The same pool for somebody else, who waits for himself.
    fn clone(&self) -> Db {
        Db {
            pool: self.pool.clone(),
            last_error: self.last_error.clone(),
            outage: Arc::clone(&self.outage),
            party: RefCell::new(Party::new(&self.outage)),
        }
    }
}

impl Db {
    /// Opens no connection yet: the server may not be there.
    pub fn new(database: Database, size: usize) -> Db {
        let last_error = LastError::default();
        let pool = r2d2::Pool::builder()
            .max_size(size as u32)
            .min_idle(Some(0))
            // Errors are classified and retried anyhow; a test would be a round trip per batch.
            .test_on_check_out(false)
            .connection_timeout(CHECKOUT)
            .error_handler(Box::new(last_error.clone()))
            .build_unchecked(Manager(database));
        let outage = Outage::new("postgresql");
        Db {
            pool,
            last_error,
            party: RefCell::new(Party::new(&outage)),
            outage,
        }
    }

    /// A connection, if one can be had within a second.
    ///
    /// # Errors
    ///
    /// Why not; said in the log once per outage.
    pub fn get(&self) -> Result<Connection, ApplyError> {
        match self.pool.get() {
            Ok(connection) => {
                self.last_error.clear();
                Ok(connection)
            }
            Err(error) => {
                // A try that has not ended yet ends with a reason, and that is what is worth a line.
                if let Some(reason) = self.last_error.reason() {
                    self.party.borrow_mut().down(&reason);
                }
                Err(ApplyError::Connect(error))
            }
        }
    }

    /// The server has done what was asked. A connection alone says little: it may be a broken one, or end at once.
    pub fn served(&self) {
        self.party.borrow_mut().up();
    }

    /// The server is there, but does not do what is asked.
    pub fn did_not_serve(&self, reason: &str) {
        self.party.borrow_mut().down(reason);
    }

    /// The server does not do what is asked before somebody mends something.
    pub fn is_blocked(&self, reason: &str) {
        self.party.borrow_mut().blocked(reason);
    }

    /// A connection for what can wait, if one is free within a second.
    pub fn spare(&self) -> Option<Connection> {
        self.pool.get().ok()
    }

    /// Waits until the server answers, the worker's own tables are there and the AppView's tables too. `false` if a stop
    /// was requested first.
    pub fn wait_until_ready(&self, stop: &Stop) -> bool {
        let mut backoff = Backoff::default();
        let mut said = String::new();
        loop {
            if stop.is_requested() {
                return false;
            }
            let missing = match self.get() {
                Ok(mut connection) => missing(&mut connection),
                Err(_) => Some(String::new()),
            };
            match missing {
                None => {
                    self.served();
                    return true;
                }
                Some(missing) if !missing.is_empty() && missing != said => {
                    log::warn!("waiting for the schema: {missing}");
                    said = missing;
                }
                Some(_) => {}
            }
            backoff.wait(stop);
        }
    }
}

/// Has `work` use the connection. A session that turns out to be read-only is ended: after a failover the next one leads to
/// another server.
///
/// # Errors
///
/// Those of `work`.
pub fn with<T>(
    mut connection: Connection,
    work: impl FnOnce(&mut Client) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let result = work(&mut connection);
    if let Err(error) = &result
        && error.sqlstate() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    {
        // Fails by its nature: there is nobody left to answer. The second try finds the end of the connection, by which the
        // pool knows that it is none any more.
        let _ = connection.batch_execute(sql::SESSION_END.text);
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
pub fn missing(client: &mut Client) -> Option<String> {
    match missing_tables(client, schema::tables()) {
        Ok(tables) if tables.is_empty() => {}
        Ok(tables) => {
            return Some(format!(
                "tables are missing: {}; start the AppView, which makes them, or run `firehose-worker schema | psql`",
                tables.join(", ")
            ));
        }
        Err(error) => return Some(describe_postgres(&error)),
    }
    make_own_tables(client).err().map(|error| {
        format!(
            "the worker's own tables cannot be made: {}; run `firehose-worker schema --own | psql` as a role that may",
            describe_postgres(&error)
        )
    })
}

fn missing_tables(client: &mut Client, tables: Vec<Table>) -> Result<Vec<String>, postgres::Error> {
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let rows = client.query_typed(sql::MISSING_TABLES.text, &[(&names, postgres::types::Type::TEXT_ARRAY)])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn make_own_tables(client: &mut Client) -> Result<(), postgres::Error> {
    if missing_tables(client, schema::own_tables())?.is_empty() {
        return Ok(());
    }
    client.batch_execute(&format!("{}{}", sql::OWN_SCHEMA_LOCK.text, sql::OWN_SCHEMA))?;
    log::info!("made the worker's own tables in the schema firehose_worker");
    Ok(())
}
