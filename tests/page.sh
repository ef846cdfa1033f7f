#!/usr/bin/env bash
# Looks at the page at METRICS_ADDR in a real browser: on a phone and on a wide screen, while the servers and the
# processes are stopped and started, and with names and records that try to become part of the page. Not part of the
# tests: it installs a Chromium.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/page.sh [--pictures DIR]

  --pictures DIR   where the pictures of the page go (default: a new directory, which is printed)
  --help           this text

Installs Chromium and its driver from Debian's packages if they are missing, builds the programs, and starts servers of
its own. Takes three minutes, building not included.
USAGE
}

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=tests/servers.sh
source "$tests_dir/servers.sh"
# shellcheck source=tests/browser.sh
source "$tests_dir/browser.sh"

hostile='<img src=x onerror="alert(1)">"'\''&</script><script>alert(2)</script>'$'\u202e''gnp.exe'
pictures='' program_dir='' relay_pid='' consumer_pid='' worker_pid='' failures=0

clean_up() {
    stop_group
    stop_browser
    stop_server "$worker_pid" TERM
    stop_server "$consumer_pid" TERM
    stop_server "$relay_pid" KILL
    stop_servers
}

build() {
    say "building"
    program_dir=${CARGO_TARGET_DIR:-$repo_dir/target}
    (cd "$repo_dir" && in_group "$CARGO" build --quiet --locked --all-features --target-dir "$program_dir" \
        --bin firehose-worker --bin relay)
    program_dir=$(realpath "$program_dir")/debug
}

start_worker() {
    CONSUMER_ID=worker METRICS_ADDR=$worker_address setsid "$program_dir/firehose-worker" \
        >>"$servers_dir/worker.log" 2>&1 &
    worker_pid=$!
}

start_consumer() {
    setsid "$program_dir/relay" --events 60000 --rate 300 >"$servers_dir/relay" 2>"$servers_dir/relay.log" &
    relay_pid=$!
    disown # no message when it is killed at the end
    await_server "$relay_pid" grep -q '^serves ' "$servers_dir/relay" || die "the relay does not start"
    RELAY_URL=$(head -n 1 "$servers_dir/relay") FIREHOSE_START=oldest METRICS_ADDR=$consumer_address \
        setsid "$program_dir/firehose-worker" consume >>"$servers_dir/consumer.log" 2>&1 &
    consumer_pid=$!
}

# --- what is expected

fail() {
    echo "FAIL $*" >&2
    failures=$((failures + 1))
}

# await WHAT SCRIPT [ARGUMENT]: until the script returns true.
await() {
    local tries=300
    while [[ $(evaluate "$2" "${3-}") != true ]]; do
        if ((tries-- == 0)); then
            fail "$1"
            evaluate 'return document.body.innerText' | jq -r . >&2
            return
        fi
        sleep 0.2
    done
    echo "ok   $1"
}

has_text='return document.body.innerText.includes(arguments[0])'
lacks_text='return !document.body.innerText.includes(arguments[0])'

await_text() { await "the page says: $1" "$has_text" "$1"; }
await_no_text() { await "the page no longer says: $1" "$lacks_text" "$1"; }

# expect WHAT SCRIPT WANTED
expect() {
    local found
    found=$(evaluate "$2")
    if [[ $found == "$3" ]]; then echo "ok   $1"; else fail "$1: $found instead of $3"; fi
}

# expect_quiet [PATTERN]: nothing was logged by the browser, except what matches.
expect_quiet() {
    local logged
    logged=$(console | grep -vE -- "${1:-^$}" | grep -v '^$' || true)
    if [[ -z $logged ]]; then echo "ok   no error in the browser"; else fail "the browser logged: $logged"; fi
}

# look NAME [SCHEME…]: takes pictures at both widths, where nothing may be wider than the window.
look() {
    local width scheme
    for scheme in "${@:2}"; do
        for width in 360 1400; do
            use_window "$width" "$scheme"
            expect "$1 fits $width pixels" \
                'return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) <= innerWidth' true
            take_picture "$pictures/$1-$width-$scheme.png"
        done
    done
}

expect_no_injection() {
    expect "nothing was injected" \
        'return document.querySelector("img, iframe, object") === null && document.scripts.length === 1 && document.querySelectorAll("[onerror]").length === 0' \
        true
}

# --- the pipeline in its states

see_empty() {
    say "without a consumer"
    start_worker
    await_server "$worker_pid" curl -sf "http://$worker_address/" || die "the worker does not serve the page"
    visit "http://$worker_address/"
    await_text "no firehose consumer has reported in the last 10 s"
    await "the worker reports" 'return figures.workers[0].status !== null && figures.backlog === 0'
    await_text "What to do:"
    look empty light dark
    expect_quiet
}

see_busy() {
    say "busy"
    start_consumer
    await_text "All is well"
    await "the last minute is plotted" 'return samples.length >= 12'
    await "events are applied" 'return figures.events_per_second > 100'
    look busy light dark
    expect_quiet
}

see_hostile() {
    say "with hostile names and records"
    local name
    for name in "$hostile" "$(printf 'long%.0s' {1..500})"; do
        ask_redis XGROUP CREATECONSUMER firehose:events firehose-processors "$name" >/dev/null
    done
    ask_redis XADD firehose:dead-letters '*' type commit op "app.bsky.feed.post/$hostile" error "$hostile" >/dev/null
    ask_redis XADD firehose:consumer:set-aside '*' reason "$hostile" did "$hostile" path "$hostile" >/dev/null
    await_text 'alert(2)</script>\u{202e}gnp.exe'
    await "the dead letter is shown" 'return byId("tables").innerText.includes("app.bsky.feed.post/<img")'
    await "what was set aside is shown" 'return byId("tables").innerText.includes("ago: <img")'
    expect_no_injection
    look hostile light
    expect_quiet
}

see_postgres_stop() {
    say "PostgreSQL stopped"
    stop_server "$postgres_pid" INT
    await_text "worker waits for postgresql"
    await_text "not available"
    look postgres light dark
    run_postgres || die "postgresql does not start again"
    await_no_text "worker waits for postgresql"
    expect_quiet
}

see_redis_stop() {
    say "Redis stopped"
    ask_redis SHUTDOWN SAVE >/dev/null
    await_text "waiting for redis"
    await_text "these are the figures of"
    look redis light
    run_redis --appendonly no || die "redis does not start again"
    await_no_text "waiting for redis"
    await_text "All is well"
    expect_quiet
}

see_process_stop() {
    say "the worker stopped"
    stop_server "$worker_pid" TERM
    await_text "has not answered since"
    look process light
    visit "http://$consumer_address/"
    await_text "no process runs as a worker"
    look no-worker light
    start_worker
    await_text "All is well"
    expect_no_injection
    look consumer light
    expect_quiet "$worker_address/.*(ERR_CONNECTION_(REFUSED|RESET)|ERR_EMPTY_RESPONSE)"
}

while (($#)); do
    case $1 in
        --help | -h) usage && exit ;;
        --pictures) pictures=${2:?--pictures needs a directory} && shift 2 ;;
        *) die "unknown argument $1, see --help" ;;
    esac
done
at_exit clean_up
setup
setup_browser
build
pictures=$(realpath "${pictures:-$(mktemp -d "${TMPDIR:-/tmp}/firehose-worker-page.XXXXXX")}")
mkdir -p "$pictures"
start_servers
create_appview_database page "$program_dir/firehose-worker"
start_browser
worker_address=127.0.0.1:$(free_port)
consumer_address=127.0.0.1:$(free_port)
use_window 1400 light
see_empty
see_busy
see_hostile
see_postgres_stop
see_redis_stop
see_process_stop
say "the pictures are in $pictures"
((failures == 0)) || die "$failures expectations failed"
say "PASS"
