# The report of the consumer. Its lists are in lists.awk.

END {
    for (c = 0; c < n_contenders; c++) {
        show_consumer(c)
    }
    show_ratios(n_contenders - 1, n_contenders - 2)
    for (c = 1; c < n_contenders - 2; c++) {
        show_ratios(0, c)
    }
}

function show_consumer(c) {
    show_name(c)
    n_events = recorded[c, "n_events", 1]
    divide(c, "rate", n_events, "seconds")
    show(c, "rate", "events/s flat out")
    show_cpu(c, "cpu_worker", "CPU of its processes")
    divide(c, "per_cpu", 1e6, "cpu_worker")
    show(c, "per_cpu", "events per CPU second")
    show_cpu(c, "cpu_redis", "CPU of Redis")
    show_cpu(c, "cpu_postgres", "CPU of PostgreSQL")
    show(c, "others", "CPU of the relay and others, cores")
    show(c, "missing", "missing entries")
    show_memory(c, "memory", "peak memory, MiB")
    show_latency(c, 500, "at 500 events/s")
    show_latency(c, 2000, "at 2,000 events/s")
    show_latency(c, "single", "of single events to their commit")
    show_memory(c, "memory_2000", "peak memory at 2,000 events/s, MiB")
    show(c, "missing_stopped", "redis stopped for a minute: missing entries")
    show(c, "doubled_stopped", "  doubled entries")
    show_memory(c, "memory_stopped", "  peak memory, MiB")
}

function show_memory(c, what, label) {
    scale(c, what, 1 / 1024)
    show(c, what, label)
}

function show_latency(c, what, label) {
    show(c, "latency_" what "_median", "latency " label ", median, ms")
    show(c, "latency_" what "_p99", "  p99, ms")
    show(c, "missing_" what, "  missing entries")
    show(c, "doubled_" what, "  doubled entries")
}

# Events/s of one contender by those of another, and by CPU, from medians.
function show_ratios(c, other) {
    printf "\n%s by %s\n", names[c], names[other]
    show_ratio(c, other, "rate", "events/s")
    show_ratio(c, other, "per_cpu", "events per CPU second")
}

function show_ratio(c, other, what, label,   above, below) {
    above = middle(c, what)
    below = middle(other, what)
    if (above > 0 && below > 0) {
        printf "  %-42s %9.2f\n", label, above / below
    }
}

function middle(c, what,   n) {
    n = sorted(c, what)
    return n > 0 ? median(n) : 0
}
