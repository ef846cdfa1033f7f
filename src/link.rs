//! A thread's own connection to Redis.
//!
//! Owns connecting, its time limits, and the outage line in the log. Each thread has its own link, since a blocking read
//! holds its connection.

use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2};
use redis::{Connection, FromRedisValue, RedisError, RedisResult, ServerErrorKind};

use crate::redis_url::Address;
use crate::retry::Outage;
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Beyond the time that a command may block: an answer that takes longer will not come.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach Redis.
#[derive(Clone)]
pub struct Redis {
    address: Address,
    outage: Arc<Outage>,
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
            outage: Arc::new(Outage::new("redis")),
        }
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
            match self.try_connect() {
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

/// Fails unless the server answers: a handshake for TLS waits for the first command, and who listens may say nothing.
fn hear(connection: &mut Connection) -> RedisResult<()> {
    match redis::cmd("PING").query::<redis::Value>(connection) {
        Err(error) if is_connection_error(&error) => Err(error),
        // That the user may not ask is an answer, too.
        _ => Ok(()),
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
    let text = match error.detail() {
        // The system's own words for it are "resource temporarily unavailable".
        None if error.is_timeout() => "no answer in time".to_owned(),
        _ => error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    };
    match tls::cause(error).and_then(tls::advice) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}
