//! The date of a record: which texts are dates, and what replaces the others.

use firehose_worker::rows::dated_tables;
use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

/// An entry's ID and the time that is in it.
const ID: &str = "1780315200500-0";
const ID_TIME: &str = "2026-06-01T12:00:00.5";

/// Stores one post per createdAt, all in one entry with `id`, and answers the times that are stored, in that order.
fn stored_times(name: &str, id: &str, dates: &[Value]) -> Vec<String> {
    let stack = Stack::new(name);
    let ops = dates.iter().zip(0..).map(|(date, n)| {
        post(ALICE, &format!("p{n:02}"), "hello")
            .with(json!({"createdAt": date}))
            .op("create")
    });
    stack.push_at(id, "commit", commit(ALICE, ops.collect()), "1");
    stack.drain();
    stack.assert_all_acknowledged();
    let rows = stack.query("SELECT p.created_at, f.sort_at FROM posts p JOIN feed_items f USING (uri) ORDER BY uri");
    assert_eq!(rows.len(), dates.len(), "posts stored");
    for row in &rows {
        assert_eq!(row["created_at"], row["sort_at"], "the feed item has the post's time");
    }
    rows.iter().map(|row| text_of(row, "created_at")).collect()
}

#[track_caller]
fn assert_times(name: &str, cases: &[(&str, &str)]) {
    let dates: Vec<Value> = cases.iter().map(|(date, _)| json!(date)).collect();
    for (stored, (date, expected)) in stored_times(name, ID, &dates).iter().zip(cases) {
        assert_eq!(stored, expected, "createdAt {date:?}");
    }
}

#[test]
fn times_with_a_zone_are_converted_to_utc() {
    assert_times(
        "dates_zones",
        &[
            ("2026-03-01T10:20:30.180Z", "2026-03-01T10:20:30.18"),
            ("2026-03-01T10:20:30Z", "2026-03-01T10:20:30"),
            ("2026-03-01T10:20:30z", "2026-03-01T10:20:30"),
            ("2026-03-01T10:20:30+00:00", "2026-03-01T10:20:30"),
            ("2026-03-01T10:20:30-00:00", "2026-03-01T10:20:30"),
            ("2026-03-01T10:20:30+09:00", "2026-03-01T01:20:30"),
            ("2026-03-01T02:20:30.5+05:30", "2026-02-28T20:50:30.5"),
            ("2026-03-01T20:20:30-08:00", "2026-03-02T04:20:30"),
        ],
    );
}

#[test]
fn times_without_a_zone_are_utc_and_dates_are_midnight() {
    assert_times(
        "dates_bare",
        &[
            ("2026-03-01T10:20:30", "2026-03-01T10:20:30"),
            ("2026-03-01T10:20:30.25", "2026-03-01T10:20:30.25"),
            ("2026-03-01", "2026-03-01T00:00:00"),
            ("2024-02-29", "2024-02-29T00:00:00"),
        ],
    );
}

#[test]
fn digits_beyond_microseconds_are_cut() {
    assert_times(
        "dates_fractions",
        &[
            ("2026-03-01T10:20:30.1234567Z", "2026-03-01T10:20:30.123456"),
            ("2026-03-01T10:20:30.9999999Z", "2026-03-01T10:20:30.999999"),
            ("2026-03-01T10:20:30.123456789+01:00", "2026-03-01T09:20:30.123456"),
            ("2026-03-01T10:20:30.000000000000001Z", "2026-03-01T10:20:30"),
        ],
    );
}

#[test]
fn old_times_are_kept() {
    assert_times(
        "dates_old",
        &[
            ("1024-05-06T07:08:09Z", "1024-05-06T07:08:09"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999"),
            ("0100-01-01T00:00:00Z", "0100-01-01T00:00:00"),
        ],
    );
}

#[test]
fn a_time_up_to_five_minutes_ahead_of_the_entry_is_kept_and_a_later_one_is_the_entrys() {
    assert_times(
        "dates_future",
        &[
            ("2026-06-01T12:00:00.501Z", "2026-06-01T12:00:00.501"),
            ("2026-06-01T12:05:00.5Z", "2026-06-01T12:05:00.5"),
            ("2026-06-01T12:05:00.501Z", ID_TIME),
            ("3024-01-01T00:00:00Z", ID_TIME),
            ("9999-12-31T23:59:59Z", ID_TIME),
        ],
    );
}

#[test]
fn what_is_no_time_is_missing_and_stands_for_the_entrys_time() {
    let texts = [
        "",
        " ",
        "now",
        "foo 5",
        "2026",
        "2026-03",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T10:60:00Z",
        "2026-03-01T10:20:30+99:00",
        "Sun, 01 Mar 2026 10:20:30 GMT",
        "1772360430",
        "-0001-01-01T00:00:00Z",
        "2026-03-01T10:20:30.Z",
        "2026-03-01T10:20:30Z and more",
    ];
    assert_times("dates_missing", &texts.map(|text| (text, ID_TIME)));
    let values = [
        json!(1_772_360_430),
        Value::Null,
        json!(true),
        json!({"date": "2026-03-01"}),
        json!(["2026-03-01"]),
    ];
    for (stored, value) in stored_times("dates_no_text", ID, &values).iter().zip(&values) {
        assert_eq!(stored, ID_TIME, "createdAt {value}");
    }
}

#[test]
fn a_year_before_0100_is_missing() {
    let texts = [
        "0031-01-01T00:00:00Z",
        "0001-01-01T00:00:00.000Z",
        "0001-01-01",
        "0099-12-31T23:59:59.999999Z",
        "0000-01-01T00:00:00Z",
        "+0099-01-01T00:00:00Z",
        "-000001-01-01T00:00:00Z",
        "0100-01-01T00:00:00+01:00",
    ];
    assert_times("dates_first_century", &texts.map(|text| (text, ID_TIME)));
}

#[test]
fn an_absent_time_is_the_entrys_in_every_table_that_has_one() {
    assert_all_times_are_the_entrys("dates_absent", |record| {
        record.without("createdAt").without("verifiedAt").without("cts")
    });
}

#[test]
fn a_time_of_the_first_century_is_the_entrys_in_every_table_that_has_one() {
    let ancient = "0031-01-01T00:00:00Z";
    assert_all_times_are_the_entrys("dates_ancient", |record| {
        record.with(json!({"createdAt": ancient, "verifiedAt": ancient, "cts": ancient}))
    });
}

fn assert_all_times_are_the_entrys(name: &str, change: impl Fn(&Record) -> Record) {
    let stack = Stack::new(name);
    let records = one_of_each(|_| BOB.to_owned());
    let ops = records.iter().map(|record| change(record).op("create")).collect();
    stack.push_at(ID, "commit", commit(BOB, ops), "1");
    stack.drain();
    for table in dated_tables() {
        let rows = stack.rows(table.name);
        assert!(!rows.is_empty(), "no row in {}", table.name);
        for (row, column) in rows
            .iter()
            .flat_map(|row| table.columns.iter().map(move |column| (row, column)))
        {
            assert_eq!(row[column], ID_TIME, "{}.{column}: {row}", table.name);
        }
    }
}

#[test]
fn an_id_that_is_not_a_time_is_replaced_by_the_clock() {
    for (id, name) in [
        ("5-1", "dates_id_low"),
        ("1577836799999-0", "dates_id_2019"),
        ("4102444800000-0", "dates_id_2100"),
    ] {
        let stack = Stack::new(name);
        let missing = post(ALICE, "missing", "hello").without("createdAt");
        let ahead = post(ALICE, "ahead", "hello").with(json!({"createdAt": "2150-01-01T00:00:00Z"}));
        let given = post(ALICE, "given", "hello");
        let ops = [missing, ahead, given].map(|post| post.op("create")).to_vec();
        stack.push_at(id, "commit", commit(ALICE, ops), "1");
        stack.drain();
        let off = stack.query(&format!(
            "SELECT uri, created_at FROM posts
              WHERE created_at NOT BETWEEN (now() AT TIME ZONE 'UTC') - interval '10 minutes'
                    AND (now() AT TIME ZONE 'UTC') + interval '1 minute'
                AND created_at <> '{CREATED_ROW}'"
        ));
        assert!(off.is_empty(), "with ID {id} these times are not now: {off:?}");
        assert_eq!(
            stack
                .query(&format!("SELECT uri FROM posts WHERE created_at = '{CREATED_ROW}'"))
                .len(),
            1
        );
        assert_eq!(stack.count("posts"), 3);
    }
}

#[test]
fn the_wall_clock_in_a_row_is_utc_whatever_the_servers_zone() {
    let stack = Stack::new("dates_wall_clock");
    let subject = post(ALICE, "p", "hello");
    let label = label(ALICE, "l", &subject.uri());
    let gate = thread_gate(ALICE, "p", json!([]));
    for record in [
        &subject,
        &like(BOB, "l", &subject),
        &follow(BOB, "f", ALICE),
        &list(ALICE, "l"),
        &label,
        &gate,
    ] {
        record.create(&stack);
    }
    stack.drain();
    for table in [
        "users",
        "posts",
        "likes",
        "follows",
        "lists",
        "labels",
        "notifications",
        "feed_items",
    ] {
        assert_indexed_now(&stack, table);
    }
    let off = stack.query(
        "SELECT * FROM (SELECT 'users' AS what, created_at AS at FROM users
                        UNION ALL SELECT 'counts', created_at FROM post_aggregations
                        UNION ALL SELECT 'counts', updated_at FROM post_aggregations
                        UNION ALL SELECT 'viewer states', created_at FROM post_viewer_states
                        UNION ALL SELECT 'viewer states', updated_at FROM post_viewer_states
                        UNION ALL SELECT 'label events', created_at FROM label_events
                        UNION ALL SELECT 'thread gates', updated_at FROM thread_gates) AS times
          WHERE at NOT BETWEEN (now() AT TIME ZONE 'UTC') - interval '10 minutes'
                AND (now() AT TIME ZONE 'UTC') + interval '1 minute'",
    );
    assert!(off.is_empty(), "these times are not now: {off:?}");
}
