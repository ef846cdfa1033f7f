# shellcheck shell=bash
# Counts round trips in a separate run, because the relay between a contender and the servers costs time.

relay_pid=''

# count_round_trips CONTENDER
count_round_trips() {
    local ports counts
    prepare_run "$1"
    fill_stream
    connect_to_redis
    coproc relay { exec "$worker_dir/examples/relay" "$redis_port" "$postgres_port"; }
    relay_pid=$!
    read -ra ports <&"${relay[0]}"
    start_contender "$1" "${ports[@]}"
    await_drained
    echo >&"${relay[1]}"
    read -ra counts <&"${relay[0]}"
    stop_contender 60
    stop_relay
    record "$1" redis_trips "${counts[0]}"
    record "$1" sql_trips "${counts[1]}"
}

stop_relay() {
    [[ -n $relay_pid ]] || return 0
    kill "$relay_pid" 2>/dev/null || true
    wait "$relay_pid" 2>/dev/null || true
    relay_pid=''
}
