"""Small line charts as SVG: a row of panels, linear or logarithmic axes, light or dark as the reader has it. Written
by hand because all of it is shorter than matplotlib is large."""

import math
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 300, 250                     # of a panel
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 56, 46    # around its axes
COLOURS = ("#3b82f6", "#e8730c", "#16a34a")  # seen on white and on black

STYLE = """
text { font: 11px sans-serif; fill: #24292f; } .title { font-size: 12px; font-weight: bold; }
.back { fill: #fff; } .axis { stroke: #57606a; fill: none; } .grid { stroke: #d8dee4; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .back { fill: #0d1117; } .axis { stroke: #8b949e; } .grid { stroke: #30363d; } }
"""


class Panel(NamedTuple):
    title: str
    x_label: str
    lines: dict  # name → [(x, y), …]
    x_decades: float = 50  # from such a range on the x axis is logarithmic


class Axis:
    """Values to pixels. Logarithmic where the values span decades; a 0 then stands one step before the smallest."""

    def __init__(self, values, low_px, high_px, decades):
        positive = [v for v in values if v > 0]
        self.log = bool(positive) and max(positive) / min(positive) >= decades
        self.low_px, self.high_px = low_px, high_px
        if self.log:
            self.first, self.last = math.floor(math.log10(min(positive))), math.log10(max(positive))
            self.has_zero = len(positive) < len(values)
            self.first -= self.has_zero
            self.ticks = [0] * self.has_zero + [10.0 ** e for e in range(self.first + self.has_zero,
                                                                         math.ceil(self.last - 1e-9) + 1)]
            self.last = max(self.last, math.log10(self.ticks[-1]))
        else:
            step = nice(max(positive, default=1) / 4)
            count = math.ceil(max(positive, default=1) / step - 1e-9)
            self.first, self.last = 0, count * step
            self.ticks = [n * step for n in range(count + 1)]

    def px(self, value):
        place = value if not self.log else math.log10(value) if value > 0 else self.first
        return self.low_px + (self.high_px - self.low_px) * (place - self.first) / (self.last - self.first)


def nice(step):
    """1, 2 or 5 times a power of ten, not below step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= step * 0.999)


def number(value):
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return "%g%s" % (round(value / unit, 3), name)
    return "%g" % round(value, 4)


def _text(x, y, text, anchor="middle", more=""):
    return '<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>' % (x, y, anchor, more, escape(text))


def _line(kind, x1, y1, x2, y2):
    return '<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>' % (kind, x1, y1, x2, y2)


def _axes(panel, x, y):
    out = [_text(LEFT - 40, 20, panel.title, "start", ' class="title"'),
           _text((x.low_px + x.high_px) / 2, HEIGHT - 8, panel.x_label)]
    for value in y.ticks:
        out += [_line("grid", x.low_px, y.px(value), x.high_px, y.px(value)),
                _text(x.low_px - 6, y.px(value) + 4, number(value), "end")]
    for value in x.ticks:
        out += [_line("axis", x.px(value), y.low_px, x.px(value), y.low_px + 4),
                _text(x.px(value), y.low_px + 17, number(value))]
    return out + [_line("axis", x.low_px, y.low_px, x.high_px, y.low_px),
                  _line("axis", x.low_px, y.low_px, x.low_px, y.high_px)]


def _panel(panel):
    points = [p for line in panel.lines.values() for p in line]
    x = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, panel.x_decades)
    y = Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, 50)
    out = _axes(panel, x, y)
    for n, (name, line) in enumerate(panel.lines.items()):
        colour = COLOURS[n % len(COLOURS)]
        out.append('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' % (
            colour, " ".join("%.1f,%.1f" % (x.px(a), y.px(b)) for a, b in line)))
        out += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s</title></circle>' % (
            x.px(a), y.px(b), colour, number(a), number(b)) for a, b in line]
        if len(panel.lines) > 1:
            out.append(_text(LEFT - 40 + 110 * n, 38, "● " + name, "start", ' style="fill: %s"' % colour))
    return out


def svg(panels):
    width = WIDTH * len(panels)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">' % (
        width, HEIGHT, width, HEIGHT), "<style>%s</style>" % STYLE,
        '<rect class="back" width="%d" height="%d"/>' % (width, HEIGHT)]
    for n, panel in enumerate(panels):
        out += ['<g transform="translate(%d 0)">' % (n * WIDTH), *_panel(panel), "</g>"]
    return "\n".join(out + ["</svg>", ""])
