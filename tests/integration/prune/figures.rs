//! What `prune` says: the dry run, the report, and why it refuses to start.

use serde_json::Value;

use super::interrupted::filled;
use super::{age, command, prune, run};
use crate::records::*;
use crate::support::stack::shown;
use crate::support::{Stack, assert_same};

#[test]
fn a_dry_run_changes_nothing_and_finds_what_a_prune_deletes() {
    let stack = Stack::new("prune_dry");
    let local = filled(&stack);
    stack.sql("ANALYZE");
    let before = stack.snapshot();
    let dry = prune(&stack, &local, &["--dry-run"]);
    assert_same(&before, &stack.snapshot());
    assert_eq!(stack.count("firehose_worker.progress"), 0);
    let report = prune(&stack, &local, &[]);
    for table in [
        "posts",
        "likes",
        "reposts",
        "notifications",
        "generic_records",
        "quotes",
    ] {
        assert_eq!(dry["rows"][table], report["rows"][table], "{table}: {dry} {report}");
    }
    for table in ["posts", "likes", "notifications"] {
        assert!(dry["bytes"][table].as_u64() > Some(0), "{dry}");
    }
    assert_eq!(
        dry["steps"]["posts"]["kept"], report["steps"]["posts"]["kept"],
        "{dry} {report}"
    );
}

#[test]
fn the_log_gets_one_line_and_stdout_the_report() {
    let stack = Stack::new("prune_log");
    let local = filled(&stack);
    let output = run(command(&stack, &local, &[]));
    let lines: Vec<&str> = output.log.lines().collect();
    let of_prune: Vec<&&str> = lines.iter().filter(|line| line.contains("pruned")).collect();
    assert_eq!(of_prune.len(), 1, "{}", output.log);
    assert!(output.stdout.contains("\n  likes: "), "{}", output.stdout);
    assert!(output.stdout.contains("VACUUM FULL"), "{}", output.stdout);
}

#[test]
fn a_prune_without_a_local_account_warns_that_it_protects_nothing() {
    let stack = Stack::new("prune_nobody");
    post(BOB, "p", "old").create(&stack);
    stack.drain();
    age(&stack, "14 days");
    let output = command(&stack, "", &[]).run_to_exit();
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output.log));
    assert!(output.log.contains("no account is local"), "{}", output.log);
    assert_eq!(stack.count("posts"), 0);
}

#[test]
fn an_unusable_age_is_refused() {
    let stack = Stack::new("prune_age");
    for age in [None, Some("30m"), Some("0d"), Some("14")] {
        let command = stack.worker().env("LOCAL_DIDS", ALICE).arg("prune");
        let output = age.map_or(command.without_args().arg("prune"), |age| {
            stack.worker().arg("prune").arg("--older-than").arg(age)
        });
        let output = output.run_to_exit();
        assert_eq!(output.status.code(), Some(2), "{age:?}: {}", shown(&output.log));
    }
    post(BOB, "p", "old").create(&stack);
    stack.drain();
    super::age(&stack, "14 days");
    let of_variable = stack
        .worker()
        .env("LOCAL_DIDS", ALICE)
        .env("PRUNE_OLDER_THAN", "1w")
        .arg("prune");
    run(of_variable);
    assert_eq!(stack.count("posts"), 0);
}

#[test]
fn a_role_without_rights_is_told_all_that_it_lacks_at_the_start() {
    let stack = Stack::new("prune_rights");
    post(BOB, "p", "old").create(&stack);
    stack.drain();
    let role = format!("role_{}", stack.database.name());
    stack.sql(&format!(
        "create role {role} login; grant usage on schema public, firehose_worker to {role};
         grant select on all tables in schema public to {role};
         grant select on all tables in schema firehose_worker to {role}"
    ));
    let url = stack.database_url().replace("postgres@", &format!("{role}@"));
    let output = command(&stack, ALICE, &[]).env("DATABASE_URL", &url).run_to_exit();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output.log));
    for lacking in [
        "DELETE on posts",
        "DELETE on likes",
        "UPDATE on post_aggregations",
        "UPDATE on firehose_worker.local_dids",
        "UPDATE on firehose_worker.progress",
    ] {
        assert!(output.log.contains(lacking), "{lacking}: {}", output.log);
    }
    stack.sql(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn the_report_is_json_with_the_figures_of_each_table() {
    let stack = Stack::new("prune_json");
    let local = filled(&stack);
    let report = prune(&stack, &local, &[]);
    assert_eq!(report["older_than_hours"], 168);
    assert_eq!(report["dry_run"], false);
    assert!(report["steps"]["posts"]["examined"].as_u64() > Some(0), "{report}");
    assert!(
        report["before"].as_str().is_some_and(|time| time.len() == 19),
        "{report}"
    );
    let rows = report["rows"].as_object().expect("rows");
    assert!(rows.values().all(|n| n.as_u64() > Some(0)), "{report}");
    assert!(
        rows.keys().eq(report["bytes"].as_object().expect("bytes").keys()),
        "{report}"
    );
    assert_ne!(report["seconds"], Value::from(0.0));
}
