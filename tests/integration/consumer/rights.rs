//! Redis users that lack one right each.

use crate::support::Worker;
use crate::support::consumer::{Line, wait_for_log};

fn allow(line: &Line, rules: &[&str]) {
    let mut command = redis::cmd("ACL");
    command.arg(&["SETUSER", "lean"]).arg(rules);
    command.exec(&mut line.redis.connection()).expect("ACL SETUSER");
}

/// A consumer of 200 events whose Redis user may send every command but one.
fn without(right: &str) -> (Line, Worker) {
    let line = Line::new();
    allow(
        &line,
        &["on", ">secret", "~firehose:*", "&*", "+@all", &format!("-{right}")],
    );
    line.append(1, 200);
    let url = format!("redis://lean:secret@127.0.0.1:{}", line.redis.port());
    let consumer = line.consumer().env("REDIS_URL", &url).spawn();
    (line, consumer)
}

#[test]
fn without_a_right_that_the_transaction_needs_the_consumer_says_which_and_waits_for_it() {
    for right in [
        "xadd",
        "watch",
        "hset",
        "set",
        "get",
        "type",
        "hgetall",
        "xrevrange",
        "multi",
        "exec",
    ] {
        let (line, consumer) = without(right);
        wait_for_log(&consumer, "redis refuses the consumer's commands");
        let said = consumer.log();
        let refusals: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("redis refuses the consumer's commands"))
            .collect();
        assert_eq!(refusals.len(), 1, "without {right}: {said}");
        let is_clear = refusals[0].contains("NOPERM") && refusals[0].contains(&format!("+{right}"));
        assert!(is_clear, "without {right}: {said}");
        assert!(!said.contains("secret"), "{said}");
        assert_eq!((line.length(), line.cursor()), (0, None), "without {right}: {said}");
        allow(&line, &[&format!("+{right}")]);
        line.wait_until_read();
        line.assert_exact();
        wait_for_log(&consumer, " again after ");
    }
}

#[test]
fn without_a_right_that_it_can_do_without_the_consumer_says_so_once_and_goes_on() {
    for (right, cost) in [
        ("xinfo", "does not pause before unread entries are trimmed"),
        ("setex", "dashboard shows less of the firehose"),
        ("publish", "dashboard shows less of the firehose"),
        ("pexpire", "the cursor has no lease"),
        ("info", "may double entries"),
    ] {
        let (line, consumer) = without(right);
        line.wait_until_read();
        wait_for_log(&consumer, cost);
        line.append(2, 100);
        line.wait_until_read();
        line.assert_exact();
        let said = consumer.log();
        assert_eq!(said.matches(cost).count(), 1, "without {right}: {said}");
        assert!(said.contains(&format!("+{right}")), "without {right}: {said}");
    }
}
