#!/usr/bin/env bash
# Runs in the machine that tests/package.sh boots: installs, starts, watches, stops, upgrades, removes and purges the
# package, worker and consumer, and then does the same with systemd/install.sh. Prints each check, and PASS if all of them held.
set -uo pipefail
export LC_ALL=C.UTF-8

unit=firehose-worker.service
failures=0

# check WHAT COMMAND…: runs the command, and prints whether it succeeded.
check() {
    local what=$1 output
    if output=$("${@:2}" 2>&1); then
        echo "ok    $what"
    else
        echo "FAIL  $what"
        printf '%s\n' "$output" | sed 's/^/  /' | tail -n 20
        failures=$((failures + 1))
    fi
}

# until_so WHAT SECONDS COMMAND…: tries once a second.
until_so() {
    local what=$1 seconds=$2 start=$SECONDS
    while ! "${@:3}" >/dev/null 2>&1; do
        if ((SECONDS - start > seconds)); then
            check "$what (waited $seconds s)" "${@:3}"
            journalctl --unit "$unit" --no-pager --lines 15 --output cat | sed 's/^/  /'
            return
        fi
        sleep 1
    done
    echo "ok    $what ($((SECONDS - start)) s)"
}

property() { systemctl show --value --property "$1" "${2:-$unit}"; }
is() { [[ $(property "$1") == "$2" ]] || { echo "$1 is $(property "$1")"; return 1; }; }
says() { [[ $(property StatusText) == *"$1"* ]] || { property StatusText; return 1; }; }
no() { ! "$@"; }
running() { is ActiveState active && is SubState running; }
fed_since() { [[ $(property WatchdogTimestampMonotonic) != "$1" ]]; }
consumer() { redis-cli XINFO CONSUMERS firehose:events firehose-processors | grep -qx "$1"; }

# another_than PID [UNIT]: the unit's process is there and is not that one.
another_than() {
    local pid
    pid=$(property MainPID "${2:-$unit}")
    [[ $pid != 0 && $pid != "$1" ]]
}
sql() { runuser -u postgres -- psql -qAtX -d atproto -c "$1"; }
follows() { [[ $(sql 'select count(*) from follows') == "$1" ]]; }
posts() { sql 'select count(*) from posts'; }
has_posts() { [[ $(posts) != 0 ]]; }
cursor() { redis-cli GET firehose:python_cursor; }
cursor_moved_from() { [[ $(cursor) != "$1" ]]; }
journal_of_this_run() { journalctl --no-pager --output cat _SYSTEMD_INVOCATION_ID="$(property InvocationID)"; }
no_standby() { no grep -q standby: <(journal_of_this_run); }

# follow FIRST LAST: puts that many follows into the stream.
follow() {
    local number
    for ((number = $1; number <= $2; number++)); do
        echo "XADD firehose:events * type commit seq $number data '$(commit "$number")'"
    done | redis-cli >/dev/null
}

commit() {
    printf '{"repo":"did:plc:alice","ops":[{"action":"create","path":"app.bsky.graph.follow/%s","cid":%s,"record":%s}]}' \
        "$1" '"bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae"' \
        "{\"\$type\":\"app.bsky.graph.follow\",\"subject\":\"did:plc:bob$1\",\"createdAt\":\"2026-01-01T00:00:00Z\"}"
}

verified() { # UNIT…
    local said
    said=$(systemd-analyze verify --man=no "$@" 2>&1)
    echo "$said"
    [[ -z $said ]]
}

# Microseconds from the process's start to its READY.
ready_after() { echo $(($(property ActiveEnterTimestampMonotonic) - $(property ExecMainStartTimestampMonotonic))); }

# The best of five starts; under emulation it is not a measurement of the worker.
ready_in_time() {
    local best=999999999 number time
    for number in 1 2 3 4 5; do
        systemctl restart "$unit"
        time=$(ready_after)
        ((time >= best)) || best=$time
    done
    echo "  $number starts with both servers up, on $(systemd-detect-virt): ready after $best µs at best"
    [[ $(systemd-detect-virt) != kvm ]] || check "ready within 50 ms" test "$best" -lt 50000
}

exposure() { systemd-analyze security --offline=true --threshold=15 --no-pager "$1"; }

left_over() {
    find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /run \) -prune \
        -o \( -name '*firehose-worker*' -o -name '*firehose-consumer*' \) -print
}

echo "== a machine with $(systemctl --version | head -n 1), kernel $(uname -r)"
until_so "redis answers" 120 redis-cli ping
until_so "postgresql answers" 120 runuser -u postgres -- psql -qAtXc 'select 1'

echo "== install"
check "dpkg installs it" dpkg -i /root/debs/*-1_*.deb
check "it is not started" is ActiveState inactive
check "it is not enabled" is UnitFileState disabled
check "the user is there" getent passwd firehose-worker
check "the settings are root's alone" test "$(stat -c '%a %U' /etc/default/firehose-worker)" = '600 root'
check "its documentation is there" ls /usr/share/doc/firehose-worker/{README,OPERATIONS,CHANGELOG}.md
check "the consumer is not enabled" no systemctl --quiet is-enabled firehose-consumer.service
check "its settings are root's alone" test "$(stat -c '%a %U' /etc/default/firehose-consumer)" = '600 root'
check "pruning is not enabled" no systemctl --quiet is-enabled firehose-worker-prune.timer
check "systemd-analyze verify has nothing to say" verified \
    firehose-{worker,worker@two,consumer,worker-prune}.service firehose-worker-prune.timer
for service in firehose-worker.service firehose-consumer.service firehose-worker-prune.service; do
    check "the exposure of $service is at most 1.5" exposure "$service"
    exposure "$service" | tail -n 1 | sed 's/^/  /'
done
echo "  $(firehose-worker --version), $(stat -c %s /usr/bin/firehose-worker) bytes, links to: $(ldd /usr/bin/firehose-worker |
    awk '{print $1}' | tr '\n' ' ')"

echo "== start, with servers that are not set up for it yet"
# Over PostgreSQL's Unix socket as the system's user (peer authentication), and TCP to Redis.
cat >>/etc/default/firehose-worker <<'SETTINGS'
REDIS_URL=redis://127.0.0.1:6379
DATABASE_URL=host=/var/run/postgresql user=firehose-worker dbname=atproto
SETTINGS
check "systemctl enables and starts it" systemctl enable --now "$unit"
check "it runs" running
until_so "the status says what it waits for" 60 says "waiting for postgresql: "
echo "  Status: $(property StatusText)"
runuser -u postgres -- createuser firehose-worker
runuser -u postgres -- createdb --owner firehose-worker atproto
until_so "the status says that tables are missing" 60 says "tables are missing"
firehose-worker schema | runuser -u firehose-worker -- psql -qX -d atproto >/dev/null
echo "  ready $(ready_after) µs after its start"
follow 1 500
until_so "500 events have become 500 rows" 60 follows 500
until_so "the status counts them" 60 says "500 events, 0 errors, 0 lost"
check "root checks as the unit's user, whom alone PostgreSQL lets in" firehose-worker check
echo "  Status: $(property StatusText)"
check "it holds on restart" systemctl restart "$unit"
until_so "it runs again and has taken its name back at once" 30 says "events/s"
check "without a standby" no_standby
ready_in_time
until_so "it runs on after five restarts" 30 says "events/s"
before=$(property MainPID)
systemctl kill --signal KILL "$unit"
until_so "after SIGKILL it runs again" 60 another_than "$before"
until_so "and works" 60 says "events/s"
check "without a standby: the dead holder was found in /proc" no_standby

echo "== the addresses as credentials, as OPERATIONS.md has it"
settings=/etc/default/firehose-worker
credentials=(
    LoadCredential=redis_url:/etc/firehose-worker/redis_url
    LoadCredential=database_url:/etc/firehose-worker/database_url
)
cp -p "$settings" /root/settings
(umask 077 && mkdir /etc/firehose-worker)
for name in redis_url database_url; do
    sed -n "s/^${name^^}=//p" "$settings" >"/etc/firehose-worker/$name"
    sed -i "/^${name^^}=/d" "$settings"
done
mkdir -p "/etc/systemd/system/$unit.d"
printf '%s\n' '[Service]' "${credentials[@]}" >"/etc/systemd/system/$unit.d/credentials.conf"
systemctl daemon-reload
check "it starts with them" systemctl restart "$unit"
until_so "it works with them" 60 says "events/s"
check "a check by systemd-run reads them" systemd-run --quiet --pipe --wait -p User=firehose-worker \
    -p EnvironmentFile=-/etc/default/firehose-worker "${credentials[@]/#/--property=}" firehose-worker check
rm -r /etc/firehose-worker "/etc/systemd/system/$unit.d"
cp -p /root/settings "$settings"
systemctl daemon-reload
systemctl restart "$unit"
until_so "it works without them" 60 says "events/s"

echo "== the watchdog"
before=$(property MainPID)
restarts=$(property NRestarts)
fed=$(property WatchdogTimestampMonotonic)
until_so "it is fed" 30 fed_since "$fed"
systemctl stop redis-server
until_so "an outage is told" 60 says "waiting for redis: "
echo "  Status: $(property StatusText)"
echo "  waiting for longer than WatchdogSec ($(property WatchdogUSec)), redis being away"
sleep 130
check "the same process runs on" test "$(property MainPID) $(property NRestarts)" = "$before $restarts"
systemctl start redis-server
until_so "it goes on with redis" 60 says "events/s"
follow 501 600
until_so "100 events more have become rows" 60 follows 600
mkdir -p /etc/systemd/system/firehose-worker.service.d
printf '[Service]\nWatchdogSec=15\n' >/etc/systemd/system/firehose-worker.service.d/short.conf
systemctl daemon-reload
systemctl restart "$unit"
until_so "with a watchdog of 15 s it runs" 60 says "events/s"
before=$(property MainPID)
kill -STOP "$before"
until_so "a process that hangs is ended and started again" 90 another_than "$before"
until_so "and works" 60 says "events/s"
journalctl --unit "$unit" --no-pager --output cat --grep 'atchdog' --lines 3 | sed 's/^/  /'
rm -r /etc/systemd/system/firehose-worker.service.d
systemctl daemon-reload

echo "== unusable settings, stop"
cp -p /etc/default/firehose-worker /root/settings
echo 'PARALLEL_CONSUMERS=none' >>/etc/default/firehose-worker
systemctl restart "$unit"
until_so "unusable settings end it" 30 is ActiveState failed
check "with exit code 2" is ExecMainStatus 2
sleep 3
check "and it is not started again" is ActiveState failed
cp -p /root/settings /etc/default/firehose-worker
systemctl restart "$unit"
until_so "it runs again" 30 says "events/s"
check "it stops" systemctl stop "$unit"
check "with exit code 0" is ExecMainStatus 0
check "and in good order" is Result success

echo "== the consumer"
systemctl start "$unit"
unit=firehose-consumer.service
# It continues after the entries above.
/root/relay --events 4000 --rate 10 --first-seq 601 --port 7000 --entries /root/entries >/root/relay.log 2>&1 &
until_so "a relay serves events" 120 grep -q '^serves ' /root/relay.log
printf '%s\n' RELAY_URL=ws://127.0.0.1:7000 FIREHOSE_START=oldest FIREHOSE_DIDS=@/etc/firehose-dids \
    >>/etc/default/firehose-consumer
echo did:plc:another >/etc/firehose-dids
check "systemctl enables and starts it" systemctl enable --now "$unit"
until_so "its status says how fast it is" 60 says "events/s, newest event"
echo "  Status: $(property StatusText)"
cursor=$(cursor)
until_so "the cursor moves" 30 cursor_moved_from "$cursor"
check "nothing passes the filter" test "$(posts)" = 0
grep -oE 'did:[a-z]+:[a-z0-9]+' /root/entries | sort -u >/etc/firehose-dids
check "systemctl reloads the filter" systemctl reload "$unit"
until_so "the worker writes rows of its entries" 60 has_posts
before=$(property MainPID)
systemctl kill --signal KILL "$unit"
until_so "after SIGKILL it runs again" 60 another_than "$before"
until_so "and reads on at once" 20 says "events/s, newest event"
check "without a standby: the dead holder was found in /proc" no_standby
fed=$(property WatchdogTimestampMonotonic)
until_so "its watchdog is fed" 30 fed_since "$fed"
systemctl stop redis-server
until_so "an outage is told" 60 says "waiting for redis: "
systemctl start redis-server
until_so "it goes on with redis" 60 says "events/s, newest event"
cp -p /etc/default/firehose-consumer /root/consumer-settings
echo 'RELAY_URL=ftp://example.com' >>/etc/default/firehose-consumer
systemctl restart "$unit"
until_so "unusable settings end it" 30 is ActiveState failed
check "with exit code 2" is ExecMainStatus 2
cp -p /root/consumer-settings /etc/default/firehose-consumer
systemctl restart "$unit"
until_so "it runs again" 30 says "events/s, newest event"
check "it stops" systemctl stop "$unit"
check "with exit code 0" is ExecMainStatus 0
systemctl start "$unit"
consumer_before=$(property MainPID)
unit=firehose-worker.service

echo "== upgrade"
echo 'DATABASE_URL=host=/var/run/postgresql user=firehose-worker dbname=atproto password=hunter2' \
    >/etc/default/firehose-worker-two
systemctl start "$unit" firehose-worker@two.service
until_so "an instance reads under its name" 60 consumer two
before=$(property MainPID)
before_two=$(property MainPID firehose-worker@two.service)
check "dpkg upgrades it, though both have changed the settings" dpkg --force-confold -i /root/debs/*-2_*.deb
until_so "it was restarted" 30 another_than "$before"
until_so "and so was the instance" 30 another_than "$before_two" firehose-worker@two.service
until_so "and so was the consumer" 30 another_than "$consumer_before" firehose-consumer.service
until_so "it works" 60 says "events/s"
check "the settings are kept" cmp /root/settings /etc/default/firehose-worker
check "the consumer's too" cmp /root/consumer-settings /etc/default/firehose-consumer
check "the new ones are beside them" grep -q SETTING_OF_REVISION_2 /etc/default/firehose-worker.dpkg-dist
check "with the same mode" test "$(stat -c '%a %U' /etc/default/firehose-worker.dpkg-dist)" = '600 root'
systemctl stop "$unit"
check "an upgrade of one that does not run" dpkg -i /root/debs/*-2_*.deb
check "does not start it" is ActiveState inactive
systemctl start "$unit"
pid=$(property MainPID)
consumer_pid=$(property MainPID firehose-consumer.service)

echo "== remove and purge"
check "dpkg removes it" dpkg -r firehose-worker
check "it is stopped" no test -d "/proc/$pid"
check "and so is the consumer" no test -d "/proc/$consumer_pid"
check "the settings stay" test -e /etc/default/firehose-worker
check "dpkg purges it" dpkg -P firehose-worker
check "the user is gone" no getent passwd firehose-worker
check "no file is left over" test -z "$(left_over)"
left_over | sed 's/^/  /'

echo "== without the package: systemd/install.sh"
install=/root/systemd/install.sh
dpkg-deb --extract /root/debs/*-1_*.deb /root/unpacked
binary=/root/unpacked/usr/bin/firehose-worker
check "it installs" bash "$install" --binary "$binary"
check "it is not started" is ActiveState inactive
check "its documentation is there" ls /usr/local/share/doc/firehose-worker/OPERATIONS.md
check "systemd-analyze verify has nothing to say" verified \
    firehose-{worker,worker@two,consumer,worker-prune}.service firehose-worker-prune.timer
cp -p /root/settings /etc/default/firehose-worker
cp -p /root/consumer-settings /etc/default/firehose-consumer
check "systemctl enables and starts it" systemctl enable --now "$unit" firehose-consumer.service
systemctl start firehose-worker@two.service
until_so "it works" 60 says "events/s"
before=$(property MainPID)
before_two=$(property MainPID firehose-worker@two.service)
consumer_before=$(property MainPID firehose-consumer.service)
check "it installs over itself" bash "$install" --binary "$binary"
until_so "it was restarted" 30 another_than "$before"
until_so "and so was the instance" 30 another_than "$before_two" firehose-worker@two.service
until_so "and so was the consumer" 30 another_than "$consumer_before" firehose-consumer.service
check "the settings are kept" cmp /root/settings /etc/default/firehose-worker
pid=$(property MainPID)
check "it uninstalls" bash "$install" --uninstall
check "it is stopped" no test -d "/proc/$pid"
check "the settings stay" cmp /root/settings /etc/default/firehose-worker
cp -p /root/settings /etc/default/firehose-worker-two
check "it uninstalls again, and purges" bash "$install" --uninstall --purge
check "the user is gone" no getent passwd firehose-worker
check "no file is left over" test -z "$(left_over)"
left_over | sed 's/^/  /'
check "and once more" bash "$install" --uninstall --purge

if ((failures == 0)); then
    echo PASS
else
    echo "FAIL  $failures of the above"
fi
