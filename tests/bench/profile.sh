# shellcheck shell=bash
# Profiles a run that is not timed: the worker with perf, PostgreSQL with pg_stat_statements.

profile() {
    local last=${#names[@]} is_by_perf='' is_by_statement=''
    say "profile of the worker"
    if perf record --quiet --output="$servers_dir/perf" true >/dev/null 2>&1; then
        is_by_perf=1
        add "the worker under perf" \
            "exec perf record --quiet --freq=997 --output='$servers_dir/perf' -- ${commands[0]#exec }" \
            "${environments[0]}" "${templates[0]}"
    else
        add "the worker" "${commands[0]}" "${environments[0]}" "${templates[0]}"
    fi
    if have_statement_statistics; then
        is_by_statement=1
        ask_postgres --dbname=postgres --command='CREATE EXTENSION pg_stat_statements'
    fi
    profiled_run "$last"
    if [[ -n $is_by_perf ]]; then
        show_perf
    else
        echo "perf is not there, or may not be used"
    fi
    if [[ -n $is_by_statement ]]; then
        show_statements
    else
        echo "pg_stat_statements is not there"
    fi
}

# profiled_run CONTENDER
profiled_run() {
    prepare_run "$1"
    fill_stream
    connect_to_redis
    start_contender "$1" "$redis_port" "$postgres_port"
    await_drained
    stop_contender 60
}

show_perf() {
    perf report --input="$servers_dir/perf" --stdio --no-children --sort=dso,symbol --percent-limit=0.8 2>/dev/null |
        sed -E '/^(#.*)?$/d; s/ +- +- *$//'
}

show_statements() {
    say "statements of PostgreSQL (the wait for the disk at a COMMIT is in none of them)"
    ask_postgres --dbname=postgres --pset=tuples_only=off --pset=format=aligned --pset=footer=off <<'SQL'
SELECT round((100 * total_exec_time / sum(total_exec_time) OVER ())::numeric, 1) AS "%",
    round(total_exec_time) AS ms,
    calls,
    round(mean_exec_time::numeric, 3) AS "ms/call",
    rows,
    round((1000 * total_exec_time / nullif(rows, 0))::numeric, 1) AS "us/row",
    round(wal_bytes / 1024) AS "WAL kB",
    left(regexp_replace(query, '\s+', ' ', 'g'), 70) AS statement
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'run')
ORDER BY total_exec_time DESC
LIMIT 15
SQL
}
