#!/usr/bin/env python3
"""The table of the manual page, "Waits that nobody ends", and its tests: no cell without one, and no other.

A comment behind each row names it as tests/scenario/table.c does. What the page promises of a cell is what the case of
that name demands: "saved" ends fine where it hangs bare, "named" has a line, "not seen" has none. Speaks TAP."""

import os
import re
import subprocess
import sys

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
VICTIM = os.path.join("tests", "scenario", "table.scenario")


def rows_of_page():
    """Name of the row -> the words of its two cells."""
    with open(os.path.join(SOURCE, "man", "libforksafe.7")) as file:
        page = file.read()
    table = re.search(r"\.Ss Waits that nobody ends\n.*?\.Bl -column.*?\n(.*?)\.El", page, re.S).group(1)
    rows, cells = {}, None
    for line in table.splitlines():
        if line.startswith(".It Em "):
            continue
        if line.startswith(".It "):
            cells = [cell.strip() for cell in line.split(" Ta ")[1:]]
        elif line.startswith('.\\" ') and cells is not None:
            rows[line[4:].strip()] = cells
            cells = None
        else:
            raise SystemExit(f"Bail out! a row without a name, or a name without a row: {line}")
    return rows


def cases():
    """Name of the case -> how it ends with the library, and what is demanded of the lines."""
    listed = subprocess.run([VICTIM, "--list"], capture_output=True, text=True, check=True).stdout
    return {name: (preloaded, says) for name, bare, preloaded, env, says in
            (line.split("\t") for line in listed.splitlines())}


def is_kept(word, case):
    preloaded, says = case
    return {"saved": preloaded == "fine", "named": preloaded == "hangs" and "child hangs in" in says,
            "by its parent": preloaded == "hangs" and "child hangs in" in says,
            "not seen": preloaded == "hangs" and says.startswith("never:^forksafe")}[word]


def main():
    if not os.path.exists(VICTIM):
        print(f"1..0 # SKIP no {VICTIM}")
        return 0
    page, tested, number, failed = rows_of_page(), cases(), 0, False
    wanted = set()
    for row, cells in page.items():
        for company, word in zip(("alone", "threads"), cells):
            if word == r"\(en":
                continue
            name = f"{row}-{company}"
            wanted |= {name, name + "-abort"}
            number += 1
            good = name in tested and name + "-abort" in tested and is_kept(word, tested[name])
            failed |= not good
            print(f"{'ok' if good else 'not ok'} {number} - {name} is {word}")
    number += 1
    extra = sorted(set(tested) - wanted)
    print(f"{'not ok' if extra else 'ok'} {number} - no case that the page does not have {' '.join(extra)}")
    print(f"1..{number}")
    return failed or bool(extra)


sys.exit(main())
