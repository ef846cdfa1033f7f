# shellcheck shell=bash
# The limit: what COPY needs for the rows that the worker has just made.

# Records copy_seconds and copy_cpu for the worker.
measure_limit() {
    local dir=$servers_dir/postgres/copy
    local -a tables before after
    mapfile -t tables < <(filled_tables)
    rm -rf "$dir"
    "${in_postgres_dir[@]}" mkdir "$dir"
    printf "COPY %s TO '$dir/%s' (FORMAT binary);\n" "${tables[@]}" | ask_postgres --dbname=run
    copy_database copied empty
    # shellcheck disable=SC2183 # a pair of arguments for each
    { echo '\timing on' && printf "COPY %s FROM '$dir/%s' (FORMAT binary);\n" "${tables[@]}"; } >"$servers_dir/copy.sql"
    read -ra before < <(cpu_ticks)
    ask_postgres --dbname=copied --file="$servers_dir/copy.sql" >"$servers_dir/copy.log"
    nap 0.2 # a backend that is just ending is on no account
    read -ra after < <(cpu_ticks)
    record 0 copy_seconds "$(awk '$1 == "Time:" {ms += $2} END {print ms / 1000}' "$servers_dir/copy.log")"
    record 0 copy_cpu $((after[1] - before[1]))
}

# The AppView's tables with rows, each name twice; those that refer to others last.
filled_tables() {
    local table
    while read -r table; do
        [[ $(ask_postgres --dbname=run --command="SELECT EXISTS (SELECT FROM $table)") != t ]] ||
            printf '%s\n' "$table" "$table"
    done < <(ask_postgres --dbname=run <<'SQL'
SELECT relname
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
ORDER BY EXISTS (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'f'), relname
SQL
    )
}
