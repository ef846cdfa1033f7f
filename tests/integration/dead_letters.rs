//! The command `dead-letters`, on real dead letters.

use std::collections::BTreeMap;

use redis::cmd;
use serde_json::{Value, json};

use crate::support::entries::{did, post};
use crate::support::{EVENTS, Output, Stack};

const DEAD_LETTERS: &str = "firehose:dead-letters";

/// Runs `dead-letters` with these arguments.
fn run(stack: &Stack, arguments: &[&str]) -> Output {
    let worker = stack.worker().arg("dead-letters");
    let worker = arguments.iter().fold(worker, |worker, argument| worker.arg(argument));
    worker.run_to_exit()
}

/// The same, which must end well; its stdout.
#[track_caller]
fn run_well(stack: &Stack, arguments: &[&str]) -> String {
    let output = run(stack, arguments);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{arguments:?}: {}{}",
        output.stdout,
        output.log
    );
    output.stdout
}

/// The same, which must end with this code; its stderr.
#[track_caller]
fn run_badly(stack: &Stack, arguments: &[&str], code: i32) -> String {
    let output = run(stack, arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {}{}",
        output.stdout,
        output.log
    );
    output.log
}

/// IDs, oldest first.
fn ids(stack: &Stack) -> Vec<String> {
    let letters: Vec<(String, Fields)> = cmd("XRANGE")
        .arg(&[DEAD_LETTERS, "-", "+"])
        .query(&mut stack.redis())
        .expect("XRANGE");
    letters.into_iter().map(|(id, _)| id).collect()
}

type Fields = BTreeMap<String, Vec<u8>>;

/// Puts a letter there as a worker does.
fn add(stack: &Stack, n: usize) {
    let data = json!({"repo": did("alice"), "ops": []}).to_string();
    cmd("XADD")
        .arg(&[
            DEAD_LETTERS,
            "*",
            "type",
            "commit",
            "data",
            &data,
            "seq",
            &n.to_string(),
        ])
        .arg(&["origId", "1-1", "deliveries", "1", "error", "as the test wants"])
        .exec(&mut stack.redis())
        .expect("XADD");
}

const REFUSE: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.text = 'poison' THEN RAISE EXCEPTION 'this text is refused' USING ERRCODE = '22003'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION refuse()";

/// A stack whose worker has set two apart: an entry that is no JSON and would turn a terminal red, and one op of two.
fn with_dead_letters(name: &str) -> Stack {
    let stack = Stack::new(name);
    stack.sql(REFUSE);
    stack.push_fields(&[("type", b"commit"), ("data", b"{\x1b[31m"), ("seq", b"7")]);
    let op = |rkey: &str, text: &str| json!({"action": "create", "path": format!("app.bsky.feed.post/{rkey}"), "cid": "bafyreia", "record": post(text)});
    let data = json!({"repo": did("alice"), "ops": [op("good", "hello"), op("bad", "poison")]});
    stack.push_with_seq("commit", data, "77");
    stack.drain();
    assert_eq!(ids(&stack).len(), 2, "{:?}", stack.dead_letters());
    assert_eq!(stack.count("posts"), 1);
    stack
}

#[test]
fn list_prints_a_table_newest_first() {
    let stack = with_dead_letters("letters_list");
    let table = run_well(&stack, &["list"]);
    let lines: Vec<&str> = table.lines().collect();
    let ids = ids(&stack);
    assert_eq!(lines.len(), 3, "{table}");
    for word in ["ID", "WHEN", "TYPE", "REPO", "OP", "TRIES", "REASON"] {
        assert!(lines[0].contains(word), "{table}");
    }
    for word in [
        ids[1].as_str(),
        &did("alice"),
        "app.bsky.feed.post/bad",
        "this text is refused",
        "SQLSTATE 22003",
    ] {
        assert!(lines[1].contains(word), "{word} is not in {table}");
    }
    assert!(lines[2].starts_with(&ids[0]), "{table}");
    assert_eq!(run_well(&stack, &["list", "--limit", "1"]).lines().count(), 2);
}

#[test]
fn list_prints_json_lines_with_everything() {
    let stack = with_dead_letters("letters_json");
    let lines = run_well(&stack, &["list", "--json"]);
    let letters: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let [op, entry] = letters.as_slice() else {
        panic!("{lines}");
    };
    let expected = &stack.dead_letters()[1];
    for field in ["type", "seq", "origId", "deliveries", "error", "data", "op"] {
        assert_eq!(op[field], expected[field], "{field} of {op}");
    }
    assert_eq!(op["id"], ids(&stack)[1]);
    assert_eq!(op["repo"], did("alice"));
    assert_eq!(entry["data"], "{\x1b[31m");
    assert_eq!(entry["op"], "");
}

#[test]
fn show_prints_a_whole_letter_without_control_characters() {
    let stack = with_dead_letters("letters_show");
    let ids = ids(&stack);
    let entry = run_well(&stack, &["show", &ids[0]]);
    assert!(!entry.contains('\x1b') && entry.contains("\\u{1b}[31m"), "{entry:?}");
    let op = run_well(&stack, &["show", &ids[1]]);
    for text in [
        "origId",
        "seq         77",
        "this text is refused",
        "\n      \"action\": \"create\"",
        "\"text\": \"poison\"",
    ] {
        assert!(op.contains(text), "{text} is not in {op}");
    }
    let error = run_badly(&stack, &["show", "1-1"], 1);
    assert!(error.contains("1-1 is not in firehose:dead-letters"), "{error}");
}

#[test]
fn replay_after_mending_brings_the_row_in_under_its_seq() {
    let stack = with_dead_letters("letters_replay");
    let ids = ids(&stack);
    stack.sql("DROP TRIGGER refuse ON posts");
    let printed = run_well(&stack, &["replay", &ids[1]]);
    assert!(
        printed.contains(&format!("replayed {} as ", ids[1])) && printed.contains("replayed 1 dead letters"),
        "{printed}"
    );
    assert_eq!(stack.dead_letters().len(), 1);
    stack.drain();
    assert_eq!(stack.count("posts"), 2);
    let seqs = stack.query("SELECT DISTINCT commit_seq::text AS seq FROM posts");
    assert_eq!(seqs, [json!({"seq": "77"})]);
    // What is still wrong becomes a dead letter again, with all it had.
    let before = stack.dead_letters().remove(0);
    run_well(&stack, &["replay", "--all"]);
    assert_eq!(stack.dead_letters().len(), 0);
    stack.drain();
    let after = stack.dead_letters().remove(0);
    for field in ["type", "data", "seq", "error"] {
        assert_eq!(after[field], before[field], "{field}");
    }
}

#[test]
fn an_entry_without_a_type_is_a_dead_letter_again_after_a_replay() {
    let stack = Stack::new("letters_no_type");
    stack.push_fields(&[("data", b"{}")]);
    for _ in 0..2 {
        stack.drain();
        assert_eq!(stack.dead_letters().len(), 1);
        let error = stack.dead_letters()[0]["error"].clone();
        assert!(error.contains("type"), "{error}");
        run_well(&stack, &["replay", "--all"]);
    }
}

#[test]
fn an_unknown_id_is_an_error_and_the_others_are_done() {
    let stack = Stack::new("letters_unknown");
    for n in 0..4 {
        add(&stack, n);
    }
    let ids = ids(&stack);
    let output = run(&stack, &["replay", &ids[0], "1-1", &ids[1]]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.contains("replayed 2 dead letters"), "{}", output.stdout);
    assert!(
        output.log.contains("not in firehose:dead-letters: 1-1"),
        "{}",
        output.log
    );
    let output = run(&stack, &["drop", &ids[1], &ids[2]]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.contains("dropped 1 dead letters"), "{}", output.stdout);
    assert_eq!(self::ids(&stack), [ids[3].clone()]);
    assert_eq!(stack.stream_len(), 2);
}

#[test]
fn two_replays_at_once_put_no_letter_back_twice() {
    const N: usize = 150;
    let stack = Stack::new("letters_two_replays");
    for n in 0..N {
        add(&stack, n);
    }
    let outputs = std::thread::scope(|scope| {
        let replays = [(); 2].map(|()| scope.spawn(|| run_well(&stack, &["replay", "--all"])));
        replays.map(|replay| replay.join().expect("a replay ends well"))
    });
    let n_printed = outputs
        .iter()
        .flat_map(|printed| printed.lines())
        .filter(|line| line.contains(" as "))
        .count();
    assert_eq!(n_printed, N);
    assert_eq!(ids(&stack).len(), 0);
    let events: Vec<(String, BTreeMap<String, String>)> = cmd("XRANGE")
        .arg(&[EVENTS, "-", "+"])
        .query(&mut stack.redis())
        .expect("XRANGE");
    let mut seqs: Vec<usize> = events
        .iter()
        .map(|(_, fields)| fields["seq"].parse().expect("a seq"))
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (0..N).collect::<Vec<_>>());
}

#[test]
fn all_are_dropped_only_when_that_is_confirmed() {
    let stack = Stack::new("letters_drop_all");
    for n in 0..50 {
        add(&stack, n);
    }
    assert_eq!(run_well(&stack, &["list"]).lines().count(), 51);
    let error = run_badly(&stack, &["drop", "--all"], 1);
    assert!(error.contains("50") && error.contains("--yes"), "{error}");
    assert_eq!(ids(&stack).len(), 50);
    let printed = run_well(&stack, &["drop", "--all", "--yes"]);
    assert_eq!(printed, "dropped 50 dead letters\n");
    assert_eq!(ids(&stack).len(), 0);
    assert_eq!(
        run_well(&stack, &["drop", "--all", "--yes"]),
        "dropped 0 dead letters\n"
    );
    assert_eq!(run_well(&stack, &["replay", "--all"]), "replayed 0 dead letters\n");
    assert_eq!(run_well(&stack, &["list"]).lines().count(), 1);
}

#[test]
fn wrong_arguments_outages_and_missing_rights_are_errors_with_a_remedy() {
    let stack = Stack::new("letters_errors");
    add(&stack, 1);
    for arguments in [
        &["replay"][..],
        &["drop"],
        &["replay", "x"],
        &["replay", "--all", "1-1"],
        &[],
    ] {
        run_badly(&stack, arguments, 2);
    }
    cmd("ACL")
        .arg(&["SETUSER", "limited", "on", ">hunter2", "~*", "&*", "+@all", "-multi"])
        .exec(&mut stack.redis())
        .expect("ACL SETUSER");
    let url = stack.redis_url().replace("redis://", "redis://limited:hunter2@");
    let replay = stack.worker().env("REDIS_URL", &url);
    let output = replay.arg("dead-letters").arg("replay").arg("--all").run_to_exit();
    assert_eq!(output.status.code(), Some(1), "{}", output.log);
    assert!(output.log.contains("+watch +unwatch +multi +exec"), "{}", output.log);
    assert_eq!((ids(&stack).len(), stack.stream_len()), (1, 0));
    stack.redis.stop();
    let list = stack.worker().env("REDIS_URL", &url).arg("dead-letters").arg("list");
    let output = list.run_to_exit();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.log.contains("redis") && !output.log.contains("hunter2"),
        "{}",
        output.log
    );
}
