#!/usr/bin/env bash
# Runs the demo and the tests in a new root of this machine's Debian or Ubuntu release, made with debootstrap, in which
# nothing is installed. Not part of the tests, which use what is installed.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/clean-root.sh [demo [OPTION…] | run [OPTION…]]

  demo, run   only tests/demo.sh or only tests/run.sh, with their options; without a name both, demo first
  --help      this text

Needs root, 3 GB in $TMPDIR or /var/tmp, and a quarter of an hour or more: the toolchain and all crates are downloaded and
built. Package sources, proxies and cargo's registry settings are copied from this machine, which may reach no others.
USAGE
}

# shellcheck source=tests/root.sh
source "$(dirname "${BASH_SOURCE[0]}")/root.sh"

# What git would commit, or would ask about; without git, all but what was built.
copy_repo() {
    mkdir "$root/firehose-worker"
    if git -C "$repo_dir" rev-parse --git-dir >/dev/null 2>&1; then
        git -C "$repo_dir" ls-files -z --cached --others --exclude-standard |
            tar -C "$repo_dir" --null --files-from=- --ignore-failed-read -cf - | tar -C "$root/firehose-worker" -xf -
    else
        tar -C "$repo_dir" --exclude=./target -cf - . | tar -C "$root/firehose-worker" -xf -
    fi
}

check_is_clean() {
    local found
    found=$(chroot "$root" sh -c 'command -v redis-server psql cargo cc; ls -d /usr/lib/postgresql' 2>/dev/null || true)
    [[ -z $found ]] || die "the root is not clean: $found"
}

run_script() {
    local status=0 started=$SECONDS
    say "in the clean root: bash tests/$1.sh ${*:2}"
    run_inside bash "/firehose-worker/tests/$1.sh" "${@:2}" || status=$?
    results+=("$1.sh: exit $status after $((SECONDS - started)) s")
    return "$status"
}

case ${1:-} in
    --help | -h) usage && exit ;;
    '' | demo | run) ;;
    *) die "unknown argument $1, see --help" ;;
esac
at_exit clean_up
# shellcheck disable=SC2119 # no more options for debootstrap
make_root
copy_settings
copy_repo
check_is_clean
results=()
failed=0
if (($#)); then
    run_script "$@" || failed=1
else
    run_script demo || failed=1
    run_script run || failed=1
fi
say "clean root"
printf '%s\n' "${results[@]}"
((failed == 0))
