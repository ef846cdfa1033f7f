//! A thread's own connection to Redis.
//!
//! Owns connecting, its time limits, the report of outages, and the commands that the worker can do without if its user
//! may not send them. Each thread has its own link, because a blocking read occupies the connection.

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

/// How long a reply may take, in addition to the time that the command may block. A later one is treated as lost.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach Redis.
#[derive(Clone)]
pub struct Redis {
    address: Address,
    pub outage: Arc<Outage>,
    /// Connections made so far.
    connections: Arc<AtomicU64>,
    /// The facts that are logged once per process and have been, such as the effect of a right that the user lacks.
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
            // CLIENT SETINFO is of no use here, and a restricted user may not send it.
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

    /// A link whose commands block on the server for at most `block`. It connects when it is first used.
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

/// One connection, which is re-established after it breaks.
pub struct Link {
    redis: Redis,
    waiter: Waiter,
    block: Duration,
    connection: Option<Connection>,
    /// The number of the connection, unique in this process.
    number: u64,
    /// Whether a command has succeeded over the connection.
    has_worked: bool,
}

impl Link {
    /// Sends one command.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached or returns an error. After a connection error (`is_connection_error`) it is
    /// unknown whether the command was executed, and the next call reconnects.
    pub fn query<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> RedisResult<T> {
        let result = self.connect().and_then(|connection| command.query(connection));
        self.checked(result)
    }

    /// Executes commands as one MULTI and returns their replies, or `None` if a watched key has changed.
    ///
    /// MULTI is sent alone: if it were refused, Redis would execute the commands behind it one by one.
    ///
    /// # Errors
    ///
    /// As for `query`. After an error other than a connection error, none of the commands has been executed.
    pub fn transaction(&mut self, commands: &[Cmd]) -> RedisResult<Option<Vec<Value>>> {
        self.transaction_of(commands, false)
    }

    /// Like `transaction`; `is_at_once` sends MULTI together with the commands. That saves a round trip and is safe if
    /// Redis is known to accept MULTI from this user.
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

    /// Sends commands in one round trip and returns their replies.
    ///
    /// # Errors
    ///
    /// As for `query`. After an error it is unknown which of the commands were executed.
    pub fn pipeline<T: FromRedisValue>(&mut self, commands: &redis::Pipeline) -> RedisResult<T> {
        let result = self.connect().and_then(|connection| commands.query(connection));
        self.checked(result)
    }

    /// Sends commands that are already encoded in one round trip and returns their replies. A command that Redis refuses
    /// has an error as its reply.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached. It is unknown then which of the commands were executed.
    pub fn exchange(&mut self, packed: &[u8], n_commands: usize) -> RedisResult<Vec<Value>> {
        let result = self.connect().and_then(|connection| {
            connection.send_packed_command(packed)?;
            (0..n_commands).map(|_| connection.recv_response()).collect()
        });
        self.checked(result)
    }

    /// Connects if there is no connection, and returns the connection's number. A different number means that a
    /// different server may be answering.
    ///
    /// # Errors
    ///
    /// Fails if Redis cannot be reached; no command has been sent then.
    pub fn reach(&mut self) -> RedisResult<u64> {
        self.connect()?;
        Ok(self.number)
    }

    /// Closes the connection; the next command reconnects.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Whether this link is waiting for the server.
    pub fn is_down(&self) -> bool {
        self.waiter.is_waiting()
    }

    /// Whether the next command will use the existing connection.
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
        hello(&mut connection).map_err(|error| match error.is_timeout() && self.redis.address.is_tls() {
            true => (
                redis::ErrorKind::Io,
                "no answer in time",
                "the port probably does not use TLS".to_owned(),
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
                // A connection that worked and then broke can usually be re-established at once. A server that hangs
                // still accepts connections, though, and so may a proxy in front of a dead one.
                if error.is_timeout() || !self.has_worked {
                    self.waiter.down(&describe(error));
                }
            }
            Err(_) => {}
        }
        result
    }

    /// Whether the caller should wait and retry: Redis is unreachable, or cannot serve at the moment. The link reports
    /// the outage itself. All other errors are refusals of the command, which the caller reports.
    pub fn waits_out(&mut self, error: &RedisError) -> bool {
        let is_unready = is_unready(error);
        if is_unready {
            self.unserved(error);
        }
        is_unready || is_connection_error(error)
    }

    /// Handles a server that answers but cannot serve. If the connection has worked before, this is not yet an outage:
    /// after a failover the next connection reaches another server.
    fn unserved(&mut self, error: &RedisError) {
        self.connection = None;
        if !self.has_worked {
            self.waiter.down(&describe(error));
        }
    }
}

impl Link {
    /// Whether this is the first call with `what` in the process, over any link.
    pub fn is_first(&self, what: &'static str) -> bool {
        let mut said = self.redis.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(what)
    }

    /// Passes on the reply to a command that the worker can do without. `None` if its user may not send the command, or
    /// the server does not know it; then logs once per process the consequence (`cost`) and the ACL rule that avoids
    /// it.
    ///
    /// # Errors
    ///
    /// All other errors of `answer`.
    pub fn optional<T>(&self, answer: RedisResult<T>, cost: &'static str, rule: &str) -> RedisResult<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_refused(&error) => {
                if self.is_first(cost) {
                    log::warn!(
                        "redis refuses an optional command ({}): {cost}; to change that, {}",
                        describe(&error),
                        remedy(&error, rule)
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The result of EXEC.
enum Executed {
    Answers(Vec<Value>),
    /// A watched key has changed.
    Nothing,
    Refused {
        error: RedisError,
        is_queueing: bool,
    },
}

/// Sends commands and EXEC, preceded by MULTI if `with_multi`; otherwise MULTI has been accepted already.
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
                // EXEC itself was refused, not one of the queued commands: the connection is still queueing.
                is_queueing: code(&error) != "EXECABORT",
                // The refusal of one command is more informative than that of the whole transaction.
                error: refusal.unwrap_or(error),
            }
        }
        _ => Executed::Nothing,
    })
}

/// Fails if the server does not answer, or runs in cluster mode. The TLS handshake takes place with the first command,
/// and a listener without TLS may never answer it. Every user may send HELLO.
fn hello(connection: &mut Connection) -> RedisResult<()> {
    match redis::cmd("HELLO").query::<HashMap<String, Value>>(connection) {
        Err(error) if is_connection_error(&error) => Err(error),
        Ok(server) if server.get("mode") == Some(&Value::BulkString(b"cluster".to_vec())) => {
            Err((redis::ErrorKind::ClusterConnectionNotFound, CLUSTER).into())
        }
        // A refusal of HELLO, also by a proxy that does not know it, proves that the server answers.
        _ => Ok(()),
    }
}

/// Counters and dead letters are written in one MULTI each. A cluster keeps their keys in different slots and would
/// refuse the MULTI, so that rows would be written but never counted.
const CLUSTER: &str = "redis runs in cluster mode, which the worker does not support: its transactions span slots; set \
                       cluster-enabled no and restart redis, or let REDIS_URL name a redis that is not a cluster's";

/// Whether the server was rejected because it is part of a cluster.
pub fn is_cluster(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::ClusterConnectionNotFound
}

/// Whether the connection is unusable, so that the outcome of the command is unknown.
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

/// Whether the user lacks a right, or the server lacks the command: redis.conf may rename it, or a proxy may not know
/// it. If a command inside a MULTI is refused, EXEC fails with EXECABORT and gives the reason in its text.
pub fn is_refused(error: &RedisError) -> bool {
    match code(error) {
        _ if is_database_refused(error) => false,
        _ if is_unknown(error) => true,
        "NOPERM" => true,
        "EXECABORT" => error.detail().is_some_and(|detail| detail.contains("NOPERM")),
        _ => false,
    }
}

/// Whether the server does not know the command. There is no error code for it, only a text.
pub fn is_unknown(error: &RedisError) -> bool {
    let reports_unknown = |detail: &str| {
        let detail = detail.to_ascii_lowercase();
        let words = ["unknown command", "unknown subcommand", "unsupported command"];
        words.iter().any(|words| detail.contains(words))
    };
    error.detail().is_some_and(reports_unknown)
}

/// How to fix an error that `is_refused`: by the ACL `rules`, or, if the server does not know the command, in
/// redis.conf or at a proxy.
pub fn remedy(error: &RedisError, rules: &str) -> String {
    match is_unknown(error) {
        true => "take its rename-command out of redis.conf and restart redis, or connect past the proxy that lacks it"
            .to_owned(),
        false => format!("allow {rules}"),
    }
}

/// The `remedy` as the end of a log line. Empty for errors other than a missing right: for those, `describe` includes
/// the advice.
pub fn hint(error: &RedisError, rules: &str) -> String {
    match is_refused(error) {
        true => format!("; {}", remedy(error, rules)),
        false => String::new(),
    }
}

/// Whether the server as a whole cannot serve: it is a replica, is loading its data, refuses the password, or stopped
/// accepting writes after a failed snapshot.
pub fn is_unready(error: &RedisError) -> bool {
    use redis::ErrorKind::Server;
    matches!(
        error.kind(),
        Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
    ) || matches!(code(error), "NOAUTH" | "WRONGPASS" | "MISCONF")
}

/// The error on one line, beginning with the server's error code if there is one.
pub fn describe(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        _ if is_cluster(error) => CLUSTER.to_owned(),
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        // The system's text is "resource temporarily unavailable", which would mislead.
        (None, None) if error.is_timeout() => "no answer in time".to_owned(),
        _ => error.to_string(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match tls::cause(error).and_then(tls::advice).or_else(|| advice(error)) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// How to fix a refusal that concerns all writes or all commands.
fn advice(error: &RedisError) -> Option<&'static str> {
    Some(match code(error) {
        _ if is_database_refused(error) => "allow +select, or let REDIS_URL name database 0",
        "MISCONF" => "check its disk and its log, then redis-cli BGSAVE",
        "NOREPLICAS" => "start its replicas, or redis-cli CONFIG SET min-replicas-to-write 0",
        "OOM" => "raise its maxmemory, or lower the producer's limit of entries",
        "READONLY" => "let REDIS_URL name the master",
        _ => return None,
    })
}

/// Whether SELECT of the address's database was refused. The client sends it first, so there is no connection without
/// it.
pub fn is_database_refused(error: &RedisError) -> bool {
    let names_select = |detail: &str| {
        let detail = detail.to_ascii_lowercase();
        detail.contains("'select' command") || detail.contains("unknown command 'select'")
    };
    error.detail().is_some_and(names_select)
}
