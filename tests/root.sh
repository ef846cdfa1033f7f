# Makes a clean root of this machine's Debian or Ubuntu release with debootstrap, and runs commands in it.
#
# For the scripts beside this one: `make_root` and `copy_settings` set and fill $root, `clean_up` is for at_exit.
# shellcheck shell=bash

# shellcheck source=tests/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

root=''

# All mounts were made in a namespace that no longer exists, so there is nothing to unmount. --one-file-system is only a
# safeguard.
clean_up() {
    stop_group
    [[ -z $root ]] || rm -rf --one-file-system "$root"
}

# The first source that apt has for this release; nothing where only debootstrap knows one.
mirror() {
    # shellcheck disable=SC2016 # for apt to fill in
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$1" '$1 == release && !seen++ {print $2}'
}

# make_root [OPTION…]: with more options for debootstrap.
make_root() {
    local release
    ((EUID == 0)) || die "only root can make another root"
    if ! command -v debootstrap >/dev/null; then
        update_lists debootstrap
        install_missing debootstrap
    fi
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    root=$(mktemp -d "${TMPDIR:-/var/tmp}/firehose-worker-root.XXXXXX")
    chmod 755 "$root"
    say "making a clean root of $release"
    # shellcheck disable=SC2046 # an address is one word, and none is no argument
    in_group debootstrap --variant=minbase "$@" "$release" "$root" $(mirror "$release") >"$root.log" 2>&1 || {
        tail -n 20 "$root.log" >&2
        rm -f "$root.log"
        die "debootstrap failed"
    }
    rm -f "$root.log"
}

# Whatever this machine needs to reach packages and crates. Files that are there for passwords alone are left out.
copy_settings() {
    local name
    rm -f "$root/etc/apt/sources.list"
    for name in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/keyrings /etc/apt/trusted.gpg.d \
        /usr/share/keyrings /usr/local/share/ca-certificates /etc/resolv.conf /etc/hosts; do
        [[ ! -e $name ]] || copy_in "$name"
    done
    apt-config dump | grep -E '^Acquire::(http|https|Check)' >"$root/etc/apt/apt.conf.d/99host" || true
    for name in config.toml config; do
        [[ ! -e ${CARGO_HOME:-$HOME/.cargo}/$name ]] ||
            install -D -m 644 "${CARGO_HOME:-$HOME/.cargo}/$name" "$root/root/.cargo/$name"
    done
}

# copy_in PATH: to the same place in the new root, files for links.
copy_in() {
    rm -rf "${root:?}$1"
    mkdir -p "$root${1%/*}"
    cp -rL "$1" "$root$1"
}

# Proxies and cargo's settings, tokens apart.
passed_on() {
    local name
    while read -r name; do
        printf '%s\0' "$name=${!name}"
    done < <(compgen -e | grep -iE '^((https?|no|all)_proxy|CARGO_(HTTP|NET|REGISTR|SOURCE)[A-Z_]*)$' | grep -v TOKEN)
}

# run_inside COMMAND…: runs the command in separate namespaces, whose end removes the mounts and all remaining
# processes.
run_inside() {
    local -a environment
    mapfile -d '' environment < <(passed_on)
    # shellcheck disable=SC2016 # for the inner shell
    in_group unshare --mount --pid --fork --kill-child bash -c '
        mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit
        chroot "$1" env -i "${@:2}"' - "$root" PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        "${environment[@]}" "$@"
}
