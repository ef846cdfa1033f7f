//! PostgreSQL stops, hangs, is read-only, or lacks something.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use postgres::Client;

use super::{World, lines_with, wait_for_line};
use crate::support::entries::{did, like, post, uri};
use crate::support::skip::skip;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{PostgresOptions, PostgresServer, Stack, Worker, wait_until};

/// A role of the worker's own kind: no superuser.
const ROLE: &str = "
    do $$ begin create role feeder login; exception when duplicate_object then null; end $$;
    grant usage on schema public to feeder;
    grant select, insert, update, delete on all tables in schema public to feeder;
    grant usage on all sequences in schema public to feeder;
    do $$ begin execute format('grant create on database %I to feeder', current_database()); end $$";

pub(super) fn as_role(url: &str) -> String {
    url.replace("postgres@", "feeder@")
}

pub(super) fn make_role(stack: &Stack) {
    // Tests side by side make it in one cluster, where it can be made once.
    wait_until("the role is there", || {
        stack.database.client().batch_execute(ROLE).is_ok()
    });
}

fn hold(world: &World, statements: &str) -> Client {
    let mut client = world.stack.database.client();
    client.batch_execute(statements).expect("statements of the test");
    client
}

#[test]
fn a_server_that_crashes_and_is_restarted_under_load_loses_nothing() {
    let mut world = World::with_postgres("pg_restarts", Vec::new());
    let mut worker = world.worker().spawn();
    let server = world.stack.database.server().clone();
    for is_crash in [true, false, true] {
        world.push(250);
        if is_crash {
            server.stop_immediate();
            world.push(50);
        }
        server.restart();
    }
    wait_until("the worker runs", || worker.runs());
    world.finish(worker);
}

#[test]
fn sessions_that_are_terminated_again_and_again_lose_nothing() {
    let mut world = World::new("pg_terminate");
    let worker = world.worker().spawn();
    for _ in 0..8 {
        world.push(120);
        world.stack.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and application_name = 'firehose-worker'",
        );
    }
    let log = world.finish(worker);
    assert_eq!(lines_with(&log, &["ERROR"]), 0, "{log}");
}

/// A server that hangs until this is dropped: the system accepts what is sent to it, and the server does not answer.
struct Frozen<'s>(&'s PostgresServer);

impl<'s> Frozen<'s> {
    fn new(server: &'s PostgresServer) -> Frozen<'s> {
        server.signal_all(libc::SIGSTOP);
        Frozen(server)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.signal_all(libc::SIGCONT);
    }
}

#[test]
fn a_server_that_hangs_and_goes_on_loses_nothing() {
    let mut world = World::with_postgres("pg_hangs", Vec::new());
    world.push(200);
    let worker = world.worker().spawn();
    world.settle();
    let server = world.stack.database.server().clone();
    let frozen = Frozen::new(&server);
    world.push(200);
    thread::sleep(Duration::from_secs(2));
    drop(frozen);
    world.finish(worker);
}

#[test]
fn a_server_that_hangs_is_reported_as_down_and_delays_no_stop() {
    let server = PostgresServer::start(PostgresOptions::default());
    let stacks = ["pg_hangs_tcp", "pg_hangs_unix"].map(|name| Stack::with_postgres(name, server.clone()));
    let urls = [stacks[0].database_url(), local_url(&stacks[1])];
    let start = || -> Vec<Worker> {
        let both = stacks.iter().zip(&urls);
        // Longer than any time limit of the worker.
        both.map(|(stack, url)| {
            stack
                .worker()
                .env("DATABASE_URL", url)
                .env("STOP_TIMEOUT_MS", "600000")
                .spawn()
        })
        .collect()
    };
    let push = |n: u32| {
        for stack in &stacks {
            stack.create(&did("alice"), &format!("app.bsky.feed.post/{n}"), post("hello"));
        }
    };
    let wait_for_posts = |number: i64| {
        for stack in &stacks {
            wait_until("the posts are applied", || equal(stack.count("posts"), number));
        }
    };
    let stop = |workers: Vec<Worker>| {
        workers.iter().for_each(|worker| worker.signal(libc::SIGTERM));
        for mut worker in workers {
            let status = worker.wait_exit(Duration::from_secs(60));
            assert_eq!(status.code(), Some(0), "{}", shown(&worker.log()));
        }
    };
    push(1);
    let mut workers = start();
    wait_for_posts(1);
    let frozen = Frozen::new(&server);
    push(2);
    for worker in &mut workers {
        wait_for_line(worker, &["waiting for postgresql: no answer for 10 s"]);
    }
    stop(workers);
    let mut workers = start();
    for worker in &mut workers {
        wait_for_line(worker, &["waiting for postgresql", "no answer"]);
    }
    stop(workers);
    for stack in &stacks {
        assert_eq!(stack.pending(), 1, "what was not applied stays pending");
    }
    drop(frozen);
    let workers = start();
    wait_for_posts(2);
    stop(workers);
}

/// The address of a stack's database by the server's Unix socket.
fn local_url(stack: &Stack) -> String {
    let server = stack.database.server();
    let (directory, port) = (server.socket_dir().display(), server.port());
    format!(
        "host={directory} port={port} user=postgres dbname={}",
        stack.database.name()
    )
}

#[test]
fn a_read_only_database_is_waited_for_and_left_by_a_new_session() {
    let mut world = World::new("pg_read_only");
    let database = world.stack.database.name().to_owned();
    world.push(200);
    let mut worker = world.worker().spawn();
    world.settle();
    world.stack.sql(&format!(
        "alter database {database} set default_transaction_read_only = on"
    ));
    world.postgres.reset();
    world.push(200);
    wait_for_line(&mut worker, &["waiting for postgresql", "25006", "primary"]);
    // Only new sessions take over the setting.
    let mut client = world.stack.database.server().client("postgres");
    client
        .batch_execute(&format!(
            "alter database {database} reset default_transaction_read_only"
        ))
        .expect("a database that may be written");
    world.finish(worker);
}

#[test]
fn a_locked_table_is_waited_for_and_nothing_is_acknowledged() {
    let mut world = World::new("pg_locked");
    let lock = hold(&world, "begin; lock table users, likes in access exclusive mode");
    world.push(300);
    let worker = world.worker().spawn();
    wait_until("entries are read", || world.stack.pending() > 0);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(world.stack.count("posts"), 0);
    drop(lock);
    world.finish(worker);
}

#[test]
#[ignore = "slow; tests/run.sh --all runs it"]
fn a_table_that_stays_locked_is_logged_once_and_waited_for() {
    let mut world = World::new("pg_locked_long");
    let lock = hold(&world, "begin; lock table users in access exclusive mode");
    world.push(300);
    let mut worker = world.worker().spawn();
    // One try waits for eight seconds, and the first two pass without a line.
    wait_for_line(&mut worker, &["waiting for postgresql", "55P03"]);
    drop(lock);
    let log = world.finish(worker);
    assert_eq!(lines_with(&log, &["waiting for postgresql"]), 1, "{log}");
    assert_eq!(lines_with(&log, &["postgresql is back"]), 1, "{log}");
}

#[test]
fn a_transaction_that_is_the_victim_of_a_deadlock_is_done_again_without_a_line() {
    let mut world = World::new("pg_deadlock");
    // This session never checks for deadlocks, so that the worker's does.
    let mut other = hold(
        &world,
        "set deadlock_timeout = '1min'; begin; lock table feed_items in access exclusive mode",
    );
    world.push(300);
    let worker = world.worker().env("PARALLEL_CONSUMERS", "1").spawn();
    let waits = "pg_locks where relation = 'feed_items'::regclass and not granted";
    wait_until("the worker waits for the feed items", || world.stack.count(waits) == 1);
    other
        .batch_execute("lock table posts in access exclusive mode")
        .expect("the lock, since the worker gives way");
    other.batch_execute("rollback").expect("ROLLBACK");
    let victims = "pg_stat_database where datname = current_database() and deadlocks = 1";
    wait_until("the deadlock is counted", || world.stack.count(victims) == 1);
    let log = world.finish(worker);
    assert_eq!(lines_with(&log, &["WARN"]), 0, "{log}");
}

#[test]
fn a_worker_has_one_connection_for_each_thread_that_writes_and_one_more_at_most() {
    let mut world = World::new("pg_connection_count");
    let worker = world.worker().env("PARALLEL_CONSUMERS", "3").spawn();
    let sessions = "pg_stat_activity where datname = current_database() and application_name = 'firehose-worker'";
    let mut most = 0;
    for _ in 0..10 {
        world.push(100);
        let total = world.sent.total;
        wait_until("the part is counted", || {
            most = most.max(world.stack.count(sessions));
            equal(world.counted(), total)
        });
    }
    assert!((2..=4).contains(&most), "{most} connections");
    world.finish(worker);
}

#[test]
fn connections_that_are_used_up_are_waited_for() {
    let settings = [
        ("max_connections", "12"),
        ("superuser_reserved_connections", "6"),
        ("max_wal_senders", "0"),
    ];
    let settings = settings.map(|(name, value)| (name, value.to_owned())).to_vec();
    let mut world = World::with_postgres("pg_connections", settings);
    make_role(&world.stack);
    let url = as_role(&world.stack.database_url());
    let mut others = Vec::new();
    while let Ok(other) = Client::connect(&url, postgres::NoTls) {
        others.push(other);
    }
    assert!(!others.is_empty(), "no connection at all");
    world.push(300);
    let mut worker = world.worker().env("DATABASE_URL", &url).spawn();
    wait_for_line(&mut worker, &["waiting for postgresql", "53300", "max_connections"]);
    others.clear();
    world.finish(worker);
}

#[test]
fn synchronous_commit_is_switched_on_where_the_role_has_it_off() {
    let stack = Stack::new("pg_sync_commit");
    make_role(&stack);
    let database = stack.database.name().to_owned();
    stack.sql(&format!(
        "alter role feeder in database {database} set synchronous_commit = off;
         create table seen (value text);
         grant insert on seen to feeder;
         create function see() returns trigger language plpgsql as
             $$ begin insert into seen values (current_setting('synchronous_commit')); return null; end $$;
         create trigger see after insert on likes execute function see()"
    ));
    let subject = uri(&did("bob"), "app.bsky.feed.post/1");
    stack.create(&did("alice"), "app.bsky.feed.like/1", like(&subject));
    stack.drain_with(&[("DATABASE_URL", &as_role(&stack.database_url()))]);
    assert_eq!(
        stack.query("select distinct value from seen"),
        [serde_json::json!({"value": "on"})]
    );
}

#[test]
fn two_workers_that_start_at_once_make_the_own_tables_without_a_complaint() {
    let stack = Stack::new("pg_two_starts");
    let start = |n: u32| stack.worker().env("CONSUMER_ID", &format!("worker-{n}")).spawn();
    let mut workers: Vec<_> = (0..4).map(start).collect();
    stack.create(&did("alice"), "app.bsky.feed.post/1", post("hello"));
    wait_until("the post is applied", || equal(stack.count("posts"), 1));
    let exists = "select to_regclass('firehose_worker.rivals') is not null as made";
    wait_until("the own tables are there", || {
        equal(stack.query(exists)[0]["made"].as_bool(), Some(true))
    });
    wait_until("all of them read", || {
        equal(stack.groups()[0]["consumers"].parse(), Ok(workers.len()))
    });
    for worker in &mut workers {
        worker.signal(libc::SIGTERM);
        worker.wait_exit(Duration::from_secs(30));
        assert_eq!(lines_with(&worker.log(), &["schema:"]), 0, "{}", worker.log());
    }
}

/// Limits the open files of a process; 1 lets it keep what it has and open no more.
fn limit_files(pid: i32, number: u64) {
    let limit = libc::rlimit {
        rlim_cur: number,
        rlim_max: 1024,
    };
    // SAFETY: the call reads the limit and writes nothing.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(result, 0, "prlimit: {}", std::io::Error::last_os_error());
}

#[test]
fn files_that_are_used_up_are_waited_for() {
    let mut world = World::new("pg_files");
    world.push(200);
    let mut worker = world.worker().spawn();
    world.settle();
    limit_files(worker.pid(), 1);
    world.postgres.reset();
    world.push(200);
    wait_for_line(&mut worker, &["waiting for postgresql", "file"]);
    limit_files(worker.pid(), 1024);
    world.finish(worker);
}

/// A small disk, which is removed when this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Nothing where the tests may not mount one.
    fn mount(at: &Path) -> Option<Disk> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=32m,mode=0777", "tmpfs"])
            .arg(at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Disk(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut world = World::with_postgres("pg_disk_full", Vec::new());
    let at = world.stack.database.server().socket_dir().join("small");
    std::fs::create_dir(&at).expect("a directory");
    let Some(disk) = Disk::mount(&at) else {
        return skip("a full disk", "only root may mount a small one");
    };
    std::fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("permissions");
    let dir = at.join("tables");
    std::fs::create_dir(&dir).expect("a directory");
    let owner = std::fs::metadata(world.stack.database.server().socket_dir()).expect("the server's directory");
    std::os::unix::fs::chown(
        &dir,
        Some(std::os::unix::fs::MetadataExt::uid(&owner)),
        Some(std::os::unix::fs::MetadataExt::gid(&owner)),
    )
    .expect("root may give a directory away");
    let mut client = world.stack.database.server().client("postgres");
    client
        .batch_execute(&format!("create tablespace small location '{}'", dir.display()))
        .expect("a tablespace");
    world.stack.sql("alter table posts set tablespace small");
    let filler = at.join("filler");
    let fill = || {
        let mut file = std::fs::File::create(&filler).expect("a file");
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    };
    fill();
    world.push(600);
    let mut worker = world.worker().spawn();
    wait_for_line(&mut worker, &["waiting for postgresql", "53100", "disk"]);
    std::fs::remove_file(&filler).expect("the filler");
    world.finish(worker);
    drop(disk);
}
