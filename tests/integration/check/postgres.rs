//! Faults of PostgreSQL, and of the tables in it.

use super::{Checked, check};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Database, PostgresOptions};
use crate::support::{PostgresServer, RedisServer, Stack};

fn with_own_server(name: &str, settings: Vec<(&'static str, String)>) -> Stack {
    let options = PostgresOptions { fsync: false, settings };
    Stack::with_postgres(name, PostgresServer::start(options))
}

/// Checks as a role without any right but those given to it in the stack's database.
fn check_as(stack: &Stack, role: &str, statements: &str) -> Checked {
    let role = format!("{role}_{}", stack.database.name());
    stack.sql(&format!("create role {role} login"));
    stack.sql(&statements.replace("ROLE", &role));
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    let checked = check(stack, &[("DATABASE_URL", &url)]);
    stack.sql(&format!("drop owned by {role}; drop role {role}"));
    checked
}

#[test]
fn a_server_that_is_gone_or_stalls_is_told_host_by_host() {
    let stack = with_own_server("check_gone", Vec::new());
    let server = stack.database.server();
    let two = format!(
        "host=127.0.0.1,127.0.0.1 port=1,{} user=postgres dbname={}",
        server.port(),
        stack.database.name()
    );
    let checked = check(&stack, &[("DATABASE_URL", &two)]);
    checked.assert_finds("warn", "postgresql", &["127.0.0.1:1", "refused"]);
    checked.assert_finds("ok", "postgresql", &["answers"]);
    checked.assert_nothing_fails();

    // Stopping the process that takes connections is enough.
    let signal = |signal| {
        // SAFETY: a signal to a process of the test's own.
        unsafe { libc::kill(server.pid(), signal) };
    };
    signal(libc::SIGSTOP);
    let checked = check(&stack, &[]);
    signal(libc::SIGCONT);
    checked.assert_finds("fail", "postgresql", &[]);
    checked.assert_finds("ok", "redis role", &[]);

    server.stop();
    check(&stack, &[]).assert_finds("fail", "postgresql", &["refused", "DATABASE_URL"]);
    check(&stack, &[("DATABASE_URL", &two)]).assert_finds("fail", "postgresql", &["none of the servers"]);
    server.restart();
}

#[test]
fn a_database_or_role_that_is_not_there_is_told() {
    let stack = Stack::new("check_names");
    let url = stack.database_url();
    let other = url.replace("postgres@", "nobody_here@");
    check(&stack, &[("DATABASE_URL", &other)]).assert_finds("fail", "postgresql", &["nobody_here"]);
    let server = stack.database.server().url("not_there");
    check(&stack, &[("DATABASE_URL", &server)]).assert_finds("fail", "postgresql", &["not_there"]);
}

#[test]
fn a_server_that_takes_no_writes_is_told() {
    let stack = Stack::new("check_read_only");
    stack.sql(&format!(
        "alter database {} set default_transaction_read_only = on",
        stack.database.name()
    ));
    let checked = check(&stack, &[]);
    checked.assert_finds("fail", "writing", &["default_transaction_read_only", "RESET"]);
    stack.sql(&format!(
        "begin read write; alter database {} reset all; commit",
        stack.database.name()
    ));
}

#[test]
fn too_little_room_is_told_by_the_limit_that_is_in_the_way() {
    let stack = with_own_server("check_room", vec![("max_connections", "8".to_owned())]);
    let checked = check(&stack, &[("PARALLEL_CONSUMERS", "30"), ("DB_POOL_SIZE", "30")]);
    checked.assert_finds(
        "fail",
        "connections",
        &["max_connections", "30 workers", "PARALLEL_CONSUMERS="],
    );
    let role = "alter role ROLE connection limit 1; grant all on all tables in schema public to ROLE";
    let checked = check_as(&stack, "narrow", role);
    checked.assert_finds("fail", "connections", &["the role's CONNECTION LIMIT"]);
}

#[test]
fn what_is_not_durable_is_told() {
    let stack = Stack::new("check_durability");
    check(&stack, &[]).assert_finds("warn", "durability", &["fsync"]);
    let options = PostgresOptions {
        fsync: true,
        settings: vec![("synchronous_commit", "off".to_owned())],
    };
    let stack = Stack::with_postgres("check_commit", PostgresServer::start(options));
    check(&stack, &[]).assert_finds("ok", "durability", &["synchronous_commit is off", "switches it on"]);
}

#[test]
fn missing_tables_columns_and_keys_are_told_with_the_statement_that_makes_them() {
    let empty = Stack::of(
        RedisServer::start(),
        Database::empty(PostgresServer::shared(), "check_empty"),
    );
    check(&empty, &[]).assert_finds("fail", "tables", &["users", "likes", "firehose-worker schema"]);

    let stack = Stack::new("check_schema");
    let break_with = |statements: &str, what: &str, words: &[&str]| {
        stack.sql(statements);
        check(&stack, &[]).assert_finds("fail", what, words);
    };
    break_with(
        "alter table likes drop column via",
        "columns",
        &["likes.via is missing", "ADD COLUMN via jsonb"],
    );
    stack.sql("alter table likes add column via jsonb");
    check(&stack, &[]).assert_finds("ok", "tables", &[]);
    break_with(
        "alter table users alter column handle type varchar(64)",
        "columns",
        &["users.handle is character varying(64)", "TYPE varchar(255)"],
    );
    break_with(
        "alter table posts alter column created_at type timestamptz",
        "columns",
        &["posts.created_at is timestamp with time zone"],
    );
    break_with(
        "alter table posts add column extra text not null",
        "columns",
        &["posts.extra", "NOT NULL without a default"],
    );
    break_with(
        "alter table posts alter column embed set not null",
        "columns",
        &["posts.embed", "DROP NOT NULL"],
    );
    break_with(
        "drop index unique_like_user_post",
        "keys",
        &["likes has no unique key on (post_uri, user_did)", "CREATE UNIQUE INDEX"],
    );
    break_with(
        "alter table labels drop constraint labels_pkey cascade",
        "keys",
        &["labels has no unique key on (uri)", "ADD CONSTRAINT"],
    );
    break_with("drop table quotes", "tables", &["missing: quotes"]);
    // A column that the worker leaves alone is nobody's business.
    stack.sql("alter table user_settings drop column feed_preferences");
    let checked = check(&stack, &[]);
    assert!(
        !checked.output.stdout.contains("feed_preferences"),
        "{}",
        checked.output.stdout
    );
}

#[test]
fn what_a_statement_stumbles_over_is_told_where_nothing_else_is_wrong() {
    let stack = Stack::new("check_statement");
    // A table with rules takes no ON CONFLICT.
    stack.sql("create rule gates as on insert to post_gates do also delete from post_gates where false");
    check(&stack, &[]).assert_finds("fail", "statements", &["sql/post_gates_upsert.sql"]);
}

#[test]
fn each_right_that_the_role_lacks_is_told_as_the_grant_that_gives_it() {
    let stack = Stack::new("check_rights");
    let all = "grant select, insert, update, delete on all tables in schema public to ROLE;
               grant usage on all sequences in schema public to ROLE;";
    let schema = format!("grant create on database {} to ROLE", stack.database.name());

    let checked = check_as(&stack, "good", &format!("{all} {schema}"));
    checked.assert_finds("ok", "rights", &["may do all"]);
    checked.assert_finds("ok", "own tables", &["makes them at its start"]);

    let checked = check_as(&stack, "reads", "grant select on all tables in schema public to ROLE");
    checked.assert_finds("fail", "rights", &["DELETE, INSERT, UPDATE", "GRANT", "likes"]);
    checked.assert_finds("fail", "own tables", &["firehose-worker schema --own"]);

    let checked = check_as(
        &stack,
        "no_likes",
        &format!("{all} {schema}; revoke delete on likes, users from ROLE"),
    );
    checked.assert_finds("fail", "rights", &["GRANT DELETE ON likes TO"]);

    // Rights to columns are enough, if they are all that is used.
    let columns = "revoke select, update on user_settings from ROLE;
                   grant select (user_did, data_collection_forbidden) on user_settings to ROLE";
    check_as(&stack, "columns", &format!("{all} {schema}; {columns}")).assert_finds("ok", "rights", &[]);

    stack.drain();
    check_as(&stack, "no_schema", all).assert_finds("fail", "own tables", &["GRANT USAGE ON SCHEMA firehose_worker"]);
    let usage = format!("{all} grant usage on schema firehose_worker to ROLE");
    check_as(&stack, "no_own", &usage).assert_finds("fail", "rights", &["firehose_worker.rivals", "GRANT"]);
}

#[test]
fn pgbouncer_is_told_and_one_without_transactions_fails() {
    let stack = Stack::new("check_pgbouncer");
    let bouncer = PgBouncer::start(&stack.database, "transaction", 3);
    let checked = check(&stack, &[("DATABASE_URL", &bouncer.url(&stack.database))]);
    checked.assert_finds("ok", "pooler", &["PgBouncer"]);
    checked.assert_nothing_fails();
    let bouncer = PgBouncer::start(&stack.database, "statement", 3);
    let checked = check(&stack, &[("DATABASE_URL", &bouncer.url(&stack.database))]);
    checked.assert_finds("fail", "transactions", &["pool_mode"]);
}
