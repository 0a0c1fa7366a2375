"""A log-log plot as SVG, readable on white and on dark pages."""

import math

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 130, 34, 48
GREY, COLOURS = "#808890", ("#2f81f7", "#e3702d", "#3fa45b")


class Axis:
    """Values from low to high, placed logarithmically between two pixels."""

    def __init__(self, values, first, last):
        self.low, self.high = math.log(min(values)), math.log(max(values))
        self.first, self.last = first, last

    def at(self, value):
        part = (math.log(value) - self.low) / (self.high - self.low)
        return round(self.first + part * (self.last - self.first), 1)


def text(x, y, words, anchor="middle", colour=GREY, size=12):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{words}</text>'


def line(x1, y1, x2, y2):
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{GREY}" stroke-opacity=".35"/>'


def curve(points, x, y, name, colour):
    places = [(x.at(a), y.at(b)) for a, b in points]
    yield (f'<polyline points="{" ".join(f"{a},{b}" for a, b in places)}" fill="none" stroke="{colour}" '
           'stroke-width="2.5"/>')
    for a, b in places:
        yield f'<circle cx="{a}" cy="{b}" r="3.5" fill="{colour}"/>'
    yield text(places[-1][0] + 10, places[-1][1] + 4, name, "start", colour, 13)


def log_log(title, x_name, y_name, series, x_ticks):
    """series: {name: [(x, y), ...]}. The text of an SVG file."""
    ys = [b for points in series.values() for _, b in points]
    decades = [10.0 ** k for k in range(math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys))) + 1)]
    x = Axis(x_ticks, LEFT + 16, WIDTH - RIGHT)
    y = Axis(decades, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="system-ui, sans-serif">', f"<title>{title}</title>",
             text(LEFT, 18, title, "start", size=14)]
    for v in decades:
        parts += [line(LEFT, y.at(v), WIDTH - RIGHT, y.at(v)),
                  text(LEFT - 8, y.at(v) + 4, f"{v:g}", "end")]
    for v in x_ticks:
        parts += [line(x.at(v), TOP, x.at(v), HEIGHT - BOTTOM),
                  text(x.at(v), HEIGHT - BOTTOM + 18, f"{v:g}")]
    parts += [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name),
              f'<g transform="rotate(-90)">{text(-(HEIGHT - BOTTOM + TOP) / 2, 16, y_name)}</g>']
    for (name, points), colour in zip(series.items(), COLOURS):
        parts += curve(points, x, y, name, colour)
    return "\n".join(parts + ["</svg>"]) + "\n"
