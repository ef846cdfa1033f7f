# What both reports read and print. The input: the contenders' names, one a line, then what was recorded: contender, what,
# value.

NR == FNR {names[n_contenders++] = $0; next}
{recorded[$1, $2, ++n_recorded[$1, $2]] = $3}
$2 == "others" && $3 > most_of_others {most_of_others = $3}

# A contender's name above the columns.
function show_name(c) {
    printf "\n%s\n%-44s %9s %9s %9s\n", names[c], "", "median", "lowest", "highest"
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
