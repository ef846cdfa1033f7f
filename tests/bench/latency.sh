# shellcheck shell=bash
# The latency of single entries: the stream is empty and the contender idle.

# measure_latency CONTENDER
measure_latency() {
    local line started
    local -a before after
    prepare_run "$1"
    connect_to_redis
    start_contender "$1" "$redis_port" "$postgres_port"
    await_group
    started=${EPOCHREALTIME/./}
    read -ra before < <(cpu_ticks)
    in_group "$worker_dir/examples/latency" --redis "$REDIS_URL" \
        --postgres "postgresql://postgres@127.0.0.1:$postgres_port/run" \
        --key "$stream" --group "$group" --seed "$seed" \
        >"$servers_dir/latency" || give_up "its latency could not be measured"
    read -ra after < <(cpu_ticks)
    record "$1" latency_others "$(cores_of_others $((${EPOCHREALTIME/./} - started)) "${before[@]}" "${after[@]}")"
    stop_contender 60
    read -r line <"$servers_dir/latency"
    [[ $line =~ ^median\ ([0-9.]+)\ p99\ ([0-9.]+)\ commit\ ([0-9.]+)$ ]] || die "the latency is not to be read: $line"
    record "$1" latency_median "${BASH_REMATCH[1]}"
    record "$1" latency_p99 "${BASH_REMATCH[2]}"
    record "$1" latency_commit "${BASH_REMATCH[3]}"
}

# Until the contender has made its group and is idle.
await_group() {
    local tries=600
    while look_at_group && [[ -z $delivered_id ]]; do
        kill -0 "$contender_pid" 2>/dev/null || give_up "it has ended"
        ((tries-- > 0)) || give_up "it has made no group"
        nap 0.1
    done
    nap 1
}
