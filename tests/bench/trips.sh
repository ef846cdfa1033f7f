# shellcheck shell=bash
# Counts round trips in a separate run, because the proxy between a contender and the servers costs time.

trips_pid=''

# count_round_trips CONTENDER
count_round_trips() {
    local ports counts
    prepare_run "$1"
    fill_stream
    connect_to_redis
    coproc trips { exec "$worker_dir/examples/trips" "$redis_port" "$postgres_port"; }
    trips_pid=$!
    read -ra ports <&"${trips[0]}"
    start_contender "$1" "${ports[@]}"
    await_drained
    echo >&"${trips[1]}"
    read -ra counts <&"${trips[0]}"
    stop_contender 60
    stop_trips
    record "$1" redis_trips "${counts[0]}"
    record "$1" sql_trips "${counts[1]}"
}

stop_trips() {
    [[ -n $trips_pid ]] || return 0
    kill "$trips_pid" 2>/dev/null || true
    wait "$trips_pid" 2>/dev/null || true
    trips_pid=''
}
