#!/usr/bin/env bash
# Installs a binary that was built here, for systems that cannot use the .deb. It neither starts nor enables the services.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: sudo bash systemd/install.sh [--root DIR] [--binary FILE]
       sudo bash systemd/install.sh --uninstall [--purge] [--root DIR]

  --binary FILE   the binary to install; the default is the one that `cargo build --release` builds
  --root DIR      install into the file tree below DIR, and leave this system's users and services alone
  --uninstall     stop worker and consumer and remove what was installed; settings and user stay
  --purge         with --uninstall: remove the user and all settings too

Installs binary, man pages, completions and documentation below /usr/local, units in /etc/systemd/system, and settings in
/etc/default/firehose-worker and firehose-consumer unless they exist. Run it again to upgrade: it restarts what runs.
USAGE
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=
binary=${CARGO_TARGET_DIR:-$here/../target}/release/firehose-worker
action=install
purge=

while (($#)); do
    case $1 in
        --help | -h) usage && exit ;;
        --root) root=${2:?--root takes a folder} && shift ;;
        --binary) binary=${2:?--binary takes a file} && shift ;;
        --uninstall) action=uninstall ;;
        --purge) purge=1 ;;
        *) die "unknown argument $1, see --help" ;;
    esac
    shift
done

units=(
    firehose-worker.service firehose-worker@.service firehose-consumer.service
    firehose-worker-prune.service firehose-worker-prune.timer
)
unit_dir=$root/etc/systemd/system
sysusers=$root/etc/sysusers.d/firehose-worker.conf
settings=(firehose-worker firehose-consumer)
settings_dir=$root/etc/default
share=$root/usr/local/share

completions() {
    printf '%s\n' firehose-worker.bash "$share/bash-completion/completions/firehose-worker" \
        _firehose-worker "$share/zsh/site-functions/_firehose-worker" \
        firehose-worker.fish "$share/fish/vendor_completions.d/firehose-worker.fish"
}

documents=(OPERATIONS.md grafana-dashboard.json)

# Whether to act on the systemd that runs here.
live() { [[ -z $root && -d /run/systemd/system ]]; }

install_files() {
    local unit name page source target
    install -D -m 755 "$binary" "$root/usr/local/bin/firehose-worker"
    for unit in "${units[@]}"; do
        install -d -m 755 "$unit_dir"
        sed 's,^ExecStart=/usr/bin/,ExecStart=/usr/local/bin/,; s,file:/usr/share/,file:/usr/local/share/,' \
            "$here/$unit" >"$unit_dir/$unit"
        chmod 644 "$unit_dir/$unit"
    done
    install -D -m 644 "$here/firehose-worker.sysusers" "$sysusers"
    for name in "${settings[@]}"; do
        [[ -e $settings_dir/$name ]] || install -D -m 600 "$here/$name.default" "$settings_dir/$name"
    done
    # The build puts them beside the binary.
    for page in "$(dirname "$binary")"/assets/firehose-worker*.1.gz; do
        [[ ! -e $page ]] || install -D -m 644 -t "$share/man/man1" "$page"
    done
    while read -r source && read -r target; do
        source=$(dirname "$binary")/assets/$source
        [[ ! -e $source ]] || install -D -m 644 "$source" "$target"
    done < <(completions)
    for source in "${documents[@]}"; do
        install -D -m 644 -t "$share/doc/firehose-worker" "$here/$source"
    done
}

remove_files() {
    local unit target
    for unit in "${units[@]}"; do
        rm -f "$unit_dir/$unit"
    done
    rm -f "$root/usr/local/bin/firehose-worker" "$sysusers" "$share"/man/man1/firehose-worker*.1.gz
    while read -r _ && read -r target; do
        rm -f "$target"
    done < <(completions)
    rm -rf "$share/doc/firehose-worker"
}

case $action in
    install)
        [[ -x $binary ]] || die "$binary is not there: run cargo build --release --locked, or name another with --binary"
        [[ ! -e $root/usr/lib/systemd/system/firehose-worker.service ]] ||
            die "the package firehose-worker is installed; remove it first"
        install_files
        if live; then
            systemd-sysusers firehose-worker.conf
            systemctl daemon-reload
            systemctl try-restart firehose-worker.service 'firehose-worker@*.service' firehose-consumer.service
        fi
        echo "installed; set the servers' addresses in $settings_dir/firehose-worker and $settings_dir/firehose-consumer, then:" \
            "systemctl enable --now firehose-worker firehose-consumer"
        ;;
    uninstall)
        # systemctl fails for a missing unit, as after an uninstall that kept the settings.
        if live && [[ -e $unit_dir/firehose-worker.service ]]; then
            systemctl stop firehose-worker-prune.timer firehose-worker-prune.service \
                firehose-worker.service 'firehose-worker@*.service' firehose-consumer.service
            systemctl disable --quiet firehose-worker.service firehose-consumer.service firehose-worker-prune.timer \
                2>/dev/null || true
            rm -f "$unit_dir"/*.wants/firehose-worker@*.service
        fi
        remove_files
        if live; then
            systemctl daemon-reload
        fi
        if [[ -z $purge ]]; then
            echo "removed; the settings in $settings_dir and the user firehose-worker stay, --purge removes them"
        else
            rm -f "${settings[@]/#/$settings_dir/}" "$settings_dir"/firehose-worker-*
            [[ -n $root ]] || ! getent passwd firehose-worker >/dev/null || userdel firehose-worker
            echo "removed, settings and user too"
        fi
        ;;
esac
