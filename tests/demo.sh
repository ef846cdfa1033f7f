#!/usr/bin/env bash
# Demonstrates the whole pipeline: a relay on this machine serves made-up events, the firehose consumer appends them to
# the stream of a temporary Redis, the worker applies them to a temporary PostgreSQL, and all counts are verified.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/demo.sh [options]

  --events N       how many events to make up (default 60000)
  --seed S         seed of the made-up events (default 1)
  --rate R         how many of them the relay sends a second (default: all at once)
  --help           this text

Installs what is missing (see tests/setup.sh), builds the programs, starts servers of its own, stops them at the end.
Meanwhile the consumer is killed and the worker is stopped, once each, and both are started again. They take their other
settings from the environment, PARALLEL_CONSUMERS=4 bash tests/demo.sh for one.
USAGE
}

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=tests/servers.sh
source "$tests_dir/servers.sh"

stream=firehose:events
cursor_key=firehose:python_cursor
first_seq=20000000001
hashes=(firehose:metrics cluster:metrics)
counters=(totalEvents '#commit' '#identity' '#account' errors)
stall_ms=120000

events=60000 seed=1 rate=''
relay_pid='' consumer_pid='' worker_pid='' program_dir='' failures=0

parse_options() {
    while (($#)); do
        case $1 in
            --help | -h) usage && exit ;;
            --events | --seed | --rate) (($# > 1)) || die "$1 needs a value" ;;
            *) die "unknown option $1, see --help" ;;
        esac
        [[ $2 =~ ^[1-9][0-9]*$ ]] || die "$1 $2 is not a number above 0"
        case $1 in
            --events) events=$2 ;;
            --seed) seed=$2 ;;
            --rate) rate=$2 ;;
        esac
        shift 2
    done
}

clean_up() {
    stop_group
    end "$worker_pid" TERM
    end "$consumer_pid" TERM
    end "$relay_pid" KILL
    stop_servers
}

# end PID SIGNAL
end() {
    [[ -n $1 ]] || return 0
    kill -"$2" "$1" 2>/dev/null || true
    await_exit "$1" 5 || kill -KILL "$1" 2>/dev/null || true
}

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

seconds() { awk -v ms="$1" 'BEGIN {printf "%.1f", ms / 1000}'; }

per_second() { echo $(($1 * 1000 / ($2 > 0 ? $2 : 1))); }

# --- before the pipeline runs

build() {
    say "building (a few minutes the first time)"
    cd "$repo_dir"
    program_dir=${CARGO_TARGET_DIR:-$repo_dir/target}
    in_group "$CARGO" build --profile demo --locked --target-dir "$program_dir" --features relay \
        --bin firehose-worker --bin relay
    program_dir=$(realpath "$program_dir")/demo
}

make_database() {
    say "starting redis and postgresql"
    start_servers
    create_appview_database demo "$program_dir/firehose-worker"
}

# Sets relay_url, and sent_events, sent_commit, sent_identity, sent_account and sent_entries from what the relay prints.
start_relay() {
    say "starting a relay"
    local -a options=(--events "$events" --seed "$seed" --first-seq "$first_seq" ${rate:+--rate "$rate"})
    setsid "$program_dir/relay" "${options[@]}" >"$servers_dir/relay" 2>"$servers_dir/relay.log" &
    relay_pid=$!
    disown # no message when it is killed at the end
    await_server "$relay_pid" grep -q '^serves ' "$servers_dir/relay" || {
        cat "$servers_dir/relay.log" >&2
        die "the relay does not start"
    }
    local line
    { read -r relay_url && read -r line; } <"$servers_dir/relay"
    [[ $line =~ ^serves\ ([0-9]+)\ commit=([0-9]+)\ identity=([0-9]+)\ account=([0-9]+)\ none=[0-9]+$ ]] ||
        die "the relay does not say what it serves: $line"
    sent_events=${BASH_REMATCH[1]}
    sent_commit=${BASH_REMATCH[2]}
    sent_identity=${BASH_REMATCH[3]}
    sent_account=${BASH_REMATCH[4]}
    sent_entries=$((sent_commit + sent_identity + sent_account))
    last_seq=$((first_seq + sent_events - 1))
    echo "$relay_url $line"
}

# --- the consumer and the worker

start_consumer() {
    # A separate session, here and below: Ctrl-C must reach only this script, which stops the programs before the servers.
    RELAY_URL=$relay_url FIREHOSE_START=oldest REDIS_STREAM_KEY=$stream REDIS_CURSOR_KEY=$cursor_key \
        REDIS_CONSUMER_GROUP=firehose-processors \
        setsid "$program_dir/firehose-worker" consume >>"$servers_dir/consumer.log" 2>&1 &
    consumer_pid=$!
}

start_worker() {
    CONSUMER_ID=demo REDIS_STREAM_KEY=$stream REDIS_CONSUMER_GROUP=firehose-processors \
        setsid "$program_dir/firehose-worker" >>"$servers_dir/worker.log" 2>&1 &
    worker_pid=$!
    started_ms=$(now_ms)
}

# stop NAME PID: stops a program with SIGTERM and sets stop_ms, the time that it took. NAME is for the message if it fails.
stop() {
    local status=0 asked_ms
    asked_ms=$(now_ms)
    kill -TERM "$2"
    await_exit "$2" 60 || kill -KILL "$2"
    wait "$2" || status=$?
    stop_ms=$(($(now_ms) - asked_ms))
    expect "exit status of the $1" "$status" 0
}

# kill_consumer: in the middle of the stream, then starts it again. It has to go on where its entries end.
kill_consumer() {
    kill -KILL "$consumer_pid"
    { wait "$consumer_pid" || true; } 2>/dev/null
    killed_at="after $(ask_redis XLEN "$stream") entries"
    echo "     kill -9 of the consumer: $killed_at"
    start_consumer
}

# stop_busy_worker: in the middle of the stream, then starts it again. What was acknowledged must have been counted.
stop_busy_worker() {
    stop "busy worker" "$worker_pid"
    worked_ms=$((worked_ms + $(now_ms) - started_ms))
    read_progress
    busy_stop="$(seconds "$stop_ms") s"
    if [[ -n $entries_read ]]; then
        busy_stop+=", $((entries_read - pending)) entries acknowledged, $((total + errors)) counted, $pending pending"
        expect "entries counted when the busy worker stopped" $((total + errors)) $((entries_read - pending))
    fi
    echo "     SIGTERM to the worker: $busy_stop"
    start_worker
}

stop_idle_programs() {
    status_key=$(ask_redis GET firehose:status)
    stop "idle worker" "$worker_pid"
    idle_stop_ms=$stop_ms worker_pid=''
    stop consumer "$consumer_pid"
    consumer_stop_ms=$stop_ms consumer_pid=''
    ((idle_stop_ms <= 2000)) || expect "milliseconds to stop an idle worker" "$idle_stop_ms" "at most 2000"
    ((consumer_stop_ms <= 2000)) || expect "milliseconds to stop the consumer" "$consumer_stop_ms" "at most 2000"
}

# Sets cursor and entries from what the consumer has written; total and errors from the worker's counters; delivered_id,
# pending, lag and entries_read from the group: empty before it exists, and the last two also where Redis does not know
# (before 7.0, or after deletions).
read_progress() {
    local -a lines
    local -A group=()
    local i
    mapfile -t lines < <(printf '%s\n' "GET $cursor_key" "XLEN $stream" "HMGET ${hashes[0]} totalEvents errors" \
        "XINFO GROUPS $stream" | ask_redis)
    for ((i = 4; i + 1 < ${#lines[@]}; i += 2)); do
        group[${lines[i]:-none}]=${lines[i + 1]}
    done
    cursor=${lines[0]} entries=${lines[1]}
    total=${lines[2]:-0} errors=${lines[3]:-0}
    delivered_id=${group[last-delivered-id]:-} pending=${group[pending]:-}
    lag=${group[lag]:-} entries_read=${group[entries-read]:-}
}

# Equivalent to no lag and nothing pending, for a Redis that reports no lag.
is_drained() {
    [[ $cursor == "$last_seq" && $pending == 0 ]] &&
        [[ $delivered_id == "$(ask_redis XREVRANGE "$stream" + - COUNT 1 | head -n 1)" ]]
}

is_counted() { ((total + errors >= sent_entries)); }

watched_tables=(users posts likes reposts follows feed_items notifications)

print_header() {
    printf '%6s %9s %9s %12s %9s %9s %8s' s entries entries/s totalEvents events/s lag pending
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

# print_progress MS: the time since the start. Rates are since the line before.
print_progress() {
    local span=$(($1 - shown_ms))
    local -a rows
    read -ra rows < <(live_rows)
    printf '%6s %9s %9s %12s %9s %9s %8s' "$(seconds "$1")" \
        "$entries" "$(per_second $((entries - shown_entries)) "$span")" \
        "$total" "$(per_second $((total - shown_total)) "$span")" "${lag:--}" "${pending:--}"
    shown_ms=$1 shown_entries=$entries shown_total=$total
    printf ' %13s' "${rows[@]}"
    printf '\n'
}

# Watches until all events are appended, applied and counted. Sets worked_ms, the time that the worker took.
watch() {
    local now start moved_ms seen=''
    start=$(now_ms) moved_ms=$start worked_ms=0 killed_at='' busy_stop=''
    shown_ms=0 shown_entries=0 shown_total=0
    print_header
    while :; do
        now=$(now_ms)
        read_progress
        if [[ $cursor.$total.$delivered_id.$pending != "$seen" ]]; then
            seen=$cursor.$total.$delivered_id.$pending moved_ms=$now
        fi
        kill -0 "$consumer_pid" 2>/dev/null || give_up "the consumer has ended"
        kill -0 "$worker_pid" 2>/dev/null || give_up "the worker has ended"
        ((now - moved_ms < stall_ms)) || give_up "nothing has moved for $((stall_ms / 1000)) s"
        ! is_drained || break
        ((now - start - shown_ms < 1000)) || print_progress $((now - start))
        if [[ -z $killed_at ]] && ((entries >= sent_entries / 10)) && [[ $cursor != "$last_seq" ]]; then
            kill_consumer
        fi
        if [[ -z $busy_stop ]] && ((total >= sent_entries / 4)); then
            stop_busy_worker
        fi
        sleep 0.1
    done
    worked_ms=$((worked_ms + now - started_ms))
    await_counters
    print_progress $(($(now_ms) - start))
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
    local program
    for program in consumer worker; do
        echo "last lines of the $program's log:" >&2
        tail -n 20 "$servers_dir/$program.log" >&2
    done
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
    show seconds "$(seconds "$worked_ms")"
    show events/s "$(per_second "$sent_entries" "$worked_ms")"
    show "kill -9 of the consumer" "${killed_at:-not tried, the events were gone too soon: give it more of them}"
    show "SIGTERM to a busy worker" "${busy_stop:-not tried, the events were gone too soon: give it more of them}"
    show "SIGTERM to an idle one" "$(seconds "$idle_stop_ms") s; to the consumer $(seconds "$consumer_stop_ms") s"
}

# A commit without ops makes no entry. Redis trims what the worker has applied of a longer stream.
show_consumer() {
    show "events sent" "$sent_events by the relay, which make $sent_entries entries"
    show entries "$entries"
    show cursor "$cursor, last seq $last_seq"
    show firehose:status "$status_key"
    ((sent_entries >= 500000)) || expect "entries of the stream" "$entries" "$sent_entries"
    expect "the cursor" "$cursor" "$last_seq"
    [[ $status_key == *'"connected":true'*"\"currentCursor\":\"$last_seq\""* ]] ||
        expect firehose:status "$status_key" "connected at $last_seq"
    expect "set-aside entries" "$(ask_redis XLEN firehose:consumer:set-aside)" 0
}

show_counters() {
    local hash
    local -a got
    printf '%-16s %12s %12s %12s %12s %12s\n' counters "${counters[@]}"
    printf '%-16s %12s %12s %12s %12s %12s\n' sent "$sent_entries" "$sent_commit" "$sent_identity" "$sent_account" 0
    for hash in "${hashes[@]}"; do
        mapfile -t got < <(ask_redis HMGET "$hash" "${counters[@]}" | sed 's/^$/0/')
        printf '%-16s %12s %12s %12s %12s %12s\n' "$hash" "${got[@]}"
        expect "$hash" "${got[*]}" "$sent_entries $sent_commit $sent_identity $sent_account 0"
    done
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
    expect "a users table with rows" "$(ask_postgres --command='SELECT EXISTS (SELECT FROM users)')" t
}

check_group() {
    local dead
    dead=$(ask_redis XLEN firehose:dead-letters)
    show pending "$pending"
    show "dead letters" "$dead"
    expect "pending entries" "$pending" 0
    expect "dead letters" "$dead" 0
}

show_warnings() {
    local program count
    for program in consumer worker; do
        count=$(grep -cE 'WARN|ERROR' "$servers_dir/$program.log" || true)
        show "the $program's warnings" "$count"
        grep -E 'WARN|ERROR' "$servers_dir/$program.log" | tail -n 5 | sed 's/^/  /' || true
    done
}

show_summary() {
    say summary
    show_consumer
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
start_relay
say "running consumer and worker (rows as PostgreSQL's statistics have them, up to a second late)"
start_worker
start_consumer
watch
stop_idle_programs
show_summary
