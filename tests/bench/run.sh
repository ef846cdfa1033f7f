# shellcheck shell=bash
# One run: a contender applies a full stream to a new database.

contender_pid='' contender_log='' contender_name='' redis_fd='' never_fd=''

stall_seconds=120

# timed_run CONTENDER
timed_run() {
    local -a sizes
    prepare_run "$1"
    fill_stream
    connect_to_redis
    read -ra sizes < <(database_sizes)
    measure "$1" await_drained
    record_growth "$1" "${sizes[@]}"
    stop_contender 60
    ((runs_with_dead_letters += $(ask_redis XLEN firehose:dead-letters) > 0)) || true
}

# measure CONTENDER AWAIT: starts it, and records time, memory and CPU until AWAIT, which sets drained_us, returns.
measure() {
    local -a before after
    read -ra before < <(cpu_ticks)
    start_contender "$1" "$redis_port" "$postgres_port"
    "$2"
    read -ra after < <(cpu_ticks)
    record "$1" seconds "$(awk -v us=$((drained_us - started_us)) 'BEGIN {print us / 1e6}')"
    record "$1" memory "$(peak_memory_kb)"
    record_cpu "$1" $((drained_us - started_us)) "${before[@]}" "${after[@]}"
}

# Bytes of the run's database, and of all that was ever written ahead.
database_sizes() {
    ask_postgres --dbname=run \
        --command="SELECT pg_database_size('run'), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
}

# record_growth CONTENDER DATABASE_BEFORE WAL_BEFORE
record_growth() {
    local -a sizes
    read -ra sizes < <(database_sizes)
    record "$1" database $((sizes[0] - $2))
    record "$1" wal $((sizes[1] - $3))
}

# prepare_run CONTENDER
prepare_run() {
    copy_database run "${templates[$1]}"
    ask_redis FLUSHALL >/dev/null
}

# start_contender CONTENDER REDIS_PORT POSTGRES_PORT; sets started_us.
start_contender() {
    local -a settings
    read -ra settings <<<"${environments[$1]}"
    contender_name=${names[$1]}
    contender_log=$servers_dir/contender-$1.log
    started_us=${EPOCHREALTIME/./}
    # A separate session, which identifies its processes, however many it starts.
    setsid env REDIS_URL="redis://127.0.0.1:$2" DATABASE_URL="postgresql://postgres@127.0.0.1:$3/run" \
        REDIS_STREAM_KEY="$stream" REDIS_CONSUMER_GROUP="$group" CONSUMER_ID=bench "${settings[@]}" \
        "$BASH" -c "${commands[$1]}" >>"$contender_log" 2>&1 &
    contender_pid=$!
}

# stop_contender SECONDS: how long it may take.
stop_contender() {
    [[ -n $contender_pid ]] || return 0
    kill -TERM -- "-$contender_pid" 2>/dev/null || true
    await_exit "$contender_pid" "$1" || true
    # What the first process has left of its session.
    kill -KILL -- "-$contender_pid" 2>/dev/null || true
    wait "$contender_pid" 2>/dev/null || true
    contender_pid=''
}

# --- the group, asked over one connection: a client process for every look would take the worker's time

connect_to_redis() {
    [[ -n $redis_fd ]] || exec {redis_fd}<>"/dev/tcp/127.0.0.1/$redis_port"
    # Nothing ever comes from it: a read with a time limit sleeps without a process.
    [[ -n $never_fd ]] || exec {never_fd}<> <(:)
}

disconnect_from_redis() {
    exec {redis_fd}>&-
    redis_fd=''
}

nap() { read -r -t "$1" -u "$never_fd" || true; }

# Sets delivered_id and pending: empty before the group exists.
look_at_group() {
    local line name=''
    delivered_id='' pending=''
    printf 'XINFO GROUPS %s\r\nPING\r\n' "$stream" >&"$redis_fd"
    while IFS= read -r -t 10 -u "$redis_fd" line || die "redis does not answer"; do
        line=${line%$'\r'}
        case $line in
            +PONG) break ;;
            \$*) continue ;; # how long the next line is
        esac
        case $name in
            pending) pending=${line#:} ;;
            last-delivered-id) delivered_id=$line ;;
        esac
        name=$line
    done
}

# Until the stream is read to its end and nothing is pending. Sets drained_us.
await_drained() {
    local seen='' moved=$SECONDS
    while :; do
        look_at_group
        drained_us=${EPOCHREALTIME/./}
        [[ $delivered_id != "$last_id" || $pending != 0 ]] || return 0
        if [[ $delivered_id.$pending != "$seen" ]]; then
            seen=$delivered_id.$pending moved=$SECONDS
        fi
        kill -0 "$contender_pid" 2>/dev/null || give_up "it has ended"
        ((SECONDS - moved < stall_seconds)) || give_up "nothing has moved for $stall_seconds s"
        nap 0.02
    done
}

give_up() {
    tail -n 20 "$contender_log" >&2
    die "FAILED: $contender_name: $1; its last lines are above"
}
