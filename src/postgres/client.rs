//! A session with PostgreSQL, and the statements that it keeps prepared.
//!
//! Owns which statements are prepared, and when. To parse and plan a statement takes longer than to run it for a single
//! row. In a batch of many rows it does not matter, and there PostgreSQL plans each statement for its parameters.
//!
//! Invariants: a statement is prepared only in a session that leads directly to a server, because a pooler may pass the
//! next transaction to another one. Only statements are prepared that have one possible plan, so that one made for empty
//! tables is right for full ones. After an error nothing counts as prepared.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use postgres::types::Type;
use postgres::{Error, SimpleQueryMessage, Statement};

use crate::postgres::sql;

/// The statements that a single entry needs. They find rows by a unique key, or only insert.
const PREPARED: [&str; 11] = [
    "opt_outs",
    "users_ensure",
    "posts_insert",
    "quotes_insert",
    "likes_insert",
    "reposts_insert",
    "follows_insert",
    "feed_items_upsert",
    "notifications_upsert",
    "viewer_states_set",
    "counters_add",
];

/// A statement with more rows than this is not worth preparing.
const MAX_ROWS: usize = 16;

/// A connection.
pub struct Client {
    client: postgres::Client,
    is_direct: bool,
    prepared: HashMap<&'static str, Statement>,
}

impl Client {
    /// `process` is the server process that the peer has named at the start of the session. A pooler, which gives each
    /// transaction another one, names none that exists.
    pub fn new(mut client: postgres::Client, process: Option<i32>) -> Client {
        let is_direct = process.is_some() && own_process(&mut client) == process;
        Client {
            client,
            is_direct,
            prepared: HashMap::new(),
        }
    }

    /// The prepared form of a statement, for parameters of so many rows; `None` if it is to be sent as text.
    ///
    /// # Errors
    ///
    /// PostgreSQL refuses the statement.
    pub fn prepared(
        &mut self,
        name: &'static str,
        text: &str,
        types: &[Type],
        n_rows: usize,
    ) -> Result<Option<Statement>, Error> {
        if !self.is_direct || n_rows > MAX_ROWS || !PREPARED.contains(&name) {
            return Ok(None);
        }
        if let Some(statement) = self.prepared.get(name) {
            return Ok(Some(statement.clone()));
        }
        let statement = self.client.prepare_typed(text, types)?;
        self.prepared.insert(name, statement.clone());
        Ok(Some(statement))
    }

    /// Makes the next use of each statement prepare it again: the tables may have changed.
    pub fn forget_prepared(&mut self) {
        self.prepared.clear();
    }
}

impl Deref for Client {
    type Target = postgres::Client;

    fn deref(&self) -> &postgres::Client {
        &self.client
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut postgres::Client {
        &mut self.client
    }
}

/// The server process of a session, or of a transaction of it. `None` if the server does not say.
fn own_process(client: &mut postgres::Client) -> Option<i32> {
    let answer = client.simple_query(sql::SESSION_PROCESS.text).ok()?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
        _ => None,
    });
    row?.parse().ok()
}
