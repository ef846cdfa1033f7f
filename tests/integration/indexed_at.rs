//! The `indexed_at` of rows: their entry's time, at least a millisecond apart where readers page by it, so that no page
//! misses a row.

use firehose_worker::rows::keyed::IndexedAt;
use firehose_worker::rows::{KEYED_TABLES, PairTable};
use serde_json::{Value, json};

use crate::records::*;
use crate::support::proxy::Proxy;
use crate::support::wait::equal;
use crate::support::{Stack, assert_same, wait_until};

/// A time in 2025: the entries' time, which differs from every clock.
const PAST: u64 = 1_750_000_000_000;

const N: usize = 40;

/// Two workers, so that the records of different repos are applied by both at once.
const TWO_WORKERS: [(&str, &str); 2] = [("PARALLEL_CONSUMERS", "2"), ("MAX_BATCH_ENTRIES", "7")];

fn user(n: usize) -> String {
    format!("did:plc:user{n:020}")
}

/// Sends an op of a record under an ID.
fn push_at(stack: &Stack, ms: u64, n: usize, record: &Record, op: Value) {
    stack.push_at(
        &format!("{ms}-{n}"),
        "commit",
        commit(&record.repo, vec![op]),
        &stack.next_seq(),
    );
}

fn create_at(stack: &Stack, ms: u64, n: usize, record: &Record) {
    push_at(stack, ms, n, record, record.op("create"));
}

/// `indexed_at` of a table's rows in milliseconds, in the order of a column; fractions of them show.
fn times(stack: &Stack, table: &str, order: &str) -> Vec<f64> {
    let query = format!("SELECT (extract(epoch FROM indexed_at) * 1000)::float8 AS ms FROM {table} ORDER BY {order}");
    let number = |row: &Value| row["ms"].as_f64().expect("a number");
    stack.query(&query).iter().map(number).collect()
}

/// All times of a page key, sorted, are the milliseconds from `PAST` on.
#[track_caller]
fn assert_in_a_row(stack: &Stack, table: &str, n: usize) {
    let wanted: Vec<f64> = (0..n as u64).map(|n| (PAST + n) as f64).collect();
    assert_eq!(times(stack, table, "indexed_at"), wanted, "{table}");
}

/// Pages through rows as readers do, and counts what they come to see.
fn seen_by_pages(stack: &Stack, table: &str) -> usize {
    const PAGE: usize = 7;
    let (mut cursor, mut seen) = ("infinity".to_owned(), 0);
    loop {
        let page = stack.query(&format!(
            "SELECT date_trunc('milliseconds', indexed_at)::text AS cursor FROM {table}
             WHERE indexed_at < '{cursor}' ORDER BY indexed_at DESC LIMIT {PAGE}"
        ));
        seen += page.len();
        match page.last() {
            Some(last) if page.len() == PAGE => cursor = text_of(last, "cursor"),
            _ => return seen,
        }
    }
}

#[test]
fn rows_of_one_page_key_and_one_millisecond_are_moved_apart_across_workers() {
    let stack = Stack::new("indexed_at_apart");
    let (subject, people) = (post(ALICE, "p", "hello"), list(ALICE, "people"));
    for n in 0..N {
        let records = [
            like(&user(n), "l", &subject),
            repost(&user(n), "r", &subject),
            follow(&user(n), "f", ALICE),
            block(BOB, &format!("b{n}"), &user(n)),
            list_item(ALICE, &format!("i{n}"), &people, &user(n)),
        ];
        for (kind, record) in records.iter().enumerate() {
            create_at(&stack, PAST, n * records.len() + kind, record);
        }
    }
    stack.drain_with(&TWO_WORKERS);
    for table in ["likes", "reposts", "follows", "blocks", "list_items"] {
        assert_in_a_row(&stack, table, N);
        assert_eq!(seen_by_pages(&stack, table), N, "{table}");
    }
}

/// Readers page through the accounts that an actor follows as they do through followers, and a client follows all
/// accounts of a starter pack in one commit.
#[test]
fn all_that_one_commit_follows_is_moved_apart() {
    let stack = Stack::new("indexed_at_follows");
    let follows: Vec<Record> = (0..N).map(|n| follow(ALICE, &format!("f{n:02}"), &user(n))).collect();
    let ops = follows.iter().map(|follow| follow.op("create")).collect();
    stack.push_at(&format!("{PAST}-0"), "commit", commit(ALICE, ops), "1");
    stack.drain();
    let wanted: Vec<f64> = (0..N as u64).map(|n| (PAST + n) as f64).collect();
    assert_eq!(times(&stack, "follows", "uri"), wanted);
}

#[test]
fn forty_likes_in_one_multi_and_three_hundred_in_a_moment_are_all_reached_by_pages() {
    let stack = Stack::new("indexed_at_multi");
    let subject = post(ALICE, "p", "hello");
    let _worker = TWO_WORKERS
        .iter()
        .fold(stack.worker(), |worker, (name, value)| worker.env(name, value))
        .spawn();
    for first in (0..300).step_by(N) {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for n in first..(first + N).min(300) {
            let like = like(&user(n), "l", &subject);
            let data = commit(&like.repo, vec![like.op("create")]).to_string();
            pipe.cmd("XADD")
                .arg(crate::support::EVENTS)
                .arg(&["*", "type", "commit", "seq", "", "data", &data]);
        }
        pipe.exec(&mut stack.redis()).expect("MULTI");
    }
    wait_until("all are acknowledged", || equal(stack.acknowledged(), 300));
    assert_eq!(seen_by_pages(&stack, "likes"), 300);
    assert_eq!(seen_by_pages(&stack, "notifications"), 300);
}

#[test]
fn notifications_of_one_recipient_are_in_stream_order_and_dated_now() {
    let stack = Stack::new("indexed_at_notifications");
    let posts: Vec<Record> = (0..N).map(|n| post(ALICE, &format!("p{n:02}"), "hello")).collect();
    // Against the order of their URIs, in which notifications are written.
    for (n, subject) in posts.iter().rev().enumerate() {
        create_at(&stack, PAST, n, &like(BOB, &format!("l{:02}", N - n), subject));
    }
    stack.drain();
    let times_of = |order| times(&stack, "notifications", order);
    let in_stream_order = times_of("uri DESC");
    assert!(in_stream_order.is_sorted_by(|a, b| a < b), "{in_stream_order:?}");
    assert_indexed_now(&stack, "notifications");
    let last = in_stream_order[N - 1];
    // An older entry that arrives late is not sorted below rows that readers have already seen.
    create_at(&stack, PAST, N, &follow(CAROL, "f", ALICE));
    stack.drain();
    let newest = times_of("indexed_at")[N];
    assert!(newest > last, "{newest} is not after {last}");
}

fn create_all_at(stack: &Stack, ms: u64, records: &[Record]) {
    for (n, record) in records.iter().enumerate() {
        create_at(stack, ms, n, record);
    }
}

/// The tables whose rows have the time of their entry.
fn with_entrys_time() -> Vec<&'static str> {
    let others = ["users", "posts", "quotes", "feed_items"];
    let pairs = PairTable::ALL.map(PairTable::name);
    let keyed = KEYED_TABLES
        .iter()
        .filter(|table| table.indexed_at != IndexedAt::Absent);
    others
        .into_iter()
        .chain(pairs)
        .chain(keyed.map(|table| table.name))
        .collect()
}

/// Every time of every table is one of these.
#[track_caller]
fn assert_times(stack: &Stack, tables: &[&str], is_right: impl Fn(f64) -> bool) {
    for table in tables {
        let found = times(stack, table, "indexed_at");
        assert!(!found.is_empty(), "{table} is empty");
        assert!(found.iter().all(|ms| is_right(*ms)), "{table}: {found:?}");
    }
}

#[test]
fn a_row_of_any_table_has_its_entrys_time_and_keeps_it_at_redelivery() {
    let stack = Stack::new("indexed_at_entry");
    let of_each = one_of_each(user);
    create_all_at(&stack, PAST, &of_each);
    let identity = json!({"did": user(17), "handle": "somebody.example"});
    stack.push_at(&format!("{PAST}-99"), "identity", identity, "");
    stack.drain();
    assert_times(&stack, &with_entrys_time(), |ms| ms == PAST as f64);
    let once = stack.snapshot();
    stack.redeliver();
    stack.drain();
    assert_times(&stack, &with_entrys_time(), |ms| ms == PAST as f64);
    assert_same(&once, &stack.snapshot());
}

#[test]
fn an_update_keeps_the_time_of_a_row_but_for_generators_packs_and_labelers() {
    const RESTARTED: [&str; 3] = ["feed_generators", "starter_packs", "labeler_services"];
    for (name, is_one_batch) in [("indexed_at_update", false), ("indexed_at_folded", true)] {
        let stack = Stack::new(name);
        let of_each = one_of_each(user);
        create_all_at(&stack, PAST, &of_each);
        if !is_one_batch {
            stack.drain();
        }
        for (n, record) in of_each.iter().enumerate() {
            let changed = record.with(json!({"createdAt": LATER}));
            push_at(&stack, PAST + 5000, n, &changed, changed.op("update"));
        }
        stack.drain();
        let kept: Vec<&str> = with_entrys_time()
            .into_iter()
            .filter(|table| !RESTARTED.contains(table))
            .collect();
        assert_times(&stack, &kept, |ms| ms == PAST as f64);
        RESTARTED.iter().for_each(|table| assert_indexed_now(&stack, table));
    }
}

#[test]
fn what_is_created_anew_has_the_time_of_the_new_entry() {
    let stack = Stack::new("indexed_at_anew");
    let of_each = one_of_each(user);
    create_all_at(&stack, PAST, &of_each);
    stack.drain();
    for (n, record) in of_each.iter().enumerate() {
        push_at(&stack, PAST + 1000, n, record, record.delete_op());
    }
    create_all_at(&stack, PAST + 2000, &of_each);
    stack.drain();
    // Users stay, and so may the feed items of posts that are there again.
    let mut deleted = with_entrys_time();
    deleted.retain(|table| !["users", "feed_items"].contains(table));
    assert_times(&stack, &deleted, |ms| ms == (PAST + 2000) as f64);
}

#[test]
fn a_record_that_takes_over_its_pair_has_the_time_of_its_own_entry() {
    let stack = Stack::new("indexed_at_rival");
    let subject = post(ALICE, "p", "hello");
    let of = |n, rkey| like(&user(n), rkey, &subject);
    for (ms, rkey) in [(PAST, "first"), (PAST + 5000, "second")] {
        (0..N).for_each(|n| create_at(&stack, ms, n, &of(n, rkey)));
    }
    stack.drain();
    for n in 0..N {
        let first = of(n, "first");
        push_at(&stack, PAST + 9000, n, &first, first.delete_op());
    }
    stack.drain();
    let wanted: Vec<f64> = (0..N as u64).map(|n| (PAST + 5000 + n) as f64).collect();
    assert_eq!(times(&stack, "likes", "indexed_at"), wanted);
}

#[test]
fn records_that_swap_their_subjects_keep_their_times() {
    let stack = Stack::new("indexed_at_swap");
    let (one, other) = (post(BOB, "1", "one"), post(BOB, "2", "other"));
    create_at(&stack, PAST, 0, &like(ALICE, "a", &one));
    create_at(&stack, PAST + 7, 0, &like(ALICE, "b", &other));
    stack.drain();
    let swapped = [like(ALICE, "a", &other), like(ALICE, "b", &one)];
    let ops = swapped.iter().map(|like| like.op("update")).collect();
    stack.push_at(&format!("{}-0", PAST + 1000), "commit", commit(ALICE, ops), "9");
    stack.drain();
    assert_eq!(times(&stack, "likes", "uri"), [PAST as f64, (PAST + 7) as f64]);
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a clock").as_millis() as u64
}

const DAY: u64 = 24 * 60 * 60 * 1000;

#[test]
fn an_id_that_is_no_time_gives_the_wall_clock() {
    let stack = Stack::new("indexed_at_no_time");
    let ahead = now_ms() + DAY / 2;
    for (n, ms) in [7, 1_577_836_799_999, ahead, ahead + DAY, 9_999_999_999_999]
        .iter()
        .enumerate()
    {
        create_at(&stack, *ms, 1, &block(ALICE, &n.to_string(), &user(n)));
    }
    stack.drain();
    let found = times(&stack, "blocks", "uri");
    assert_eq!(found[2], ahead as f64, "within a day of now, an ID is a time");
    stack.sql("DELETE FROM blocks WHERE uri LIKE '%/2'");
    assert_indexed_now(&stack, "blocks");
    let found = times(&stack, "blocks", "indexed_at");
    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
}

/// A machine whose clock was never set is behind that of Redis, from which the IDs come.
#[test]
fn a_clock_that_is_years_behind_rediss_is_logged_and_dates_no_rows() {
    let stack = Stack::new("indexed_at_clock");
    let proxy = Proxy::to(stack.redis.port());
    let (seconds, _): (String, String) = redis::cmd("TIME").query(&mut stack.redis()).expect("TIME");
    let theirs = format!("19{}", &seconds[2..]).parse::<u64>().expect("a number") * 1000;
    proxy.rewrite(&format!("$10\r\n{}", &seconds[..2]), "$10\r\n19");
    let undated = post(ALICE, "p", "hello").without("createdAt");
    create_at(&stack, theirs, 0, &undated);
    create_at(&stack, theirs, 1, &like(BOB, "l", &undated));
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let log = stack.drain_with(&[("REDIS_URL", &url)]).log;
    assert_eq!(times(&stack, "posts", "uri"), [theirs as f64]);
    let same = stack.query("SELECT uri FROM posts WHERE created_at = indexed_at");
    assert_eq!(same.len(), 1, "created_at is not the entry's time");
    let notified = times(&stack, "notifications", "uri")[0];
    assert!(notified >= theirs as f64, "{notified} is the wrong clock's");
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("this machine's clock is"))
        .collect();
    assert_eq!(warnings.len(), 1, "{log}");
}
