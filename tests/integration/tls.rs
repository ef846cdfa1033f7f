//! TLS to both servers, and authentication. Each server is a real one with the test's certificates.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use crate::support::certificates::{Authority, Identity};
use crate::support::entries::{did, follow};
use crate::support::postgres::Database;
use crate::support::process::free_port;
use crate::support::stack::shown;
use crate::support::{PostgresOptions, PostgresServer, RedisServer, Stack, WorkerBuilder, scratch, wait_until};

/// Who may come in how. The first line is the harness's own.
const ACCESS: &str = "
host      all postgres    127.0.0.1/32 trust
hostssl   all tls_only    127.0.0.1/32 trust
hostnossl all plain_only  127.0.0.1/32 trust
hostssl   all certified   127.0.0.1/32 cert
host      all with_scram  127.0.0.1/32 scram-sha-256
host      all with_md5    127.0.0.1/32 md5
local     all all                      peer
";

const ROLES: &str = "
create role tls_only superuser login;
create role plain_only superuser login;
create role certified superuser login;
set password_encryption = 'scram-sha-256';
create role with_scram superuser login password 'hunter2 scram';
set password_encryption = 'md5';
create role with_md5 superuser login password 'hunter2 md5';
";

pub(crate) struct Secured {
    pub(crate) server: Arc<PostgresServer>,
    authority: Authority,
    client: Identity,
}

/// A PostgreSQL with TLS for localhost, shared by the tests of this file and of `check`.
pub(crate) fn secured() -> &'static Secured {
    static SECURED: OnceLock<Secured> = OnceLock::new();
    SECURED.get_or_init(|| {
        let authority = Authority::new();
        let identity = authority.sign("localhost", &["localhost"]);
        let server = postgres_with(&authority, &identity);
        server.client("postgres").batch_execute(ROLES).expect("roles");
        let client = authority.sign("certified", &[]);
        Secured {
            server,
            authority,
            client,
        }
    })
}

fn postgres_with(authority: &Authority, identity: &Identity) -> Arc<PostgresServer> {
    let access = scratch::directory("access").join("pg_hba.conf");
    std::fs::write(&access, ACCESS).expect("pg_hba.conf");
    PostgresServer::start(PostgresOptions {
        settings: vec![
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", identity.certificate()),
            ("ssl_key_file", identity.key()),
            ("ssl_ca_file", authority.path()),
            ("hba_file", access.to_str().expect("a path in UTF-8").to_owned()),
        ],
        ..PostgresOptions::default()
    })
}

/// A stack with one event to apply, so that both servers are needed.
fn stack_on(redis: RedisServer, server: &Arc<PostgresServer>, name: &str) -> Stack {
    let stack = Stack::of(redis, Database::new(Arc::clone(server), name));
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    stack
}

/// The worker's address of the stack's database: `localhost` unless the parameters name another host.
fn address(stack: &Stack, user: &str, parameters: &str) -> String {
    format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname={} user={user} {parameters}",
        stack.database.server().port(),
        stack.database.name()
    )
}

#[track_caller]
fn assert_connects(worker: WorkerBuilder, what: &str) {
    let output = worker.arg("--drain").run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{what}: {}", shown(&output.log));
    assert!(
        !output.log.contains("hunter2"),
        "a password is in the log: {}",
        output.log
    );
}

/// Asserts that the worker waits, logs the reason and the remedy in one line with these words, and can then be stopped.
#[track_caller]
fn assert_waits(worker: WorkerBuilder, what: &str, words: &[&str]) {
    let mut worker = worker.spawn();
    wait_until(&format!("the worker waits ({what}) and logs {words:?}"), || {
        let log = worker.log();
        let has = |line: &str| line.contains("waiting for") && words.iter().all(|word| line.contains(word));
        if log.lines().any(has) { Ok(()) } else { Err(shown(&log)) }
    });
    worker.signal(libc::SIGTERM);
    let status = worker.wait_exit(std::time::Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{what}: {}", shown(&worker.log()));
    assert!(!worker.log().contains("hunter2"), "a password is in the log");
}

#[test]
fn every_sslmode_means_to_the_worker_what_it_means_to_libpq() {
    let secured = secured();
    let stack = stack_on(RedisServer::start(), &secured.server, "sslmodes");
    let root = format!("sslrootcert={}", secured.authority.path());
    for (user, parameters) in [
        ("tls_only", ""),
        ("tls_only", "sslmode=allow"),
        ("tls_only", "sslmode=prefer"),
        ("tls_only", "sslmode=require"),
        ("tls_only", &format!("sslmode=verify-ca host=elsewhere.example {root}")),
        ("tls_only", &format!("sslmode=verify-full {root}")),
        ("plain_only", "sslmode=disable"),
        ("plain_only", "sslmode=allow"),
        ("plain_only", "sslmode=prefer"),
    ] {
        let url = address(&stack, user, parameters);
        assert_connects(stack.worker().env("DATABASE_URL", &url), &url);
    }
    for (user, parameters, words) in [
        ("tls_only", "sslmode=disable", "no encryption"),
        ("plain_only", "sslmode=require", "SSL encryption"),
    ] {
        let url = address(&stack, user, parameters);
        assert_waits(stack.worker().env("DATABASE_URL", &url), &url, &[words]);
    }
    assert_eq!(stack.count("follows"), 1);
}

#[test]
fn a_certificate_of_postgresql_that_is_not_good_enough_is_refused() {
    let secured = secured();
    let stack = stack_on(RedisServer::start(), &secured.server, "bad_certificates");
    let (own, other) = (secured.authority.path(), Authority::new().path());
    for (parameters, words) in [
        (
            format!("sslmode=verify-full host=elsewhere.example sslrootcert={own}"),
            "connect to a name",
        ),
        (
            format!("sslmode=verify-ca sslrootcert={other}"),
            "name the file of the authority",
        ),
        (
            format!("sslmode=require sslrootcert={other}"),
            "name the file of the authority",
        ),
    ] {
        let url = address(&stack, "tls_only", &parameters);
        assert_waits(stack.worker().env("DATABASE_URL", &url), &url, &["certificate", words]);
    }
}

#[test]
fn an_expired_certificate_is_refused_by_both() {
    let authority = Authority::new();
    let identity = authority.sign_expired("localhost", &["localhost"]);
    let server = postgres_with(&authority, &identity);
    let (redis, tls_port) = redis_with(&authority, &identity, &["--tls-auth-clients", "no"]);
    let stack = stack_on(redis, &server, "expired");
    let url = address(
        &stack,
        "postgres",
        &format!("sslmode=verify-full sslrootcert={}", authority.path()),
    );
    let words = ["expired", "renew"];
    assert_waits(stack.worker().env("DATABASE_URL", &url), &url, &words);
    let url = format!("rediss://localhost:{tls_port}?ssl_ca_certs={}", authority.path());
    assert_waits(stack.worker().env("REDIS_URL", &url), &url, &words);
}

#[test]
fn passwords_client_certificates_and_peers_open_postgresql() {
    let secured = secured();
    let stack = stack_on(RedisServer::start(), &secured.server, "identities");
    let me = std::process::Command::new("id").arg("-un").output().expect("id runs");
    let me = String::from_utf8(me.stdout).expect("a name").trim().to_owned();
    if me != "postgres" {
        stack.sql(&format!("create role \"{me}\" superuser login"));
    }
    let (certificate, key) = (secured.client.certificate(), secured.client.key());
    let socket = format!("host={}", secured.server.socket_dir().display());
    for url in [
        address(&stack, "certified", &format!("sslcert={certificate} sslkey={key}")),
        address(&stack, "with_scram", "password='hunter2 scram' channel_binding=require"),
        address(&stack, "with_scram", "password='hunter2 scram' sslmode=disable"),
        address(&stack, "with_md5", "password='hunter2 md5'"),
        address(&stack, &me, &format!("{socket} hostaddr=")),
    ] {
        assert_connects(stack.worker().env("DATABASE_URL", &url), &url);
    }
    for (url, words) in [
        (address(&stack, "certified", ""), "certificate"),
        (address(&stack, "with_scram", "password=hunter2wrong"), "28P01"),
        (
            address(
                &stack,
                "with_scram",
                "password='hunter2 scram' channel_binding=require sslmode=disable",
            ),
            "channel binding",
        ),
    ] {
        assert_waits(stack.worker().env("DATABASE_URL", &url), &url, &[words]);
    }
}

#[test]
fn a_postgresql_without_tls_or_an_answer_is_waited_for_with_a_reason() {
    let stack = stack_on(RedisServer::start(), &PostgresServer::shared(), "no_tls");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("its address").port();
    let redis_port = stack.redis.port();
    for (parameters, words) in [
        ("sslmode=require".to_owned(), "the server has no TLS"),
        (
            format!("sslmode=require port={silent_port} connect_timeout=2"),
            "no answer",
        ),
        (
            format!("sslmode=disable port={silent_port} connect_timeout=2"),
            "no answer",
        ),
        // Redis waits for the end of the line.
        (
            format!("sslmode=require port={redis_port} connect_timeout=2"),
            "no answer",
        ),
    ] {
        let url = address(&stack, "postgres", &parameters);
        assert_waits(stack.worker().env("DATABASE_URL", &url), &url, &[words]);
    }
}

/// The first server that is there is taken.
#[test]
fn of_several_servers_the_first_that_lets_the_worker_in_is_taken() {
    let stack = stack_on(RedisServer::start(), &PostgresServer::shared(), "several");
    let (port, name) = (stack.database.server().port(), stack.database.name());
    let url = format!("postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/{name}?target_session_attrs=primary");
    assert_connects(stack.worker().env("DATABASE_URL", &url), &url);
}

/// A Redis with a second port that speaks TLS.
fn redis_with(authority: &Authority, identity: &Identity, args: &[&str]) -> (RedisServer, u16) {
    let port = free_port();
    let (text, ca) = (port.to_string(), authority.path());
    let (certificate, key) = (identity.certificate(), identity.key());
    let mut all = vec!["--tls-port", &text, "--tls-ca-cert-file", &ca];
    all.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
    all.extend(args);
    (RedisServer::start_with(&all), port)
}

#[test]
fn redis_is_reached_by_tls_with_a_good_certificate_only() {
    let authority = Authority::new();
    let identity = authority.sign("localhost", &["localhost"]);
    let (redis, port) = redis_with(&authority, &identity, &["--tls-auth-clients", "no"]);
    let stack = stack_on(redis, &PostgresServer::shared(), "redis_tls");
    let ca = authority.path();
    for url in [
        format!("rediss://localhost:{port}?ssl_ca_certs={ca}"),
        format!("rediss://127.0.0.1:{port}?ssl_ca_certs={ca}&ssl_check_hostname=false"),
        format!("rediss://127.0.0.1:{port}?ssl_cert_reqs=none"),
    ] {
        assert_connects(stack.worker().env("REDIS_URL", &url), &url);
    }
    let plain_port = stack.redis.port();
    for (url, words) in [
        (format!("rediss://localhost:{port}"), "name the file of the authority"),
        (
            format!("rediss://127.0.0.1:{port}?ssl_ca_certs={ca}"),
            "connect to a name",
        ),
        (
            format!("rediss://localhost:{plain_port}?ssl_ca_certs={ca}"),
            "does not use TLS",
        ),
        (format!("redis://127.0.0.1:{port}"), "waiting for redis"),
    ] {
        assert_waits(stack.worker().env("REDIS_URL", &url), &url, &[words]);
    }
    assert_eq!(stack.count("follows"), 1);
}

#[test]
fn client_certificates_acl_users_and_sockets_open_redis() {
    let authority = Authority::new();
    let identity = authority.sign("localhost", &["localhost"]);
    let client = authority.sign("client", &[]);
    let socket = scratch::directory("redis-socket").join("redis.sock");
    let socket = socket.to_str().expect("a path in UTF-8");
    let args = [
        &["--tls-auth-clients", "yes", "--unixsocket", socket][..],
        &["--user", "worker", "on", ">hunter2@acl", "~*", "&*", "+@all"][..],
    ];
    let (redis, port) = redis_with(&authority, &identity, &args.concat());
    let stack = stack_on(redis, &PostgresServer::shared(), "redis_identities");
    let tls = format!(
        "rediss://worker:hunter2%40acl@localhost:{port}?ssl_ca_certs={}",
        authority.path()
    );
    let certified = format!(
        "{tls}&ssl_certfile={}&ssl_keyfile={}",
        client.certificate(),
        client.key()
    );
    let plain_port = stack.redis.port();
    for url in [
        certified,
        format!("redis://worker:hunter2%40acl@127.0.0.1:{plain_port}"),
        format!("unix://worker:hunter2%40acl@{socket}"),
        format!("unix://{socket}"),
    ] {
        assert_connects(stack.worker().env("REDIS_URL", &url), &url);
    }
    for (url, words) in [
        (tls, "waiting for redis"),
        (
            format!("redis://worker:hunter2wrong@127.0.0.1:{plain_port}"),
            "authentication failed",
        ),
    ] {
        assert_waits(stack.worker().env("REDIS_URL", &url), &url, &[words]);
    }
}
