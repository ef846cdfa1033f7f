# shellcheck shell=bash
# Who runs: the worker first, then those that run in turn with it. One index for each into these arrays.

names=()        # as printed
commands=()     # for the shell
environments=() # NAME=value words
templates=()    # the database that a run begins with

build_dir=''

# add NAME COMMAND ENVIRONMENT TEMPLATE
add() {
    names+=("$1") commands+=("$2") environments+=("$3") templates+=("$4")
}

add_contenders() {
    local item
    add_in_turn worker
    [[ -z $local_accounts ]] || add_local
    for item in "${rows[@]}"; do
        add "$item million rows" "${commands[0]}" "$environment" "filled_$item"
    done
}

# The worker with side effects for some accounts only, and for none.
add_local() {
    local dids
    dids=$(local_dids "$events")
    add "$local_accounts local accounts" "${commands[0]}" \
        "$environment WRITE_NOTIFICATIONS=local WRITE_VIEWER_STATES=local LOCAL_DIDS=$dids" empty
    add "no notifications and viewer states" "${commands[0]}" \
        "$environment WRITE_NOTIFICATIONS=false WRITE_VIEWER_STATES=false" empty
}

# local_dids EVENTS: accounts of the stream of so many events.
local_dids() { "$worker_dir/generate" --events "$1" --seed "$seed" --dids "$local_accounts" | paste -sd ,; }

# add_in_turn NAME [SUBCOMMAND]: the program, and those that the options name to run in turn with it.
add_in_turn() {
    local item program
    program="$(command_of "$worker_dir/firehose-worker") ${2:-}"
    add "$1" "$program" "$environment" empty
    for item in "${withs[@]}"; do
        add "$item" "$program" "$environment $item" empty
    done
    for item in "${againsts[@]}"; do
        build_revision "$item"
        add "$item" "$(command_of "$revision_binary") ${2:-}" "$environment" empty
    done
    for item in "${peers[@]}"; do
        add "$item" "$item" '' empty
    done
}

command_of() { printf 'exec %q' "$1"; }

# Sets revision_binary. It stays for the next time: a commit does not change.
build_revision() {
    local commit
    commit=$(git -C "$repo_dir" rev-parse --short=12 --verify --quiet "$1^{commit}") || die "there is no commit $1 here"
    revision_binary=$worker_dir/firehose-worker-$commit
    [[ ! -x $revision_binary ]] || return 0
    say "building $1 (a few minutes)"
    build_dir=$(mktemp -d "${TMPDIR:-/var/tmp}/firehose-worker-build.XXXXXX")
    git -C "$repo_dir" archive "$commit" | tar -x -C "$build_dir"
    in_group "$CARGO" build --quiet --release --locked --manifest-path "$build_dir/Cargo.toml" \
        --target-dir "$build_dir/target" --bins
    mv "$build_dir/target/release/firehose-worker" "$revision_binary"
    rm -rf "$build_dir"
    build_dir=''
}
