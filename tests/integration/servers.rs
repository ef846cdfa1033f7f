//! The test harness itself: servers start where they should, and none outlives the tests.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use crate::support::process::Process;
use crate::support::scratch;
use crate::support::{PostgresOptions, PostgresServer, RedisServer, Stack, assert_same, wait_until};

#[test]
fn a_redis_restarts_on_its_port_with_what_it_kept() {
    let server = RedisServer::start_with(&["--appendonly", "yes"]);
    redis::cmd("SET")
        .arg("a")
        .arg(1)
        .exec(&mut server.connection())
        .expect("SET");
    let (port, first) = (server.port(), server.pid());
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), first);
    assert_eq!(redis::cmd("GET").arg("a").query(&mut server.connection()), Ok(1));
    server.kill();
    assert!(server.try_connection().is_err());
}

#[test]
fn a_postgres_of_a_tests_own_survives_a_crash() {
    let server = PostgresServer::start(PostgresOptions {
        settings: vec![("work_mem", "5MB".to_owned())],
        fsync: true,
    });
    let mut client = server.client("postgres");
    client
        .batch_execute("create table a (n int); insert into a values (1)")
        .expect("a table");
    server.stop_immediate();
    assert!(client.batch_execute("select 1").is_err());
    server.configure("max_connections", "50");
    server.restart();
    let mut client = server.client("postgres");
    let query = "select n, current_setting('work_mem') || ' ' || current_setting('max_connections') from a";
    let row = client.query_one(query, &[]).expect("the row");
    assert_eq!((row.get(0), row.get(1)), (1, "5MB 50"));
}

#[test]
fn the_guard_ends_only_the_children_of_a_killed_test_process() {
    let dir = scratch::directory("guarded");
    let sleep = || {
        let mut command = Command::new("sleep");
        command.arg("600").stdout(Stdio::null());
        Process::spawn("sleep", &mut command, &dir.join("log"), libc::SIGKILL)
    };
    let (mut left_behind, mut reaped) = (sleep(), sleep());
    let mut guard = scratch::start_guard(&dir);
    for (verb, process) in [("watch", &left_behind), ("watch", &reaped), ("forget", &reaped)] {
        writeln!(guard, "{verb} {}:{}", libc::SIGTERM, process.pid()).expect("the guard listens");
    }
    assert!(left_behind.ended().is_none());
    drop(guard); // as the end of the test process would
    wait_until("the guard has ended the process", || left_behind.ended().is_some());
    wait_until("the guard has removed the directory", || !dir.exists());
    assert!(reaped.ended().is_none(), "the guard ended a deregistered process");
}

#[test]
fn a_wrong_counter_and_a_changed_row_are_found() {
    let stack = Stack::new("found");
    stack.sql("insert into likes (uri, user_did, post_uri, created_at) values ('at://l', 'did:x', 'at://p', now())");
    stack.sql("insert into post_aggregations (post_uri, like_count) values ('at://p', 1), ('at://zeros', 0)");
    stack.assert_counters_equal_rows();
    let before = stack.snapshot();
    stack.sql("delete from post_aggregations where post_uri = 'at://zeros'");
    assert_same(&before, &stack.snapshot());
    for wrong in [
        "update post_aggregations set like_count = 2",
        "delete from post_aggregations",
    ] {
        stack.sql(wrong);
        let after = stack.snapshot();
        assert!(
            catch_unwind(AssertUnwindSafe(|| stack.assert_counters_equal_rows())).is_err(),
            "{wrong} is not found"
        );
        assert!(
            catch_unwind(AssertUnwindSafe(|| assert_same(&before, &after))).is_err(),
            "{wrong} is not seen"
        );
    }
}
