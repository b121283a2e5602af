#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The section of the bench "pool" in report.py's page, and its rows as a table for other programs.

    report_pool.py results.json rows.csv
"""
import csv
import json
import sys
from html import escape

sys.dont_write_bytecode = True
import report_plots as plots
import report_rates
from report_rates import columns_of, number_of_threads, rate, rates_over

TITLES = {"A": "A: pop one, push it", "B": "B: bulk", "C": "C: far too few objects", "X": "X: handed over to another CPU",
          "interrupt": "interrupt: a signal handler takes part"}
BASELINE = "freelist"
# In this order they get their colours, the same in every plot.
OTHERS = ["thread-local", "array", "ring", "percpu-freelist", "mimalloc", "malloc", "moodycamel", "mutex", "urcu-lfstack",
          "boost-stack", "boost-queue", "tbb-bounded"]
ENOUGH_CPU = 85  # percent

# Published with the kernel's object pools, on a Xeon Platinum 8260 with 24 cores, as hits of a run of 10 seconds; here divided by
# 10: millions of pairs per second. The row called "objpool" there is one freelist for each CPU.
PUBLISHED = {"published freelist": {1: 23.8, 2: 16.4, 4: 3.3, 8: 1.55, 16: 1.06, 24: 0.90, 96: 0.43},
             "published objpool": {1: 23.5, 2: 29.4, 4: 58.5, 8: 116, 16: 233, 24: 351, 96: 121}}
PUBLISHED_TEXT = """Published figures, from another machine (Xeon Platinum 8260, 24 cores, in the kernel): hits of a run of 10 s ÷ 10 s. They
are here for their shape: the freelist's fall and the rise of lists per CPU. They cannot be compared in height. The dashed lines
above are these, as far as this run's numbers of threads go."""


def millions(value):
    return "<0.001" if 0 < value < 1e3 else plots.number(value / 1e6)


def is_own(case):
    return case.startswith("dynfunc")


def object_words(row):
    params = row["params"]
    return f'{params["size"]} bytes, {"aligned" if params["aligned"] else "packed"}'


def is_usual(row):
    return row["params"]["size"] == 64 and row["params"]["aligned"] == 1


def rate_cell(row):
    words = f"{plots.number(rate(row))} "
    words += "–" if row["ratio"] is None else f'<b>{plots.times(row["ratio"])}</b>'
    if "reached" in row:
        words += ' <span class="good-text">✓</span>' if row["reached"] else ' <span class="bad-text">✗</span>'
    return words + ("†" if row.get("figures", {}).get("cpu_percent", 100) < ENOUGH_CPU else "")


def legend(rows):
    words = f"In each cell: millions of pairs per second of all threads together, and the ratio to {BASELINE}, " \
            "the median over the rounds of the ratio in that round."
    if any("reached" in row for row in rows):
        words += " ✓ ✗: whether all that is to be reached here was."
    if any(row.get("figures", {}).get("cpu_percent", 100) < ENOUGH_CPU for row in rows):
        words += f" †: the threads had less than {ENOUGH_CPU} % of the CPU time there was for them; they slept, or other work ran."
    return f'<p class="soft">{words}</p>'


def grid(rows, key, head, cell):
    return report_rates.grid(rows, key, head, cell, is_own)


def line_style(name):
    if name.startswith("published"):
        return "published"
    if is_own(name):
        return {"dynfunc": "mine", "dynfunc-tagged": "mine tagged"}.get(name, "mine single")
    if name == BASELINE:
        return "base"
    place = OTHERS.index(name) if name in OTHERS else len(OTHERS)
    return f"thin c{2 + place % 6}{' dotted' if place >= 6 else ''}"


def race(series, title, x_title):
    """Ours and the baseline thick, the others thin, what was published dashed."""
    return report_rates.race(series, title, x_title, "M pairs per s (logarithmic)", line_style)


def figures_table(rows, name, title, show):
    """One figure of the rows: the cases that have it anywhere."""
    having = {row["case"] for row in rows if row["figures"].get(name)}
    if not having:
        return ""
    if len(having) < len({row["case"] for row in rows}):
        title += "; the other cases have none"
    return f"<p>{title}:</p>" + grid([row for row in rows if row["case"] in having], lambda row: row["params"]["threads"], number_of_threads,
                                     lambda row: show(row["figures"].get(name, 0)))


def threads_part(mode, rows):
    """Everything about one kind of objects and one bulk."""
    parts = []
    if len(columns_of(rows, lambda row: row["params"]["threads"])) > 1:
        series = rates_over(rows, "threads")
        if mode == "A" and is_usual(rows[0]):
            most = max(row["params"]["threads"] for row in rows)
            series |= {name: [point for point in figures.items() if point[0] <= most] for name, figures in PUBLISHED.items()}
        parts.append(race(series, f"pool, {TITLES[mode]}, by threads", "threads (logarithmic)"))
    parts.append(grid(rows, lambda row: row["params"]["threads"], number_of_threads, rate_cell))
    parts.append(figures_table(rows, "misses_per_s", "Misses, millions per second" +
                               (" (the hits are the pairs above)" if mode == "C" else ""), millions))
    parts.append(figures_table(rows, "interrupts_per_s", "Signal handlers that ran, thousands per second",
                               lambda value: plots.number(value / 1e3)))
    parts.append(figures_table(rows, "misses_in_interrupts", "Pops in handlers that found nothing, in the whole run",
                               lambda value: f"{value:,}"))
    return "".join(parts)


def published_table():
    threads = sorted({n for figures in PUBLISHED.values() for n in figures})
    lines = "".join(f"<tr><td>{name}</td>" + "".join(f'<td class="n">{plots.number(figures[n])}</td>' for n in threads) + "</tr>"
                    for name, figures in PUBLISHED.items())
    heads = "".join(f'<th class="n">{number_of_threads(n)}</th>' for n in threads)
    return f'<p class="soft">{PUBLISHED_TEXT}</p><div class="wide"><table><tr><th>M pairs per s</th>{heads}</tr>{lines}</table></div>'


def left_out(document, mode):
    entries = [entry for entry in document["left_out"] if entry["bench"] == "pool" and entry["params"].get("mode") == mode]
    said = dict.fromkeys(f'{escape(entry["case"])}: {escape(entry["reason"])}' for entry in entries)
    return f'<p>Left out:</p><ul>{"".join(f"<li>{words}</li>" for words in said)}</ul>' if said else ""


def by_bulk(rows):
    """Bulk B of the usual objects, with the number of threads that was measured with most bulks."""
    usual = [row for row in rows if is_usual(row)]
    counts = {}
    for row in usual:
        counts.setdefault(row["params"]["threads"], set()).add(row["params"]["bulk"])
    threads = max(counts, key=lambda n: (len(counts[n]), n == 2), default=None)
    if threads is None or len(counts[threads]) < 2:
        return ""
    chosen = sorted((row for row in usual if row["params"]["threads"] == threads), key=lambda row: row["params"]["bulk"])
    return (f"<h4>By bulk, {number_of_threads(threads)}</h4>"
            + race(rates_over(chosen, "bulk"), "pool, B, by bulk", "how many are popped, then pushed (logarithmic)")
            + grid(chosen, lambda row: row["params"]["bulk"], lambda bulk: f"bulk {bulk}", rate_cell))


def by_object(rows):
    """With 2 threads, over the kinds of objects."""
    others = {row["case"] for row in rows if not is_usual(row)}
    chosen = [row for row in rows if row["params"]["threads"] == 2 and row["params"]["bulk"] in (1, 16) and row["case"] in others]
    if not others or len(columns_of(chosen, object_words)) < 2:
        return ""
    chosen.sort(key=lambda row: (row["params"]["size"], row["params"]["aligned"]))
    return ("<h4>By object, 2 threads</h4>"
            '<p class="soft">Objects of 40 bytes are packed, each behind the one before, or aligned, each on a cache line of its own. 64 and '
            "512 bytes are whole lines, so both would be the same.</p>" + grid(chosen, object_words, str, rate_cell))


def mode_part(document, mode, rows):
    usual_bulk = 16 if mode == "B" else rows[0]["params"]["bulk"]
    main = [row for row in rows if is_usual(row) and row["params"]["bulk"] == usual_bulk]
    text = next((group["text"] for group in document["groups"] if group["bench"] == "pool" and
                 any(row["group"] == group["title"] for row in rows)), "")
    parts = [f'<h3>{escape(TITLES[mode])} <span class="soft">({escape(rows[0]["clock"])})</span></h3>',
             f'<p class="soft">{escape(text)}</p>', legend(rows)]
    if main:
        parts.append(threads_part(mode, main))
    if mode == "A":
        parts.append(published_table())
    if mode == "B":
        parts.append(by_bulk([row for row in rows if row["params"]["size"] == 64]))
    comparable = [row for row in rows if row["params"]["bulk"] == usual_bulk]
    parts.append(by_object(comparable))
    # The matrix has all threads for every kind of object and every bulk.
    for words in columns_of(rows, lambda row: (object_words(row), row["params"]["bulk"])):
        these = [row for row in rows if (object_words(row), row["params"]["bulk"]) == words]
        if these[0] not in main and len(columns_of(these, lambda row: row["params"]["threads"])) > 1:
            bulk = f", bulk {words[1]}" if mode == "B" else ""
            parts.append(f"<h4>{words[0]}{bulk}</h4>{threads_part(mode, these)}")
    return "".join(parts) + left_out(document, mode)


def section(document):
    rows = [row for row in document["results"] if row["bench"] == "pool"]
    forms = {row["case"]: row["form"] for row in rows if "form" in row}
    back_ends = ", ".join(f"{case}: {form}" for case, form in forms.items())
    parts = [f'<h2>pool</h2><p class="soft">Objects of 64 bytes on cache lines of their own where nothing else is said; one word of each '
             f"popped object is written. Threads are pinned round robin. Back ends: {escape(back_ends)}.</p>"]
    for mode in TITLES:
        of_mode = [row for row in rows if row["params"]["mode"] == mode]
        if of_mode:
            parts.append(mode_part(document, mode, of_mode))
    return "".join(parts)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: report_pool.py results.json rows.csv")
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    rows = [row for row in document["results"] if row["bench"] == "pool"]
    params = ["mode", "bulk", "threads", "size", "aligned"]
    figures = list(dict.fromkeys(name for row in rows for name in row.get("figures", {})))
    with open(sys.argv[2], "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case", *params, "M_pairs_per_s", "ratio", "ns", "min_ns", "rounds", *figures])
        for row in rows:
            table.writerow([row["case"], *(row["params"][name] for name in params), f"{rate(row):.4f}", row["ratio"], row["ns"],
                            row["min"], row["rounds"], *(row.get("figures", {}).get(name, "") for name in figures)])


if __name__ == "__main__":
    main()
