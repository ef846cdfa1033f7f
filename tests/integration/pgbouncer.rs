//! The worker behind PgBouncer, which gives a connection to another client after each transaction.

use std::time::Duration;

use firehose_worker::postgres::db::Db;
use firehose_worker::postgres::params::Params;
use firehose_worker::postgres::{address, sql};
use firehose_worker::runtime::shutdown::Stop;

use crate::generator::Events;
use crate::support::entries::{did, follow};
use crate::support::pgbouncer::PgBouncer;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{PostgresOptions, PostgresServer, Sent, Stack, assert_same, wait_until};

/// Connections to PostgreSQL that four worker threads share.
const N_CONNECTIONS: usize = 2;

#[test]
fn a_stream_through_pgbouncer_makes_the_same_rows_and_leaves_no_state_behind() {
    let direct = Stack::new("direct");
    let events: Vec<_> = Events::new(21, 4_000).collect();
    direct.push_events(events.iter().cloned());
    direct.drain();

    let stack = Stack::new("bounced");
    let sent = stack.push_events(events);
    let bouncer = PgBouncer::start(&stack.database, "transaction", N_CONNECTIONS);
    let url = bouncer.url(&stack.database);
    for _ in 0..2 {
        stack.drain_with(&[
            ("DATABASE_URL", &url),
            ("PARALLEL_CONSUMERS", "4"),
            ("MAX_BATCH_ENTRIES", "100"),
        ]);
        stack.assert_all_acknowledged();
        assert_same(&direct.snapshot(), &stack.snapshot());
        stack.redeliver();
    }
    stack.drain_with(&[("DATABASE_URL", &url), ("MAX_BATCH_ENTRIES", "5")]);
    stack.assert_counted(sent.times(3));
    assert_eq!(
        sessions_state(&url),
        [(); N_CONNECTIONS].map(|()| "on 0 Asia/Kolkata 0".to_owned())
    );
}

#[test]
fn only_a_session_that_leads_directly_to_the_server_keeps_statements_prepared() {
    let stack = Stack::new("prepared");
    let bouncer = PgBouncer::start(&stack.database, "transaction", N_CONNECTIONS);
    let direct = stack.database.url();
    for (url, n_prepared) in [
        (direct.clone(), "1"),
        (format!("{direct}?statement_cache_size=0"), "0"),
        (format!("{direct}?pgbouncer=true"), "0"),
        (bouncer.url(&stack.database), "0"),
    ] {
        let (database, _) = address::parse(&url).expect("an address");
        let connections = Db::new(database, 1, &Stop::default());
        let answer = connections.with(|client| {
            for _ in 0..2 {
                Params::new().texts(["did:plc:a"].iter()).query(client, sql::OPT_OUTS)?;
            }
            Ok(client.simple_query("SELECT count(*) FROM pg_prepared_statements"))
        });
        let answer = answer.expect("a connection").expect("an answer");
        let count = answer.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(count, Some(n_prepared), "{url}");
    }
}

#[test]
fn a_postgresql_that_crashes_behind_pgbouncer_loses_nothing() {
    let events: Vec<_> = Events::new(22, 2_000).collect();
    let direct = Stack::new("direct_22");
    direct.push_events(events.iter().cloned());
    direct.drain();

    let server = PostgresServer::start(PostgresOptions::default());
    let stack = Stack::with_postgres("crashes_behind", server.clone());
    let bouncer = PgBouncer::start(&stack.database, "transaction", N_CONNECTIONS);
    let mut worker = stack
        .worker()
        .env("DATABASE_URL", &bouncer.url(&stack.database))
        .env("MAX_BATCH_ENTRIES", "50")
        .spawn();
    let mut sent = Sent::default();
    for part in events.chunks(500) {
        sent = sent.plus(stack.push_events(part.iter().cloned()));
        server.stop_immediate();
        server.restart();
    }
    wait_until("all events are counted", || {
        equal(stack.metric("cluster:metrics", "totalEvents"), sent.total)
            .map_err(|error| format!("{error}\n{}", shown(&worker.log())))
    });
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(Duration::from_secs(60)).code(), Some(0));
    stack.assert_all_acknowledged();
    stack.assert_counted(sent);
    stack.assert_counters_equal_rows();
    assert_same(&direct.snapshot(), &stack.snapshot());
}

/// The settings that a worker's transactions change, and prepared statements, in each of PgBouncer's connections:
/// clients whose transactions run at a time have one each.
fn sessions_state(url: &str) -> [String; N_CONNECTIONS] {
    let mut clients = [(); N_CONNECTIONS].map(|()| postgres::Client::connect(url, postgres::NoTls).expect("pgbouncer"));
    let mut transactions = clients.each_mut().map(|client| {
        let mut transaction = client.transaction().expect("BEGIN");
        transaction.batch_execute("select 1").expect("a statement");
        transaction
    });
    transactions.each_mut().map(|transaction| {
        let query = "select concat_ws(' ', current_setting('enable_seqscan'), current_setting('statement_timeout'),
                            current_setting('timezone'), count(*)) from pg_prepared_statements";
        let messages = transaction.simple_query(query).expect("the settings");
        let row = messages.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        row.expect("a row").to_owned()
    })
}

#[test]
fn a_pgbouncer_that_allows_no_transactions_is_named_as_the_reason() {
    let stack = Stack::new("statement_mode");
    stack.create(&did("alice"), "app.bsky.graph.follow/1", follow(&did("bob")));
    let bouncer = PgBouncer::start(&stack.database, "statement", N_CONNECTIONS);
    let mut worker = stack
        .worker()
        .env("DATABASE_URL", &bouncer.url(&stack.database))
        .spawn();
    wait_until("the worker logs why it waits", || {
        let log = worker.log();
        if log.contains("statement pooling") {
            Ok(())
        } else {
            Err(shown(&log))
        }
    });
    worker.signal(libc::SIGTERM);
    assert_eq!(
        worker.wait_exit(Duration::from_secs(60)).code(),
        Some(0),
        "{}",
        shown(&worker.log())
    );
    assert_eq!(stack.count("follows"), 0);
}
