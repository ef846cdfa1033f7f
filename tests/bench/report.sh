# shellcheck shell=bash
# What was measured, and its printing. Values are kept in a file, one a line: contender, what, value.

runs_with_dead_letters=0

# record CONTENDER WHAT VALUE
record() { printf '%s\t%s\t%s\n' "$@" >>"$servers_dir/results"; }

# last_run CONTENDER: in a few words.
last_run() {
    awk -F '\t' -v contender="$1" -v name="${names[$1]}" -v n_events="$n_events" '
        $1 == contender {value[$2] = $3}
        END {
            if ("n_events" in value) n_events = value["n_events"]
            printf "%s: %.2f s, %.0f events/s\n", name, value["seconds"], n_events / value["seconds"]
        }' "$servers_dir/results"
}

# report CONFIGURATION
report() {
    say "$n_events events, runs: $runs, cores: $(nproc), PostgreSQL ${postgres_version%% *} $1," \
        "$("$REDIS_SERVER" --version | cut -d ' ' -f 1-3)"
    printf '%s\n' "${names[@]}" |
        awk -v n_events="$n_events" -v ticks_per_second="$ticks_per_second" \
            -f "$tests_dir/bench/lists.awk" -f "$tests_dir/bench/report.awk" - FS='\t' "$servers_dir/results"
    ((runs_with_dead_letters == 0)) || echo "dead letters in $runs_with_dead_letters of all runs"
    runs_with_dead_letters=0
}
