#!/usr/bin/env python3
"""tests/mutation/list fits the source: each of its sed scripts changes the file that it names, and its test is there.
`make check-mutations` builds and runs each, which takes an hour; this takes a second. Speaks TAP."""

import os
import subprocess

TOP = os.environ["top_srcdir"]


def mutations():
    """What is broken, with which test, in which file, by which script; one block of lines each."""
    with open(os.path.join(TOP, "tests/mutation/list")) as file:
        for block in file.read().split("\n\n"):
            if not block.startswith("#"):
                yield dict(line.split(" ", 1) for line in block.splitlines())


def changes(file, script):
    """Whether the script changes the file."""
    path = os.path.join(TOP, file)
    done = subprocess.run(["sed", "-e", script, path], stdout=subprocess.PIPE, check=False)
    with open(path, "rb") as whole:
        return done.returncode == 0 and done.stdout != whole.read()


def is_there(test):
    """Whether one of the files that tests/mutation/run looks for is there."""
    name = test.split()[0]
    if name.endswith(".py"):
        places = [name]
    elif name.startswith("check_"):
        places = [f"tests/unit/{name}.c"]
    else:
        stem = f"tests/{name if '/' in name else 'scenario/' + name}"
        places = [stem + ".c", stem + ".cc"]
    return any(os.path.exists(os.path.join(TOP, place)) for place in places)


def main():
    found = list(mutations())
    print(f"1..{len(found) + 1}")
    print(f"{'ok' if len(found) > 30 else 'not ok'} 1 - {len(found)} mutations")
    wrong = len(found) <= 30
    for number, one in enumerate(found, 2):
        there, other = is_there(one["test"]), changes(one["file"], one["sed"])
        wrong |= not (there and other)
        print(f"{'ok' if there and other else 'not ok'} {number} - {one['says']}")
        if not there:
            print(f"# no test {one['test']}")
        if not other:
            print(f"# nothing changes in {one['file']}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
