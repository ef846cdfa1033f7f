# shellcheck shell=bash
# The servers, and the databases with which runs start. Each run gets its own copy.

stream=firehose:events
group=firehose-processors

# prepare_servers CONFIGURATION: a name, and settings of PostgreSQL.
prepare_servers() {
    local count
    say "starting redis and postgresql: $1"
    read -ra postgres_settings <<<"${1#* }"
    if [[ -n $is_profile ]] && have_statement_statistics; then
        postgres_settings+=(shared_preload_libraries=pg_stat_statements pg_stat_statements.track_utility=on)
    fi
    start_servers
    base_time=$((${EPOCHREALTIME/./} / 1000))
    postgres_version=$(ask_postgres --dbname=postgres --command='SHOW server_version')
    "$worker_dir/firehose-worker" schema >"$servers_dir/schema.sql"
    make_database empty
    for count in "${rows[@]}"; do
        say "making $count million rows"
        make_database "filled_$count"
        fill_database "filled_$count" $((count * 1000000))
    done
}

have_statement_statistics() { [[ -e $("$PG_BIN/pg_config" --pkglibdir 2>/dev/null)/pg_stat_statements.so ]]; }

# make_database NAME: with the AppView's tables.
make_database() {
    ask_postgres --dbname=postgres --command="CREATE DATABASE $1"
    PGOPTIONS='-c client_min_messages=warning' ask_postgres --dbname="$1" --file="$servers_dir/schema.sql"
}

# fill_database NAME ROWS
fill_database() {
    in_group "$PG_BIN/psql" --no-psqlrc --quiet --output=/dev/null -v ON_ERROR_STOP=1 \
        --host=127.0.0.1 --port="$postgres_port" --username=postgres --dbname="$1" \
        -v rows="$2" -v schema="$servers_dir/schema.sql" --file="$tests_dir/bench/fill.sql"
}

# copy_database NAME TEMPLATE: anew, and written to disk, so that nothing of it is left to do in what is timed next.
copy_database() {
    local strategy=''
    # A copy by way of the log, usual since 15, would take minutes for a filled one.
    ((${postgres_version%%[!0-9]*} < 15)) || strategy='STRATEGY file_copy'
    PGOPTIONS='-c client_min_messages=warning' ask_postgres --dbname=postgres \
        --command="DROP DATABASE IF EXISTS $1 WITH (FORCE)" \
        --command="CREATE DATABASE $1 TEMPLATE $2 $strategy" --command=CHECKPOINT
}

# The stream as it is before every run. Sets n_events and last_id.
fill_stream() {
    local -a source=(--events "$events" --seed "$seed" --base-time "$base_time")
    local line
    [[ -z $file ]] || source=(--file "$file")
    in_group "$worker_dir/generate" "${source[@]}" --redis "$REDIS_URL" --key "$stream" >"$servers_dir/sent"
    line=$(tail -n 1 "$servers_dir/sent")
    [[ $line =~ ^sent\ ([0-9]+)\  ]] || die "the generator does not say what it sent: $line"
    n_events=${BASH_REMATCH[1]}
    last_id=$(ask_redis XINFO STREAM "$stream" | awk 'last == "last-generated-id" {print} {last = $0}')
}
