#!/usr/bin/env bash
# Finds or installs what the tests and the demo need: a Redis and a PostgreSQL server, a C compiler, a Rust toolchain.
#
#   bash tests/setup.sh      set up, and print what is used
#   source tests/setup.sh    for the scripts beside this one: `setup` then sets REDIS_SERVER, REDIS_CLI, PG_BIN, CARGO
#
# For Debian 12 and Ubuntu 24.04, as root or as a user that may use sudo. Installs only what is missing, and does not
# call apt if nothing is missing. Starts and enables no service, and leaves running services alone.
set -euo pipefail
export LC_ALL=C.UTF-8

tests_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo_dir=$(dirname "$tests_dir")

# --- what all the scripts share

say() { printf '== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# at_exit FUNCTION: runs the function however the script ends, including by Ctrl-C at any time.
at_exit() {
    # shellcheck disable=SC2064 # the name is wanted as it is now
    trap "trap '' INT TERM HUP; $1" EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

group_pid=

# in_group COMMAND…: runs the command in a separate process group and waits. A foreground child would delay the traps
# until it ends, and killing cargo alone would leave its compilers and test servers behind; a group can be ended as a
# whole.
in_group() {
    local status=0
    setsid "$@" &
    group_pid=$!
    wait "$group_pid" || status=$?
    group_pid=
    return "$status"
}

stop_group() {
    [[ -n $group_pid ]] || return 0
    kill -TERM -- "-$group_pid" 2>/dev/null || return 0
    await_exit "$group_pid" 10 || kill -KILL -- "-$group_pid" 2>/dev/null || true
}

# await_exit PID SECONDS: false when it still lives after that time.
await_exit() {
    local tries=$(($2 * 20))
    while kill -0 "$1" 2>/dev/null; do
        ((tries-- > 0)) || return 1
        sleep 0.05
    done
}

# --- servers and compiler

find_redis() {
    local name
    for name in redis valkey; do
        if command -v "$name-server" >/dev/null && command -v "$name-cli" >/dev/null; then
            REDIS_SERVER=$(command -v "$name-server")
            REDIS_CLI=$(command -v "$name-cli")
            export REDIS_SERVER REDIS_CLI
            return
        fi
    done
    return 1
}

# Debian keeps the server's programs off PATH, one folder per version: the newest is taken.
find_postgres() {
    local dir
    while read -r dir; do
        if [[ -x $dir/initdb && -x $dir/postgres && -x $dir/psql ]]; then
            export PG_BIN=$dir
            return
        fi
    done < <(postgres_dirs)
    return 1
}

postgres_dirs() {
    printf '%s\n' "${PG_BIN:-}"
    compgen -G '/usr/lib/postgresql/*/bin' | sort -rV || true
    dirname "$(readlink -f "$(command -v postgres)" 2>/dev/null)" 2>/dev/null || true
}

have_compiler() { command -v cc >/dev/null && [[ -e /usr/include/stdio.h ]]; }

# cargo fetches crates over TLS.
have_certificates() { [[ -e /etc/ssl/certs/ca-certificates.crt ]] || ! command -v apt-get >/dev/null; }

# --- Rust

min_rust=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$repo_dir/Cargo.toml")

# at_least VERSION: is it the project's minimum or newer? Whatever follows the digits (Debian's ~ and +) is left out.
at_least() {
    local version=${1%%[!0-9.]*}
    [[ -n $version && $(printf '%s\n' "$min_rust" "$version" | sort -V | head -n 1) == "$min_rust" ]]
}

# Run in the repository, since rustup's programs answer for the folder they are in.
version_of() { (cd "$repo_dir" && "$1" --version 2>/dev/null | awk '{print $2}') || true; }

find_rust() {
    local dir
    while read -r dir; do
        if [[ -x $dir/cargo && -x $dir/rustc ]] &&
            at_least "$(version_of "$dir/cargo")" && at_least "$(version_of "$dir/rustc")"; then
            use_rust "$dir"
            return
        fi
    done < <(rust_dirs)
    return 1
}

# Ubuntu's versioned packages put a whole toolchain under /usr/lib/rust-VERSION. Its /usr/bin/cargo-VERSION will not do:
# in some releases that wrapper runs the default toolchain.
rust_dirs() {
    dirname "$(command -v cargo || echo /)"
    printf '%s\n' "${CARGO_HOME:-$HOME/.cargo}/bin"
    if [[ -n ${SUDO_USER:-} ]]; then
        printf '%s/.cargo/bin\n' "$(home_of "$SUDO_USER")"
    fi
    compgen -G '/usr/lib/rust-*/bin' | sort -rV || true
}

home_of() { getent passwd "$1" | cut -d: -f6; }

# The toolchain's folder leads PATH, so that cargo finds the rustc, rustfmt and clippy that belong to it.
use_rust() {
    export CARGO=$1/cargo
    if [[ $(command -v cargo) != "$CARGO" ]]; then
        export PATH=$1:$PATH
    fi
    # Under sudo, rustup's programs would look for their toolchains in root's home.
    if [[ -n ${SUDO_USER:-} && $1 == "$(home_of "$SUDO_USER")/.cargo/bin" ]]; then
        export RUSTUP_HOME=${RUSTUP_HOME:-${1%/.cargo/bin}/.rustup}
    fi
}

# The distribution's packages of a toolchain that is new enough; empty if it has none.
rust_packages() {
    local suffix
    for suffix in -web $(versioned_rusts) ''; do
        if at_least "$(candidate "rustc$suffix")" && [[ -n $(candidate "cargo$suffix") ]]; then
            printf '%s\n' "rustc$suffix" "cargo$suffix"
            return
        fi
    done
}

versioned_rusts() { apt-cache pkgnames cargo-1. | sed -n 's/^cargo\(-1\.[0-9]*\)$/\1/p' | sort -rV; }

candidate() { apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" {print $2}'; }

have_lint() { "$CARGO" fmt --version >/dev/null 2>&1 && "$CARGO" clippy --version >/dev/null 2>&1; }

# The packages with rustfmt and clippy for the cargo in use; nothing where cargo is not from a package.
lint_packages() {
    local owner
    owner=$(dpkg-query --search "$(readlink -f "$CARGO")" 2>/dev/null) || return 0
    owner=${owner%%:*}
    case $owner in
        cargo-*) printf '%s\n' "rustfmt-${owner#cargo-}" "rust-${owner#cargo-}-clippy" ;;
        cargo) printf '%s\n' rustfmt rust-clippy ;;
    esac
}

# --- installing

apt_is_fresh=

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root or sudo is needed to install what is missing"
    fi
}

update_lists() {
    [[ -z $apt_is_fresh ]] || return 0
    command -v apt-get >/dev/null || die "not a Debian or Ubuntu: install these yourself: $*"
    say "asking apt for the newest lists"
    as_root apt-get update -qq || say "apt-get update failed, going on with the lists that are there"
    apt_is_fresh=1
}

install_missing() {
    say "installing: $*"
    as_root bash "$tests_dir/setup.sh" --install "$@"
}

# Runs as root in a separate process, whose exit removes what keeps the packages from starting servers. apt is not
# killed: it handles interruptions itself.
install_packages() {
    at_exit remove_guards
    guard_services
    guard_cluster "$@"
    install_log=$(mktemp)
    local service
    local -a new_services=()
    for service in redis-server pgbouncer prometheus; do
        is_program "$service" || new_services+=("$service")
    done
    # --no-remove: Debian's own rustc, for one, may be there and in the way; that is for its owner to remove.
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get install --yes --quiet --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 "$@" \
        >"$install_log" 2>&1 || {
        tail -n 20 "$install_log" >&2
        die "apt-get could not install: $*"
    }
    # Not to be started at the next boot either.
    for service in "${new_services[@]}"; do
        update-rc.d "$service" disable >/dev/null 2>&1 || true
    done
}

guards=()
install_log=

guard_services() {
    local policy=/usr/sbin/policy-rc.d
    [[ ! -e $policy ]] || return 0
    guards+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

# The postgresql package would make a database cluster, and start it at every boot.
guard_cluster() {
    [[ " $* " == *" postgresql "* ]] || return 0
    local file=/etc/postgresql-common/createcluster.d/firehose-worker-setup.conf
    mkdir -p "${file%/*}"
    guards+=("$file")
    printf 'create_main_cluster = false\n' >"$file"
}

remove_guards() {
    rm -f "${guards[@]}" ${install_log:+"$install_log"}
}

# --- the two that the other scripts call

setup() {
    local -a missing=()
    find_redis || missing+=(redis-server)
    find_postgres || missing+=(postgresql)
    have_compiler || missing+=(gcc libc6-dev)
    have_certificates || missing+=(ca-certificates)
    if ! find_rust; then
        update_lists "rust $min_rust" "${missing[@]}"
        local -a rust
        mapfile -t rust < <(rust_packages)
        ((${#rust[@]})) || die "rust $min_rust or newer is needed and has no package here: install it with rustup"
        missing+=("${rust[@]}")
    fi
    ((${#missing[@]})) || return 0
    update_lists "${missing[@]}"
    install_missing "${missing[@]}"
    find_redis || die "redis-server is installed but not found"
    find_postgres || die "postgresql is installed but its server is not found"
    find_rust || die "no rust $min_rust or newer found, though it is installed"
}

# The pooler and the checkers of metrics and units that only the tests need.
setup_test_programs() {
    local -a missing=()
    is_program pgbouncer || missing+=(pgbouncer)
    is_program promtool || missing+=(prometheus)
    # Its package brings no init: that is systemd-sysv's.
    is_program systemd-analyze || missing+=(systemd)
    ((${#missing[@]})) || return 0
    update_lists "${missing[@]}"
    install_missing "${missing[@]}"
    is_program pgbouncer || die "pgbouncer is installed but not found"
    is_program promtool || die "prometheus is installed, but its promtool is not found"
    is_program systemd-analyze || die "systemd is installed, but its systemd-analyze is not found"
}

# Debian has some where only root's PATH leads.
is_program() { [[ -x /usr/sbin/$1 ]] || command -v "$1" >/dev/null; }

# Installs rustfmt and clippy, which only the tests need. If they are not available, `have_lint` continues to fail.
setup_lint() {
    ! have_lint || return 0
    local -a packages
    mapfile -t packages < <(lint_packages)
    ((${#packages[@]})) || return 0
    update_lists "${packages[@]}"
    [[ -n $(candidate "${packages[0]}") && -n $(candidate "${packages[1]}") ]] || return 0
    install_missing "${packages[@]}"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    if [[ ${1:-} == --install ]]; then
        install_packages "${@:2}"
    else
        setup
        setup_test_programs
        printf '%s\n' "redis       $REDIS_SERVER" "postgresql  $PG_BIN" "cargo       $CARGO ($(version_of "$CARGO"))"
    fi
fi
