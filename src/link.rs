//! A thread's own connection to Redis.
//!
//! Owns connecting, its time limits, and the outage line in the log. Each thread has its own link, since a blocking read
//! holds its connection.

use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2};
use redis::{Connection, ConnectionInfo, FromRedisValue, RedisError, RedisResult, ServerErrorKind};

use crate::retry::Outage;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Beyond the time that a command may block: an answer that takes longer will not come.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach Redis.
#[derive(Clone)]
pub struct Redis {
    client: redis::Client,
    outage: Arc<Outage>,
}

impl Redis {
    /// # Errors
    ///
    /// The address is of a kind that this build cannot connect to.
    pub fn new(info: ConnectionInfo) -> RedisResult<Redis> {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(5))
            .with_interval(Duration::from_secs(2))
            .with_retries(3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(Duration::from_secs(10));
        // CLIENT SETINFO tells nobody anything here, and a restricted user may not send it.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        Ok(Redis {
            client: redis::Client::open(info)?,
            outage: Arc::new(Outage::new("redis")),
        })
    }

    /// A link whose commands block on the server for `block` at most. Connects when it is first used.
    pub fn link(&self, block: Duration) -> Link {
        Link {
            redis: self.clone(),
            block,
            connection: None,
        }
    }
}

/// One connection, made again when it broke.
pub struct Link {
    redis: Redis,
    block: Duration,
    connection: Option<Connection>,
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

    /// Sends a pipeline in one go; errors as for `query`.
    pub fn query_pipeline<T: FromRedisValue>(&mut self, pipeline: &redis::Pipeline) -> RedisResult<T> {
        let result = self.connect().and_then(|connection| pipeline.query(connection));
        self.checked(result)
    }

    /// Whether the next command goes over a connection that earlier ones went over.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn connect(&mut self) -> RedisResult<&mut Connection> {
        if self.connection.is_none() {
            let connected = self
                .redis
                .client
                .get_connection_with_timeout(CONNECT_TIMEOUT)
                .and_then(|connection| {
                    connection.set_read_timeout(Some(self.block + ANSWER_TIMEOUT))?;
                    connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                    Ok(connection)
                });
            match connected {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => {
                    self.redis.outage.down(&describe(&error));
                    return Err(error);
                }
            }
        }
        self.connection
            .as_mut()
            .ok_or_else(|| (redis::ErrorKind::Io, "no connection").into())
    }

    fn checked<T>(&mut self, result: RedisResult<T>) -> RedisResult<T> {
        match &result {
            Ok(_) => self.redis.outage.up(),
            Err(error) if is_connection_error(error) => {
                self.connection = None;
            }
            Err(_) => {}
        }
        result
    }

    /// Says that Redis answers but cannot serve; the other half of the line comes when a command works.
    pub fn unserved(&mut self, error: &RedisError) {
        self.connection = None;
        self.redis.outage.down(&describe(error));
    }
}

/// Whether the connection is of no more use, so that the outcome of a command is unknown.
pub fn is_connection_error(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || error.is_connection_dropped() || error.is_timeout()
}

/// The server's error code, such as `NOGROUP`.
pub fn code(error: &RedisError) -> &str {
    error.code().unwrap_or_default()
}

/// Whether the server says no to writes as such: a replica, or one that loads its data.
pub fn is_unready(error: &RedisError) -> bool {
    use redis::ErrorKind::Server;
    matches!(
        error.kind(),
        Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
    ) || matches!(code(error), "NOAUTH" | "MISCONF")
}

/// The error on one line.
pub fn describe(error: &RedisError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
