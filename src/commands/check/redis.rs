//! The looks at Redis as a server: is it there, may it be written to, does it keep what it has.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;

use super::{Looked, Report, Unusable, now, report_clock, rights};
use crate::redis::link::{self, Link, Redis};
use crate::settings::config::Config;

/// Memory beyond which it is time to see to it, in percent of maxmemory.
const FULL_PERCENT: u64 = 80;

/// What a new maxmemory leaves used.
const ROOMY_PERCENT: u64 = 60;

/// Looks at the server.
pub fn look(redis: &Redis, config: &Config, report: &Report) -> Looked {
    report.looking("redis");
    let mut link = redis.link(Duration::ZERO);
    match link.query::<String>(&redis::cmd("INFO")) {
        Ok(text) => check_info(&mut link, &Info::parse(&text), config, report)?,
        Err(error) if link::is_refused(&error) => {
            let why = match link::is_unknown(&error) {
                true => "it does not know INFO",
                false => "this user may not send INFO",
            };
            report.warn(
                "redis",
                format!(
                    "it answers; its version, role and memory are not known, since {why}; the worker does not need it"
                ),
                rights::remedy(&mut link, config, &error, None, &["+info"]),
            );
            check_writing(&mut link, config, report);
        }
        Err(error) => {
            report.fail("redis", link::describe(&error), remedy(&error, config));
            return Err(Unusable);
        }
    }
    check_clock(&mut link, report);
    rights::look(&mut link, config, report);
    Ok(())
}

fn remedy(error: &redis::RedisError, config: &Config) -> String {
    match link::code(error) {
        "NOAUTH" | "WRONGPASS" => "put the right user and password into REDIS_URL",
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => "put the right user and password into REDIS_URL",
        _ if link::is_cluster(error) => {
            "set cluster-enabled no and restart Redis, or let REDIS_URL name a Redis without it"
        }
        _ if link::is_unknown(error) => return rights::have_known(&["SELECT".to_owned()]),
        _ if link::is_database_refused(error) => {
            return rights::set_user(config.redis.user(), &["+select".to_owned()]);
        }
        _ => "start Redis, or mend REDIS_URL",
    }
    .to_owned()
}

/// How a setting is changed: on the running server first, since one that starts with `appendonly yes` and without such a file
/// starts empty.
fn set(link: &mut Link, name: &str, value: &str) -> String {
    match link.query::<Value>(redis::cmd("CONFIG").arg("GET").arg(name)) {
        Err(error) if link::is_unknown(&error) => {
            format!("put {name} {value} into redis.conf and restart Redis, which does not know CONFIG")
        }
        _ => format!("set it in redis.conf too, but first: redis-cli CONFIG SET {name} {value}"),
    }
}

/// Why Redis refuses all writes, as its error code. It looks for that before it looks at a command's form, and this one has
/// an ID that is none.
fn write_refused(link: &mut Link, config: &Config) -> Option<String> {
    let mut write = redis::cmd("XACK");
    write.arg(&config.stream).arg(&config.group).arg("x");
    let error = link.query::<Value>(&write).err()?;
    Some(link::code(&error).to_owned())
}

/// Looks at whether writes are taken where INFO does not tell.
fn check_writing(link: &mut Link, config: &Config, report: &Report) {
    match write_refused(link, config).as_deref() {
        Some("READONLY") => report.fail(
            "redis role",
            "a replica, which takes no writes",
            "let REDIS_URL name its master",
        ),
        Some("NOREPLICAS") => report_replicas(link, report),
        Some("MISCONF") => report.fail(
            "redis persistence",
            "Redis refuses writes, since it cannot write to disk",
            AFTER_SNAPSHOT,
        ),
        _ => {}
    }
}

fn report_replicas(link: &mut Link, report: &Report) {
    let remedy = set(link, "min-replicas-to-write", "0");
    report.fail(
        "redis role",
        "a master that refuses writes: it has fewer replicas than min-replicas-to-write asks for",
        format!("start its replicas; or do without them: {remedy}"),
    );
}

const AFTER_SNAPSHOT: &str = "see to its disk and its log, then redis-cli BGSAVE";

/// INFO's answer.
struct Info(HashMap<String, String>);

impl Info {
    fn parse(text: &str) -> Info {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Info(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.text(name) == value
    }
}

fn check_info(link: &mut Link, info: &Info, config: &Config, report: &Report) -> Looked {
    check_version(info, report);
    check_role(link, info, config, report)?;
    check_persistence(link, info, report);
    check_memory(link, info, report);
    Ok(())
}

fn check_version(info: &Info, report: &Report) {
    if let Some(version) = info.0.get("valkey_version") {
        report.ok("redis", format!("valkey {version}"));
        return;
    }
    let version = info.text("redis_version");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (0..6, _) | (6, 0..2) => report.fail("redis", format!("version {version}"), "6.2 or newer is needed"),
        (6, _) => report.hint(
            "redis",
            format!("version {version}"),
            "from 7.0 the worker also counts unread entries that were trimmed",
        ),
        _ => report.ok("redis", format!("version {version}")),
    }
}

fn check_role(link: &mut Link, info: &Info, config: &Config, report: &Report) -> Looked {
    if info.is("loading", "1") {
        report.fail("redis role", "it loads its data", "wait until it has");
        return Err(Unusable);
    }
    if !info.is("role", "master") {
        let master = format!("{}:{}", info.text("master_host"), info.text("master_port"));
        report.fail(
            "redis role",
            format!("a replica of {master}, which takes no writes"),
            format!("let REDIS_URL name the master, {master}"),
        );
        return Ok(());
    }
    match write_refused(link, config).as_deref() {
        Some("NOREPLICAS") => report_replicas(link, report),
        _ => report.ok(
            "redis role",
            format!("master with {} replicas", info.number("connected_slaves").unwrap_or(0)),
        ),
    }
    Ok(())
}

fn check_persistence(link: &mut Link, info: &Info, report: &Report) {
    let what = "redis persistence";
    let is_bad = |name: &str| !info.text(name).is_empty() && !info.is(name, "ok");
    let failed = [
        ("rdb_last_bgsave_status", AFTER_SNAPSHOT),
        (
            "aof_last_bgrewrite_status",
            "see to its disk and its log, then redis-cli BGREWRITEAOF",
        ),
        (
            "aof_last_write_status",
            "see to its disk and its log: Redis tries again by itself",
        ),
    ];
    let failed: Vec<&str> = failed
        .iter()
        .filter(|(status, _)| is_bad(status))
        .map(|(_, remedy)| *remedy)
        .collect();
    if !failed.is_empty() {
        for remedy in failed {
            report.fail(
                what,
                "the last try to write to disk failed, and Redis may refuse writes",
                remedy,
            );
        }
    } else if info.is("aof_enabled", "1") {
        report.ok(what, "append-only file");
    } else {
        match save_points(link) {
            Some(points) if points.is_empty() => report.warn(
                what,
                "nothing is kept on disk: with Redis go unread entries, counters and dead letters",
                set(link, "appendonly", "yes"),
            ),
            Some(points) => report.hint(
                what,
                format!("snapshots (save {points})"),
                "what is newer than the last one goes with Redis; appendonly yes keeps it",
            ),
            None => report.ok(
                what,
                "no append-only file; whether there are snapshots may not be asked",
            ),
        }
    }
}

/// When snapshots are taken; `None` where that may not be asked.
fn save_points(link: &mut Link) -> Option<String> {
    let answer: HashMap<String, String> = link.query(redis::cmd("CONFIG").arg("GET").arg("save")).ok()?;
    answer.get("save").cloned()
}

fn check_memory(link: &mut Link, info: &Info, report: &Report) {
    let what = "redis memory";
    let used = info.number("used_memory").unwrap_or(0);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let Some(limit) = info.number("maxmemory").filter(|limit| *limit > 0) else {
        let found = format!("{} used, no limit", mib(used));
        report.hint(
            what,
            found,
            "set maxmemory, with the policy noeviction, below what the machine has",
        );
        return;
    };
    let percent = used * 100 / limit;
    let found = format!("{} of {} used ({percent} %)", mib(used), mib(limit));
    let policy = info.text("maxmemory_policy");
    if policy != "noeviction" {
        report.warn(
            what,
            format!("{found}; the policy {policy} throws keys away when it is full, the whole stream among them"),
            set(link, "maxmemory-policy", "noeviction"),
        );
    }
    if percent >= FULL_PERCENT {
        let roomy = format!("{}mb", ((used * 100 / ROOMY_PERCENT) >> 20) + 1);
        report.warn(
            what,
            format!("{found}; when it is full, nothing can be added to the stream, and counters wait"),
            format!(
                "lower the producer's limit of entries, or raise maxmemory if the machine has it; {}",
                set(link, "maxmemory", &roomy)
            ),
        );
    } else if policy == "noeviction" {
        report.ok(what, format!("{found}, noeviction"));
    }
}

fn check_clock(link: &mut Link, report: &Report) {
    report.looking("redis clock");
    let before = now();
    let Ok((seconds, micros)) = link.query::<(f64, f64)>(&redis::cmd("TIME")) else {
        return;
    };
    report_clock(report, "redis clock", seconds + micros / 1e6, (before + now()) / 2.0);
}
