//! What `check` tells to do, done as it is printed: then it finds nothing more.
//!
//! A remedy ends with a command: an SQL statement, which goes to psql; `ACL SETUSER`, which goes to redis-cli; or a
//! line for a shell. The words before it say what else there is to do.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use redis::cmd;
use serde_json::Value;

use super::{Checked, check};
use crate::support::postgres::{Database, PostgresOptions, bin_dir};
use crate::support::{PostgresServer, RedisServer, Stack, wait_until};

/// What commands begin with.
const SQL: [&str; 5] = ["ALTER ", "GRANT ", "CREATE ", "BEGIN ", "SELECT "];
const REDIS: [&str; 1] = ["ACL SETUSER "];
const SHELL: [&str; 3] = ["redis-cli ", "firehose-worker schema", "sed "];

/// What lacks to a check, as what it tells to do says.
fn told<'a>(checked: &'a Checked, what: &str) -> Vec<&'a str> {
    let is_told = |finding: &&Value| finding["what"] == what && finding["level"] != "ok";
    let told = checked.findings().iter().filter(is_told);
    told.map(|finding| finding["remedy"].as_str().expect("a remedy"))
        .collect()
}

/// The command that a remedy ends with.
fn command_of<'a>(remedy: &'a str, begins: &[&str]) -> Option<&'a str> {
    let at = begins.iter().filter_map(|begin| remedy.find(begin)).min()?;
    Some(&remedy[at..])
}

/// Carries a remedy out, as it is printed.
#[track_caller]
fn carry_out(stack: &Stack, remedy: &str) {
    let port = stack.redis.port().to_string();
    let (mut command, input) = if let Some(line) = command_of(remedy, &SHELL) {
        let mut shell = Command::new("sh");
        let line = line.replace("redis-cli ", &format!("redis-cli -e -p {port} "));
        shell.args(["-c", &format!("set -e; {line}")]);
        (shell, "")
    } else if let Some(rule) = command_of(remedy, &REDIS) {
        let mut cli = Command::new("redis-cli");
        cli.args(["-e", "-p", &port]);
        (cli, rule)
    } else {
        let statements = command_of(remedy, &SQL).unwrap_or_else(|| panic!("no command in {remedy}"));
        let mut psql = Command::new("psql");
        let server = stack.database.server();
        psql.args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.port().to_string(),
            "-d",
            stack.database.name(),
        ]);
        (psql, statements)
    };
    let worker = std::path::Path::new(env!("CARGO_BIN_EXE_firehose-worker"));
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!(
        "{}:{}:{path}",
        worker.parent().expect("a folder").display(),
        bin_dir().display()
    );
    let mut child = command
        .env("PATH", path)
        .env("PGUSER", "postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{remedy}: {error}"));
    let mut stdin = child.stdin.take().expect("its stdin");
    writeln!(stdin, "{input}").expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERR"), "{remedy}\n{said}");
}

/// Carries out all that a check tells about a subject, and checks that nothing more is told about it.
#[track_caller]
fn mend(stack: &Stack, what: &str, env: &[(&str, &str)]) -> Checked {
    let checked = check(stack, env);
    let remedies = told(&checked, what);
    assert!(!remedies.is_empty(), "nothing told about {what}: {:#}", checked.report);
    for remedy in &remedies {
        carry_out(stack, remedy);
    }
    let again = check(stack, env);
    assert!(told(&again, what).is_empty(), "after {remedies:#?}: {:#}", again.report);
    again
}

/// An address at which there is nobody, for checks of Redis alone: they are quicker.
const NO_DATABASE: (&str, &str) = ("DATABASE_URL", "postgresql://127.0.0.1:1/none");

fn run(stack: &Stack, words: &[&str]) {
    cmd(words[0])
        .arg(&words[1..])
        .exec(&mut stack.redis())
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

fn with_redis(arguments: &[&str]) -> Stack {
    Stack::of(
        RedisServer::start_with(arguments),
        Database::new(PostgresServer::shared(), "remedies"),
    )
}

#[test]
fn what_is_told_about_redis_mends_it() {
    const FULL: &str = "SETRANGE filling 8388607 x;CONFIG SET maxmemory 9mb";
    let faults: [(&str, &[&str], &str); 6] = [
        ("redis role", &["--min-replicas-to-write", "1"], ""),
        ("redis persistence", &[], ""),
        (
            "redis memory",
            &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            "",
        ),
        ("redis memory", &[], FULL),
        (
            "redis memory",
            &["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"],
            FULL,
        ),
        (
            "losses",
            &[],
            "HSET firehose:worker:losses:firehose-processors unread_trimmed 7",
        ),
    ];
    for (what, arguments, commands) in faults {
        let stack = with_redis(arguments);
        for command in commands.split(';').filter(|command| !command.is_empty()) {
            run(&stack, &command.split(' ').collect::<Vec<_>>());
        }
        mend(&stack, what, &[NO_DATABASE]);
    }
}

#[test]
fn a_snapshot_that_succeeds_again_ends_the_fault() {
    let stack = with_redis(&["--save", "3600 1", "--dbfilename", "dump.rdb"]);
    let dir: Vec<String> = cmd("CONFIG")
        .arg("GET")
        .arg("dir")
        .query(&mut stack.redis())
        .expect("CONFIG");
    // Whoever the server runs as, it cannot put its file there.
    let in_the_way = std::path::Path::new(&dir[1]).join("dump.rdb");
    std::fs::create_dir(&in_the_way).expect("a folder under the snapshot's name");
    run(&stack, &["BGSAVE"]);
    wait_until("the snapshot fails", || {
        !told(&check(&stack, &[]), "redis persistence").is_empty()
    });
    std::fs::remove_dir(&in_the_way).expect("the folder goes");
    let checked = check(&stack, &[]);
    carry_out(&stack, told(&checked, "redis persistence")[0]);
    wait_until("the check finds nothing more", || {
        told(&check(&stack, &[]), "redis persistence").is_empty()
    });
}

/// The rules of a user that the worker runs as, and what is told of it.
const USERS: [(&str, &str, &str); 8] = [
    ("~firehose:events +xreadgroup +xack", "redis rights", ""),
    ("~firehose:* +xreadgroup", "redis rights", ""),
    ("", "redis rights", ""),
    ("~* +@all -xgroup|delconsumer", "redis rights", ""),
    ("~* +@all -xinfo +xinfo|stream", "stream", ""),
    ("~firehose:worker:* +@all", "redis rights", ""),
    ("~* +@all -info", "redis", ""),
    ("~* +@all -select", "redis", "/3"),
];

#[test]
fn the_rules_that_are_told_give_a_user_all_rights() {
    let stack = Stack::new("remedies_acl");
    stack.push_fields(&[("type", b"account"), ("data", b"{}")]);
    for (rules, what, database) in USERS {
        let mut words = vec!["ACL", "SETUSER", "feeder", "reset", "on", ">secret"];
        words.extend(rules.split_whitespace());
        run(&stack, &words);
        let url = stack.redis_url().replace("redis://", "redis://feeder:secret@") + database;
        mend(&stack, what, &[("REDIS_URL", &url), NO_DATABASE]);
    }
    let weird = [
        ("REDIS_STREAM_KEY", "my stream[1]"),
        ("REDIS_CONSUMER_GROUP", "it's mine"),
    ];
    run(&stack, &["ACL", "SETUSER", "feeder", "reset", "on", ">secret"]);
    let url = stack.redis_url().replace("redis://", "redis://feeder:secret@");
    mend(&stack, "redis rights", &[("REDIS_URL", &url), weird[0], weird[1]]);
}

/// The commands that the worker sends, and whether it needs them.
const COMMANDS: [(&str, bool); 22] = [
    ("XREADGROUP", true),
    ("XACK", true),
    // While there is no group.
    ("XGROUP", true),
    ("XAUTOCLAIM", false),
    ("XCLAIM", false),
    ("XPENDING", false),
    ("XINFO", false),
    ("XADD", false),
    ("XLEN", false),
    ("TIME", false),
    ("EXISTS", false),
    ("HINCRBY", false),
    ("HGET", false),
    ("HSET", false),
    ("GET", false),
    ("SET", false),
    ("DEL", false),
    ("PEXPIRE", false),
    ("WATCH", false),
    ("UNWATCH", false),
    ("MULTI", false),
    ("EXEC", false),
];

/// The arguments of a server that does not know these commands.
fn without<'a>(commands: &[&'a str]) -> Vec<&'a str> {
    commands
        .iter()
        .flat_map(|&name| ["--rename-command", name, ""])
        .collect()
}

/// Takes the renamed commands that a remedy names out of the server's configuration, and restarts it.
fn know_again(stack: &mut Stack, remedy: &str) {
    assert!(!remedy.contains("ACL"), "no right helps: {remedy}");
    let named: Vec<&str> = remedy
        .split("rename-command ")
        .skip(1)
        .filter_map(|rest| rest.split([',', ' ']).next())
        .collect();
    assert!(!named.is_empty(), "no command in {remedy}");
    stack.redis.know_again(&named);
}

#[test]
fn a_command_that_was_renamed_away_is_told_as_one_that_no_right_gives() {
    let stack = Stack::new("remedies_renamed");
    for (command, is_needed) in COMMANDS {
        let redis = RedisServer::start_with(&without(&[command]));
        let checked = check(&stack, &[("REDIS_URL", &redis.url()), NO_DATABASE]);
        let level = if is_needed { "fail" } else { "warn" };
        let words = [
            &format!("rename-command {command} out of redis.conf")[..],
            "does not know",
        ];
        checked.assert_finds(level, "redis rights", &words);
        let advice: Vec<&str> = checked
            .findings()
            .iter()
            .filter_map(|finding| finding["remedy"].as_str())
            .collect();
        assert!(
            !advice.iter().any(|remedy| remedy.contains("ACL SETUSER")),
            "{command}: {advice:#?}"
        );
    }
}

#[test]
fn commands_that_are_known_again_are_found() {
    let mut stack = with_redis(&without(&COMMANDS.map(|(command, _)| command)));
    loop {
        let checked = check(&stack, &[NO_DATABASE]);
        let Some(remedy) = told(&checked, "redis rights").first().map(|&remedy| remedy.to_owned()) else {
            break;
        };
        know_again(&mut stack, &remedy);
    }
    let mut stack = with_redis(&without(&["INFO", "TYPE", "SELECT"]));
    let checked = check(&stack, &[("REDIS_URL", &format!("{}/3", stack.redis_url()))]);
    checked.assert_finds("fail", "redis", &["rename-command SELECT"]);
    for what in ["redis", "stream"] {
        let remedy = told(&check(&stack, &[]), what)[0].to_owned();
        know_again(&mut stack, &remedy);
    }
    let checked = check(&stack, &[]);
    assert!(told(&checked, "redis").is_empty(), "{:#}", checked.report);
}

#[test]
fn settings_of_a_redis_without_config_are_told_for_its_file() {
    let stack = with_redis(&[
        "--maxmemory",
        "100mb",
        "--maxmemory-policy",
        "allkeys-lru",
        "--rename-command",
        "CONFIG",
        "",
    ]);
    let words = ["put maxmemory-policy noeviction into redis.conf"];
    check(&stack, &[]).assert_finds("warn", "redis memory", &words);
}

/// Faults of tables, and what is told of each.
const OF_TABLES: [(&str, &str); 17] = [
    (
        "alter table posts alter tags drop default, alter tags type text, alter tags set default '[]'",
        "columns",
    ),
    (
        "alter table post_aggregations alter like_count drop default, alter like_count type text,
         alter like_count set default '0'",
        "columns",
    ),
    ("alter table follows alter indexed_at type timestamptz", "columns"),
    ("alter table posts drop column text", "columns"),
    ("alter table posts drop column created_at", "columns"),
    ("alter table firehose_worker.versions drop column cid", "columns"),
    (
        "drop index unique_like_user_post; create index unique_like_user_post on likes (user_did)",
        "keys",
    ),
    (
        "drop index unique_repost_user_post;
         create unique index unique_repost_user_post on reposts (user_did, post_uri) where uri <> ''",
        "keys",
    ),
    (
        "alter table quotes drop constraint quotes_pkey cascade; alter table quotes add primary key (uri, post_uri)",
        "keys",
    ),
    (
        "alter table lists drop constraint lists_pkey cascade; alter table lists add primary key (uri) deferrable",
        "keys",
    ),
    (
        "alter table firehose_worker.versions drop constraint versions_pkey",
        "keys",
    ),
    ("drop index firehose_worker.rivals_place", "own tables"),
    ("drop index firehose_worker.versions_entry", "own tables"),
    ("create publication everything for all tables", "replica identity"),
    ("alter table bookmarks replica identity nothing", "replica identity"),
    (
        "alter table blocks drop constraint blocks_pkey cascade; create unique index on blocks (uri)",
        "replica identity",
    ),
    (
        "alter table labels drop constraint labels_pkey cascade; alter table labels alter uri drop not null;
         create unique index on labels (uri)",
        "replica identity",
    ),
];

#[test]
fn what_is_told_about_tables_mends_them() {
    let stack = Stack::new("remedies_tables");
    stack.drain();
    stack.sql(
        "insert into posts (uri, cid, author_did, text, created_at) values ('at://a/b/c', 'x', 'did:plc:a', '', now())",
    );
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    for (statements, what) in OF_TABLES {
        stack.sql(statements);
        *expected.entry(what).or_default() += 1;
    }
    let checked = check(&stack, &[]);
    for (what, number) in &expected {
        let remedies = told(&checked, what);
        assert!(remedies.len() >= *number, "{what}: {remedies:#?}");
        for remedy in remedies {
            carry_out(&stack, remedy);
        }
    }
    let again = check(&stack, &[]);
    again.assert_nothing_fails();
    assert!(told(&again, "own tables").is_empty(), "{:#}", again.report);
    stack.sql("drop table firehose_worker.versions; drop table quotes");
    mend(&stack, "tables", &[]).assert_nothing_fails();
}

#[test]
fn a_key_with_included_columns_is_one_and_a_table_that_cannot_have_it_is_told_so() {
    let stack = Stack::new("remedies_keys");
    stack.sql(
        "alter table quotes drop constraint quotes_pkey cascade; create unique index on quotes (uri) include (cid)",
    );
    check(&stack, &[]).assert_nothing_fails();
    stack.sql(
        "drop table quotes;
         create table quotes (uri varchar(512) not null, post_uri varchar(512) not null, quoted_uri varchar(512) not null,
             quoted_cid varchar(255), created_at timestamp not null default now(), primary key (uri, created_at))
             partition by range (created_at)",
    );
    let words = ["the table is partitioned by (created_at)", "HASH (uri)"];
    check(&stack, &[]).assert_finds("fail", "keys", &words);
}

/// Rights that a role has, and what is told of it. All of them but what is missing, so that nothing fails afterwards.
const TABLES: &str = "grant select, insert, update, delete on all tables in schema public to ROLE;
                      grant usage on all sequences in schema public to ROLE;";
const OWN: &str = "grant usage on schema firehose_worker to ROLE;
                   grant select, insert, update, delete on all tables in schema firehose_worker to ROLE;";

#[test]
fn the_grants_that_are_told_give_a_role_all_rights() {
    let mut stack = Stack::new("remedies_rights");
    stack.drain();
    let no_schema = "drop schema firehose_worker cascade";
    let roles = [
        (
            format!("{TABLES}{OWN} revoke delete on likes, reposts from ROLE"),
            "rights",
        ),
        (OWN.to_owned(), "rights"),
        (
            format!("{TABLES} grant usage on schema firehose_worker to ROLE"),
            "rights",
        ),
        (
            format!("{TABLES}{OWN} revoke usage on all sequences in schema public from ROLE"),
            "rights",
        ),
        (
            format!("{TABLES}{OWN} revoke usage on schema firehose_worker from ROLE"),
            "own tables",
        ),
        (format!("{TABLES}{no_schema}"), "own tables"),
        (
            format!("{TABLES}{OWN} drop table firehose_worker.versions"),
            "own tables",
        ),
        (
            format!("{TABLES}{OWN} alter table firehose_worker.versions enable row level security"),
            "row-level security",
        ),
        (
            format!("{TABLES}{OWN} alter role ROLE connection limit 2"),
            "connections",
        ),
        (
            format!("{TABLES}{OWN} alter database DATABASE connection limit 2; alter role ROLE connection limit 1"),
            "connections",
        ),
        (
            format!("{TABLES}{OWN} alter database DATABASE set default_transaction_read_only = on"),
            "writing",
        ),
        (
            format!("{TABLES}{OWN} alter role ROLE set default_transaction_read_only = on"),
            "writing",
        ),
    ];
    for (number, (statements, what)) in roles.iter().enumerate() {
        // A name that has to be quoted, in SQL and in a shell.
        let name = format!("It's {number} {}", stack.database.name());
        let role = format!("\"{name}\"");
        stack.sql(&format!("create role {role} login"));
        let statements = statements
            .replace("ROLE", &role)
            .replace("DATABASE", stack.database.name());
        stack.sql(&statements);
        let user = name.replace(' ', "%20").replace('\'', "%27");
        let url = stack.database_url().replace("postgres@", &format!("{user}@"));
        let env = [("DATABASE_URL", url.as_str())];
        mend(&stack, what, &env).assert_nothing_fails();
        stack.sql(&format!(
            "begin read write; drop owned by {role}; drop role {role};
             alter table firehose_worker.versions disable row level security; commit"
        ));
        if statements.contains(stack.database.name()) {
            stack = Stack::new("remedies_rights");
            stack.drain();
        }
    }
}

#[test]
fn settings_of_the_server_that_are_told_mend_it() {
    let options = PostgresOptions {
        fsync: true,
        settings: Vec::new(),
    };
    let stack = Stack::with_postgres("remedies_server", PostgresServer::start(options));
    stack.sql("alter system set fsync = off");
    stack.database.server().restart();
    mend(&stack, "durability", &[]);

    let settings = vec![("max_connections", "6".to_owned())];
    let options = PostgresOptions { fsync: false, settings };
    let stack = Stack::with_postgres("remedies_connections", PostgresServer::start(options));
    let env = [("PARALLEL_CONSUMERS", "7"), ("DB_POOL_SIZE", "8")];
    let checked = check(&stack, &env);
    let remedy = told(&checked, "connections")[0];
    carry_out(&stack, remedy);
    // The tests' own command line goes before what ALTER SYSTEM sets.
    let (_, number) = remedy.rsplit_once("= ").expect("a number");
    stack.database.server().configure("max_connections", number);
    stack.database.server().restart();
    check(&stack, &env).assert_nothing_fails();
}

#[test]
fn settings_that_are_told_instead_of_statements_mend_it() {
    let stack = Stack::new("remedies_settings");
    let value_of = |checked: &Checked, what: &str, name: &str| -> String {
        let remedy = told(checked, what)[0].to_owned();
        let (_, rest) = remedy
            .split_once(&format!("{name}="))
            .unwrap_or_else(|| panic!("no {name} in {remedy}"));
        rest.split([',', ' ']).next().unwrap_or_default().to_owned()
    };
    run(&stack, &["XADD", "firehose:dead-letters", "*", "type", "commit"]);
    let checked = check(&stack, &[("REDIS_DEAD_LETTER_MAXLEN", "1")]);
    let value = value_of(&checked, "dead letters", "REDIS_DEAD_LETTER_MAXLEN");
    let checked = check(&stack, &[("REDIS_DEAD_LETTER_MAXLEN", &value)]);
    assert!(told(&checked, "dead letters").is_empty(), "{:#}", checked.report);

    stack.sql(&format!(
        "create role narrow_{} login connection limit 2",
        stack.database.name()
    ));
    let url = stack
        .database_url()
        .replace("postgres@", &format!("narrow_{}@", stack.database.name()));
    let checked = check(&stack, &[("DATABASE_URL", &url)]);
    let value = value_of(&checked, "connections", "DB_POOL_SIZE");
    let checked = check(&stack, &[("DATABASE_URL", &url), ("DB_POOL_SIZE", &value)]);
    assert!(told(&checked, "connections").is_empty(), "{:#}", checked.report);
    stack.sql(&format!("drop role narrow_{}", stack.database.name()));
}
