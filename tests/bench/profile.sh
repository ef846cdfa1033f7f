# shellcheck shell=bash
# Profiles runs that are not timed: the worker with perf, PostgreSQL with pg_stat_statements, beside COPY of the same rows.

profile() {
    local last=${#names[@]}
    say "profile of the worker"
    # On the tables of the last contender: with --rows the fullest.
    add "the worker" "${commands[0]}" "${environments[0]}" "${templates[last - 1]}"
    if perf record --quiet --output="$servers_dir/perf" true >/dev/null 2>&1; then
        commands[last]="exec perf record --quiet --freq=997 --output='$servers_dir/perf' -- ${commands[0]#exec }"
        profiled_run "$last"
        show_perf
    else
        echo "perf is not there, or may not be used"
    fi
    if have_statement_statistics; then
        ask_postgres --dbname=postgres --command='CREATE EXTENSION pg_stat_statements'
        # One worker: statements then wait for no lock, and hardly for a core.
        commands[last]=${commands[0]} environments[last]+=" PARALLEL_CONSUMERS=1"
        profiled_run "$last"
        show_reads
        measure_limit "$last"
        show_statements
    else
        echo "pg_stat_statements is not there"
    fi
    unset "names[last]" "commands[last]" "environments[last]" "templates[last]"
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

# All per event: microseconds, rows, buffers and WAL of each statement, and of each COPY of the same rows.
show_statements() {
    say "statements of PostgreSQL per event, the worker's and COPY's (the wait for the disk at a COMMIT is in none)"
    ask_postgres --dbname=postgres --pset=tuples_only=off --pset=format=aligned --pset=footer=off \
        -v events="$n_events" <<'SQL'
SELECT CASE datname WHEN 'run' THEN 'worker' ELSE 'COPY' END AS by,
    round((1000 * sum(total_exec_time) / :events)::numeric, 2) AS us,
    round((1000 * sum(total_plan_time) / :events)::numeric, 2) AS "us planned",
    sum(calls) AS calls,
    round(sum(rows)::numeric / :events, 3) AS rows,
    round((1000 * sum(total_exec_time) / nullif(sum(rows), 0))::numeric, 1) AS "us/row",
    round(sum(shared_blks_hit + shared_blks_read)::numeric / :events, 1) AS buffers,
    round(sum(wal_records)::numeric / :events, 2) AS "WAL records",
    round(sum(wal_bytes) / :events) AS "WAL bytes",
    left(regexp_replace(coalesce(query, 'all of them'), '\s+', ' ', 'g'), 60) AS statement
FROM pg_stat_statements
JOIN pg_database ON pg_database.oid = dbid
WHERE datname = 'run' AND query NOT LIKE 'COPY % TO %' OR datname = 'copied' AND query LIKE 'COPY%'
GROUP BY GROUPING SETS ((datname), (datname, queryid, query))
HAVING sum(total_exec_time) > 0.0005 * :events OR query IS NULL
ORDER BY datname DESC, query IS NULL, sum(total_exec_time) DESC
SQL
}

# What shared_buffers did not hold: 8 KiB each, from the system's cache or the disk.
show_reads() {
    say "buffers read per 1000 events"
    ask_postgres --dbname=run --pset=tuples_only=off --pset=format=aligned --pset=footer=off -v events="$n_events" <<'SQL'
WITH read AS (
    SELECT relname, 'the table' AS what, heap_blks_read AS n FROM pg_statio_user_tables
    UNION ALL
    SELECT relname, indexrelname, idx_blks_read FROM pg_statio_user_indexes
)
SELECT relname AS table, coalesce(what, 'all of it') AS what, round(1000 * sum(n) / :events, 1) AS buffers
FROM read
GROUP BY GROUPING SETS ((), (relname), (relname, what))
HAVING 1000 * sum(n) >= :events
ORDER BY sum(sum(n)) OVER (PARTITION BY relname) DESC, sum(n) DESC
SQL
}
