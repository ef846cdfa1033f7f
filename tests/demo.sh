#!/usr/bin/env bash
# Demonstrates the worker: fills a stream in a temporary Redis with made-up events, lets the worker apply it to a
# temporary PostgreSQL, and verifies all counts at the end.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/demo.sh [options]

  --events N       how many events to make up (default 60000)
  --seed S         seed of the made-up events (default 1)
  --dialect NAME   their form: lexicon (TypeScript producer) or sdk (Python producer); default lexicon
  --file FILE      send these instead: one {"type","data","seq"} object a line, plain or .gz
  --help           this text

Installs what is missing (see tests/setup.sh), builds the worker, starts servers of its own, stops them at the end.
The worker takes its other settings from the environment, PARALLEL_CONSUMERS=4 bash tests/demo.sh for one.
USAGE
}

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=tests/servers.sh
source "$tests_dir/servers.sh"

stream=firehose:events
hashes=(firehose:metrics cluster:metrics)
counters=(totalEvents '#commit' '#identity' '#account' errors)
stall_ms=120000

events=60000 seed=1 dialect=lexicon file=''
worker_pid='' worker_dir='' failures=0

parse_options() {
    while (($#)); do
        case $1 in
            --help | -h) usage && exit ;;
            --events | --seed | --dialect | --file) (($# > 1)) || die "$1 needs a value" ;;
            *) die "unknown option $1, see --help" ;;
        esac
        case $1 in
            --events) events=$2 ;;
            --seed) seed=$2 ;;
            --dialect) dialect=$2 ;;
            --file)
                [[ -r $2 ]] || die "cannot read $2"
                file=$(realpath -- "$2")
                ;;
        esac
        shift 2
    done
    [[ $events =~ ^[1-9][0-9]*$ ]] || die "--events $events is not a number above 0"
}

clean_up() {
    stop_group
    if [[ -n $worker_pid ]]; then
        kill -TERM "$worker_pid" 2>/dev/null || true
        await_exit "$worker_pid" 5 || kill -KILL "$worker_pid" 2>/dev/null || true
    fi
    stop_servers
}

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

seconds() { awk -v ms="$1" 'BEGIN {printf "%.1f", ms / 1000}'; }

per_second() { echo $(($1 * 1000 / ($2 > 0 ? $2 : 1))); }

# --- before the worker runs

build() {
    say "building (a few minutes the first time)"
    cd "$repo_dir"
    worker_dir=${CARGO_TARGET_DIR:-$repo_dir/target}
    in_group "$CARGO" build --profile demo --locked --target-dir "$worker_dir" --features generate
    worker_dir=$(realpath "$worker_dir")/demo
}

make_database() {
    say "starting redis and postgresql"
    start_servers
    create_database demo
    "$worker_dir/firehose-worker" schema >"$servers_dir/schema.sql"
    ask_postgres --file="$servers_dir/schema.sql" 2>"$servers_dir/schema.log" || {
        cat "$servers_dir/schema.log" >&2
        die "the schema could not be made"
    }
}

# Sets sent_events, sent_commit, sent_identity, sent_account from the generator's last line.
fill_stream() {
    say "filling the stream"
    local -a source=(--events "$events" --seed "$seed")
    [[ -z $file ]] || source=(--file "$file")
    in_group "$worker_dir/generate" "${source[@]}" --dialect "$dialect" --redis "$REDIS_URL" \
        >"$servers_dir/sent"
    local line
    line=$(tail -n 1 "$servers_dir/sent")
    [[ $line =~ ^sent\ ([0-9]+)\ commit=([0-9]+)\ identity=([0-9]+)\ account=([0-9]+)$ ]] ||
        die "the generator does not say what it sent: $line"
    sent_events=${BASH_REMATCH[1]}
    sent_commit=${BASH_REMATCH[2]}
    sent_identity=${BASH_REMATCH[3]}
    sent_account=${BASH_REMATCH[4]}
    last_id=$(ask_redis XINFO STREAM "$stream" | awk 'last == "last-generated-id" {print} {last = $0}')
    echo "$line"
}

# --- the worker

start_worker() {
    # A separate session: Ctrl-C must reach only this script, which stops the worker before the servers.
    CONSUMER_ID=demo REDIS_STREAM_KEY=$stream REDIS_CONSUMER_GROUP=firehose-processors \
        setsid "$worker_dir/firehose-worker" >>"$servers_dir/worker.log" 2>&1 &
    worker_pid=$!
    started_ms=$(now_ms)
}

# stop_worker STATE: stops the worker with SIGTERM and sets stop_ms, the time that it took. STATE is for the message if
# the worker fails.
stop_worker() {
    local status=0 asked_ms
    asked_ms=$(now_ms)
    kill -TERM "$worker_pid"
    await_exit "$worker_pid" 60 || kill -KILL "$worker_pid"
    wait "$worker_pid" || status=$?
    worker_pid=''
    stop_ms=$(($(now_ms) - asked_ms))
    expect "exit status of the $1 worker" "$status" 0
}

# stop_busy_worker: in the middle of the stream, then starts it again. What was acknowledged must have been counted.
stop_busy_worker() {
    stop_worker busy
    worked_ms=$((worked_ms + $(now_ms) - started_ms))
    read_progress
    busy_stop="$(seconds "$stop_ms") s"
    if [[ -n $entries_read ]]; then
        busy_stop+=", $((entries_read - pending)) entries acknowledged, $((total + errors)) counted, $pending pending"
    fi
    if [[ -n $entries_read && $sent_events == "$sent_known" ]]; then
        expect "entries counted when the busy worker stopped" $((total + errors)) $((entries_read - pending))
    fi
    echo "     SIGTERM while busy: $busy_stop"
    start_worker
}

# Sets total and errors from the counters; delivered_id, pending, lag and entries_read from the group: empty before it
# exists, and the last two also where Redis does not know (before 7.0, or after deletions).
read_progress() {
    local -a lines
    local -A group=()
    local i
    mapfile -t lines < <(printf '%s\n' "HMGET ${hashes[0]} totalEvents errors" "XINFO GROUPS $stream" | ask_redis)
    for ((i = 2; i + 1 < ${#lines[@]}; i += 2)); do
        group[${lines[i]:-none}]=${lines[i + 1]}
    done
    total=${lines[0]:-0} errors=${lines[1]:-0}
    delivered_id=${group[last-delivered-id]:-} pending=${group[pending]:-}
    lag=${group[lag]:-} entries_read=${group[entries-read]:-}
}

# Equivalent to no lag and nothing pending, for a Redis that reports no lag.
is_drained() { [[ $delivered_id == "$last_id" && $pending == 0 ]]; }

is_counted() { ((total + errors >= sent_known)); }

watched_tables=(users posts likes reposts follows feed_items notifications)

print_header() {
    printf '%6s %12s %9s %9s %8s' s totalEvents events/s lag pending
    printf ' %13s' "${watched_tables[@]}"
    printf '\n'
}

# Row counts from PostgreSQL's statistics, up to a second old: counting the rows would slow down the worker.
live_rows() {
    local table columns=''
    for table in "${watched_tables[@]}"; do
        columns+=", coalesce(sum(n_live_tup) FILTER (WHERE relname = '$table'), 0)"
    done
    ask_postgres --command="SELECT ${columns#, } FROM pg_stat_user_tables WHERE schemaname = 'public'"
}

print_progress() {
    local ms=$1 new=$2 span=$3
    local -a rows
    read -ra rows < <(live_rows)
    printf '%6s %12s %9s %9s %8s' "$(seconds "$ms")" "$total" "$(per_second "$new" "$span")" \
        "${lag:--}" "${pending:--}"
    printf ' %13s' "${rows[@]}"
    printf '\n'
}

# Watches until all entries are read, acknowledged and counted. Sets worked_ms, the time that it took.
watch_worker() {
    local now start shown_ms shown_total=0 moved_ms seen=''
    start=$(now_ms) shown_ms=$start moved_ms=$start worked_ms=0 busy_stop=''
    print_header
    while :; do
        now=$(now_ms)
        read_progress
        if [[ $total.$delivered_id.$pending != "$seen" ]]; then
            seen=$total.$delivered_id.$pending moved_ms=$now
        fi
        kill -0 "$worker_pid" 2>/dev/null || give_up "the worker has ended"
        ((now - moved_ms < stall_ms)) || give_up "nothing has moved for $((stall_ms / 1000)) s"
        ! is_drained || break
        if ((now - shown_ms >= 1000)); then
            print_progress $((now - start)) $((total - shown_total)) $((now - shown_ms))
            shown_ms=$now shown_total=$total
        fi
        if [[ -z $busy_stop ]] && ((total >= sent_events / 4)); then
            stop_busy_worker
        fi
        sleep 0.1
    done
    worked_ms=$((worked_ms + now - started_ms))
    await_counters
    print_progress $((now - start)) $((total - shown_total)) $((now - shown_ms))
}

# Counters follow the rows by half a second. The wait is limited: the summary reports what is missing.
await_counters() {
    local tries=50
    until is_counted || ((tries-- == 0)); do
        sleep 0.1
        read_progress
    done
}

give_up() {
    echo "last lines of the worker's log:" >&2
    tail -n 20 "$servers_dir/worker.log" >&2
    die "FAILED: $1"
}

# --- the summary

# expect WHAT VALUE WANTED
expect() {
    [[ $2 != "$3" ]] || return 0
    failures=$((failures + 1))
    echo "     WRONG: $1: $2, not $3"
}

show() { printf '%-24s %s\n' "$1" "$2"; }

show_speed() {
    show "events sent" "$sent_events (commit $sent_commit, identity $sent_identity, account $sent_account)"
    show seconds "$(seconds "$worked_ms")"
    show events/s "$(per_second "$sent_events" "$worked_ms")"
    show "SIGTERM while busy" "${busy_stop:-not tried, the events were gone too soon: give it more of them}"
    show "SIGTERM while idle" "$(seconds "$idle_stop_ms") s"
}

show_counters() {
    local hash
    local -a got
    printf '%-16s %12s %12s %12s %12s %12s\n' counters "${counters[@]}"
    printf '%-16s %12s %12s %12s %12s %12s\n' sent "$sent_known" "$sent_commit" "$sent_identity" "$sent_account" 0
    for hash in "${hashes[@]}"; do
        mapfile -t got < <(ask_redis HMGET "$hash" "${counters[@]}" | sed 's/^$/0/')
        printf '%-16s %12s %12s %12s %12s %12s\n' "$hash" "${got[@]}"
        check_counters "$hash" "${got[@]}"
    done
}

# Made-up events have no faults. A file may, and then its dead letters are no failure of the worker's.
check_counters() {
    local hash=$1 total=$2 commit=$3 identity=$4 account=$5 errors=$6
    expect "totalEvents and errors in $hash" $((total + errors)) "$sent_known"
    expect "sum of the types in $hash" $((commit + identity + account)) "$total"
    if [[ -z $file ]]; then
        expect "errors in $hash" "$errors" 0
    fi
    if ((errors == 0)); then
        expect "types in $hash" "$commit $identity $account" "$sent_commit $sent_identity $sent_account"
    fi
}

show_rows() {
    echo "rows"
    ask_postgres <<'SQL' | awk '{printf "  %-40s %12s\n", $1, $2}'
SELECT string_agg(format('SELECT %L, count(*) FROM %I.%I', schemaname || '.' || tablename, schemaname, tablename),
                  ' UNION ALL ' ORDER BY schemaname DESC, tablename) || ' ORDER BY 2 DESC, 1'
FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') \gexec
SQL
}

# Compares every counter with the rows that it counts. A subject that is not an at:// URI has no counters, and a row of
# zeros is equivalent to no row.
wrong_aggregations() {
    ask_postgres <<'SQL'
WITH counted AS (
    SELECT uri, sum(l) AS l, sum(r) AS r, sum(c) AS c, sum(b) AS b, sum(q) AS q
    FROM (SELECT post_uri AS uri, 1 AS l, 0 AS r, 0 AS c, 0 AS b, 0 AS q FROM likes
          UNION ALL SELECT post_uri, 0, 1, 0, 0, 0 FROM reposts
          UNION ALL SELECT parent_uri, 0, 0, 1, 0, 0 FROM posts WHERE parent_uri IS NOT NULL
          UNION ALL SELECT post_uri, 0, 0, 0, 1, 0 FROM bookmarks
          UNION ALL SELECT quoted_uri, 0, 0, 0, 0, 1 FROM quotes) AS rows
    WHERE uri LIKE 'at://%'
    GROUP BY uri
)
SELECT count(*)
FROM counted FULL JOIN post_aggregations ON post_uri = uri
WHERE (coalesce(like_count, 0), coalesce(repost_count, 0), coalesce(reply_count, 0), coalesce(bookmark_count, 0),
       coalesce(quote_count, 0))
    <> (coalesce(l, 0), coalesce(r, 0), coalesce(c, 0), coalesce(b, 0), coalesce(q, 0))
SQL
}

posts_without_aggregation() {
    ask_postgres --command='SELECT count(*) FROM posts WHERE NOT EXISTS (SELECT FROM post_aggregations WHERE post_uri = uri)'
}

check_rows() {
    local wrong missing
    wrong=$(wrong_aggregations)
    missing=$(posts_without_aggregation)
    show "counters of posts" "$wrong differ from the rows they count, $missing posts have none"
    expect "post_aggregations that differ from their rows" "$wrong" 0
    expect "posts without post_aggregations" "$missing" 0
    ((sent_events == 0)) || expect "a users table with rows" "$(ask_postgres --command='SELECT EXISTS (SELECT FROM users)')" t
}

check_group() {
    local dead
    dead=$(ask_redis XLEN firehose:dead-letters)
    show pending "$pending"
    show "dead letters" "$dead"
    expect "pending entries" "$pending" 0
    if [[ -z $file ]]; then
        expect "dead letters" "$dead" 0
    fi
}

show_warnings() {
    local count
    count=$(grep -cE 'WARN|ERROR' "$servers_dir/worker.log" || true)
    show "warnings in the log" "$count"
    grep -E 'WARN|ERROR' "$servers_dir/worker.log" | tail -n 5 | sed 's/^/  /' || true
}

show_summary() {
    say summary
    show_speed
    show_counters
    show_rows
    check_rows
    check_group
    show_warnings
    ((failures == 0)) || die "FAILED: $failures checks, see WRONG above"
    echo OK
}

parse_options "$@"
at_exit clean_up
setup
build
make_database
fill_stream
sent_known=$((sent_commit + sent_identity + sent_account))
say "running the worker (rows as PostgreSQL's statistics have them, up to a second late)"
start_worker
watch_worker
stop_worker idle
idle_stop_ms=$stop_ms
((idle_stop_ms <= 2000)) || expect "milliseconds to stop an idle worker" "$idle_stop_ms" "at most 2000"
show_summary
