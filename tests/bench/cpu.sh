# shellcheck shell=bash
# CPU time and memory, from /proc.

ticks_per_second=$(getconf CLK_TCK)

# Clock ticks that were used so far by the contender, PostgreSQL, Redis, and the whole machine.
cpu_ticks() {
    {
        # Processes that end meanwhile are no error.
        cat /proc/[0-9]*/stat 2>/dev/null || true
        grep '^cpu ' /proc/stat
    } | awk -v contender="${contender_pid:-none}" -v postgres="$postgres_pid" -v redis="$redis_pid" '
        $1 == "cpu" {all = $2 + $3 + $4 + $7 + $8 + $9; next}
        {
            pid = $1
            sub(/^.*\) /, "") # the name, which may hold spaces: what follows counts from the state
            ticks = $12 + $13 + $14 + $15 # its own, and of children that have ended
        }
        $4 == contender {of_contender += ticks}
        pid == postgres || $2 == postgres {of_postgres += ticks}
        pid == redis {of_redis += ticks}
        END {print of_contender + 0, of_postgres + 0, of_redis + 0, all + 0}'
}

# record_cpu CONTENDER MICROSECONDS BEFORE… AFTER…: from two answers of cpu_ticks.
record_cpu() {
    record "$1" cpu_worker $(($7 - $3))
    record "$1" cpu_postgres $(($8 - $4))
    record "$1" cpu_redis $(($9 - $5))
    record "$1" others "$(cores_of_others "${@:2}")"
}

# cores_of_others MICROSECONDS BEFORE… AFTER…: how many cores all the rest kept busy.
cores_of_others() {
    local ticks=$((($9 - $5) - ($6 - $2) - ($7 - $3) - ($8 - $4)))
    awk -v ticks="$ticks" -v per_second="$ticks_per_second" -v us="$1" 'BEGIN {print ticks / per_second / us * 1e6}'
}

# Of the contender's processes together.
peak_memory_kb() {
    local pid
    { cat /proc/[0-9]*/stat 2>/dev/null || true; } |
        awk -v session="$contender_pid" '{pid = $1; sub(/^.*\) /, "")} $4 == session {print pid}' |
        while read -r pid; do
            cat "/proc/$pid/status" 2>/dev/null || true
        done | awk '$1 == "VmHWM:" {kb += $2} END {print kb + 0}'
}
