//! A thread's own connection to Redis.
//!
//! Owns connecting, its time limits, the outage line in the log, and what a restricted user may do without. Each thread
//! has its own link, since a blocking read holds its connection.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2};
use redis::{Cmd, Connection, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};

use crate::redis::address::Address;
use crate::runtime::heartbeat;
use crate::runtime::retry::{Outage, Waiter};
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Beyond the time that a command may block: an answer that takes longer will not come.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach Redis.
#[derive(Clone)]
pub struct Redis {
    address: Address,
    pub outage: Arc<Outage>,
    /// Connections made so far.
    connections: Arc<AtomicU64>,
    /// What is reported once in the process's life, and was: above all, what it costs that the user lacks a right.
    said: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Redis {
    pub fn new(address: Address) -> Redis {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(2))
            .with_retries(3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(Duration::from_secs(10));
        let address = address.map(|info| {
            // CLIENT SETINFO tells nobody anything here, and a restricted user may not send it.
            let settings = info.redis_settings().clone().set_skip_set_lib_name();
            info.set_tcp_settings(tcp).set_redis_settings(settings)
        });
        Redis {
            address,
            outage: Outage::new("redis"),
            connections: Arc::default(),
            said: Arc::default(),
        }
    }

    /// A link whose commands block on the server for `block` at most. Connects when it is first used.
    pub fn link(&self, block: Duration) -> Link {
        Link {
            redis: self.clone(),
            waiter: Waiter::new(&self.outage),
            block,
            connection: None,
            number: 0,
            has_worked: false,
        }
    }
}

/// One connection, made again when it broke.
pub struct Link {
    redis: Redis,
    waiter: Waiter,
    block: Duration,
    connection: Option<Connection>,
    /// Of the connection: no other one of this process has the same.
    number: u64,
    /// Whether a command has worked over the connection.
    has_worked: bool,
}

impl Link {
    /// Sends one command.
    ///
    /// # Errors
    ///
    /// As Redis or the system says. After one of the connection (`is_connection_error`) it is not known whether the
    /// command was carried out, and the next call connects anew.
    pub fn query<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> RedisResult<T> {
        let result = self.connect().and_then(|connection| command.query(connection));
        self.checked(result)
    }

    /// Carries out commands as one MULTI; their answers, or `None` if a key that was watched has changed.
    ///
    /// MULTI goes alone: after it was refused, the others would be carried out one by one.
    ///
    /// # Errors
    ///
    /// As for `query`. One that is not of the connection means that none of the commands was carried out.
    pub fn transaction(&mut self, commands: &[Cmd]) -> RedisResult<Option<Vec<Value>>> {
        self.transaction_of(commands, false)
    }

    /// The same; with `is_at_once` MULTI goes with the others, which saves a round trip where it is known to be taken.
    ///
    /// # Errors
    ///
    /// As for `transaction`.
    pub fn transaction_of(&mut self, commands: &[Cmd], is_at_once: bool) -> RedisResult<Option<Vec<Value>>> {
        if !is_at_once {
            self.query::<()>(&redis::cmd("MULTI"))?;
        }
        let result = self
            .connect()
            .and_then(|connection| queue_and_execute(connection, commands, is_at_once));
        match self.checked(result)? {
            Executed::Answers(answers) => Ok(Some(answers)),
            Executed::Nothing => Ok(None),
            Executed::Refused { error, is_queueing } => {
                if is_queueing {
                    self.connection = None;
                }
                Err(error)
            }
        }
    }

    /// Sends commands in one go; their answers.
    ///
    /// # Errors
    ///
    /// As for `query`. It is not known which of the commands were carried out.
    pub fn pipeline<T: FromRedisValue>(&mut self, commands: &redis::Pipeline) -> RedisResult<T> {
        let result = self.connect().and_then(|connection| commands.query(connection));
        self.checked(result)
    }

    /// Connects if there is no connection: after an error nothing was sent. The connection's number: over another one it may
    /// be another server that answers.
    ///
    /// # Errors
    ///
    /// As Redis or the system says.
    pub fn reach(&mut self) -> RedisResult<u64> {
        self.connect()?;
        Ok(self.number)
    }

    /// Gives the connection up: the next command connects anew.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Whether this link waits for the server.
    pub fn is_down(&self) -> bool {
        self.waiter.is_waiting()
    }

    /// Whether the next command goes over a connection that earlier ones went over.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn connect(&mut self) -> RedisResult<&mut Connection> {
        if self.connection.is_none() {
            match self.try_connect() {
                Ok(connection) => {
                    self.connection = Some(connection);
                    self.number = self.redis.connections.fetch_add(1, Ordering::Relaxed) + 1;
                    self.has_worked = false;
                }
                Err(error) => {
                    match is_cluster(&error) {
                        true => self.waiter.blocked(&describe(&error)),
                        false => self.waiter.down(&describe(&error)),
                    }
                    return Err(error);
                }
            }
        }
        self.connection
            .as_mut()
            .ok_or_else(|| (redis::ErrorKind::Io, "no connection").into())
    }

    fn try_connect(&self) -> RedisResult<Connection> {
        let client = self.redis.address.client()?;
        let mut connection = client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        hear(&mut connection).map_err(|error| match error.is_timeout() && self.redis.address.is_tls() {
            true => (
                redis::ErrorKind::Io,
                "no answer in time",
                "the port may be one without TLS".to_owned(),
            )
                .into(),
            false => error,
        })?;
        connection.set_read_timeout(Some(self.block + ANSWER_TIMEOUT))?;
        Ok(connection)
    }

    fn checked<T>(&mut self, result: RedisResult<T>) -> RedisResult<T> {
        heartbeat::beat();
        match &result {
            Ok(_) => {
                self.has_worked = true;
                self.waiter.up();
            }
            Err(error) if is_connection_error(error) => {
                self.connection = None;
                // One that worked and breaks can mostly be made again at once. A server that hangs still takes connections,
                // and what stands before a dead one may.
                if error.is_timeout() || !self.has_worked {
                    self.waiter.down(&describe(error));
                }
            }
            Err(_) => {}
        }
        result
    }

    /// Whether an error is one to wait out: Redis is away, or cannot serve at the moment. The link reports the outage itself.
    /// All other errors are refusals of the command, which are for the caller to report.
    pub fn waits_out(&mut self, error: &RedisError) -> bool {
        let is_unready = is_unready(error);
        if is_unready {
            self.unserved(error);
        }
        is_unready || is_connection_error(error)
    }

    /// Redis answers but cannot serve. Over a connection that has worked before that says little: after a failover the
    /// next one leads to another server.
    fn unserved(&mut self, error: &RedisError) {
        self.connection = None;
        if !self.has_worked {
            self.waiter.down(&describe(error));
        }
    }
}

impl Link {
    /// Whether this is asked for the first time in the process, over whichever link.
    pub fn is_first(&self, what: &'static str) -> bool {
        let mut said = self.redis.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(what)
    }

    /// The answer to a command that the worker can do without: `None` where its user may not send it, or the server does not
    /// know it. Says once what that costs, and what to do.
    ///
    /// # Errors
    ///
    /// All others.
    pub fn optional<T>(&self, answer: RedisResult<T>, cost: &'static str, rule: &str) -> RedisResult<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_refused(&error) => {
                if self.is_first(cost) {
                    log::warn!("{}: {cost}; to change that, {}", describe(&error), remedy(&error, rule));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What EXEC has answered.
enum Executed {
    Answers(Vec<Value>),
    /// A key that was watched has changed.
    Nothing,
    Refused {
        error: RedisError,
        is_queueing: bool,
    },
}

/// Sends commands and EXEC behind a MULTI that was accepted, or goes with them.
fn queue_and_execute(connection: &mut Connection, commands: &[Cmd], with_multi: bool) -> RedisResult<Executed> {
    let (multi, exec) = (redis::cmd("MULTI"), redis::cmd("EXEC"));
    let commands: Vec<&Cmd> = with_multi.then_some(&multi).into_iter().chain(commands).collect();
    let mut packed = Vec::new();
    for command in commands.iter().copied().chain([&exec]) {
        command.write_packed_command(&mut packed);
    }
    connection.send_packed_command(&packed)?;
    let mut refusal = None;
    for _ in &commands {
        if let Err(error) = connection.recv_response()?.extract_error() {
            refusal.get_or_insert(error);
        }
    }
    Ok(match connection.recv_response()? {
        Value::Array(answers) => Executed::Answers(answers),
        Value::ServerError(error) => {
            let error = RedisError::from(error);
            Executed::Refused {
                // EXEC itself is refused, and not what it was to carry out.
                is_queueing: code(&error) != "EXECABORT",
                // That one of them was refused says more than that all were.
                error: refusal.unwrap_or(error),
            }
        }
        _ => Executed::Nothing,
    })
}

/// Fails unless the server answers, and in cluster mode: a handshake for TLS waits for the first command, and who listens
/// may say nothing. HELLO is allowed to every user.
fn hear(connection: &mut Connection) -> RedisResult<()> {
    match redis::cmd("HELLO").query::<HashMap<String, Value>>(connection) {
        Err(error) if is_connection_error(&error) => Err(error),
        Ok(server) if server.get("mode") == Some(&Value::BulkString(b"cluster".to_vec())) => {
            Err((redis::ErrorKind::ClusterConnectionNotFound, CLUSTER).into())
        }
        // That HELLO is refused, or unknown to a proxy, is an answer, too.
        _ => Ok(()),
    }
}

/// Counters and dead letters go into one MULTI each, whose keys a cluster keeps in different slots: rows would be written, and
/// never be counted.
const CLUSTER: &str = "redis runs in cluster mode, which the worker does not support: its transactions span slots; set \
                       cluster-enabled no and restart redis, or let REDIS_URL name a redis that is not a cluster's";

/// Whether the server is not worked with since it is part of a cluster.
pub fn is_cluster(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::ClusterConnectionNotFound
}

/// Whether the connection is of no more use, so that the outcome of a command is unknown.
pub fn is_connection_error(error: &RedisError) -> bool {
    is_cluster(error)
        || error.is_io_error()
        || error.is_unrecoverable_error()
        || error.is_connection_dropped()
        || error.is_timeout()
}

/// The server's error code, such as `NOGROUP`.
pub fn code(error: &RedisError) -> &str {
    error.code().unwrap_or_default()
}

/// Whether the user lacks a right, or the server the command: it may be renamed away, or unknown to a proxy. Refused inside a
/// MULTI, EXEC's answer has a code of its own, and the reason behind it.
pub fn is_refused(error: &RedisError) -> bool {
    match code(error) {
        _ if is_database_refused(error) => false,
        _ if is_unknown(error) => true,
        "NOPERM" => true,
        "EXECABORT" => error.detail().is_some_and(|detail| detail.contains("NOPERM")),
        _ => false,
    }
}

/// Whether the server does not know the command, which only the text of its answer tells.
pub fn is_unknown(error: &RedisError) -> bool {
    let is_said = |detail: &str| {
        let detail = detail.to_ascii_lowercase();
        let words = ["unknown command", "unknown subcommand", "unsupported command"];
        words.iter().any(|words| detail.contains(words))
    };
    error.detail().is_some_and(is_said)
}

/// What to do about an error that `is_refused`, for which a user with all rights needs none and a server without the
/// command none that an ACL gives.
pub fn remedy(error: &RedisError, rules: &str) -> String {
    match is_unknown(error) {
        true => "take its rename-command out of redis.conf and restart redis, or connect past the proxy that lacks it"
            .to_owned(),
        false => format!("allow {rules}"),
    }
}

/// The same as the end of a line, which is empty for errors that are no lack of a right: `describe` says what to do about
/// those.
pub fn hint(error: &RedisError, rules: &str) -> String {
    match is_refused(error) {
        true => format!("; {}", remedy(error, rules)),
        false => String::new(),
    }
}

/// Whether the server says no to writes as such: a replica, or one that loads its data.
pub fn is_unready(error: &RedisError) -> bool {
    use redis::ErrorKind::Server;
    matches!(
        error.kind(),
        Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
    ) || matches!(code(error), "NOAUTH" | "WRONGPASS" | "MISCONF")
}

/// The error on one line, beginning with the server's code for it where it has one.
pub fn describe(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        _ if is_cluster(error) => CLUSTER.to_owned(),
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        // The system's own words for it are "resource temporarily unavailable".
        (None, None) if error.is_timeout() => "no answer in time".to_owned(),
        _ => error.to_string(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match tls::cause(error).and_then(tls::advice).or_else(|| advice(error)) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// What to do about a refusal that concerns all writes, or all commands.
fn advice(error: &RedisError) -> Option<&'static str> {
    Some(match code(error) {
        _ if is_database_refused(error) => "allow +select, or let REDIS_URL name database 0",
        "MISCONF" => "see to its disk and its log, then redis-cli BGSAVE",
        "NOREPLICAS" => "start its replicas, or redis-cli CONFIG SET min-replicas-to-write 0",
        "OOM" => "raise its maxmemory, or lower the producer's limit of entries",
        "READONLY" => "let REDIS_URL name the master",
        _ => return None,
    })
}

/// Whether the address's database may not be chosen, which the client does first of all: without it there is no connection.
pub fn is_database_refused(error: &RedisError) -> bool {
    let is_said = |detail: &str| {
        let detail = detail.to_ascii_lowercase();
        detail.contains("'select' command") || detail.contains("unknown command 'select'")
    };
    error.detail().is_some_and(is_said)
}
