#!/usr/bin/env bash
# Measures how fast the worker clears a full stream, compared with COPY of the same rows, and which resources it uses;
# and how fast the firehose consumer fills it. The files of bench/ in reading order: contenders (what is run), databases,
# run, cpu, limit, trips, latency, profile, report; consumer; days.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/bench.sh [options]

  --consumer       measure the firehose consumer and the whole pipeline instead of the worker, see below
  --days N         simulate N days of --events each (default 10000) with a prune after each, see below
  --kept N         days that these prunes keep (default 7)
  --events N       how many events to make up (default 60000; 300000 with --consumer)
  --seed S         seed of the made-up events (default 1)
  --file FILE      take these instead: one {"type","data","seq"} object a line, plain or .gz
  --runs R         timed runs (default 5); median, lowest and highest are printed
  --env 'N=V …'    more environment for all workers but peers; the caller's own is theirs too
  --postgres 'N=V …'  settings of the PostgreSQL server, in place of the two configurations below
  --quick          one timed run: no round trips, no latency
  --profile        at the end where the worker's time goes (perf, if it is there), and what each statement costs PostgreSQL
                   beside COPY of the same rows (pg_stat_statements)
  --keep           keep the servers' folder, with their logs and the last databases
  --help           this text

Others to run in turn with the worker (A B A B …), each as often as wanted:

  --with 'N=V …'       the worker with this environment
  --no-side-effects    the worker with WRITE_NOTIFICATIONS=false WRITE_VIEWER_STATES=false
  --local N            the worker with both =local and N local accounts (at most 3000) of those in the stream, a sixth
                       of its events; and with both =false
  --against REV        the worker of another commit of this repository, built apart; the binary is kept for next time
  --peer 'COMMAND'     another worker; the shell command finds its servers in REDIS_URL and DATABASE_URL
  --rows N             the worker on tables that hold N million rows already

What is printed:

  events/s               entries by the time from process start until the group has no lag and nothing pending
  share of the limit     COPY's time by the worker's. COPY (binary, from the server's files, one session, psql's
                         \timing) puts the rows that the worker has made into new tables with the same indexes; with
                         --rows also into tables that hold so many rows already
  CPU                    of all threads and processes, from start to the last acknowledgement; PostgreSQL's is that of
                         the server and every backend. The kernel's own writing to disk is nobody's
  CPU of others          what else kept the machine busy meanwhile, this script's share included: much of it, and the
                         figures are worth little
  peak memory            the worker's resident set at its highest
  database, WAL          by how much PostgreSQL's files grow, and how much it writes ahead, for a million such events
  round trips            requests that were waited for, counted in a run of its own, by a proxy before the servers
  in turn                events/s and growth of the database by the worker's, of the medians, and of the runs that
                         followed each other
  latency                of single likes and posts in an idle system, from XADD until the group has nothing pending; and
                         of a COMMIT alone, of one row, on the same server in between: no worker can do without one

With --consumer, a relay on this machine serves the events: all at once, then 500 and 2,000 a second. --with, --against
and --peer run other producers in turn, whose command finds RELAY_URL (ws://), REDIS_URL, REDIS_STREAM_KEY and
REDIS_CURSOR_KEY, which holds the position before the first event. What is printed:

  events/s flat out    events by the time from process start until the last entry is in the stream
  CPU                  of the producer's processes and of Redis meanwhile
  missing, doubled     entries that did not come, or came again
  latency              from the moment in which the relay sends an event until a reader of the stream has its entry
  redis stopped        Redis stands still (SIGSTOP) for 60 s at 2,000 events/s
  worker alone         events/s on a full stream, as without --consumer
  whole pipeline       events/s from the relay until the worker's group has nothing pending, and the time of single
                       events from the relay to the worker's acknowledgement, which follows its commit

With --days, one worker lives through simulated days of the past. Half of a day's events are applied alone, the other
half beside prune, with as many local accounts as --local says (default 100). What is printed for each
day: the size of the database on disk and of the tables from which prune deletes, the worker's events/s alone and beside
prune, and how long prune takes. VACUUM follows each prune, as autovacuum would in the rest of the day.

The worker is measured with two configurations of PostgreSQL, one after the other: tuned (shared_buffers=512MB
max_wal_size=4GB, so that all is in memory and no checkpoint falls into a run), and stock, PostgreSQL's defaults. With
--consumer and --days, PostgreSQL is tuned. Servers run with the durability they have by default. Installs what is
missing (see tests/setup.sh), starts servers of its own, stops them at the end.
USAGE
}

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=tests/servers.sh
source "$tests_dir/servers.sh"
# shellcheck source=tests/bench/contenders.sh
source "$tests_dir/bench/contenders.sh"
# shellcheck source=tests/bench/databases.sh
source "$tests_dir/bench/databases.sh"
# shellcheck source=tests/bench/run.sh
source "$tests_dir/bench/run.sh"
# shellcheck source=tests/bench/cpu.sh
source "$tests_dir/bench/cpu.sh"
# shellcheck source=tests/bench/limit.sh
source "$tests_dir/bench/limit.sh"
# shellcheck source=tests/bench/trips.sh
source "$tests_dir/bench/trips.sh"
# shellcheck source=tests/bench/latency.sh
source "$tests_dir/bench/latency.sh"
# shellcheck source=tests/bench/profile.sh
source "$tests_dir/bench/profile.sh"
# shellcheck source=tests/bench/report.sh
source "$tests_dir/bench/report.sh"
# shellcheck source=tests/bench/consumer.sh
source "$tests_dir/bench/consumer.sh"
# shellcheck source=tests/bench/days.sh
source "$tests_dir/bench/days.sh"

events='' seed=1 file='' runs=5 environment='' local_accounts='' is_quick='' is_profile='' is_kept='' is_consumer=''
days='' kept_days=7
withs=() againsts=() peers=() rows=()
# The configurations of PostgreSQL to measure with: a name and settings.
configurations=("tuned shared_buffers=512MB max_wal_size=4GB" "stock shared_buffers=128MB")

parse_options() {
    while (($#)); do
        case $1 in
            --help | -h) usage && exit ;;
            --quick) is_quick=1 runs=1 && shift && continue ;;
            --consumer) is_consumer=1 && shift && continue ;;
            --profile) is_profile=1 && shift && continue ;;
            --keep) is_kept=1 && shift && continue ;;
            --no-side-effects) withs+=("WRITE_NOTIFICATIONS=false WRITE_VIEWER_STATES=false") && shift && continue ;;
            --events | --seed | --file | --runs | --env | --postgres | --with | --against | --peer | --rows | --local | --days | --kept)
                (($# > 1)) || die "$1 needs a value"
                ;;
            *) die "unknown option $1, see --help" ;;
        esac
        case $1 in
            --events) events=$(number "$@") ;;
            --seed) seed=$(number "$@") ;;
            --runs) runs=$(number "$@") ;;
            --rows) rows+=("$(number "$@")") ;;
            --days) days=$(number "$@") ;;
            --kept) kept_days=$(number "$@") ;;
            --local) local_accounts=$(number "$@") ;;
            --env) environment=$(settings "$@") ;;
            --postgres) configurations=("given $(settings "$@")") ;;
            --with) withs+=("$(settings "$@")") ;;
            --against) againsts+=("$2") ;;
            --peer) peers+=("$2") ;;
            --file)
                [[ -r $2 ]] || die "cannot read $2"
                file=$(realpath -- "$2")
                ;;
        esac
        shift 2
    done
    events=${events:-${is_consumer:+300000}}
    events=${events:-${days:+10000}}
    local_accounts=${local_accounts:-${days:+100}}
    events=${events:-60000}
    [[ -z $is_consumer || -z $file$is_profile$local_accounts${rows[*]} ]] ||
        die "--file, --profile, --local and --rows do not go with --consumer"
    [[ -z $local_accounts || -z $file ]] || die "--local needs made-up events, whose accounts are known"
    # All are in one variable of the environment, for which the system has a limit.
    ((${local_accounts:-0} <= 3000)) || die "--local $local_accounts is more than 3000"
}

# number OPTION VALUE
number() {
    [[ $2 =~ ^[1-9][0-9]*$ ]] || die "$1 $2 is not a number above 0"
    echo "$2"
}

# settings OPTION VALUE: NAME=value words.
settings() {
    local word
    for word in $2; do
        [[ $word =~ ^[A-Za-z_][A-Za-z_0-9]*= ]] || die "$1: $word is not NAME=value"
    done
    echo "$2"
}

clean_up() {
    stop_group
    stop_contender 5
    stop_trips
    stop_relay
    [[ -z $build_dir ]] || rm -rf "$build_dir"
    end_servers
}

end_servers() {
    if [[ -n $is_kept && -n $servers_dir ]]; then
        say "kept: $servers_dir"
        servers_dir=''
    fi
    stop_servers
}

build() {
    say "building (a few minutes the first time)"
    cd "$repo_dir"
    worker_dir=${CARGO_TARGET_DIR:-$repo_dir/target}
    in_group "$CARGO" build --release --locked --target-dir "$worker_dir" --bins \
        --features relay --example latency --example trips --example arrivals
    worker_dir=$(realpath "$worker_dir")/release
}

# Before the timed runs, so that servers, files and disk are warm for all of them.
warm_up() {
    local contender
    for contender in "${!names[@]}"; do
        say "${names[contender]}: counting round trips"
        count_round_trips "$contender"
    done
}

# Each run begins with another contender, because the one that runs right after COPY is faster than in another place.
timed_runs() {
    local run place contender
    for ((run = 1; run <= runs; run++)); do
        for place in "${!names[@]}"; do
            contender=$(((run - 1 + place) % ${#names[@]}))
            timed_run "$contender"
            say "run $run: $(last_run "$contender")"
            if ((run == 1 && contender == 0)); then
                export_rows
            fi
        done
        for contender in "${!names[@]}"; do
            if ((contender == 0)) || [[ ${templates[contender]} != empty ]]; then
                measure_limit "$contender"
            fi
        done
    done
}

measure_latencies() {
    local contender
    for contender in "${!names[@]}"; do
        say "${names[contender]}: latency of single entries"
        measure_latency "$contender"
    done
}

# measure_with CONFIGURATION: the worker and its contenders, on servers of their own.
measure_with() {
    prepare_servers "$1"
    [[ -n $is_quick ]] || warm_up
    timed_runs
    [[ -n $is_quick ]] || measure_latencies
    report "$1"
    [[ -z $is_profile ]] || profile
}

parse_options "$@"
at_exit clean_up
setup
build
if [[ -n $is_consumer ]]; then
    bench_consumer
    exit
fi
if [[ -n $days ]]; then
    bench_days
    exit
fi
add_contenders
for configuration in "${configurations[@]}"; do
    measure_with "$configuration"
    disconnect_from_redis
    end_servers
done
