# shellcheck shell=bash
# A temporary Redis and PostgreSQL, to be sourced after setup.sh: `start_servers`, and `stop_servers` at the end.
# They listen only on 127.0.0.1, on free ports, and keep everything in one directory that `stop_servers` removes.

redis_pid='' redis_port='' postgres_pid='' postgres_port='' servers_dir=''

start_servers() {
    # Not /tmp, which is memory on some systems: there, commits would cost nothing.
    servers_dir=$(mktemp -d "${TMPDIR:-/var/tmp}/firehose-worker.XXXXXX")
    chmod 711 "$servers_dir" # PostgreSQL runs as another user and has to get through
    start_redis
    start_postgres
}

# Safe at any moment, also when a start was cut short.
stop_servers() {
    # A data folder that is deleted next needs no tidy end: QUIT leaves out the checkpoint.
    stop_server "$postgres_pid" QUIT
    stop_server "$redis_pid" TERM
    postgres_pid='' redis_pid=''
    [[ -z $servers_dir ]] || rm -rf "$servers_dir"
}

stop_server() {
    [[ -n $1 ]] || return 0
    kill -"$2" "$1" 2>/dev/null || return 0
    await_exit "$1" 10 || kill -KILL "$1" 2>/dev/null || true
}

# A port below the kernel's range for outgoing connections, so that none of those uses it before the server does.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# await_server PID COMMAND…: until the command succeeds; false when the server ends before that.
await_server() {
    local tries=600
    while ! "${@:2}" >/dev/null 2>&1; do
        if ! kill -0 "$1" 2>/dev/null || ((tries-- == 0)); then
            return 1
        fi
        sleep 0.1
    done
}

# --- Redis

ask_redis() { "$REDIS_CLI" -h 127.0.0.1 -p "$redis_port" "$@"; }

start_redis() {
    for _ in 1 2 3; do # someone else may take the port first
        redis_port=$(free_port)
        if run_redis --appendonly no; then
            export REDIS_URL="redis://127.0.0.1:$redis_port"
            return
        fi
    done
    tail -n 20 "$servers_dir/redis.log" >&2
    die "redis does not start"
}

# run_redis OPTION…: on the port that is set; false when it ends before it answers.
run_redis() {
    # A separate session, here and below: Ctrl-C must reach only the script, which stops the servers last.
    setsid "$REDIS_SERVER" --port "$redis_port" --bind 127.0.0.1 --dir "$servers_dir" --save '' "$@" \
        >"$servers_dir/redis.log" 2>&1 &
    redis_pid=$!
    await_server "$redis_pid" ask_redis ping
}

# --- PostgreSQL, with the durability it has by default

ask_postgres() {
    "$PG_BIN/psql" --no-psqlrc --quiet --tuples-only --no-align --field-separator=' ' -v ON_ERROR_STOP=1 \
        --host=127.0.0.1 --port="$postgres_port" --username=postgres "$@"
}

in_postgres_dir=()

# PostgreSQL refuses to run as root. The other user may not be able to read the folder we are in, and PostgreSQL's
# programs want to know where they are: so its own folder.
make_postgres_dir() {
    local dir=$servers_dir/postgres user=postgres
    mkdir -m 700 "$dir"
    in_postgres_dir=(env --chdir="$dir")
    ((EUID == 0)) || return 0
    id "$user" >/dev/null 2>&1 || user=nobody
    chown "$user" "$dir"
    in_postgres_dir+=(setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --clear-groups)
}

init_postgres() {
    make_postgres_dir
    in_group "${in_postgres_dir[@]}" "$PG_BIN/initdb" -D data --username=postgres --auth=trust \
        --encoding=UTF8 --locale=C.UTF-8 >"$servers_dir/postgres.log" 2>&1 || {
        tail -n 20 "$servers_dir/postgres.log" >&2
        die "initdb failed"
    }
}

# Additional settings of the server, as NAME=VALUE. A script may set them before the start.
postgres_settings=()

start_postgres() {
    init_postgres
    for _ in 1 2 3; do
        postgres_port=$(free_port)
        if run_postgres; then
            return
        fi
    done
    tail -n 20 "$servers_dir/postgres.log" >&2
    die "postgresql does not start"
}

# On the port that is set; false when it ends before it answers.
run_postgres() {
    setsid "${in_postgres_dir[@]}" "$PG_BIN/postgres" -D data -c "port=$postgres_port" \
        -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$servers_dir/postgres" \
        -c shared_buffers=256MB "${postgres_settings[@]/#/--}" >>"$servers_dir/postgres.log" 2>&1 &
    postgres_pid=$!
    await_server "$postgres_pid" ask_postgres --dbname=postgres --command='SELECT 1'
}

# create_appview_database NAME PROGRAM: makes it, with the tables that the program's `schema` prints.
create_appview_database() {
    create_database "$1"
    "$2" schema >"$servers_dir/schema.sql"
    ask_postgres --file="$servers_dir/schema.sql" 2>"$servers_dir/schema.log" || {
        cat "$servers_dir/schema.log" >&2
        die "the schema could not be made"
    }
}

# create_database NAME: makes it, and sets DATABASE_URL to it.
create_database() {
    ask_postgres --dbname=postgres --command="CREATE DATABASE $1"
    export DATABASE_URL="postgresql://postgres@127.0.0.1:$postgres_port/$1"
    export PGDATABASE=$1
}
