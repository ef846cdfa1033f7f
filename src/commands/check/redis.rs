//! Checks Redis as a server: whether it answers, takes writes, and keeps its data.

use std::time::Duration;

use redis::{InfoDict, RedisError, Value};

use super::report::{Checked, Report, Unusable};
use super::rights::{self, User};
use super::{check_clock, now};
use crate::redis::link::{self, Link, Redis};
use crate::settings::config::Config;

/// Share of maxmemory in use from which to act, in percent.
const FULL_PERCENT: u64 = 80;

/// Share in use after a new maxmemory was set.
const ROOMY_PERCENT: u64 = 60;

const AFTER_SNAPSHOT: &str = "check its disk and its log, then redis-cli BGSAVE";

/// Checks the server, and returns it with the user whose rights were checked.
pub fn check(config: &Config, report: &Report) -> Checked<(Redis, User)> {
    report.about("redis");
    let redis = Redis::new(config.redis.clone());
    let mut link = redis.link(Duration::ZERO);
    let info = link.query::<InfoDict>(&redis::cmd("INFO"));
    if let Err(error) = &info
        && !link::is_refused(error)
    {
        return Err(Unusable::new(link::describe(error), remedy(error, config)));
    }
    // Before the rights: a refused EXEC leaves the link inside a transaction.
    let commands = rights::worker::commands(config);
    let user = User::of(&mut link, &config.redis, &commands);
    match info {
        Ok(info) => check_info(&mut link, &info, config, report)?,
        Err(error) => {
            let why = match link::is_unknown(&error) {
                true => "Redis does not know INFO",
                false => "this user may not send INFO",
            };
            report.warn(
                format!(
                    "Redis answers, but its version, role and memory are unknown: {why}; the worker does not need it"
                ),
                user.remedy(&error, None, &["+info"]),
            );
            check_writing(&mut link, config, report);
        }
    }
    report.about("redis clock");
    let asked_at = now();
    if let Ok((seconds, micros)) = link.query::<(f64, f64)>(&redis::cmd("TIME")) {
        check_clock(report, seconds + micros / 1e6, asked_at);
    }
    report.about("redis rights");
    rights::check(&mut link, &user, "worker", &commands, report);
    Ok((redis, user))
}

fn remedy(error: &RedisError, config: &Config) -> String {
    let text = match link::code(error) {
        "NOAUTH" | "WRONGPASS" => "put the right user and password into REDIS_URL",
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => "put the right user and password into REDIS_URL",
        _ if link::is_cluster(error) => {
            "set cluster-enabled no and restart Redis, or let REDIS_URL name a Redis that is not in cluster mode"
        }
        _ if link::is_unknown(error) => return rights::restore(["SELECT"]),
        _ if link::is_database_refused(error) => return rights::grant(config.redis.user(), ["+select"]),
        _ => "start Redis, or correct REDIS_URL",
    };
    text.to_owned()
}

/// How to change a setting. The running server comes first: one that is started with `appendonly yes` and without such
/// a file starts empty.
fn set(link: &mut Link, name: &str, value: &str) -> String {
    match link.query::<Value>(redis::cmd("CONFIG").arg("GET").arg(name)) {
        Err(error) if link::is_unknown(&error) => {
            format!("put {name} {value} into redis.conf and restart Redis, which does not know CONFIG")
        }
        _ => format!("set it in redis.conf too, but first: redis-cli CONFIG SET {name} {value}"),
    }
}

/// The error code with which Redis refuses all writes. It checks that before it reads the command, whose ID is invalid.
fn write_refused(link: &mut Link, config: &Config) -> Option<String> {
    let mut write = redis::cmd("XACK");
    write.arg(&config.stream).arg(&config.group).arg("x");
    let error = link.query::<Value>(&write).err()?;
    Some(link::code(&error).to_owned())
}

/// Checks whether Redis takes writes if INFO is refused.
fn check_writing(link: &mut Link, config: &Config, report: &Report) {
    match write_refused(link, config).as_deref() {
        Some("READONLY") => {
            report.about("redis role");
            report.fail("a replica, which takes no writes", "let REDIS_URL name its master");
        }
        Some("NOREPLICAS") => report_replicas(link, report),
        Some("MISCONF") => {
            report.about("redis persistence");
            report.fail("Redis refuses writes because it cannot write to disk", AFTER_SNAPSHOT);
        }
        _ => {}
    }
}

fn report_replicas(link: &mut Link, report: &Report) {
    report.about("redis role");
    let remedy = set(link, "min-replicas-to-write", "0");
    report.fail(
        "a master that refuses writes because it has fewer replicas than min-replicas-to-write",
        format!("start its replicas; or do without them: {remedy}"),
    );
}

fn text(info: &InfoDict, name: &str) -> String {
    info.get(name).unwrap_or_default()
}

fn check_info(link: &mut Link, info: &InfoDict, config: &Config, report: &Report) -> Checked {
    check_version(info, report);
    check_role(link, info, config, report)?;
    check_persistence(link, info, report);
    check_memory(link, info, report);
    Ok(())
}

fn check_version(info: &InfoDict, report: &Report) {
    if let Some(version) = info.get::<String>("valkey_version") {
        report.ok(format!("valkey {version}"));
        return;
    }
    let version = text(info, "redis_version");
    let found = format!("version {version}");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (0..6, _) | (6, 0..2) => report.fail(found, "6.2 or newer is needed"),
        (6, _) => report.hint(
            found,
            "from 7.0 on, the worker also counts unread entries that were trimmed",
        ),
        _ => report.ok(found),
    }
}

fn check_role(link: &mut Link, info: &InfoDict, config: &Config, report: &Report) -> Checked {
    report.about("redis role");
    if text(info, "loading") == "1" {
        return Err(Unusable::new("Redis loads its data", "wait until it has finished"));
    }
    if text(info, "role") != "master" {
        let master = format!("{}:{}", text(info, "master_host"), text(info, "master_port"));
        report.fail(
            format!("a replica of {master}, which takes no writes"),
            format!("let REDIS_URL name the master, {master}"),
        );
        return Ok(());
    }
    match write_refused(link, config).as_deref() {
        Some("NOREPLICAS") => report_replicas(link, report),
        _ => report.ok(format!("master with {} replicas", text(info, "connected_slaves"))),
    }
    Ok(())
}

fn check_persistence(link: &mut Link, info: &InfoDict, report: &Report) {
    report.about("redis persistence");
    let writes = [
        ("rdb_last_bgsave_status", AFTER_SNAPSHOT),
        (
            "aof_last_bgrewrite_status",
            "check its disk and its log, then redis-cli BGREWRITEAOF",
        ),
        (
            "aof_last_write_status",
            "check its disk and its log; Redis retries by itself",
        ),
    ];
    let has_failed = |status: &str| info.get::<String>(status).is_some_and(|status| status != "ok");
    let failed: Vec<&str> = writes
        .iter()
        .filter(|(status, _)| has_failed(status))
        .map(|(_, remedy)| *remedy)
        .collect();
    for remedy in &failed {
        report.fail("the last write to disk failed, and Redis may refuse writes", *remedy);
    }
    if !failed.is_empty() {
        return;
    }
    if text(info, "aof_enabled") == "1" {
        return report.ok("append-only file");
    }
    let settings: redis::RedisResult<Vec<String>> = link.query(redis::cmd("CONFIG").arg("GET").arg("save"));
    match settings.ok().as_deref() {
        Some([_, points]) if points.is_empty() => report.warn(
            "nothing is kept on disk: if Redis stops, unread entries, counters and dead letters are lost",
            set(link, "appendonly", "yes"),
        ),
        Some([_, points]) => report.hint(
            format!("snapshots (save {points})"),
            "what is newer than the last snapshot is lost with Redis; appendonly yes keeps it",
        ),
        _ => report.ok("no append-only file; this user may not ask whether there are snapshots"),
    }
}

fn check_memory(link: &mut Link, info: &InfoDict, report: &Report) {
    report.about("redis memory");
    let used: u64 = info.get("used_memory").unwrap_or(0);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let Some(limit) = info.get::<u64>("maxmemory").filter(|limit| *limit > 0) else {
        let remedy = "set maxmemory, with the policy noeviction, to less than the machine has";
        return report.hint(format!("{} used, no limit", mib(used)), remedy);
    };
    let percent = used * 100 / limit;
    let found = format!("{} of {} used ({percent} %)", mib(used), mib(limit));
    let policy = text(info, "maxmemory_policy");
    if policy != "noeviction" {
        report.warn(
            format!("{found}; when memory is full, the policy {policy} deletes keys, and possibly the whole stream"),
            set(link, "maxmemory-policy", "noeviction"),
        );
    }
    if percent >= FULL_PERCENT {
        let roomy = format!("{}mb", ((used * 100 / ROOMY_PERCENT) >> 20) + 1);
        report.warn(
            format!("{found}; when memory is full, nothing can be added to the stream, and counters wait"),
            format!(
                "lower the producer's limit of entries, or raise maxmemory if the machine has it; {}",
                set(link, "maxmemory", &roomy)
            ),
        );
    } else if policy == "noeviction" {
        report.ok(format!("{found}, noeviction"));
    }
}
