# SPDX-License-Identifier: MIT
"""Rates over threads: what report_pool.py and report_probes.py share."""
from html import escape

import report_plots as plots


def rate(row):
    return 1e3 / row["ns"]


def columns_of(rows, key):
    return list(dict.fromkeys(key(row) for row in rows))


def number_of_threads(n):
    return f"{n} thread{'' if n == 1 else 's'}"


def grid(rows, key, head, cell, is_own):
    """Cases down, `key` across."""
    across = columns_of(rows, key)
    lines = []
    for case in columns_of(rows, lambda row: row["case"]):
        cells = {key(row): row for row in rows if row["case"] == case}
        shown = "".join(f'<td class="n">{cell(cells[x]) if x in cells else ""}</td>' for x in across)
        lines.append(f'<tr{" class=own" if is_own(case) else ""}><td>{escape(case)}</td>{shown}</tr>')
    heads = "".join(f'<th class="n">{escape(head(x))}</th>' for x in across)
    return f'<div class="wide"><table><tr><th>case</th>{heads}</tr>{"".join(lines)}</table></div>'


def label_places(wanted, gap, top, bottom):
    """plots.spread(), and inside the plot."""
    placed = plots.spread(wanted, gap)
    order = sorted(range(len(placed)), key=lambda i: placed[i])
    for limit, inside, step, indices in ((top, max, gap, order), (bottom, min, -gap, order[::-1])):
        for i in indices:
            placed[i] = inside(placed[i], limit)
            limit = placed[i] + step
    return placed


def race(series, title, x_title, y_title, line_style):
    """Rates as lines, named at their right ends, each in the CSS classes that line_style(name) says; "mine" comes on top."""
    widest = max(len(f"{name} {plots.number(values[-1][1])}") for name, values in series.items())
    height = max(320, 16 * len(series) + 20)
    left, right, top = 70, plots.WIDTH - (widest * plots.CHAR + 26), 14
    points = [point for values in series.values() for point in values]
    x_axis = plots.LogAxis([x for x, _ in points], left, right)
    y_axis = plots.LogAxis([y for _, y in points], top + height, top)
    body = []
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        body += [plots.line(left, y, right, y, "grid"), plots.text(left - 8, y + 4, plots.number(tick), "end", "tick")]
    for x in sorted({x for x, _ in points}):
        body += [plots.line(x_axis.at(x), top + height, x_axis.at(x), top + height + 5, "axis"),
                 plots.text(x_axis.at(x), top + height + 20, f"{x:,}", "middle", "tick")]
    body.append(plots.line(left, top + height, right, top + height, "axis"))
    label_ys = label_places([y_axis.at(values[-1][1]) for values in series.values()], 16, top + 4, top + height)
    drawn = []
    for (name, values), label_y in zip(series.items(), label_ys):
        style = line_style(name)
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in values)
        end_x, end_y = x_axis.at(values[-1][0]), y_axis.at(values[-1][1])
        drawn.append((style == "mine", [
            f'<polyline points="{path}" class="line {style}"/>',
            *(f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="{3 if "thin" in style else 4}" class="{style}"/>'
              for x, y in values),
            plots.line(end_x + 6, end_y, right + 14, label_y, f"leader {style}"),
            plots.text(right + 18, label_y + 4, f"{name} {plots.number(values[-1][1])}", "start", f"name {style}")]))
    for _, parts in sorted(drawn, key=lambda one: one[0]):  # ours on top
        body += parts
    body += [plots.text((left + right) / 2, top + height + 42, x_title, "middle", "title"),
             f'<text transform="translate(16 {top + height / 2}) rotate(-90)" text-anchor="middle" class="title">'
             f"{escape(y_title)}</text>"]
    return plots.svg(top + height + 50, title, body)


def rates_over(rows, name):
    series = {}
    for row in rows:
        series.setdefault(row["case"], []).append((row["params"][name], rate(row)))
    return {case: sorted(values) for case, values in series.items()}
