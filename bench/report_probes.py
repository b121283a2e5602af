# SPDX-License-Identifier: MIT
"""The sections of the benches "probes" and "return_probes" in report.py's page."""
from dataclasses import dataclass
from html import escape

import report_plots as plots
from report_rates import columns_of, grid, number_of_threads, race, rate, rates_over

BASELINE = "unprobed"


@dataclass
class Contest:
    """What differs between the two benches."""
    peers: list  # beside the baseline; the other cases are ours
    published: str  # which of PUBLISHED are of this kind
    does: str


CONTESTS = {
    "probes": Contest(["int3", "kernel-uprobe"], "uprobe", "whose probe does nothing"),
    "return_probes": Contest(["kernel-uretprobe", "hijack", "hijack-pool", "hijack-freelist"], "uretprobe",
                             "whose return is seen by a handler that does nothing"),
}

# Published for the kernel's own probe with a BPF program, on another machine: millions of hits per second, by CPUs.
PUBLISHED = {"uprobe, published": {1: 3.4, 8: 10.4, 64: 6.9}, "uretprobe, published": {1: 2.2, 8: 5.9, 64: 4.4}}
PUBLISHED_TARGET = "nop"
PUBLISHED_TEXT = """Published figures, from other machines: they are here for their shape and cannot be compared in height. The
dashed line above is the kernel's probe of this kind with as many CPUs, as far as this run's numbers of threads go."""
# Not run here, as it was published or measured elsewhere: what, figure, where.
ELSEWHERE = [
    ("kernel uprobe at nop, push, ret, nop5", "3.204, 3.040, 1.098, 7.286 M/s", "cover letter of the nop5 series, kernel list, 2025; Intel"),
    ("kernel uretprobe at nop, nop5", "2.144, 3.487 M/s", "the same"),
    ("bpftime, uprobe", "190.02 ns (kernel there: 2561.57 ns)", "its example_results.md, 2025-04-30; Core Ultra 7 258V, Linux 6.11"),
    ("bpftime, uretprobe", "187.10 ns (kernel there: 3019.45 ns)", "the same"),
    ("safetyhook, mid hook: all registers and xmm", "24.3 to 24.7 ns (a plain call there: 1.364 ns)",
     "measured for this project; 2 virtual CPUs of an AMD EPYC (Zen 4), Linux 6.18"),
    ("safetyhook, inline hook that calls the original", "2.45 ns", "the same"),
]


def is_own(contest, case):
    return case != BASELINE and case not in contest.peers


def line_style(contest, name):
    if "published" in name:
        return "published"
    if name == BASELINE:
        return "base"
    if name in contest.peers:
        return f"c{2 + contest.peers.index(name)}"
    return {"return-entry": "mine tagged", "return-vectors": "mine single"}.get(name, "mine")


def rows_of(bench, document):
    """Those about hits; the others are groups like any other's."""
    return [row for row in document["results"] if row["bench"] == bench and "target" in row["params"]]


def is_drawn(bench, group_title, document):
    """Whether section() shows this group."""
    entries = document["results"] + document["left_out"]
    return any(entry["bench"] == bench and entry["group"] == group_title and "target" in entry["params"] for entry in entries)


def cell(row):
    threads, figures = row["params"]["threads"], row["figures"]
    words = f'{plots.number(rate(row))} ± {plots.number(float(figures["spread_M_per_s"]))}'
    words += f' <span class="soft">({plots.number(rate(row) / threads)})</span>'
    ratios = [] if row["ratio"] is None or row["case"] == BASELINE else [f'÷ {BASELINE} {plots.times(row["ratio"])}']
    if row["case"] != BASELINE:
        ratios += [f'÷ {name.removeprefix("x_").replace("_", "-")} <b>{plots.times(float(value))}</b>'
                   for name, value in figures.items() if name.startswith("x_")]
    if figures.get("missed"):
        ratios.append(f'missed: {figures["missed"]:,}')
    if threads == 1:
        ratios.insert(0, plots.duration(row["ns"]))
    return "<br>".join([words, *ratios])


def left_out(bench, document, target):
    said = dict.fromkeys(f'{escape(entry["case"])}: {escape(entry["reason"])}' for entry in document["left_out"]
                         if entry["bench"] == bench and entry["params"].get("target") == target)
    return f'<p>Left out:</p><ul>{"".join(f"<li>{words}</li>" for words in said)}</ul>' if said else ""


def target_part(bench, document, target, rows):
    contest = CONTESTS[bench]
    text = next((group["text"] for group in document["groups"] if (group["bench"], group["title"]) == (bench, rows[0]["group"])), "")
    parts = [f'<h3>{escape(target)} <span class="soft">({escape(rows[0]["clock"])})</span></h3><p class="soft">{escape(text)}</p>']
    if len(columns_of(rows, lambda row: row["params"]["threads"])) > 1:
        series = rates_over(rows, "threads")
        if target == PUBLISHED_TARGET:
            most = max(row["params"]["threads"] for row in rows)
            series |= {name: [point for point in figures.items() if point[0] <= most] for name, figures in PUBLISHED.items()
                       if name.startswith(contest.published)}
        parts.append(race(series, f"{bench}: {target}, by threads", "threads (logarithmic)", "M calls per s (logarithmic)",
                          lambda name: line_style(contest, name)))
    parts.append(grid(rows, lambda row: row["params"]["threads"], number_of_threads, cell, lambda case: is_own(contest, case)))
    if target == PUBLISHED_TARGET:
        parts.append(published_tables())
    return "".join(parts) + left_out(bench, document, target)


def published_tables():
    threads = sorted({n for figures in PUBLISHED.values() for n in figures})
    lines = "".join(f"<tr><td>{name}</td>" + "".join(f'<td class="n">{figures[n]}</td>' for n in threads) + "</tr>"
                    for name, figures in PUBLISHED.items())
    heads = "".join(f'<th class="n">{n} CPU{"" if n == 1 else "s"}</th>' for n in threads)
    others = "".join("<tr>" + "".join(f"<td>{escape(words)}</td>" for words in line) + "</tr>" for line in ELSEWHERE)
    return (f'<p class="soft">{PUBLISHED_TEXT}</p><div class="wide"><table><tr><th>M hits per s</th>{heads}</tr>{lines}</table></div>'
            f'<div class="wide"><table><tr><th>elsewhere</th><th>a hit</th><th>where</th></tr>{others}</table></div>')


def section(bench, document):
    rows = rows_of(bench, document)
    notes = dict.fromkeys(f'{row["case"]}: {row["figures"]["note"]}' for row in rows if "note" in row.get("figures", {}))
    parts = [f'<p class="soft">Every thread calls one and the same function, {CONTESTS[bench].does}. In each cell: millions of '
             f"calls per second of all threads together ± the standard deviation over the rounds (per thread); with one thread, what a call "
             f"takes; and the ratios of these rates, each the median over the rounds of the ratio in that round. Threads are pinned "
             f'round robin, and run for a while before anything is counted. {escape("; ".join(notes))}</p>']
    targets = dict.fromkeys(entry["params"]["target"] for entry in rows)
    for target in targets:
        parts.append(target_part(bench, document, target, [row for row in rows if row["params"]["target"] == target]))
    return "".join(parts)
