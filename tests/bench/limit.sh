# shellcheck shell=bash
# The limit: what COPY needs for the rows that the worker has made in empty tables.

# Keeps the rows of the run, for measure_limit.
export_rows() {
    local dir=$servers_dir/postgres/copy
    local -a tables
    mapfile -t tables < <(filled_tables)
    rm -rf "$dir"
    "${in_postgres_dir[@]}" mkdir "$dir"
    printf "COPY %s TO '$dir/%s' (FORMAT binary);\n" "${tables[@]}" | ask_postgres --dbname=run
    # shellcheck disable=SC2183 # a pair of arguments for each
    { echo '\timing on' && printf "COPY %s FROM '$dir/%s' (FORMAT binary);\n" "${tables[@]}"; } >"$servers_dir/copy.sql"
}

# measure_limit CONTENDER: with the tables that its run begins with. Records copy_seconds and copy_cpu.
measure_limit() {
    local -a before after
    copy_database copied "${templates[$1]}"
    read -ra before < <(cpu_ticks)
    ask_postgres --dbname=copied --file="$servers_dir/copy.sql" >"$servers_dir/copy.log"
    nap 0.2 # a backend that is just ending is on no account
    read -ra after < <(cpu_ticks)
    record "$1" copy_seconds "$(awk '$1 == "Time:" {ms += $2} END {print ms / 1000}' "$servers_dir/copy.log")"
    record "$1" copy_cpu $((after[1] - before[1]))
}

# The AppView's tables with rows: each with its columns, then its name alone; those that refer to others last. Left out are
# columns that a sequence fills: its numbers are in use where there are rows already.
filled_tables() {
    local table columns
    while read -r table columns; do
        [[ $(ask_postgres --dbname=run --command="SELECT EXISTS (SELECT FROM $table)") != t ]] ||
            printf '%s\n' "$table ($columns)" "$table"
    done < <(ask_postgres --dbname=run <<'SQL'
SELECT relname, (
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
    FROM pg_attribute
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attidentity = ''
        AND coalesce(pg_get_expr(adbin, adrelid), '') NOT LIKE 'nextval(%'
)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
ORDER BY EXISTS (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'f'), relname
SQL
    )
}
