#!/usr/bin/env python3
"""Together with other preloaded libraries, before and behind us: allocators, fake clocks, fake roots, unbuffered
output."""
import glob
import os
import sys

sys.dont_write_bytecode = True

import company
import harness

# By Debian's package, which a skip names.
LIBRARIES = {
    "libjemalloc2": "libjemalloc.so.2",
    "libtcmalloc-minimal4": "libtcmalloc_minimal.so.4",
    "libgoogle-perftools4": "libtcmalloc.so.4",
    "libmimalloc2.0": "libmimalloc.so.2",
    "libfaketime": "faketime/libfaketime.so.1",
    "libeatmydata1": "libeatmydata.so",
}

LAUNCHERS = {
    "fakeroot": ["fakeroot"],
    "coreutils": ["stdbuf", "-oL"],
    "eatmydata": ["eatmydata"],
}

OURS = harness.LIBRARY
FALSE_CLOCK = os.path.join(company.BUILT, "company", ".libs", "false_clock.so")


def try_python(name, bare, library):
    hung = company.run([*bare, harness.PYTHON3, company.PYTHON_VICTIM, company.BARE_SECONDS])
    saved = company.run([*library, harness.PYTHON3, company.PYTHON_VICTIM, company.SECONDS])
    return {f"{name}: Python's child hangs bare and is saved":
            "child: WRONG" in hung.out and company.right(saved) and company.takeovers(saved) == 2 and
            company.other_lines(saved) == hung.err.splitlines()}, {"bare": hung, "library": saved}


def check_orders(name, orders, bare, missing):
    for order, library in orders.items():
        title = f"{name} {order}"
        if missing:
            for number in range(5):
                harness.skip(title, f"{missing} is not installed")
            continue
        harness.row(company.try_pair, title, bare, library, storms=0 if "tcmalloc" in name else 30, blocks=16)
        harness.row(try_python, title, bare, library)


harness.begin(2 * 5 * (len(LIBRARIES) + len(LAUNCHERS)) + 2 * 4)
for package, name in LIBRARIES.items():
    found = glob.glob(f"/usr/lib/*/{name}")
    path = found[0] if found else name
    orders = {
        "behind us": company.under(preload=f"{OURS}:{path}"),
        "before us": company.under(preload=f"{path}:{OURS}"),
    }
    check_orders(name, orders, company.under(preload=path), None if found else package)
for package, launcher in LAUNCHERS.items():
    found = company.find(launcher[0])
    orders = {
        "started by us": [*company.under(), *launcher],
        "starts us": [*launcher, "sh", "-c", f'LD_PRELOAD="$LD_PRELOAD:{OURS}"; export LD_PRELOAD; exec "$@"', "sh"],
    }
    check_orders(launcher[0], orders, launcher, None if found else package)
for order, preload in {"behind us": f"{OURS}:{FALSE_CLOCK}", "before us": f"{FALSE_CLOCK}:{OURS}"}.items():
    harness.row(company.try_pair, f"a clock that stands still {order}", company.under(preload=FALSE_CLOCK),
                company.under(preload=preload))
