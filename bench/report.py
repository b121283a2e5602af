#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws one self-contained page from the JSON of dynfunc-bench.

    report.py results.json index.html
"""
import json
import sys
from html import escape

sys.dont_write_bytecode = True  # no __pycache__ in the source tree
import report_plots as plots
import report_pool
import report_probes
from report_style import STYLE

# What the plots of a bench show; where nothing is said, time.
RATIO_BENCHES = {"calls", "tracepoints", "static_keys", "hackbench"}
# Groups of several values of this parameter, and of no other, become one plot with lines.
SERIES_PARAMS = ("sites", "threads", "callbacks", "processes")
SERIES_WORDS = {"sites": "distinct call sites", "threads": "threads", "callbacks": "callbacks", "processes": "processes"}

HOW_TO_READ = """Every figure comes from one run on the machine above. Each round runs every case once; a ratio is the
median over the rounds of case ÷ baseline <em>in that round</em>, so compare ratios, and take nanoseconds as this machine's
alone. <b>median</b> and <b>min</b> are over rounds. Time is CPU time of the measuring thread unless a heading says wall time.
In <em>pool</em> more is better: there a ratio is that of pairs per second, case ÷ baseline, and time is wall time. So it is with
the calls of <em>probes</em> and <em>return_probes</em>, and with the turns of its processes, whose time is CPU time of all threads
or processes ÷ CPUs: what other work took from them does not count. In
<em>readers</em> it is CPU time of all threads ÷ sections.
A row with something to reach says whether it was reached in this run; nothing is left out because it was not."""


def words(params):
    return " ".join(f"{name}={value}" for name, value in params.items())


def mark(reached):
    return f'<span class="mark {"good" if reached else "bad"}">{"✓ reached" if reached else "✗ not reached"}</span>'


def is_own(row):
    """Whether this row is about the library: it has a form, or is named so."""
    if row["bench"] == "return_probes":
        return any(word in ("return", "active", "probed") for word in row["case"].split("-"))
    return "form" in row or row["case"].startswith(("dynfunc", "registration"))


def own_params(row, rows):
    """The parameters that tell this row from others of its group."""
    return {name: value for name, value in row["params"].items() if any(other["params"].get(name) != value for other in rows)}


def shared_params(rows):
    return {name: value for name, value in rows[0]["params"].items() if name not in own_params(rows[0], rows)}


def typeset(target_text):
    return escape(target_text.replace("<=", "≤").replace(">=", "≥").replace("x ", "× ").replace(" us", " µs"))


def target_value(target):
    if target["kind"] == "gib_per_s_at_least":
        return f'{plots.number(target["value"])} GiB/s'
    is_time = target["kind"] in ("ns_at_most", "ns_above_at_most")
    return plots.duration(target["value"]) if is_time else plots.times(target["value"])


def targets_table(results):
    lines = []
    for row in results:
        rows = [other for other in results if (other["bench"], other["group"]) == (row["bench"], row["group"])]
        for target in row.get("targets", []):
            lines.append(f'<tr><td>{escape(row["bench"])}: {escape(row["group"])}</td><td>{escape(row["case"])} '
                         f'<span class="soft">{escape(words(own_params(row, rows)))}</span></td>'
                         f'<td>{typeset(target["text"])}</td><td class="n">{target_value(target)}</td>'
                         f'<td>{mark(target["reached"])}</td></tr>')
    if not lines:
        return ""
    return ('<h2>To reach</h2><div class="wide"><table class="targets"><tr><th>bench: group</th><th>case</th><th>to reach</th>'
            f'<th class="n">this run</th><th></th></tr>{"".join(lines)}</table></div>')


def shown_ratio(row):
    return "–" if row["ratio"] is None else plots.times(row["ratio"])


def rows_table(rows, with_figures):
    has_params = any(own_params(row, rows) for row in rows)
    has_targets, has_form = any("target" in row for row in rows), any("form" in row for row in rows)
    has_figures = with_figures and any("figures" in row for row in rows)
    lines = []
    for row in rows:
        cells = [f'<td>{escape(row["case"])}</td>']
        if has_params:
            cells.append(f'<td class="soft">{escape(words(own_params(row, rows)))}</td>')
        cells += [f'<td class="n">{plots.duration(row["ns"])}</td><td class="n">{plots.duration(row["min"])}</td>',
                  f'<td class="n">{shown_ratio(row)}</td>']
        if has_form:
            cells.append(f'<td class="soft">{escape(row.get("form", ""))}</td>')
        if has_figures:
            cells.append(f'<td class="soft">{escape(words(row.get("figures", {})))}</td>')
        if has_targets:
            marks = "".join(f'{mark(target["reached"])} {typeset(target["text"])}<br>' for target in row.get("targets", []))
            cells.append(f"<td>{marks}</td>")
        lines.append(f'<tr{" class=own" if is_own(row) else ""}>{"".join(cells)}</tr>')
    return (f'<div class="wide"><table><tr><th>case</th>{"<th>params</th>" if has_params else ""}<th class="n">median</th>'
            f'<th class="n">min</th><th class="n">÷ {escape(rows[0]["baseline"])}</th>{"<th>form</th>" if has_form else ""}'
            f'{"<th>counted</th>" if has_figures else ""}{"<th>to reach</th>" if has_targets else ""}</tr>'
            f'{"".join(lines)}</table></div>')


def series_case(row, name):
    """The case without its value of the parameter: "on-8" with 8 callbacks is "on"."""
    return row["case"].removesuffix(f'-{row["params"][name]}')


def series_table(rows, name):
    """Cases down, the parameter across; median and ratio in each cell."""
    across = list(dict.fromkeys(row["params"][name] for row in rows))
    lines = []
    for case in dict.fromkeys(series_case(row, name) for row in rows):
        cells = {row["params"][name]: row for row in rows if series_case(row, name) == case}
        shown = [f'<td class="n">{plots.duration(cells[x]["ns"])} <b>{shown_ratio(cells[x])}</b></td>'
                 if x in cells else "<td></td>" for x in across]
        own = any(is_own(row) for row in cells.values())
        lines.append(f'<tr{" class=own" if own else ""}><td>{escape(case)}</td>{"".join(shown)}</tr>')
    heads = "".join(f'<th class="n">{x:,} {name}</th>' for x in across)
    return f'<div class="wide"><table><tr><th>case</th>{heads}</tr>{"".join(lines)}</table></div>'


def plain_table(table):
    head = "".join(f'<th{" class=n" if i else ""}>{escape(cell)}</th>' for i, cell in enumerate(table["head"]))
    lines = "".join("<tr>" + "".join(f'<td{" class=n" if i else ""}>{escape(cell)}</td>' for i, cell in enumerate(line)) + "</tr>"
                    for line in table["lines"])
    return (f'<h3>{escape(table["title"])}</h3><p class="soft">{escape(table["text"])}</p>'
            f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>')


def left_out_list(entries):
    items = "".join(f'<li>{escape(entry["case"])} <span class="soft">{escape(words(entry["params"]))}</span>: '
                    f'{escape(entry["reason"])}</li>' for entry in entries)
    return f"<p>Left out:</p><ul>{items}</ul>" if items else ""


def dots_plot(rows, as_ratio):
    drawn = []
    for row in rows:
        value = row["ratio"] if as_ratio else row["ns"]
        if value is None or value <= 0:
            continue
        kind = "ratio_at_most" if as_ratio else "ns_at_most"
        target = next((target for target in row.get("targets", []) if target["kind"] == kind), None)
        label = f'{row["case"]} {words(own_params(row, rows))}'.strip()
        drawn.append((label, value, target and target["limit"], target and target["reached"], is_own(row)))
    if not drawn:
        return ""
    title = rows[0]["group"]
    if as_ratio:
        axis_title = f'time ÷ {rows[0]["baseline"]} in the same round (×, logarithmic)'
        return plots.dots(drawn, title, axis_title, plots.times, plots.times_tick, 1.0)
    axis_title = f'{rows[0]["unit"].replace("ns per", "time per")}, {rows[0]["clock"]} (logarithmic)'
    return plots.dots(drawn, title, axis_title, plots.duration, plots.duration, None)


def series_param(rows):
    """The parameter that alone tells this group apart from its neighbours, if its rows have but that one."""
    for name in SERIES_PARAMS:
        if rows and all(list(row["params"]) == [name] for row in rows):
            return name
    return None


def series_plot(rows, name, as_ratio):
    series = {}
    for row in rows:
        value = row["ratio"] if as_ratio else row["ns"]
        if value is not None:
            series.setdefault(series_case(row, name), []).append((row["params"][name], value))
    label = SERIES_WORDS[name]
    baseline = series_case({"case": rows[0]["baseline"], "params": rows[0]["params"]}, name)
    y_title = f'time ÷ {baseline} (×, logarithmic)' if as_ratio else f'{rows[0]["unit"]} (logarithmic)'
    show, show_tick = (plots.times, plots.times_tick) if as_ratio else (plots.duration, plots.duration)
    return plots.lines(series, f'{rows[0]["bench"]} by {label}', f"{label} (logarithmic)", y_title, show, show_tick)


def group_text(group, said):
    """Groups of one kind share their text; it stands under the first."""
    if not group["text"] or group["text"] in said:
        return ""
    said.add(group["text"])
    return f'<p class="soft">{escape(group["text"])}</p>'


def series_section(rows, name, as_ratio, text):
    heading = f'{"ratio" if as_ratio else "time"} over {SERIES_WORDS[name]}'
    table = series_table(rows, name)
    return f'<h3>{heading} <span class="soft">({rows[0]["unit"]}, {rows[0]["clock"]})</span></h3>{text}' \
           f"{series_plot(rows, name, as_ratio)}{table}"


def bench_section(bench, document):
    if bench == "pool":
        tables = [plain_table(table) for table in document["tables"] if table["bench"] == bench]
        return report_pool.section(document) + "".join(tables)
    as_ratio = bench in RATIO_BENCHES
    parts, said, series_rows, series_text = [], set(), [], ""
    has_hits = bench in report_probes.CONTESTS
    if has_hits:
        parts.append(report_probes.section(bench, document))
    for group in document["groups"]:
        if group["bench"] != bench or (has_hits and report_probes.is_drawn(bench, group["title"], document)):
            continue
        rows = [row for row in document["results"] if (row["bench"], row["group"]) == (bench, group["title"])]
        left_out = left_out_list([entry for entry in document["left_out"]
                                  if (entry["bench"], entry["group"]) == (bench, group["title"])])
        if series_param(rows):
            series_rows += rows
            series_text += group_text(group, said) + left_out
            continue
        details = [rows[0]["unit"], rows[0]["clock"], words(shared_params(rows))] if rows else []
        heading = f'<span class="soft">({escape(", ".join(filter(None, details)))})</span>' if rows else ""
        parts.append(f'<h3>{escape(group["title"])} {heading}</h3>{group_text(group, said)}')
        if rows:
            parts += [dots_plot(rows, as_ratio), rows_table(rows, bench == "return_probes")]
        parts.append(left_out)
    if series_rows:
        parts.append(series_section(series_rows, series_param(series_rows), as_ratio, series_text))
    if not has_hits:  # their sections have the same figures
        parts += [plain_table(table) for table in document["tables"] if table["bench"] == bench]
    return f'<h2>{escape(bench)}</h2>{"".join(parts)}'


def page(document):
    machine = "".join(f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>"
                      for name, value in document["machine"].items())
    benches = list(dict.fromkeys(group["bench"] for group in document["groups"]))
    sections = "".join(bench_section(bench, document) for bench in benches)
    return ('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>dynfunc bench</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f"<style>{STYLE}</style></head><body><h1>dynfunc bench</h1><dl>{machine}</dl><p>{HOW_TO_READ}</p>"
            f"{targets_table(document['results'])}{sections}</body></html>\n")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: report.py results.json index.html")
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(page(document))


if __name__ == "__main__":
    main()
