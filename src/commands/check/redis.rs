//! The looks at Redis as a server: is it there, may it be written to, does it keep what it has.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;

use super::{Looked, Report, Unusable, now, report_clock, rights};
use crate::servers::link::{self, Link, Redis};
use crate::settings::config::Config;

/// Memory beyond which it is time to see to it, in percent of maxmemory.
const FULL_PERCENT: u64 = 80;

/// Looks at the server.
pub fn look(redis: &Redis, config: &Config, report: &Report) -> Looked {
    report.looking("redis");
    let mut link = redis.link(Duration::ZERO);
    let info = match link.query::<String>(&redis::cmd("INFO")) {
        Ok(text) => Some(Info::parse(&text)),
        Err(error) if link::is_refused(&error) => {
            report.warn(
                "redis",
                "it answers; its version, role and memory are not known, since this user may not send INFO",
                "allow +info to who checks; the worker does not need it",
            );
            None
        }
        Err(error) => {
            report.fail("redis", link::describe(&error), remedy(&error));
            return Err(Unusable);
        }
    };
    if let Some(info) = info {
        look_at_info(&mut link, &info, report)?;
    }
    look_at_clock(&mut link, report);
    rights::look(&mut link, config, report);
    Ok(())
}

fn remedy(error: &redis::RedisError) -> &'static str {
    match link::code(error) {
        "NOAUTH" | "WRONGPASS" => "put the right user and password into REDIS_URL",
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => "put the right user and password into REDIS_URL",
        _ if link::is_cluster(error) => {
            "set cluster-enabled no and restart Redis, or let REDIS_URL name a Redis without it"
        }
        _ if link::is_database_refused(error) => "ACL SETUSER its user +select",
        _ => "start Redis, or mend REDIS_URL",
    }
}

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

fn look_at_info(link: &mut Link, info: &Info, report: &Report) -> Looked {
    look_at_version(info, report);
    look_at_role(info, report)?;
    look_at_persistence(link, info, report);
    look_at_memory(info, report);
    Ok(())
}

fn look_at_version(info: &Info, report: &Report) {
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

fn look_at_role(info: &Info, report: &Report) -> Looked {
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
    match info.number("min_slaves_good_slaves") {
        Some(0) => report.fail(
            "redis role",
            "a master that refuses writes: it has no replica, and min-replicas-to-write asks for one",
            "start its replicas, or set min-replicas-to-write to 0",
        ),
        _ => report.ok(
            "redis role",
            format!("master with {} replicas", info.number("connected_slaves").unwrap_or(0)),
        ),
    }
    Ok(())
}

fn look_at_persistence(link: &mut Link, info: &Info, report: &Report) {
    let what = "redis persistence";
    let is_bad = |name: &str| !info.text(name).is_empty() && !info.is(name, "ok");
    if is_bad("aof_last_write_status") || is_bad("rdb_last_bgsave_status") || is_bad("aof_last_bgrewrite_status") {
        report.fail(
            what,
            "the last try to write to disk failed, and Redis may refuse writes",
            "see to its disk and its log",
        );
    } else if info.is("aof_enabled", "1") {
        report.ok(what, "append-only file");
    } else {
        match save_points(link) {
            Some(points) if points.is_empty() => report.warn(
                what,
                "nothing is kept on disk: with Redis go unread entries, counters and dead letters",
                "set appendonly yes",
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

fn look_at_memory(info: &Info, report: &Report) {
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
            "set maxmemory-policy noeviction",
        );
    } else if percent >= FULL_PERCENT {
        report.warn(
            what,
            format!("{found}; when it is full, nothing can be added to the stream, and counters wait"),
            "raise maxmemory, or lower the producer's limit of entries",
        );
    } else {
        report.ok(what, format!("{found}, noeviction"));
    }
}

fn look_at_clock(link: &mut Link, report: &Report) {
    report.looking("redis clock");
    let before = now();
    let Ok((seconds, micros)) = link.query::<(f64, f64)>(&redis::cmd("TIME")) else {
        return;
    };
    report_clock(report, "redis clock", seconds + micros / 1e6, (before + now()) / 2.0);
}

/// Whether Redis refuses a command for want of a right.
pub fn is_refused(link: &mut Link, command: &redis::Cmd) -> Option<String> {
    let error = link.query::<Value>(command).err()?;
    link::is_refused(&error).then(|| link::describe(&error))
}
