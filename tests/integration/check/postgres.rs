//! Faults of PostgreSQL, and of the tables in it.

use super::{Checked, check};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Database, PostgresOptions};
use crate::support::stack::shown;
use crate::support::{PostgresServer, RedisServer, Stack, wait_until};

pub(super) fn with_own_server(name: &str, settings: Vec<(&'static str, String)>) -> Stack {
    let options = PostgresOptions { fsync: false, settings };
    Stack::with_postgres(name, PostgresServer::start(options))
}

/// Checks as a role without any right but those given to it in the stack's database.
pub(super) fn check_as(stack: &Stack, role: &str, statements: &str) -> Checked {
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
    checked.assert_finds(
        "fail",
        "writing",
        &[
            "default_transaction_read_only",
            "BEGIN READ WRITE; ALTER ROLE postgres IN DATABASE",
        ],
    );
    stack.sql(&format!(
        "begin read write; alter database {} reset all; commit",
        stack.database.name()
    ));
}

#[test]
fn a_standby_is_told() {
    let stack = with_own_server("check_standby", Vec::new());
    let server = stack.database.server();
    server.stop();
    // It waits for a primary from then on, and takes reads meanwhile.
    std::fs::write(server.socket_dir().join("data/standby.signal"), "").expect("standby.signal");
    server.restart();
    check(&stack, &[]).assert_finds("fail", "writing", &["a standby", "target_session_attrs=primary"]);
}

/// Functions that stand before PostgreSQL's own say what only a server of another version or clock would.
#[test]
fn a_version_that_is_too_old_and_a_clock_that_is_off_are_told() {
    let stack = Stack::new("check_version");
    stack.sql(&format!(
        "create schema older;
         create function older.current_setting(name text) returns text language sql as $$
             select case name
                 when 'server_version' then '12.22 (Debian)'
                 when 'server_version_num' then '120022'
                 else pg_catalog.current_setting(name) end $$;
         create function older.clock_timestamp() returns timestamptz language sql as $$
             select pg_catalog.clock_timestamp() - interval '1 hour' $$;
         alter database {} set search_path = older, pg_catalog, public",
        stack.database.name()
    ));
    let checked = check(&stack, &[]);
    checked.assert_finds("fail", "postgresql", &["version 12.22", "13 or newer"]);
    checked.assert_finds("warn", "postgresql clock", &["behind this machine's", "NTP"]);
}

#[test]
fn encryption_is_told_and_its_want_on_the_way_to_another_machine_too() {
    let secured = crate::tls::secured();
    let stack = Stack::of(
        RedisServer::start(),
        Database::new(std::sync::Arc::clone(&secured.server), "check_tls"),
    );
    let address = |host: &str, mode: &str| {
        let (port, name) = (secured.server.port(), stack.database.name());
        format!("host={host} port={port} user=postgres dbname={name} sslmode={mode}")
    };
    let encrypted = address("127.0.0.1", "require");
    check(&stack, &[("DATABASE_URL", &encrypted)]).assert_finds("ok", "postgresql", &["with TLS"]);
    // An address that is none of this machine's to look at, and leads to it all the same.
    let plain = address("0.0.0.0", "disable");
    let words = ["without TLS to another machine", "sslmode=verify-full"];
    check(&stack, &[("DATABASE_URL", &plain)]).assert_finds("warn", "postgresql", &words);
}

#[test]
fn too_little_room_is_told_by_the_limit_that_is_in_the_way() {
    let stack = with_own_server("check_room", vec![("max_connections", "8".to_owned())]);
    let checked = check(&stack, &[("PARALLEL_CONSUMERS", "30"), ("DB_POOL_SIZE", "30")]);
    checked.assert_finds("fail", "connections", &["max_connections", "opens 30", "DB_POOL_SIZE="]);
    // One for each of two workers, and none to look for other processes.
    let role = "alter role ROLE connection limit 2; grant all on all tables in schema public to ROLE";
    let checked = check_as(&stack, "narrow", role);
    let words = ["2 left by the role's CONNECTION LIMIT", "opens 3", "DB_POOL_SIZE=2"];
    checked.assert_finds("fail", "connections", &words);
    let database = format!("alter database {} connection limit 2", stack.database.name());
    let checked = check_as(&stack, "crowded", &database);
    checked.assert_finds("fail", "connections", &["the database's CONNECTION LIMIT", "opens 3"]);
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
        &["likes has no unique key on (user_did, post_uri)", "CREATE UNIQUE INDEX"],
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
    check(&stack, &[]).assert_finds("fail", "statements", &["1 would not run", "post_gates_upsert"]);
}

#[test]
fn each_right_that_the_role_lacks_is_told_as_the_grant_that_gives_it() {
    let stack = Stack::new("check_rights");
    let all = "grant select, insert, update, delete on all tables in schema public to ROLE;
               grant usage on all sequences in schema public to ROLE;";
    let schema = format!("grant create on database {} to ROLE", stack.database.name());

    let checked = check_as(&stack, "good", &format!("{all} {schema}"));
    checked.assert_finds("ok", "rights", &["may do everything"]);
    checked.assert_finds("ok", "own tables", &["creates them at its start"]);

    let checked = check_as(&stack, "reads", "grant select on all tables in schema public to ROLE");
    checked.assert_finds("fail", "rights", &["DELETE, INSERT, UPDATE", "GRANT", "likes"]);
    checked.assert_finds("fail", "own tables", &["firehose-worker schema --own"]);

    let checked = check_as(
        &stack,
        "no_likes",
        &format!("{all} {schema}; revoke delete on likes, users from ROLE"),
    );
    checked.assert_finds("fail", "rights", &["GRANT DELETE ON public.likes TO"]);

    let unnumbered = format!("{schema}; grant select, insert, update, delete on all tables in schema public to ROLE");
    let words = ["GRANT USAGE ON SEQUENCE public.", "notifications_id_seq"];
    check_as(&stack, "unnumbered", &unnumbered).assert_finds("fail", "rights", &words);

    // Rights to columns are enough, if they are all that is used.
    let columns = "revoke select, update on user_settings from ROLE;
                   grant select (user_did, data_collection_forbidden) on user_settings to ROLE";
    check_as(&stack, "columns", &format!("{all} {schema}; {columns}")).assert_finds("ok", "rights", &[]);

    stack.drain();
    check_as(&stack, "no_schema", all).assert_finds("fail", "own tables", &["GRANT USAGE ON SCHEMA firehose_worker"]);
    let usage = format!("{all} grant usage on schema firehose_worker to ROLE");
    check_as(&stack, "no_own", &usage).assert_finds("fail", "rights", &["firehose_worker.rivals", "GRANT"]);
    stack.sql("drop table firehose_worker.versions");
    let words = ["firehose_worker.versions are missing", "may not create them"];
    check_as(&stack, "no_extend", &usage).assert_finds("fail", "own tables", &words);
}

/// Carries a remedy out as it is printed, and checks again.
fn mend_and_check(stack: &Stack, checked: &Checked, what: &str, env: &[(&str, &str)]) -> Checked {
    for finding in checked.findings() {
        if finding["what"] == what && finding["level"] == "fail" {
            stack.sql(finding["remedy"].as_str().expect("a remedy"));
        }
    }
    check(stack, env)
}

#[test]
fn a_role_that_may_not_use_the_schema_of_the_tables_is_told() {
    let stack = Stack::new("check_public");
    stack.drain();
    let role = format!("Out-{}", stack.database.name());
    stack.sql(&format!(
        "revoke usage on schema public from public; create role \"{role}\" login;
         grant select, insert, update, delete on all tables in schema public to \"{role}\";
         grant usage on all sequences in schema public to \"{role}\";
         grant usage on schema firehose_worker to \"{role}\";
         grant select, insert, update, delete on all tables in schema firehose_worker to \"{role}\""
    ));
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    let env = [("DATABASE_URL", url.as_str())];
    let checked = check(&stack, &env);
    checked.assert_finds(
        "fail",
        "tables",
        &["may not use the schema public", "GRANT USAGE ON SCHEMA public"],
    );
    mend_and_check(&stack, &checked, "tables", &env).assert_nothing_fails();
    stack.sql(&format!("drop owned by \"{role}\"; drop role \"{role}\""));
}

#[test]
fn the_statements_that_are_told_for_tables_mend_them() {
    let stack = Stack::new("check_mend");
    for (statements, what) in [
        ("alter table posts alter created_at type timestamptz", "columns"),
        ("alter table likes alter via type json", "columns"),
        ("alter table users alter handle type varchar(64)", "columns"),
        ("alter table likes drop column via", "columns"),
        ("alter table posts alter column embed set not null", "columns"),
        ("alter table posts add column extra text not null", "columns"),
        ("drop index unique_like_user_post", "keys"),
        ("alter table quotes drop constraint quotes_pkey cascade", "keys"),
    ] {
        stack.sql(statements);
        let checked = check(&stack, &[]);
        checked.assert_finds("fail", what, &["public."]);
        mend_and_check(&stack, &checked, what, &[]).assert_nothing_fails();
    }
}

#[test]
fn row_level_security_is_told_and_its_remedy_cures_it() {
    let stack = Stack::new("check_row_security");
    let role = format!("hidden_{}", stack.database.name());
    stack.drain();
    stack.sql(&format!(
        "create role {role} login; grant usage on schema firehose_worker to {role};
         grant select, insert, update, delete on all tables in schema public, firehose_worker to {role};
         grant usage on all sequences in schema public to {role};
         alter table user_settings enable row level security; alter table likes enable row level security"
    ));
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    let env = [("DATABASE_URL", url.as_str())];
    let checked = check(&stack, &env);
    let words = ["public.likes, public.user_settings", "BYPASSRLS"];
    checked.assert_finds("fail", "row-level security", &words);
    mend_and_check(&stack, &checked, "row-level security", &env).assert_nothing_fails();
    stack.sql(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn a_database_that_is_not_utf8_is_told_and_waited_for_before_anything_is_written() {
    let stack = Stack::new("check_encoding");
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let name = format!("{}_{encoding}", stack.database.name()).to_ascii_lowercase();
        stack.sql(&format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        ));
        let url = stack.database.server().url(&name);
        let words = [encoding, "UTF8", "createdb"];
        check(&stack, &[("DATABASE_URL", &url)]).assert_finds("fail", "encoding", &words);
        let worker = stack.worker().env("DATABASE_URL", &url).spawn();
        wait_until("the worker says what it waits for", || {
            match worker.log().contains(&format!("encoding is {encoding}")) {
                true => Ok(()),
                false => Err(shown(&worker.log())),
            }
        });
        drop(worker);
        let schemas = "select from pg_namespace where nspname = 'firehose_worker'";
        let rows = stack
            .database
            .server()
            .client(&name)
            .query(schemas, &[])
            .expect("a query");
        assert!(rows.is_empty());
        stack.sql(&format!("drop database {name} with (force)"));
    }
}

#[test]
fn a_right_that_another_role_lacks_is_told_by_the_statement() {
    let stack = Stack::new("check_view");
    // A view reads its table as its owner, who may not.
    stack.sql(
        "alter table user_settings rename to settings_of_users;
         create view user_settings as select * from settings_of_users;
         alter view user_settings owner to pg_monitor",
    );
    let all = "grant select, insert, update, delete on all tables in schema public to ROLE;
               revoke select on settings_of_users from ROLE";
    let words = ["permission denied for table settings_of_users", "grant it to"];
    check_as(&stack, "by_view", all).assert_finds("fail", "rights", &words);
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
