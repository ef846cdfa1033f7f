# shellcheck shell=bash
# --consumer: the firehose consumer between a relay of ours and Redis, and the whole pipeline behind it.

first_seq=20000000001
cursor_key=firehose:python_cursor
rates=(500 2000) # events a second
rated_seconds=10
stop_seconds=60 # how long Redis is stopped
relay_pid='' relay_url='' n_entries=''

bench_consumer() {
    local run contender
    add_consumers
    prepare_servers "${configurations[0]}"
    for ((run = 1; run <= runs; run++)); do
        start_relay --events "$events"
        for contender in "${consumers[@]}"; do
            flat_out_run "$contender"
            say "run $run: $(last_run "$contender")"
        done
        stop_relay
        for contender in "${consumers[@]}"; do
            rated_runs "$contender"
        done
        pipeline_runs
        say "run $run: $(last_run "$worker"), $(last_run "$pipeline")"
    done
    if [[ -z $is_quick ]]; then
        for contender in "${consumers[@]}"; do
            stopped_run "$contender"
        done
    fi
    report_consumer
}

# The consumer first, then those that run in turn with it; worker and pipeline last.
add_consumers() {
    local program
    # Without a group there is no pause, and nothing is to be trimmed.
    export REDIS_CURSOR_KEY=$cursor_key REDIS_MAX_STREAM_LEN=100000000
    add_in_turn consumer consume
    consumers=("${!names[@]}")
    program=$(printf %q "$worker_dir/firehose-worker")
    worker=${#names[@]} pipeline=$((${#names[@]} + 1))
    add "worker alone" "exec $program" "$environment" empty
    add "whole pipeline" "$program & exec $program consume" "$environment" empty
}

# start_relay OPTION…: sets relay_url, and n_entries, which its events make.
start_relay() {
    local line=''
    rm -f "$servers_dir/times" "$servers_dir/relay"
    setsid "$worker_dir/relay" --seed "$seed" --first-seq "$first_seq" --times "$servers_dir/times" "$@" \
        >"$servers_dir/relay" 2>"$servers_dir/relay.log" &
    relay_pid=$!
    disown
    await_server "$relay_pid" grep -q '^serves ' "$servers_dir/relay" || {
        cat "$servers_dir/relay.log" >&2
        die "the relay does not start"
    }
    { read -r relay_url && read -r line; } <"$servers_dir/relay"
    [[ $line =~ ^serves\ ([0-9]+)\ .*\ none=([0-9]+)$ ]] || die "the relay does not say what it serves: $line"
    n_events=${BASH_REMATCH[1]}
    n_entries=$((n_events - BASH_REMATCH[2]))
    export RELAY_URL=$relay_url
}

stop_relay() {
    [[ -z $relay_pid ]] || kill -KILL "$relay_pid" 2>/dev/null || true
    relay_pid=''
}

# The position before the first event, as the Python producer keeps it too.
prepare_redis() {
    ask_redis FLUSHALL >/dev/null
    ask_redis SET "$cursor_key" $((first_seq - 1)) >/dev/null
    connect_to_redis
}

# flat_out_run CONTENDER: all events are there at once.
flat_out_run() {
    prepare_redis
    measure "$1" await_entries
    record "$1" n_events "$n_events"
    record "$1" missing $((n_entries - n_appended))
    stop_contender 60
}

# Until all entries are there, or no more come. Sets n_appended, and drained_us, when the last one came.
await_entries() {
    local length=0 moved=$SECONDS
    n_appended=0 drained_us=$started_us
    while ((n_appended < n_entries)); do
        printf 'XLEN %s\r\n' "$stream" >&"$redis_fd"
        IFS= read -r -t 120 -u "$redis_fd" length || die "redis does not answer"
        length=${length//[^0-9]/}
        if ((length > n_appended)); then
            n_appended=$length drained_us=${EPOCHREALTIME/./} moved=$SECONDS
        fi
        kill -0 "$contender_pid" 2>/dev/null || give_up "it has ended"
        ((n_appended > 0 || SECONDS - moved < stall_seconds)) || give_up "it has appended nothing for $stall_seconds s"
        ((n_appended == 0 || SECONDS - moved < 10)) || break
        nap 0.02
    done
}

# rated_runs CONTENDER: a relay that sends so many events a second.
rated_runs() {
    local rate
    for rate in "${rates[@]}"; do
        start_relay --events $((rate * rated_seconds)) --rate "$rate"
        prepare_redis
        arrivals_of "$1" "$rate"
        record "$1" "memory_$rate" "$(peak_memory_kb)"
        stop_contender 60
        stop_relay
    done
}

# arrivals_of CONTENDER WHAT OPTION…: starts it, and records the latency of its entries and what is missing of them.
arrivals_of() {
    local line
    start_contender "$1" "$redis_port" "$postgres_port"
    in_group "$worker_dir/examples/arrivals" --redis "$REDIS_URL" --key "$stream" --times "$servers_dir/times" \
        --entries "$n_entries" "${@:3}" >"$servers_dir/arrivals" || give_up "its latency could not be measured"
    read -r line <"$servers_dir/arrivals"
    [[ $line =~ ^entries\ ([0-9]+)\ doubled\ ([0-9]+)\ median\ ([0-9.]+)\ p99\ ([0-9.]+)$ ]] ||
        die "the latency is not to be read: $line"
    record "$1" "missing_$2" $((n_entries - BASH_REMATCH[1]))
    record "$1" "doubled_$2" "${BASH_REMATCH[2]}"
    record "$1" "latency_$2_median" "${BASH_REMATCH[3]}"
    record "$1" "latency_$2_p99" "${BASH_REMATCH[4]}"
}

# stopped_run CONTENDER: Redis does not answer for a while, and the relay goes on.
stopped_run() {
    local rate=2000 stopper
    say "${names[$1]}: redis is stopped for $stop_seconds s"
    start_relay --events $((rate * (stop_seconds + 20))) --rate "$rate"
    prepare_redis
    {
        sleep 5
        kill -STOP "$redis_pid"
        sleep "$stop_seconds"
        kill -CONT "$redis_pid"
    } &
    stopper=$!
    arrivals_of "$1" stopped --patience $((stop_seconds + 60))
    wait "$stopper"
    record "$1" memory_stopped "$(peak_memory_kb)"
    stop_contender 60
    stop_relay
}

# The worker alone on a full stream, then both behind the relay, flat out and with single events.
pipeline_runs() {
    local n=$((events < 60000 ? events : 60000))
    events=$n timed_run "$worker"
    record "$worker" n_events "$n_events"
    start_relay --events "$n"
    copy_database run empty
    prepare_redis
    measure "$pipeline" await_pipeline
    record "$pipeline" n_events "$n_events"
    record "$pipeline" missing $((n_entries - n_appended))
    stop_contender 60
    stop_relay
    start_relay --events 400 --rate 40
    copy_database run empty
    prepare_redis
    arrivals_of "$pipeline" single --group "$group" --warm-up 20
    stop_contender 60
    stop_relay
}

# Until all entries are there and acknowledged.
await_pipeline() {
    await_entries
    last_id=$(ask_redis XREVRANGE "$stream" + - COUNT 1 | head -n 1)
    await_drained
}

report_consumer() {
    say "$events events, runs: $runs, cores: $(nproc), PostgreSQL ${postgres_version%% *}," \
        "$("$REDIS_SERVER" --version | cut -d ' ' -f 1-3)"
    printf '%s\n' "${names[@]}" |
        awk -v ticks_per_second="$ticks_per_second" -f "$tests_dir/bench/lists.awk" -f "$tests_dir/bench/consumer.awk" - \
            FS='\t' "$servers_dir/results"
}
