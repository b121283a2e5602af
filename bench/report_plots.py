# SPDX-License-Identifier: MIT
"""SVG plots for report.py. Colours are CSS classes of the page, so that one drawing serves light and dark."""
import math
from html import escape

WIDTH = 860
CHAR = 8.2  # width of one character of the plots' bold 12 px text, generously


def number(value):
    """Three significant digits, no exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else f"{round(value):,}"


def duration(ns):
    for limit, unit in ((1e6, "ms"), (1e3, "µs")):
        if ns >= limit:
            return f"{number(ns / limit)} {unit}"
    return f"{number(ns)} ns"


def times(ratio):
    """With the zeros that say how exact it is: 1.20 is not 1.2."""
    return f"{ratio:.2f}×" if 0.1 <= ratio < 10 else f"{number(ratio)}×"


def times_tick(ratio):
    return f"{number(ratio)}×"


def text(x, y, words, anchor="start", style=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>'


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def svg(height, title, body):
    return (f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
            f'<title>{escape(title)}</title>{"".join(body)}</svg>')


def even_ticks(low, high):
    """Some four ticks at even distances of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= (high - low) / 4)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


class LogAxis:
    """Values from `low` to `high` on `begin`..`end`, with ticks at 1, 2 and 5 times the powers of ten; closer for near values."""

    def __init__(self, values, begin, end):
        self.low, self.high = min(values) / 1.08, max(values) * 1.08
        self.begin, self.end = begin, end
        if self.high / self.low < 4:
            self.ticks = even_ticks(self.low, self.high)
            return
        steps = (1, 2, 5) if self.high / self.low < 400 else (1,)
        self.ticks = [step * 10.0 ** power for power in range(-4, 12) for step in steps
                      if self.low <= step * 10.0 ** power <= self.high]

    def at(self, value):
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)


def dots(rows, title, axis_title, show, show_tick, base):
    """One line per row: (label, value, limit or None, reached, own). Each dot hangs on a stem from `base`, or from the left edge."""
    left = max(len(label) for label, *_ in rows) * CHAR + 16
    values = [value for _, value, *_ in rows] + [limit for _, _, limit, *_ in rows if limit]
    if base:
        values.append(base)
    axis = LogAxis(values, left, WIDTH - 130)
    step, top = 24, 12
    bottom = top + step * len(rows)
    body = []
    for tick in axis.ticks:
        x = axis.at(tick)
        body += [line(x, top, x, bottom, "grid"), text(x, bottom + 16, show_tick(tick), "middle", "tick")]
    origin = axis.at(base) if base else left
    body.append(line(origin, top, origin, bottom, "axis"))
    for i, (label, value, limit, reached, is_own) in enumerate(rows):
        y, x = top + step * (i + 0.5), axis.at(value)
        own = "own" if is_own else "other"
        body += [text(left - 10, y + 4, label, "end", own), line(origin, y, x, y, f"stem {own}"),
                 f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="{own}"/>']
        words, reach = show(value), max(x, origin)
        if limit:
            mark = "good" if reached else "bad"
            body.append(line(axis.at(limit), y - 9, axis.at(limit), y + 9, f"limit {mark}"))
            reach = max(reach, axis.at(limit))
            words += f"  ({'✓' if reached else '✗'} ≤ {show(limit)})"
        body.append(text(reach + 10, y + 4, words, "start", "value"))
    body.append(text((left + WIDTH - 130) / 2, bottom + 36, axis_title, "middle", "title"))
    return svg(bottom + 44, title, body)


def spread(wanted, gap):
    """Moves label positions apart to at least `gap`, as little as a pass down and a pass up need."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, after in zip(order, order[1:]):
        placed[after] = max(placed[after], placed[before] + gap)
    shift = sum(placed[i] - wanted[i] for i in order) / len(order)
    return [position - shift for position in placed]


def lines(series, title, x_title, y_title, show, show_tick):
    """series: name -> [(x, y)]; both axes logarithmic, each line named at its right end."""
    widest = max(len(f"{name} {show(values[-1][1])}") for name, values in series.items())
    left, right, top, height = 70, WIDTH - max(190, widest * CHAR + 26), 14, 320
    points = [point for values in series.values() for point in values]
    x_axis = LogAxis([x for x, _ in points], left, right)
    y_axis = LogAxis([y for _, y in points], top + height, top)
    body = []
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        body += [line(left, y, right, y, "grid"), text(left - 8, y + 4, show_tick(tick), "end", "tick")]
    for x in sorted({x for x, _ in points}):
        body += [line(x_axis.at(x), top + height, x_axis.at(x), top + height + 5, "axis"),
                 text(x_axis.at(x), top + height + 20, f"{x:,}", "middle", "tick")]
    body.append(line(left, top + height, right, top + height, "axis"))
    ends = spread([y_axis.at(values[-1][1]) for values in series.values()], 17)
    for i, ((name, values), label_y) in enumerate(zip(series.items(), ends)):
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in values)
        color = f"c{i % 9}"
        body.append(f'<polyline points="{path}" class="line {color}"/>')
        body += [f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="3.5" class="{color}"/>' for x, y in values]
        end_x, end_y = x_axis.at(values[-1][0]), y_axis.at(values[-1][1])
        body += [line(end_x + 6, end_y, end_x + 18, label_y, f"leader {color}"),
                 text(end_x + 22, label_y + 4, f"{name} {show(values[-1][1])}", "start", f"name {color}")]
    body += [text((left + right) / 2, top + height + 42, x_title, "middle", "title"),
             f'<text transform="translate(16 {top + height / 2}) rotate(-90)" text-anchor="middle" class="title">'
             f"{escape(y_title)}</text>"]
    return svg(top + height + 50, title, body)
