#!/usr/bin/env python3
"""The order of the source's rooms: src/README lists them from the ground up, and a file includes headers of its own
room and of rooms above it in that list, never of one below. No files include each other in a circle: a source
counts as one with its header, and libc/layout.h with those of each C library. And each of the library's own locks
is made free in a child, whose vanished threads may have had it. Speaks TAP."""

import glob
import os
import re

SOURCE = os.path.join(os.environ["top_srcdir"], "src")


def rooms():
    with open(os.path.join(SOURCE, "README")) as file:
        return re.findall(r"^    ([a-z]+)  +[A-Z]", file.read().split("Where does it go?")[0], re.M)


def unit(path):
    """A row file is one of its own; else x.c and x.h are one, and so are layout.h, layout-glibc.c and their like."""
    stem, kind = os.path.splitext(path)
    return path if kind == ".def" else re.sub(r"^(libc/layout)-(glibc|musl|unknown).*", r"\1", stem)


def includes():
    """(file, file that it includes), both as the includes write them."""
    for folder, _, names in os.walk(SOURCE):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), SOURCE)
            if path.endswith((".c", ".h", ".def")):
                with open(os.path.join(SOURCE, path)) as file:
                    for other in re.findall(r'^\s*#\s*include "([^"]+/[^"]+)"', file.read(), re.M):
                        yield path, other


def circles(edges):
    """What is left when units that include no other, or that no other includes, are taken away again and again."""
    left = edges
    while True:
        included = set().union(*left.values())
        kept = {one: others & left.keys() for one, others in left.items() if one in included}
        kept = {one: others for one, others in kept.items() if others}
        if kept == left:
            return left
        left = kept


def latches():
    """(file, name) of each latch, and of each that a call makes free."""
    owned, freed = [], []
    for path in sorted(glob.glob(os.path.join(SOURCE, "*", "*.c"))):
        with open(path) as file:
            text = file.read()
        owned += [(path, name) for name in re.findall(r"^(?:static |    |)struct fsafe_latch (\w+)[ ;]", text, re.M)]
        freed += [(path, re.sub(r".*\W", "", one)) for one in re.findall(r"fsafe_latch_reset\(&([^)]+)\)", text)]
    return owned, freed


def main():
    order = {room: floor for floor, room in enumerate(rooms())}
    pairs = sorted(includes())
    room_of = lambda path: path.split("/")[0]
    unknown = sorted({room_of(path) for path, _ in pairs} - order.keys())
    upward = [f"{one} includes {other}" for one, other in pairs
              if room_of(one) in order and room_of(other) in order and order[room_of(other)] > order[room_of(one)]]
    edges = {}
    for one, other in pairs:
        edges.setdefault(unit(one), set())
        if unit(one) != unit(other):
            edges[unit(one)].add(unit(other))
    ring = circles(edges)
    owned, freed = latches()
    stay = [f"{name} of {path} stays taken" for path, name in owned
            if (path, name) not in freed and (name == "latch" or name not in [other for _, other in freed])]
    checks = [
        (f"src/README lists all rooms, {len(order)}", not unknown and len(order) > 5, unknown),
        (f"no file includes one of a room below, of {len(pairs)} includes", not upward, upward),
        (f"no circle, of {len(edges)} units", not ring,
         [f"{one} includes {', '.join(sorted(others))}" for one, others in ring.items()]),
        (f"a child makes each of {len(owned)} latches free", not stay and len(owned) > 5, stay),
    ]
    print(f"1..{len(checks)}")
    for number, (what, right, why) in enumerate(checks, 1):
        print(f"{'ok' if right else 'not ok'} {number} - {what}")
        for line in [] if right else why:
            print(f"# {line}")
    return not all(right for _, right, _ in checks)


if __name__ == "__main__":
    raise SystemExit(main())
