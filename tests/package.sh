#!/usr/bin/env bash
# Builds the .deb and tests its installation, upgrade and removal under a real systemd: a clean Debian root, booted with
# its own kernel in an emulated machine. Not part of the tests: it downloads packages and takes a quarter of an hour.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: bash tests/package.sh [--kvm] [--keep]

  --kvm    use the processor's virtualization instead of emulation
  --keep   keep the packages in target/debian, and say where the machine's whole output is
  --help   this text

Needs root, 6 GB in $TMPDIR or /var/tmp, and the packages debootstrap, qemu-system-x86 and lintian, which it installs. What
is done inside the machine is in tests/package-inside.sh.
USAGE
}

# shellcheck source=tests/root.sh
source "$(dirname "${BASH_SOURCE[0]}")/root.sh"

accelerator=(-accel 'tcg,thread=multi' -cpu max)
keep=
for argument; do
    case $argument in
        --help | -h) usage && exit ;;
        --kvm) accelerator=(-accel kvm -cpu 'host,-arch-capabilities') ;;
        --keep) keep=1 ;;
        *) die "unknown argument $argument, see --help" ;;
    esac
done
((EUID == 0)) || die "only root can make another root"

# The machine's whole output; deleted when all was well.
output=$(mktemp "${TMPDIR:-/var/tmp}/firehose-worker-package.XXXXXX")
image=$output.ext4

clean_up_all() {
    rm -f "$image"
    clean_up
}

need_packages() {
    local -a missing=()
    command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
    command -v mke2fs >/dev/null || missing+=(e2fsprogs)
    command -v lintian >/dev/null || missing+=(lintian)
    ((${#missing[@]})) || return 0
    update_lists "${missing[@]}"
    install_missing "${missing[@]}"
}

# Two packages that differ in their revision and their settings file, for the upgrade.
build_packages() {
    local tools=${CARGO_TARGET_DIR:-$repo_dir/target}/tools
    export PATH=$tools/bin:$PATH
    if ! command -v cargo-deb >/dev/null; then
        say "building cargo-deb"
        in_group "$CARGO" install --quiet --locked --root "$tools" cargo-deb
    fi
    say "building the packages"
    mkdir "$root/root/debs"
    (cd "$repo_dir" && in_group "$CARGO" deb --quiet --locked --deb-revision 1 --output "$root/root/debs/")
    say "building a relay for the consumer"
    (cd "$repo_dir" && in_group "$CARGO" build --quiet --profile demo --locked --features relay --bin relay)
    cp "${CARGO_TARGET_DIR:-$repo_dir/target}/demo/relay" "$root/root/"
    make_revision_2 "$root"/root/debs/*-1_*.deb
    ls -l "$root"/root/debs
    # A file that may hold passwords is not for all; the rest are rules for uploads to Debian.
    lintian --allow-root --tag-display-limit 0 --suppress-tags non-standard-file-perm,initial-upload-closes-no-bugs \
        --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog,wrong-name-for-upstream-changelog \
        --suppress-tags maintainer-script-calls-systemctl "$root"/root/debs/*-1_*.deb || die "lintian finds fault"
}

# make_revision_2 PACKAGE: puts a newer one beside it, whose settings file is another.
make_revision_2() {
    local unpacked
    unpacked=$(mktemp -d "$root/root/unpacked.XXXXXX")
    dpkg-deb --raw-extract "$1" "$unpacked"
    sed -i 's/^\(Version: .*\)-1$/\1-2/' "$unpacked/DEBIAN/control"
    echo '#SETTING_OF_REVISION_2=' >>"$unpacked/etc/default/firehose-worker"
    (cd "$unpacked" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --build --root-owner-group "$unpacked" "${1/-1_/-2_}" >/dev/null
    rm -r "$unpacked"
}

# What the binary may be and bring: small, on glibc alone, with one TLS stack, optimized as a whole.
check_binary() {
    local binary=${CARGO_TARGET_DIR:-$repo_dir/target}/release/firehose-worker others
    (($(stat -c %s "$binary") <= 12 << 20)) || die "$binary is larger than 12 MiB"
    others=$(objdump -p "$binary" | awk '$1 == "NEEDED" {print $2}' |
        grep -vxE '(libc|libm|libgcc_s)\.so\.[0-9]+|ld-linux-.*' || true)
    [[ -z $others ]] || die "the binary links to more than glibc and libgcc_s: $others"
    others=$("$CARGO" tree --manifest-path "$repo_dir/Cargo.toml" --locked --edges normal --prefix none |
        grep -E '^(openssl|openssl-sys|native-tls|aws-lc|aws-lc-rs|aws-lc-sys|boring|boring-sys) ' || true)
    [[ -z $others ]] || die "there is more than one TLS stack: $others"
    grep -qx 'lto = "fat"' "$repo_dir/Cargo.toml" || die "the release profile has no link-time optimization"
    say "the binary has $(stat -c %s "$binary") bytes, links to glibc and libgcc_s alone, and has one TLS stack"
}

# Installs the kernel and the servers, without starting them.
fill_root() {
    say "installing kernel and servers in the root"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    run_inside apt-get update -qq >"$output" 2>&1 || true
    run_inside env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
        "$(kernel_package)" initramfs-tools redis-server postgresql >>"$output" 2>&1 || {
        tail -n 20 "$output" >&2
        die "apt-get failed in the root"
    }
    rm "$root/usr/sbin/policy-rc.d"
    install -m 755 "$tests_dir/package-inside.sh" "$root/root/"
    cp -r "$repo_dir/systemd" "$root/root/"
    cat >"$root/etc/systemd/system/package-inside.service" <<'UNIT'
[Unit]
After=redis-server.service postgresql.service
Wants=redis-server.service postgresql.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/root/package-inside.sh
StandardOutput=file:/dev/ttyS0
StandardError=inherit
[Install]
WantedBy=multi-user.target
UNIT
    run_inside systemctl --quiet enable package-inside.service
    run_inside systemctl --quiet mask serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer
}

# The smallest that has the emulated disk's driver.
kernel_package() {
    case $(sed -n 's/^ID=//p' /etc/os-release) in
        ubuntu) echo linux-image-virtual ;;
        *) echo linux-image-cloud-amd64 ;;
    esac
}

boot() {
    local kernel initrd
    kernel=$(compgen -G "$root/boot/vmlinuz-*" | tail -n 1)
    initrd=$(compgen -G "$root/boot/initrd.img-*" | tail -n 1)
    mke2fs -q -t ext4 -d "$root" "$image" 3G
    say "booting it"
    in_group timeout 1500 qemu-system-x86_64 "${accelerator[@]}" -smp 2 -m 1024 -nic none -no-reboot \
        -display none -monitor none -serial "file:$output" -kernel "$kernel" -initrd "$initrd" \
        -append 'root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0' \
        -drive "file=$image,format=raw,if=virtio,cache=unsafe" </dev/null || say "the machine ended with $?"
    # What the script inside printed; firmware and kernel print otherwise.
    tr -d '\r' <"$output" | grep -aE '^(==|ok|FAIL|  |PASS)' || true
}

at_exit clean_up_all
setup
need_packages
make_root --include=systemd-sysv,dbus,udev
copy_settings
build_packages
check_binary
fill_root
boot
if [[ -n $keep ]]; then
    mkdir -p "${CARGO_TARGET_DIR:-$repo_dir/target}/debian"
    cp "$root"/root/debs/*.deb "${CARGO_TARGET_DIR:-$repo_dir/target}/debian/"
fi
if tr -d '\r' <"$output" | grep -qax PASS; then
    [[ -n $keep ]] || rm -f "$output"
    say "PASS"
else
    say "FAIL: the machine's output is in $output"
    exit 1
fi
