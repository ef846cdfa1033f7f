#!/usr/bin/env bash
# All checks and all tests.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/run.sh [--all] [FILTER…]

  --all     the slow tests too, and 1,000,000 inputs for the fuzzing
  FILTER    only tests whose name contains one of these
  --help    this text

Installs what is missing, see tests/setup.sh.
USAGE
}

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

filters=() options=()
for argument; do
    case $argument in
        --help | -h) usage && exit ;;
        --all)
            export FIREHOSE_TEST_ALL=1 FIREHOSE_FUZZ_INPUTS="${FIREHOSE_FUZZ_INPUTS:-1000000}"
            options=(--include-ignored)
            ;;
        -*) die "unknown option $argument, see --help" ;;
        *) filters+=("$argument") ;;
    esac
done

failed=()

# A failed step does not keep the next ones from being seen.
step() {
    say "$*"
    in_group "$@" || failed+=("$*")
}

lint() {
    if ! have_lint; then
        [[ ${CI:-} != true ]] || die "rustfmt or clippy is missing"
        echo "!! NOT CHECKED: format and lints, since $CARGO has no rustfmt or clippy (rustup component add rustfmt clippy)"
        return
    fi
    step "$CARGO" fmt --check
    step "$CARGO" clippy --all-targets --all-features --locked -- -D warnings
}

# Most tests wait for servers and for time to pass rather than for a core.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))}

at_exit stop_group
setup
setup_test_programs
setup_lint
cd "$repo_dir"
if command -v shellcheck >/dev/null; then
    step shellcheck --external-sources tests/*.sh systemd/install.sh systemd/deb/{postinst,prerm,postrm}
fi
lint
step "$CARGO" test --locked -- "${options[@]}" "${filters[@]}"
if ((${#failed[@]})); then
    printf '!! FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
