//! The work that one author can cause: no more than others with as many records, whatever the records contain.
//!
//! Costs are counted in index entries that PostgreSQL has read, and in its transactions.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::skip::is_full;
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{PostgresOptions, PostgresServer, Stack, entries, wait_until};

const KINDS: [&str; 8] = [LIKE, REPOST, BOOKMARK, FOLLOW, BLOCK, LISTBLOCK, LISTITEM, VERIFICATION];

/// Bob's record number `n` of that kind, all about one subject; verifications are by as many accounts.
fn rival(kind: &str, n: usize) -> Record {
    let rkey = format!("r{n}");
    let subject = post(ALICE, "p", "hello");
    match kind {
        LIKE => like(BOB, &rkey, &subject),
        REPOST => repost(BOB, &rkey, &subject),
        BOOKMARK => bookmark(BOB, &rkey, &subject),
        FOLLOW => follow(BOB, &rkey, CAROL),
        BLOCK => block(BOB, &rkey, CAROL),
        LISTBLOCK => list_block(BOB, &rkey, &list(ALICE, "l")),
        LISTITEM => list_item(BOB, &rkey, &list(BOB, "l"), CAROL),
        _ => verification(&entries::did(&format!("verifier {n}")), &rkey, CAROL),
    }
}

/// Bob's like number `n`; each is of a different post.
fn single_like(n: usize) -> Record {
    like(BOB, &format!("r{n}"), &post(ALICE, &format!("p{n}"), "hello"))
}

/// A value from PostgreSQL's statistics, once no session is active.
fn statistic(stack: &Stack, query: &str) -> i64 {
    let others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'";
    let mut client = stack.database.client();
    wait_until("the worker's sessions have ended", || {
        equal(client.query(others, &[]).expect("the sessions").len(), 0)
    });
    client.query_one(query, &[]).expect("the statistics").get(0)
}

/// Entries of the worker's indexes that have been read so far.
fn entries_read(stack: &Stack) -> i64 {
    let read =
        "SELECT sum(idx_tup_read)::bigint FROM pg_stat_all_indexes WHERE schemaname IN ('public', 'firehose_worker')";
    statistic(stack, read)
}

/// Transactions that have ended so far, one way or the other.
fn transactions(stack: &Stack) -> i64 {
    let ended = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    statistic(stack, ended)
}

/// Creates or deletes that many records of each kind in batches of 20; answers what was read.
fn cost(stack: &Stack, n: usize, is_delete: bool) -> i64 {
    let before = entries_read(stack);
    for number in 0..n {
        for kind in KINDS {
            let record = rival(kind, number);
            if is_delete {
                record.delete(stack);
            } else {
                record.create(stack);
            }
        }
    }
    stack.drain_with(&[("MAX_BATCH_ENTRIES", "20"), ("PARALLEL_CONSUMERS", "1")]);
    stack.assert_all_acknowledged();
    entries_read(stack) - before
}

#[test]
fn each_of_many_live_records_of_one_pair_costs_the_same_however_many_there_are() {
    const N: usize = 240;
    let stack = Stack::new("attack_one_pair");
    let n_ops = i64::try_from(N * KINDS.len()).expect("a few");
    for is_delete in [false, true] {
        let read = cost(&stack, N, is_delete);
        println!("delete {is_delete}: {read} index entries read for {n_ops} ops");
        assert!(
            read < 20 * n_ops,
            "delete {is_delete}: {read} index entries read for {n_ops} ops"
        );
    }
    for table in ["likes", "verifications", "list_items", "firehose_worker.rivals"] {
        assert_eq!(stack.count(table), 0, "{table}");
    }
}

#[test]
fn a_pair_with_many_live_records_may_lose_all_of_them_at_once() {
    const N: usize = 1500;
    let stack = Stack::new("attack_at_once");
    let before = entries_read(&stack);
    let records: Vec<Record> = (0..N).map(|n| rival(LIKE, n)).collect();
    let ops = |op: fn(&Record) -> serde_json::Value| commit(BOB, records.iter().map(op).collect());
    stack.push("commit", ops(|record| record.op("create")));
    stack.drain();
    assert_eq!(stack.count("firehose_worker.rivals"), i64::try_from(N).expect("a few"));
    stack.push("commit", ops(Record::delete_op));
    stack.drain();
    let read = entries_read(&stack) - before;
    println!("{read} index entries");
    assert!(
        read < 40 * i64::try_from(N).expect("a few"),
        "{read} index entries read"
    );
    Expected::none().users(&[BOB]).assert(&stack);
    assert_eq!(stack.count("firehose_worker.rivals"), 0);
}

#[test]
fn records_that_have_moved_away_from_a_pair_are_passed_over_once() {
    const N: usize = 300;
    let stack = Stack::new("attack_moved");
    let records: Vec<Record> = (0..N).map(|n| rival(LIKE, n)).collect();
    stack.push(
        "commit",
        commit(BOB, records.iter().map(|record| record.op("create")).collect()),
    );
    stack.drain();
    let moved = (1..N - 1).map(|n| single_like(n).op("update")).collect();
    stack.push("commit", commit(BOB, moved));
    stack.drain();
    records[0].delete(&stack);
    stack.drain();
    let held = format!("SELECT uri FROM likes WHERE post_uri = '{}'", uri(ALICE, POST, "p"));
    assert_eq!(stack.query(&held), [json!({"uri": records[N - 1].uri()})]);
    assert_eq!(stack.count("likes"), i64::try_from(N - 1).expect("a few"));
    stack.assert_counters_equal_rows();
}

#[test]
fn verifications_of_many_people_fit_into_the_smallest_table_of_locks() {
    const N: usize = 4000;
    let server = PostgresServer::start(PostgresOptions {
        settings: [("max_locks_per_transaction", "10"), ("max_connections", "20")]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec(),
        ..PostgresOptions::default()
    });
    let stack = Stack::with_postgres("attack_locks", server);
    let records: Vec<Record> = (0..N)
        .map(|n| verification(ALICE, &format!("v{n}"), &entries::did(&format!("person {n}"))))
        .collect();
    for (op, left) in [(0, N), (1, 0)] {
        for records in records.chunks(200) {
            let of = |record: &Record| {
                if op == 0 {
                    record.op("create")
                } else {
                    record.delete_op()
                }
            };
            stack.push("commit", commit(ALICE, records.iter().map(of).collect()));
        }
        let log = stack.drain_with(&[("PARALLEL_CONSUMERS", "1")]).log;
        assert_eq!(stack.count("verifications"), i64::try_from(left).expect("a few"));
        assert!(!log.contains("53200"), "{}", shown(&log));
    }
}

/// Has PostgreSQL refuse inserts of more than seven likes in one statement in that way, and count how often it did.
fn refuse_many_likes(stack: &Stack, refusal: &str) {
    stack.sql(&format!(
        "CREATE SEQUENCE refused;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF (SELECT count(*) FROM added) > 7 THEN
                 PERFORM nextval('refused');
                 {refusal};
             END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER refuse AFTER INSERT ON likes REFERENCING NEW TABLE AS added FOR EACH STATEMENT
             EXECUTE FUNCTION refuse()"
    ));
}

fn push_likes(stack: &Stack, n: usize) {
    let likes = (0..n).map(|n| like(BOB, &format!("l{n}"), &post(ALICE, &format!("p{n}"), "")).op("create"));
    stack.push("commit", commit(BOB, likes.collect()));
}

#[test]
fn a_batch_beyond_a_limit_is_split_and_the_size_is_remembered() {
    const N: usize = 400;
    for state in ["53200", "53400", "54000", "57014", "25P04"] {
        let stack = Stack::new(&format!("attack_size_{}", state.to_lowercase()));
        refuse_many_likes(&stack, &format!("RAISE EXCEPTION 'too much' USING ERRCODE = '{state}'"));
        push_likes(&stack, N);
        let log = stack.drain_with(&[("PARALLEL_CONSUMERS", "1")]).log;
        assert_eq!(stack.count("likes"), i64::try_from(N).expect("a few"), "{state}");
        stack.assert_all_acknowledged();
        let refused = stack.query("SELECT last_value AS n FROM refused")[0]["n"].as_i64();
        // Down to seven in seven steps, and some tries whether more will do by now.
        assert!(
            refused < Some(25),
            "{state}: {refused:?} transactions refused; {}",
            shown(&log)
        );
        assert!(
            log.contains("ops in one transaction but accepts fewer"),
            "{state}: {}",
            shown(&log)
        );
    }
}

#[test]
fn a_batch_that_ends_its_session_again_and_again_is_tried_in_halves() {
    let stack = Stack::new("attack_session");
    refuse_many_likes(&stack, "PERFORM pg_terminate_backend(pg_backend_pid())");
    push_likes(&stack, 12);
    stack.drain_with(&[("PARALLEL_CONSUMERS", "1")]);
    assert_eq!(stack.count("likes"), 12);
}

#[test]
fn a_single_op_beyond_a_limit_waits_until_the_operator_raises_it() {
    for (state, setting) in [("53200", "max_locks_per_transaction"), ("25P04", "transaction_timeout")] {
        let stack = Stack::new(&format!("attack_alone_{}", state.to_lowercase()));
        stack.sql(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'too much' USING ERRCODE = '{state}'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON likes FOR EACH ROW EXECUTE FUNCTION refuse()"
        ));
        push_likes(&stack, 1);
        let worker = stack.worker().spawn();
        wait_until("the setting is named", || {
            let log = worker.log();
            if log.contains(setting) {
                Ok(())
            } else {
                Err(shown(&log))
            }
        });
        stack.sql("DROP TRIGGER refuse ON likes");
        wait_until("it is applied", || equal(stack.count("likes"), 1));
        assert_eq!(stack.dead_letters().len(), 0);
    }
}

#[test]
fn an_op_beyond_a_limit_of_postgresql_becomes_a_dead_letter_without_delaying_others() {
    const N: usize = 200;
    let stack = Stack::new("attack_limit");
    let refusal = "IF (SELECT bool_or(uri LIKE '%/l77') FROM added) THEN
                       PERFORM nextval('refused');
                       RAISE EXCEPTION 'too much' USING ERRCODE = '54000';
                   END IF";
    stack.sql("CREATE SEQUENCE refused");
    stack.sql(&format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refusal}; RETURN NULL; END $$;
         CREATE TRIGGER refuse AFTER INSERT ON likes REFERENCING NEW TABLE AS added FOR EACH STATEMENT
             EXECUTE FUNCTION refuse()"
    ));
    push_likes(&stack, N);
    let log = stack.drain_with(&[("PARALLEL_CONSUMERS", "1")]).log;
    assert_eq!(stack.count("likes"), i64::try_from(N - 1).expect("a few"));
    assert_eq!(stack.dead_letters().len(), 1);
    assert!(!log.contains("accepts fewer"), "{}", shown(&log));
}

/// A generic record that PostgreSQL refuses, since jsonb holds no number that large.
fn vast_number(n: usize) -> Record {
    let number: Value = serde_json::from_str("1e999999").expect("it is JSON");
    custom(BOB, &format!("n{n}"), "").with(json!({"n": number}))
}

/// Text of that many characters of four bytes that PostgreSQL cannot compress.
fn incompressible(n: usize, length: usize) -> String {
    let mut state = n as u32 + 1;
    let character = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_u32(0x20000 + (state >> 17)).expect("an ideograph")
    };
    std::iter::repeat_with(character).take(length).collect()
}

/// A kind of op that PostgreSQL refuses.
struct RefusedKind {
    name: &'static str,
    /// Done to the database before.
    sql: &'static str,
    /// Op number `n`, which is refused.
    refused: fn(usize) -> Record,
    sqlstate: &'static str,
}

const REFUSED_KINDS: [RefusedKind; 6] = [
    RefusedKind {
        name: "number",
        sql: "",
        refused: vast_number,
        sqlstate: "22003",
    },
    RefusedKind {
        name: "profile",
        sql: "ALTER TABLE users ADD CHECK (description IS NULL)",
        refused: |n| profile(BOB).with(json!({"description": format!("description {n}")})),
        sqlstate: "23514",
    },
    RefusedKind {
        name: "index",
        sql: "",
        refused: |n| {
            let list = list(BOB, &incompressible(n, 440));
            list_item(
                BOB,
                &format!("i{n}"),
                &list,
                &format!("did:x:{}", incompressible(n, 240)),
            )
        },
        sqlstate: "54000",
    },
    RefusedKind {
        name: "check",
        sql: "ALTER TABLE follows ADD CHECK (following_did NOT LIKE '%refused%')",
        refused: |n| follow(BOB, &format!("f{n}"), &format!("did:web:refused{n}")),
        sqlstate: "23514",
    },
    RefusedKind {
        name: "foreign_key",
        sql: "ALTER TABLE likes ADD FOREIGN KEY (post_uri) REFERENCES posts",
        refused: |n| like(BOB, &format!("l{n}"), &post(CAROL, &format!("p{n}"), "")),
        sqlstate: "23503",
    },
    RefusedKind {
        name: "trigger",
        sql: "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                  $$ BEGIN RAISE EXCEPTION 'not this one: %', NEW.uri; END $$;
              CREATE TRIGGER refuse BEFORE INSERT ON blocks FOR EACH ROW EXECUTE FUNCTION refuse()",
        refused: |n| block(BOB, &format!("b{n}"), &entries::did(&format!("person {n}"))),
        sqlstate: "P0001",
    },
];

/// The ops of a commit, of which two in five are refused. The others need each other: every like needs a post before
/// it.
fn two_refused_in_five(n_ops: usize, refused: fn(usize) -> Record) -> (Vec<Value>, Vec<String>) {
    let mut paths = Vec::new();
    let ops = (0..n_ops).map(|n| match n % 5 {
        0 => post(BOB, &format!("p{n}"), "hello").op("create"),
        2 => like(BOB, &format!("l{n}"), &post(BOB, &format!("p{}", n - 2), "hello")).op("create"),
        4 => follow(BOB, &format!("f{n}"), &entries::did(&format!("friend {n}"))).op("create"),
        _ => {
            let op = refused(n).op("create");
            paths.push(text_of(&op, "path"));
            op
        }
    });
    (ops.collect(), paths)
}

#[test]
fn finding_refused_ops_takes_a_bounded_number_of_transactions() {
    for kind in &REFUSED_KINDS {
        let n_ops = if kind.name == "number" && is_full() {
            10_000
        } else {
            500
        };
        let stack = Stack::new(&format!("attack_refused_{}", kind.name));
        stack.sql(kind.sql);
        let (ops, paths) = two_refused_in_five(n_ops, kind.refused);
        stack.push("commit", commit(BOB, ops));
        let before = transactions(&stack);
        let log = stack.drain_with(&[("PARALLEL_CONSUMERS", "1")]).log;
        let ended = transactions(&stack) - before;
        println!("{}: {ended} transactions for {n_ops} ops", kind.name);
        let letters = stack.dead_letters();
        let set_apart: Vec<&String> = letters.iter().map(|letter| &letter["op"]).collect();
        assert_eq!(set_apart, paths.iter().collect::<Vec<_>>(), "{}", kind.name);
        for letter in &letters {
            assert!(letter["error"].contains(kind.sqlstate), "{}", letter["error"]);
        }
        let fifth = i64::try_from(n_ops / 5).expect("a few");
        for table in ["posts", "likes", "follows"] {
            assert_eq!(stack.count(table), fifth, "{table}; {}: {}", kind.name, shown(&log));
        }
        stack.assert_counters_equal_rows();
        // The worker runs other statements every few hundred milliseconds, and a debug build is slow.
        assert!(
            ended < 60 + fifth / 20,
            "{}: {ended} transactions; {}",
            kind.name,
            shown(&log)
        );
    }
}

#[test]
fn an_author_whose_ops_are_all_refused_delays_no_other() {
    const N: usize = 60;
    let stack = Stack::new("attack_refused");
    for n in 0..3 {
        rival(VERIFICATION, n).create(&stack);
    }
    stack.push(
        "commit",
        commit(BOB, (0..N).map(|n| vast_number(n).op("create")).collect()),
    );
    rival(VERIFICATION, 3).create(&stack);
    stack.drain_with(&[("PARALLEL_CONSUMERS", "1")]);
    assert_eq!(stack.dead_letters().len(), N);
    assert_eq!(stack.count("verifications"), 1);
}

#[test]
fn deletes_of_records_that_were_never_there_read_a_bounded_number_of_viewer_states() {
    const N_STATES: usize = 1000;
    const N_VIEWERS: usize = 60;
    let stack = Stack::new("attack_never_there");
    stack.sql(&format!(
        "INSERT INTO post_viewer_states (post_uri, viewer_did, like_uri)
         SELECT format('at://did:plc:author/app.bsky.feed.post/%s', p), viewer, format('at://%s/app.bsky.feed.like/%s', viewer, p)
         FROM generate_series(1, {N_STATES}) AS p,
             LATERAL (SELECT format('did:plc:viewer%s', n) AS viewer FROM generate_series(1, {N_VIEWERS}) AS n) AS v"
    ));
    let states_read = |stack: &Stack| {
        let read = "SELECT idx_tup_read FROM pg_stat_all_indexes WHERE indexrelname = 'idx_post_viewer_states_viewer'";
        statistic(stack, read)
    };
    let delete_by =
        |n: usize, rkey: &str| like(&format!("did:plc:viewer{n}"), rkey, &post(ALICE, "p", "")).delete(&stack);
    let before = states_read(&stack);
    for n in 1..=N_VIEWERS {
        delete_by(n, "never");
        delete_by(n, "there");
    }
    stack.drain_with(&[("PARALLEL_CONSUMERS", "1")]);
    let read = states_read(&stack) - before;
    println!("{read} states read");
    // 2,000 for each of the batches, of which there are one or a few.
    assert!((1000..=8000).contains(&read), "{read} states read");
}

#[test]
fn an_installation_without_the_index_of_places_gets_it_or_goes_on_without() {
    let stack = Stack::new("attack_index");
    rival(LIKE, 1).create(&stack);
    stack.drain();
    let has_index = "SELECT to_regclass('firehose_worker.rivals_place') IS NOT NULL AS has";
    stack.sql(
        "DROP INDEX firehose_worker.rivals_place;
         CREATE INDEX rivals_pair ON firehose_worker.rivals (key_a, key_b)",
    );
    for n in 2..5 {
        rival(LIKE, n).create(&stack);
    }
    stack.drain();
    assert_eq!(stack.query(has_index), [json!({"has": true})]);
    let old = "SELECT to_regclass('firehose_worker.rivals_pair') IS NULL AS gone";
    assert_eq!(stack.query(old), [json!({"gone": true})]);
    assert_eq!(stack.count("firehose_worker.rivals"), 4);

    stack.sql("DROP INDEX firehose_worker.rivals_place");
    let role = format!("{}_role", stack.database.name());
    let all = "ALL TABLES IN SCHEMA public, firehose_worker";
    stack.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA public, firehose_worker TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON {all} TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"
    ));
    rival(LIKE, 1).delete(&stack);
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    let log = stack.drain_with(&[("DATABASE_URL", &url)]).log;
    assert!(
        log.contains("cannot create the index firehose_worker.rivals_place"),
        "{}",
        shown(&log)
    );
    assert_eq!(
        stack.query("SELECT uri FROM likes"),
        [json!({"uri": rival(LIKE, 2).uri()})]
    );
}
