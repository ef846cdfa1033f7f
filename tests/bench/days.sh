# shellcheck shell=bash
# Simulated days at a steady rate, with a prune after each: whether the database stops growing, and what pruning costs.
#
# The days lie in the past, and the last ends now: rows take their indexed_at from the entry IDs, which are given. One
# worker lives through all days. Half of a day's events are applied while nothing else runs, the other half beside prune.

bench_days() {
    local day
    prepare_servers "${configurations[0]}"
    copy_database run empty
    ask_redis FLUSHALL >/dev/null
    connect_to_redis
    # What they have touched stays.
    environment+=" LOCAL_DIDS=$(local_dids $((days * events)))"
    add_in_turn worker
    read -ra words <<<"$environment"
    day_step=$((86400000 / events))
    # Once, so that the same events have the same times in every call of the generator.
    first_ms=$((${EPOCHREALTIME/./} / 1000 - days * events * day_step))
    ask_redis XGROUP CREATE "$stream" "$group" 0 MKSTREAM >/dev/null
    start_contender 0 "$redis_port" "$postgres_port"
    await_server "$contender_pid" worker_reads || give_up "it does not read"
    say "$days days of $events events, prune --older-than ${kept_days}d after each"
    printf '%4s %14s %14s %12s %14s %12s %12s\n' \
        day 'database, MiB' 'pruned tables' events/s 'beside prune' 'prune, s' 'rows pruned'
    for ((day = 1; day <= days; day++)); do
        simulate_day "$day"
    done
    stop_contender 60
    summarize_days
}

worker_reads() { [[ $(ask_redis XINFO CONSUMERS "$stream" "$group") == *bench* ]]; }

# simulate_day DAY
simulate_day() {
    local half=$((events / 2)) before alone beside pruned rows sizes
    before=$(((${1} - 1) * events))
    fill_slice "$before" "$half"
    alone=$(drain_rate)
    fill_slice $((before + half)) $((events - half))
    start_prune "$1"
    beside=$(drain_rate)
    wait "$prune_pid" || give_up_prune
    pruned=$(awk -v us=$((${EPOCHREALTIME/./} - prune_us)) 'BEGIN {printf "%.2f", us / 1e6}')
    rows=$(pruned_rows)
    # What autovacuum does in the rest of a real day.
    ask_postgres --dbname=run --command="VACUUM (ANALYZE)" >/dev/null
    read -ra sizes < <(data_sizes)
    printf '%4d %14s %14s %12.0f %14.0f %12s %12s\n' \
        "$1" "${sizes[0]}" "${sizes[1]}" "$alone" "$beside" "$pruned" "$rows"
    printf '%s\n' "$1 ${sizes[0]} ${sizes[1]} $alone $beside $pruned" >>"$servers_dir/days"
}

# fill_slice SKIP COUNT: makes these events up, in a stream that the worker does not read. Sets last_id.
fill_slice() {
    in_group "$worker_dir/generate" --events $((days * events)) --seed "$seed" \
        --base-time $((first_ms + days * events * day_step)) --step "$day_step" --skip "$1" --take "$2" --entry-ids \
        --redis "$REDIS_URL" --key "$stream:next" >"$servers_dir/sent"
    last_id=$(ask_redis XINFO STREAM "$stream:next" | awk 'last == "last-generated-id" {print} {last = $0}')
    n_slice=$2
}

move_entries="
    local entries = redis.call('XRANGE', KEYS[1], '-', '+')
    for _, entry in ipairs(entries) do
        redis.call('XADD', KEYS[2], entry[1], unpack(entry[2]))
    end
    redis.call('DEL', KEYS[1])"

# Gives the worker the events at once, and prints how many of them a second it applies until nothing is left.
drain_rate() {
    started_us=${EPOCHREALTIME/./}
    ask_redis EVAL "$move_entries" 2 "$stream:next" "$stream" >/dev/null
    await_drained
    awk -v n="$n_slice" -v us=$((drained_us - started_us)) 'BEGIN {print n / us * 1e6}'
}

# start_prune DAY: as a timer would on that day, beside what follows.
start_prune() {
    local hours=$(((kept_days + days - $1) * 24))
    prune_us=${EPOCHREALTIME/./}
    REDIS_URL="redis://127.0.0.1:$redis_port" DATABASE_URL="postgresql://postgres@127.0.0.1:$postgres_port/run" \
        REDIS_STREAM_KEY="$stream" REDIS_CONSUMER_GROUP="$group" env "${words[@]}" \
        "$worker_dir/firehose-worker" prune --older-than "${hours}h" --json \
        >"$servers_dir/prune.json" 2>"$servers_dir/prune.log" &
    prune_pid=$!
}

give_up_prune() {
    tail -n 20 "$servers_dir/prune.log" >&2
    die "FAILED: prune; its last lines are above"
}

# How many rows the last prune has deleted: the sum of what its report lists by table.
pruned_rows() {
    awk '/"rows": \{$/ {is_in = 1; next} /\}/ {is_in = 0} is_in {rows += $2} END {print rows + 0}' "$servers_dir/prune.json"
}

# The size of the database on disk, and that of the tables from which prune deletes, in MiB.
data_sizes() {
    ask_postgres --dbname=run --command="
        SELECT pg_database_size('run') >> 20,
            (SELECT sum(pg_total_relation_size(oid))::bigint >> 20
             FROM pg_class
             WHERE relkind = 'r' AND relname IN ('posts', 'post_aggregations', 'thread_contexts', 'thread_gates',
                 'post_gates', 'likes', 'reposts', 'quotes', 'bookmarks', 'feed_items', 'post_viewer_states',
                 'notifications', 'generic_records', 'rivals'))"
}

summarize_days() {
    awk -v from=$((kept_days + 2)) '
        $1 >= from {
            n++
            size = $2; tables = $3; alone += $4; beside += $5; prune += $6
            if (n == 1) {first = low = high = size; first_tables = tables}
            if (size < low) low = size
            if (size > high) high = size
        }
        END {
            if (!n) exit
            printf "from day %d on: database %d to %d MiB, %+.1f %% from the first to the last of these days\n",
                from, low, high, 100 * (size - first) / first
            printf "the tables from which prune deletes: %+.1f %%; the others hold what stays\n",
                100 * (tables - first_tables) / first_tables
            printf "worker: %.0f events/s alone, %.0f beside prune (%.0f %% slower); prune takes %.2f s a day\n",
                alone / n, beside / n, 100 * (1 - beside / alone), prune / n
        }' "$servers_dir/days"
}
