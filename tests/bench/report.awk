# First the contenders' names, one a line, then what was recorded: contender, what, value.

NR == FNR {names[n_contenders++] = $0; next}
{recorded[$1, $2, ++n_recorded[$1, $2]] = $3}
$2 == "others" && $3 > most_of_others {most_of_others = $3}

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
    printf "\n%s\n%-44s %9s %9s %9s\n", names[c], "", "median", "lowest", "highest"
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
    show(c, "latency_others", "CPU of others meanwhile, cores")
}

function show_cpu(c, what, label) {
    scale(c, what, 1e6 / ticks_per_second / n_events)
    show(c, what, label ", us per event")
}

# A line of it, if it was recorded at all.
function show(c, what, label,   n) {
    n = sorted(c, what)
    if (n == 1) {
        printf "  %-42s %9s\n", label, short(list[1])
    } else if (n > 1) {
        printf "  %-42s %9s %9s %9s\n", label, short(median(n)), short(list[1]), short(list[n])
    }
}

# Each contender by the worker, and the other way round.
function compare(   c, i, n, ratio) {
    printf "\nin turn with the worker\n%-37s %16s %9s %9s %9s\n", "", "of the medians", "median", "lowest", "highest"
    for (c = 1; c < n_contenders; c++) {
        ratio = median(sorted(c, "rate")) / median(sorted(0, "rate"))
        for (i = 1; i <= n_recorded[c, "rate"]; i++) {
            recorded[c, "ratio", i] = recorded[c, "rate", i] / recorded[0, "rate", i]
        }
        n_recorded[c, "ratio"] = n_recorded[c, "rate"]
        n = sorted(c, "ratio")
        printf "  %s\n", names[c]
        show_ratio("its events/s by the worker's", ratio, median(n), list[1], list[n])
        show_ratio("the other way round", 1 / ratio, 1 / median(n), 1 / list[n], 1 / list[1])
    }
}

function show_ratio(label, of_medians, middle, lowest, highest) {
    printf "    %-33s %16.2f %9.2f %9.2f %9.2f\n", label, of_medians, middle, lowest, highest
}

# --- lists of values

function scale(c, what, factor,   i) {
    for (i = 1; i <= n_recorded[c, what]; i++) {
        recorded[c, what, i] *= factor
    }
}

# divide: a new list, factor * above / below, or factor / below where nothing is above.
function divide(c, what, factor, below, above,   i) {
    for (i = 1; i <= n_recorded[c, above == "" ? below : above]; i++) {
        recorded[c, what, i] = factor * (above == "" ? 1 : recorded[c, above, i]) / recorded[c, below, i]
        n_recorded[c, what] = i
    }
}

# Fills list, in order, and says how many there are.
function sorted(c, what,   i, j, value) {
    for (i = 1; i <= n_recorded[c, what]; i++) {
        value = recorded[c, what, i] + 0
        for (j = i; j > 1 && list[j - 1] > value; j--) {
            list[j] = list[j - 1]
        }
        list[j] = value
    }
    return i - 1
}

# Of the list.
function median(n) {
    return (list[int((n + 1) / 2)] + list[int(n / 2) + 1]) / 2
}

# Three digits that matter.
function short(value) {
    return sprintf(value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value)
}
