//! Tables with a changed definition: the worker waits if no op is at fault.

use std::time::Duration;

use firehose_worker::rows::KEYED_TABLES;
use serde_json::{Value, json};

use super::postgres::{as_role, make_role};
use super::{World, lines_with, wait_for_line};
use crate::support::entries::{cid_for, did, like, uri};
use crate::support::stack::shown;
use crate::support::wait::equal;
use crate::support::{Stack, wait_until};

#[test]
fn dropped_columns_and_tables_are_waited_for() {
    let mut world = World::new("schema_dropped");
    world.push(200);
    let mut worker = world.worker().spawn();
    world.settle();
    world.stack.sql("alter table likes rename column via to gone");
    world.push(200);
    wait_for_line(
        &mut worker,
        &["via", "42703", "migrations", "paused until this is fixed"],
    );
    world.stack.sql("alter table likes rename column gone to via");
    world.settle();
    world.stack.sql("alter table follows rename to gone");
    world.push(300);
    wait_for_line(&mut worker, &["follows", "42P01", "paused until this is fixed"]);
    world.stack.sql("alter table gone rename to follows");
    world.finish(worker);
}

#[test]
fn columns_of_another_type_than_is_read_are_waited_for() {
    let stack = Stack::new("schema_types");
    let mut worker = stack.worker().spawn();
    let (alice, bob) = (did("alice"), did("bob"));
    let subject = |n: u32| like(&uri(&bob, &format!("app.bsky.feed.post/{n}")));
    stack.create(&alice, "app.bsky.feed.like/1", subject(1));
    wait_until("the like is applied", || equal(stack.count("likes"), 1));
    stack.sql("alter table likes alter created_at type timestamptz");
    stack.update(&alice, "app.bsky.feed.like/1", subject(2));
    wait_for_line(
        &mut worker,
        &["created_at", "timestamptz", "paused until this is fixed"],
    );
    stack.sql("alter table likes alter created_at type timestamp");
    wait_until("nothing is pending", || equal(stack.pending(), 0));
    let log = worker.log();
    assert_eq!(lines_with(&log, &["panicked"]), 0, "{}", shown(&log));
    stack.assert_all_acknowledged();
    let moved = uri(&bob, "app.bsky.feed.post/2");
    assert_eq!(stack.rows("likes")[0]["post_uri"], moved.as_str());
    stack.assert_counters_equal_rows();
}

#[test]
fn columns_of_another_type_than_is_written_make_no_dead_letters() {
    let stack = Stack::new("schema_written");
    let mut worker = stack.worker().spawn();
    push_likes(&stack, "a", 1);
    wait_until("the like is applied", || equal(stack.count("likes"), 1));
    // What COPY sends for a timestamp is no date to PostgreSQL.
    stack.sql("alter table likes alter created_at type date");
    push_likes(&stack, "b", 100);
    wait_for_line(
        &mut worker,
        &["public.likes.created_at is date", "paused until this is fixed"],
    );
    drop(worker);
    let mut worker = stack.worker().spawn();
    wait_for_line(
        &mut worker,
        &["waiting for the schema", "ALTER TABLE public.likes", "TYPE timestamp"],
    );
    stack.sql("alter table likes alter created_at type timestamp");
    wait_until("the likes are applied", || equal(stack.count("likes"), 101));
    wait_until("nothing is pending", || equal(stack.pending(), 0));
    assert_eq!(stack.dead_letters().len(), 0, "{:?}", stack.dead_letters());
    stack.assert_counters_equal_rows();
}

#[test]
fn row_level_security_is_waited_for_and_hides_no_row() {
    let stack = Stack::new("schema_row_security");
    make_role(&stack);
    let url = as_role(&stack.database_url());
    let mut worker = stack.worker().env("DATABASE_URL", &url).spawn();
    push_likes(&stack, "a", 1);
    wait_until("the like is applied", || equal(stack.count("likes"), 1));
    for table in ["likes", "user_settings"] {
        stack.sql(&format!("alter table {table} enable row level security"));
        stack.delete(&did("alice"), "app.bsky.feed.like/a0");
        stack.create(
            &did(table),
            "app.bsky.feed.like/1",
            like(&uri(&did("bob"), "app.bsky.feed.post/1")),
        );
        wait_for_line(
            &mut worker,
            &["row-level security", table, "BYPASSRLS", "paused until this is fixed"],
        );
        stack.sql(&format!("alter table {table} disable row level security"));
        wait_until("nothing is pending", || equal(stack.pending(), 0));
    }
    assert_eq!(stack.count("likes"), 2, "{:?}", stack.rows("likes"));
    assert_eq!(stack.dead_letters().len(), 0, "{:?}", stack.dead_letters());
}

#[test]
fn constraints_on_columns_that_the_worker_does_not_write_are_waited_for() {
    let mut world = World::new("schema_constraints");
    let mut worker = world.worker().spawn();
    let constraints = [
        (
            "alter table likes add column reviewed text; update likes set reviewed = ''; \
          alter table likes alter reviewed set not null",
            "23502",
            "alter table likes drop column reviewed",
        ),
        (
            "alter table likes add column checked boolean default false, \
          add constraint only_checked check (checked) not valid",
            "23514",
            "alter table likes drop column checked",
        ),
        (
            "create table teams (name text primary key); \
          alter table likes add column team text; alter table likes alter team set default 'none'; \
          alter table likes add foreign key (team) references teams",
            "23503",
            "alter table likes drop column team",
        ),
    ];
    for (make, state, drop) in constraints {
        world.push(150);
        world.settle();
        world.stack.sql(make);
        world.push(150);
        wait_for_line(&mut worker, &[state, "does not write", "paused until this is fixed"]);
        world.stack.sql(drop);
        world.settle();
    }
    world.finish(worker);
}

/// A commit with many likes of one account.
fn push_likes(stack: &Stack, name: &str, number: usize) {
    let subject = |n: usize| uri(&did("bob"), &format!("app.bsky.feed.post/{name}{n}"));
    let op = |n: usize| -> Value {
        let path = format!("app.bsky.feed.like/{name}{n}");
        let record = like(&subject(n));
        json!({"action": "create", "cid": cid_for(&path, &record), "path": path, "record": record})
    };
    stack.commit(&did("alice"), (0..number).map(op).collect());
}

#[test]
fn one_reason_that_refuses_most_of_a_batch_is_waited_for() {
    let stack = Stack::new("schema_most");
    stack.sql("alter table likes add constraint none check (uri like '%first%')");
    push_likes(&stack, "a", 30);
    let mut worker = stack.worker().spawn();
    wait_for_line(
        &mut worker,
        &["of a batch is refused", "23514", "paused until this is fixed"],
    );
    stack.sql("alter table likes drop constraint none");
    wait_until("the likes are applied", || equal(stack.count("likes"), 30));
    wait_until("nothing is pending", || equal(stack.pending(), 0));
    assert_eq!(stack.dead_letters().len(), 0, "{:?}", stack.dead_letters());
    stack.assert_counters_equal_rows();
}

#[test]
fn what_is_ignored_counts_once_however_often_its_batch_is_refused() {
    const NUMBER: usize = 12;
    let stack = Stack::new("schema_ignored");
    stack.sql(
        "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'not now'; end $$;
         create trigger refuse before insert on likes for each row execute function refuse()",
    );
    for n in 0..NUMBER {
        stack.create(&did("carol"), &format!("app.bsky.feed.like/{n}"), json!({}));
    }
    push_likes(&stack, "a", NUMBER);
    // One thread, so that all of them are a batch.
    let mut worker = stack
        .worker()
        .env("PARALLEL_CONSUMERS", "1")
        .env("LOG_LEVEL", "DEBUG")
        .spawn();
    wait_until("the batch is tried again", || {
        lines_with(&worker.log(), &["not now"]) > 20
    });
    stack.sql("drop trigger refuse on likes");
    wait_until("nothing is pending", || equal(stack.pending(), 0));
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.wait_exit(Duration::from_secs(60)).code(), Some(0));
    let ignored = format!("ops ignored: no_subject {NUMBER}");
    assert_eq!(lines_with(&worker.log(), &[&ignored]), 1, "{}", shown(&worker.log()));
}

#[test]
fn a_pair_that_another_program_takes_meanwhile_is_no_fault_of_the_op() {
    let stack = Stack::new("schema_met");
    let subject = |n: u32| like(&uri(&did("bob"), &format!("app.bsky.feed.post/{n}")));
    stack.create(&did("alice"), "app.bsky.feed.like/1", subject(1));
    stack.drain();
    // A sequence counts on though its transaction is rolled back.
    stack.sql(
        "create sequence tries;
         create function meet() returns trigger language plpgsql as
             $$ begin
                 if nextval('tries') < 3 then raise unique_violation; end if;
                 return new;
             end $$;
         create trigger meet before update on likes for each row execute function meet()",
    );
    stack.update(&did("alice"), "app.bsky.feed.like/1", subject(2));
    stack.drain();
    assert_eq!(stack.dead_letters().len(), 0, "{:?}", stack.dead_letters());
    let moved = uri(&did("bob"), "app.bsky.feed.post/2");
    assert_eq!(stack.rows("likes")[0]["post_uri"], moved.as_str());
    stack.assert_counters_equal_rows();
}

#[test]
fn an_error_of_any_kind_that_stays_with_one_op_sets_that_op_apart() {
    let stack = Stack::new("schema_odd");
    stack.sql(
        "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'not this one'; end $$;
         create trigger refuse before insert on likes for each row
             when (new.uri like '%a3') execute function refuse()",
    );
    push_likes(&stack, "a", 8);
    let mut worker = stack.worker().spawn();
    wait_until("the op is set apart", || equal(stack.dead_letters().len(), 1));
    assert_eq!(stack.dead_letters()[0]["op"], "app.bsky.feed.like/a3");
    assert!(
        stack.dead_letters()[0]["error"].contains("not this one"),
        "{:?}",
        stack.dead_letters()
    );
    assert_eq!(stack.count("likes"), 7);
    // Whether the op itself is at fault shows only when others are applied.
    stack.create(
        &did("carol"),
        "app.bsky.feed.like/a3",
        like(&uri(&did("bob"), "app.bsky.feed.post/1")),
    );
    wait_for_line(&mut worker, &["all of a batch is refused", "not this one"]);
    assert_eq!(stack.dead_letters().len(), 1);
    for n in 10..20 {
        stack.create(
            &did("carol"),
            &format!("app.bsky.feed.like/b{n}"),
            like(&uri(&did("bob"), &format!("app.bsky.feed.post/{n}"))),
        );
    }
    wait_until("the op is set apart", || equal(stack.dead_letters().len(), 2));
    wait_until("its neighbours are applied", || equal(stack.count("likes"), 17));
    wait_until("nothing is pending", || equal(stack.pending(), 0));
}

#[test]
fn a_user_deleted_in_between_is_created_again() {
    let stack = Stack::new("schema_users");
    let (alice, bob) = (did("alice"), did("bob"));
    stack.sql("alter table likes add foreign key (user_did) references users");
    stack.create(&alice, "app.bsky.feed.like/1", like(&uri(&bob, "app.bsky.feed.post/1")));
    let worker = stack.worker().spawn();
    wait_until("the like is applied", || equal(stack.count("likes"), 1));
    stack.sql(&format!("delete from likes; delete from users where did = '{alice}'"));
    stack.create(&alice, "app.bsky.feed.like/2", like(&uri(&bob, "app.bsky.feed.post/2")));
    wait_until("the next like is applied", || equal(stack.count("likes"), 1));
    assert_eq!(stack.dead_letters().len(), 0);
    drop(worker);
}

#[test]
fn published_tables_without_replica_identity_are_waited_for_with_a_remedy() {
    let mut world = World::new("published");
    world.stack.sql(
        "create publication everything for all tables;
         alter table likes replica identity nothing; alter table post_aggregations replica identity nothing",
    );
    world.push_rest();
    let mut worker = world.worker().spawn();
    let words = [
        "replica identity",
        "REPLICA IDENTITY FULL",
        "firehose-worker check",
        "paused until this is fixed",
    ];
    wait_for_line(&mut worker, &words);
    assert_eq!(world.stack.dead_letters().len(), 0);
    for table in ["likes", "post_aggregations", "post_viewer_states"] {
        world.stack.sql(&format!("alter table {table} replica identity full"));
    }
    world.finish(worker);
}

/// The tables in which all keys that the worker uses share a column.
fn partitioned() -> impl Iterator<Item = (&'static str, &'static str)> {
    let others = [
        ("users", "did"),
        ("posts", "uri"),
        ("post_aggregations", "post_uri"),
        ("post_viewer_states", "post_uri"),
        ("thread_contexts", "post_uri"),
        ("feed_items", "uri"),
        ("notifications", "uri"),
    ];
    let keyed = KEYED_TABLES.map(|table| (table.name, table.key.column()));
    others.into_iter().chain(keyed)
}

/// Makes a table anew in two partitions, with those of its keys that may be.
const PARTITION: &str = "
    alter table TABLE rename to old_TABLE;
    create table TABLE (like old_TABLE including defaults) partition by hash (COLUMN);
    create table TABLE_0 partition of TABLE for values with (modulus 2, remainder 0);
    create table TABLE_1 partition of TABLE for values with (modulus 2, remainder 1);
    do $$
    declare
        columns text;
    begin
        for columns in
            select string_agg(quote_ident(a.attname), ', ')
            from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
            where i.indrelid = 'old_TABLE'::regclass and i.indisunique
            group by i.indexrelid
            having bool_or(a.attname = 'COLUMN')
        loop
            execute format('create unique index on TABLE (%s)', columns);
        end loop;
    end $$;";

#[test]
fn partitioned_tables_are_written_like_others() {
    let mut world = World::new("partitioned");
    for (table, column) in partitioned() {
        world
            .stack
            .sql(&PARTITION.replace("TABLE", table).replace("COLUMN", column));
    }
    world.stack.sql(
        "alter table label_events drop constraint label_events_label_uri_fkey,
             add foreign key (label_uri) references labels (uri) on delete cascade",
    );
    let worker = world.worker().spawn();
    world.push(600);
    let log = world.finish(worker);
    assert_eq!(lines_with(&log, &["SQLSTATE"]), 0, "{log}");
}
