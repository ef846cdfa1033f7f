//! How fast the database grows and how long its disk lasts, as `check` tells from the samples of real workers, and which
//! indexes nothing uses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::cmd;

use super::check;
use super::postgres::{check_as, with_own_server};
use crate::generator::Events;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{EVENTS, GROUP, RedisServer, Stack, Worker, wait_until};

const HOUR: u64 = 3_600_000;
const GIB: u64 = 1 << 30;

fn key() -> String {
    format!("firehose:worker:growth:{GROUP}")
}

/// What makes the samples comparable, and the samples: milliseconds, bytes, events.
fn history(stack: &Stack) -> (String, Vec<[u64; 3]>) {
    let text: Option<String> = cmd("GET").arg(key()).query(&mut stack.redis()).expect("GET");
    let text = text.unwrap_or_default();
    let mut lines = text.lines();
    let of = lines.next().unwrap_or_default().to_owned();
    let sample = |line: &str| {
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        numbers.try_into().expect("three numbers")
    };
    (of, lines.map(sample).collect())
}

fn samples(stack: &Stack) -> Vec<[u64; 3]> {
    history(stack).1
}

fn write_history(stack: &Stack, of: &str, samples: &[[u64; 3]]) {
    let line = |[ms, bytes, events]: &[u64; 3]| format!("\n{ms} {bytes} {events}");
    let text = of.to_owned() + &samples.iter().map(line).collect::<String>();
    cmd("SET").arg(key()).arg(text).exec(&mut stack.redis()).expect("SET");
}

/// Lets hours pass for the samples.
fn age(stack: &Stack, hours: u64) {
    let (of, mut samples) = history(stack);
    samples.iter_mut().for_each(|sample| sample[0] -= hours * HOUR);
    write_history(stack, &of, &samples);
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("before the year 292278994")
}

/// A history whose last sample is an hour old.
pub(super) fn write_growth(stack: &Stack, hours: u64, bytes: u64, events: u64) {
    let last = now() - HOUR;
    let samples = [[last - hours * HOUR, GIB, 7], [last, GIB + bytes, 7 + events]];
    write_history(stack, "any", &samples);
}

#[track_caller]
fn wait_for_samples(stack: &Stack, worker: &Worker, number: usize) {
    wait_until("the worker has taken a sample", || {
        equal(samples(stack).len(), number).map_err(|fault| format!("{fault}; {}", shown(&worker.log())))
    });
}

fn stop(mut worker: Worker) {
    worker.signal(libc::SIGTERM);
    worker.wait_exit(Duration::from_secs(60));
}

/// Adds entries to the stream's count without adding any.
fn count_more_entries(stack: &Stack, number: u64) {
    let info: Vec<redis::Value> = cmd("XINFO")
        .arg("STREAM")
        .arg(EVENTS)
        .query(&mut stack.redis())
        .expect("XINFO");
    let info: std::collections::HashMap<String, redis::Value> =
        redis::from_redis_value(redis::Value::Array(info)).expect("a map");
    let field = |name: &str| -> String { redis::from_redis_value(info[name].clone()).expect("a field") };
    let added = field("entries-added").parse::<u64>().expect("a number") + number;
    let mut redis = stack.redis();
    cmd("XSETID")
        .arg(EVENTS)
        .arg(field("last-generated-id"))
        .arg("ENTRIESADDED")
        .arg(added)
        .exec(&mut redis)
        .expect("XSETID");
    // The worker would count them as lost.
    let losses = format!("firehose:worker:losses:{GROUP}");
    cmd("HDEL").arg(losses).arg("seen").exec(&mut redis).expect("HDEL");
}

#[test]
fn growth_is_measured_by_workers_once_an_hour() {
    let stack = Stack::new("growth");
    let checked = check(&stack, &[]);
    checked.assert_finds("ok", "growth", &["not measured yet", "once an hour"]);

    stack.push_events(Events::new(1, 5));
    let worker = stack.worker().spawn();
    wait_for_samples(&stack, &worker, 1);
    wait_until("the entries are applied", || equal(stack.acknowledged(), 5));
    check(&stack, &[]).assert_finds("ok", "growth", &["samples span 0 s and 0 events", "60 min and 100,000"]);
    stop(worker);

    // A second one within the hour adds none.
    let worker = stack.worker().spawn();
    stack.push_events(Events::new(2, 5));
    wait_until("the entries are applied", || equal(stack.acknowledged(), 10));
    stop(worker);
    assert_eq!(samples(&stack).len(), 1);

    age(&stack, 2);
    count_more_entries(&stack, 200_000);
    stack.sql("create table filling as select repeat('x', 1000) from generate_series(1, 20000)");
    let worker = stack.worker().spawn();
    wait_for_samples(&stack, &worker, 2);
    let [before, after] = samples(&stack)[..] else {
        panic!("two samples");
    };
    let events = after[2] - before[2];
    assert!((200_000..200_011).contains(&events), "{before:?} {after:?}");
    assert!(after[1] - before[1] > 20_000_000, "{before:?} {after:?}");
    let checked = check(&stack, &[]);
    checked.assert_finds(
        "ok",
        "growth",
        &["it grows by", "per million events", "MiB a day", "over 2 h with 200,0"],
    );
    checked.assert_finds("ok", "disk", &["are free for", "which lasts"]);
    checked.assert_nothing_fails();
}

#[test]
fn a_history_is_told_as_a_rate_and_as_days_until_the_disk_is_full() {
    let stack = Stack::new("growth_rate");
    stack.create_group();
    write_growth(&stack, 24, 2 * GIB, 1_000_000);
    let checked = check(&stack, &[]);
    let words = [
        "it grows by 2.0 GiB per million events, 2.0 GiB a day",
        "over 24 h with 1,000,000 events",
    ];
    checked.assert_finds("ok", "growth", &words);

    write_growth(&stack, 24, 100 << 40, 1_000_000);
    let words = ["at this rate", "WRITE_NOTIFICATIONS=local", "firehose-worker prune"];
    check(&stack, &[]).assert_finds("warn", "disk", &words);
    write_growth(&stack, 24, 1 << 20, 1_000_000);
    check(&stack, &[]).assert_finds("ok", "disk", &["d at this rate"]);

    write_growth(&stack, 24, 0, 1_000_000);
    let checked = check(&stack, &[]);
    checked.assert_finds("ok", "growth", &["it has not grown over 24 h"]);
    checked.assert_finds("ok", "disk", &["are free for"]);

    for (hours, events) in [(0, 1_000_000), (24, 99_000)] {
        write_growth(&stack, hours, GIB, events);
        check(&stack, &[]).assert_finds("ok", "growth", &["not measured yet: the samples span"]);
    }
    let last = now() - 50 * HOUR;
    write_history(&stack, "any", &[[last - HOUR, GIB, 0], [last, 2 * GIB, 1_000_000]]);
    check(&stack, &[]).assert_finds("ok", "growth", &["until 2 d ago"]);
    write_history(&stack, "no samples", &[]);
    check(&stack, &[]).assert_finds("ok", "growth", &["not measured yet: a worker takes a sample"]);
}

#[test]
fn samples_begin_anew_with_another_group_stream_or_setting() {
    let stack = Stack::new("growth_anew");
    stack.push_events(Events::new(1, 5));
    let worker = stack.worker().spawn();
    wait_for_samples(&stack, &worker, 1);
    wait_until("the entries are applied", || equal(stack.acknowledged(), 5));
    stop(worker);
    age(&stack, 2);
    let (of, _) = history(&stack);

    let worker = stack.worker().env("WRITE_VIEWER_STATES", "false").spawn();
    wait_until("a history begins", || match history(&stack) {
        (now, samples) if now != of => equal(samples.len(), 1),
        same => Err(format!("{same:?}")),
    });
    stop(worker);

    cmd("DEL").arg(EVENTS).exec(&mut stack.redis()).expect("DEL");
    let losses = format!("firehose:worker:losses:{GROUP}");
    let worker = stack.worker().spawn();
    wait_until("the new group is counted", || {
        let count: Option<u64> = cmd("HGET")
            .arg(&losses)
            .arg("groups_recreated")
            .query(&mut stack.redis())
            .expect("HGET");
        equal(count, Some(1))
    });
    // More than before, so that the number alone does not tell the streams apart.
    stack.push_events(Events::new(2, 50));
    wait_until("the entries are applied", || equal(stack.acknowledged(), 50));
    stop(worker);
    age(&stack, 2);
    let before = now();
    let worker = stack.worker().env("WRITE_VIEWER_STATES", "false").spawn();
    wait_until("a history begins", || match &samples(&stack)[..] {
        [[at, _, events]] if *at >= before => equal(*events, 50),
        others => Err(format!("{others:?}; {}", shown(&worker.log()))),
    });
}

#[test]
fn an_outage_neither_loses_nor_falsifies_samples() {
    let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let shared = with_own_server("growth_outage", Vec::new());
    let stack = Stack::of(redis, shared.database);
    stack.push_events(Events::new(1, 5));
    let worker = stack.worker().spawn();
    wait_for_samples(&stack, &worker, 1);
    wait_until("the entries are applied", || equal(stack.acknowledged(), 5));
    stack.redis.kill();
    stack.redis.restart();
    stack.push_events(Events::new(2, 5));
    wait_until("the worker has gone on", || equal(stack.acknowledged(), 10));
    stop(worker);
    age(&stack, 2);
    let [first] = samples(&stack)[..] else {
        panic!("one sample");
    };

    stack.database.server().stop();
    let worker = stack.worker().spawn();
    wait_until("the worker waits", || match worker.log() {
        log if log.contains("waiting for postgresql") => Ok(()),
        log => Err(shown(&log)),
    });
    assert_eq!(samples(&stack), [first]);
    stack.database.server().restart();
    wait_for_samples(&stack, &worker, 2);
    let last = samples(&stack)[1];
    assert_eq!((samples(&stack)[0], last[2]), (first, 10));
    assert!(last[1] >= first[1] / 2, "{first:?} {last:?}");
}

#[test]
fn several_processes_take_one_sample_together() {
    let stack = Stack::new("growth_together");
    stack.push_events(Events::new(1, 5));
    let workers: Vec<Worker> = ["a", "b", "c"]
        .map(|name| stack.worker().env("CONSUMER_ID", name).spawn())
        .into();
    wait_for_samples(&stack, &workers[0], 1);
    stack.push_events(Events::new(2, 20));
    wait_until("the entries are applied", || equal(stack.acknowledged(), 25));
    workers.into_iter().for_each(stop);
    assert_eq!(samples(&stack).len(), 1);
}

#[test]
fn without_the_rights_nothing_is_measured_and_the_worker_runs() {
    let stack = Stack::new("growth_rights");
    let acl = "ACL SETUSER lesser on >pw ~firehose:events ~firehose:dead-letters ~firehose:metrics ~cluster:metrics \
               ~db:record_counts +@all";
    let words: Vec<&str> = acl.split(' ').filter(|word| !word.is_empty()).collect();
    cmd(words[0]).arg(&words[1..]).exec(&mut stack.redis()).expect("ACL");
    let url = stack.redis_url().replace("redis://", "redis://lesser:pw@");
    stack.push_events(Events::new(1, 5));
    let worker = stack.worker().env("REDIS_URL", &url).spawn();
    wait_until("the entries are applied", || equal(stack.acknowledged(), 5));
    wait_until("the worker says what it lacks", || match worker.log() {
        log if log.contains("`status` shows less") => Ok(()),
        log => Err(shown(&log)),
    });
    assert_eq!(samples(&stack), Vec::<[u64; 3]>::new());
    check(&stack, &[("REDIS_URL", &url)]).assert_finds("ok", "growth", &["not measured yet"]);
}

#[test]
fn a_disk_that_postgresql_does_not_tell_of_is_unknown() {
    let stack = Stack::new("growth_disk");
    stack.create_group();
    stack.drain();
    write_growth(&stack, 24, 100 << 40, 1_000_000);
    let rights = "grant select, insert, update, delete on all tables in schema public to ROLE;
                  grant usage on all sequences in schema public to ROLE;
                  grant usage on schema firehose_worker to ROLE;
                  grant select, insert, update, delete on all tables in schema firehose_worker to ROLE;";
    let checked = check_as(&stack, "plain", rights);
    checked.assert_finds(
        "ok",
        "disk",
        &["does not tell the role plain_", "GRANT pg_read_all_settings TO plain_"],
    );
    checked.assert_finds("ok", "growth", &["it grows by"]);
    checked.assert_finds("ok", "unused indexes", &["were not scanned since"]);
    checked.assert_nothing_fails();
    let granted = format!("{rights} grant pg_read_all_settings to ROLE;");
    check_as(&stack, "reader", &granted).assert_finds("warn", "disk", &["at this rate"]);

    // Functions that stand before PostgreSQL's own say what only one on another machine would.
    stack.sql(&format!(
        "create schema far;
         create function far.inet_server_addr() returns inet language sql as $$ select inet '192.0.2.1' $$;
         alter database {} set search_path = far, pg_catalog, public",
        stack.database.name()
    ));
    check(&stack, &[]).assert_finds("ok", "disk", &["unknown: PostgreSQL is on another machine"]);
}

#[test]
fn indexes_that_nothing_has_scanned_are_told_with_their_size() {
    let stack = Stack::new("unused_indexes");
    stack.sql(
        "insert into users (did, handle) select 'did:plc:' || n, n || '.test' from generate_series(1, 20000) as n;
         create index seldom on users ((did || handle || did || handle));
         create unique index never_told on users (did, handle, indexed_at)",
    );
    let checked = check(&stack, &[]);
    checked.assert_finds(
        "ok",
        "unused indexes",
        &["were not scanned since", ": public.seldom 1", "MiB, public."],
    );
    let told = checked
        .findings()
        .iter()
        .find(|finding| finding["what"] == "unused indexes");
    let told = told.expect("a finding").to_string();
    assert!(told.contains(" more") && !told.contains("never_told"), "{told}");

    let scans = "select pg_stat_get_numscans('seldom'::regclass) as n";
    stack.sql(
        "set enable_seqscan = off; set enable_bitmapscan = off;
         select handle from users order by did || handle || did || handle limit 1",
    );
    wait_until("PostgreSQL has counted the scan", || stack.query(scans)[0]["n"] != 0);
    let checked = check(&stack, &[]);
    let told = checked
        .findings()
        .iter()
        .find(|finding| finding["what"] == "unused indexes");
    let told = told.expect("a finding").to_string();
    assert!(!told.contains("public.seldom"), "{told}");
}
