#!/usr/bin/env python3
"""Draws the ratios of a CSV file that tests/bench/pair wrote: plot.py FILE.csv FILE.svg. Needs nothing but Python."""

import csv
import html
import sys

ROW, LABEL, WIDTH, MOST = 18, 330, 420, 3.0


def bar(y, name, value, colour):
    length = min(value, MOST) / MOST * WIDTH
    return (f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{ROW - 5}" fill="{colour}"/>'
            f'<text x="{LABEL + length + 5:.1f}" y="{y + 12}">{value:.2f}</text>')


def main():
    source, target = sys.argv[1:]
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    height = ROW * (len(rows) + 2)
    one = LABEL + WIDTH / MOST
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + 60}" height="{height}" '
             'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
             f'<text x="{LABEL}" y="13">time of a pair with the library, bare = 1</text>']
    for number, row in enumerate(rows, 1):
        colour = "#4a7" if row["process"] == "threaded" else "#79c"
        lines.append(bar(number * ROW, f'{row["pair"]}, {row["process"]}', float(row["ratio"]), colour))
    lines.append(f'<line x1="{one}" x2="{one}" y1="{ROW}" y2="{height - ROW}" stroke="black"/></svg>')
    with open(target, "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
