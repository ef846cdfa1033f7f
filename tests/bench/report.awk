# The report of the worker. Its lists are in lists.awk.

END {
    for (c = 0; c < n_contenders; c++) {
        show_contender(c)
    }
    if (n_contenders > 1) {
        compare()
    }
    if (most_of_others > 0.3) {
        printf "\nothers kept up to %.1f cores busy: measure again when they are done\n", most_of_others
    }
}

function show_contender(c) {
    show_name(c)
    divide(c, "rate", n_events, "seconds")
    show(c, "rate", "events/s")
    show(c, "seconds", "seconds")
    show(c, "copy_seconds", "the limit: COPY of the same rows, seconds")
    divide(c, "share", 100, "seconds", "copy_seconds")
    show(c, "share", "share of the limit, %")
    show_cpu(c, "cpu_worker", "CPU of the worker")
    show_cpu(c, "cpu_postgres", "CPU of PostgreSQL")
    show_cpu(c, "copy_cpu", "CPU of PostgreSQL under COPY")
    show_cpu(c, "cpu_redis", "CPU of Redis")
    show(c, "others", "CPU of others, cores")
    scale(c, "memory", 1 / 1024)
    show(c, "memory", "peak memory, MiB")
    scale(c, "database", 1e6 / n_events / 1024 / 1024)
    show(c, "database", "database per million events, MiB")
    scale(c, "wal", 1e6 / n_events / 1024 / 1024)
    show(c, "wal", "WAL per million events, MiB")
    scale(c, "sql_trips", 100 / n_events)
    show(c, "sql_trips", "round trips to PostgreSQL per 100 entries")
    scale(c, "redis_trips", 100 / n_events)
    show(c, "redis_trips", "round trips to Redis per 100 entries")
    show(c, "latency_median", "latency of single entries, median, ms")
    show(c, "latency_p99", "latency of single entries, p99, ms")
    show(c, "latency_commit", "  the share of one commit, median, ms")
    show(c, "latency_others", "CPU of others meanwhile, cores")
}

# Each contender by the worker, and the other way round.
function compare(   c) {
    printf "\nin turn with the worker\n%-37s %16s %9s %9s %9s\n", "", "of the medians", "median", "lowest", "highest"
    for (c = 1; c < n_contenders; c++) {
        printf "  %s\n", names[c]
        compare_by(c, "rate", "its events/s by the worker's")
        compare_by(c, "database", "its database by the worker's")
    }
}

function compare_by(c, what, label,   i, n, ratio) {
    if (!n_recorded[0, what] || !n_recorded[c, what]) {
        return
    }
    ratio = median(sorted(c, what)) / median(sorted(0, what))
    for (i = 1; i <= n_recorded[c, what]; i++) {
        recorded[c, "ratio", i] = recorded[c, what, i] / recorded[0, what, i]
    }
    n_recorded[c, "ratio"] = n_recorded[c, what]
    n = sorted(c, "ratio")
    show_ratio(label, ratio, median(n), list[1], list[n])
    show_ratio("the other way round", 1 / ratio, 1 / median(n), 1 / list[n], 1 / list[1])
}

function show_ratio(label, of_medians, middle, lowest, highest) {
    printf "    %-33s %16.2f %9.2f %9.2f %9.2f\n", label, of_medians, middle, lowest, highest
}
