#!/usr/bin/env python3
"""README's recipes for what is not at hand here as a whole: systemd, containers, Kubernetes.

Each snippet is taken as it stands there and read by the tool that it is for, which has to find in it what the recipe
promises: LD_PRELOAD, and the library where LD_PRELOAD says. (The recipes that are commands are run by pages.py.)
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, os.pardir, os.pardir)
sys.path.insert(0, os.path.join(HERE, os.pardir, "python"))

import harness

COLUMN = 26  # where a recipe begins, behind its name


def recipes():
    """Name: its lines."""
    with open(os.path.join(TOP, "README")) as page:
        section = page.read().partition("\nRecipes\n-------\n")[2].partition("\n----")[0]
    found, name = {}, None
    for line in section.splitlines():
        if line.startswith("    ") and line[4:COLUMN].strip():
            name = line[4:COLUMN].strip()
        if line.startswith("    ") and name:
            found.setdefault(name, []).append(line[COLUMN:].replace("LIB", harness.LIBRARY))
        elif name:
            break
    return found


def snippet(lines):
    """Those of a recipe that are to be copied: the indented ones."""
    return "".join(line.strip() + "\n" for line in lines if line.startswith("    "))


def run(*argv, **more):
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=120, **more)


def check_systemd(lines, folder):
    title = "systemd: the drop-in is one that systemd understands, and a key that it does not know is said"
    if shutil.which("systemd-analyze") is None:
        harness.skip(title, "there is no systemd-analyze")
        return
    unit = os.path.join(folder, "app.service")
    os.mkdir(f"{unit}.d")
    with open(unit, "w") as file:
        file.write("[Service]\nExecStart=/bin/true\n")

    def complaints(text):
        with open(f"{unit}.d/override.conf", "w") as file:
            file.write(text)
        # Of other units of this machine, too, which are none of ours.
        return [line for line in run("systemd-analyze", "verify", unit).stderr.splitlines() if "app.service" in line]

    dropin = snippet(lines)
    said, wrong = complaints(dropin), complaints(dropin.replace("Environment", "Enviroment"))
    if not harness.ok(f"Environment=LD_PRELOAD={harness.LIBRARY}\n" in dropin and not said and wrong, title):
        harness.note("\n".join([dropin, *said]))


def check_containers(lines, folder):
    titles = [f"{tool}: the library is where LD_PRELOAD says, in a container" for tool in ("docker run", "Dockerfile")]
    podman = ["podman", "--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    empty = run("tar", "-cf", "-", "-T", "/dev/null").stdout
    why = "there is no podman" if shutil.which("podman") is None else None
    if why is None:
        imported = run(*podman, "import", "-", "localhost/image", input=empty)
        why = imported.returncode and (imported.stderr.strip().splitlines() or ["podman import fails"])[-1]
    if why:
        for title in titles:
            harness.skip(title, why)
        return
    words = lines[0].replace("IMAGE", "localhost/image").split()
    created = run(*podman, "create", "--name", "app", *words[2:], "app")
    state = run(*podman, "inspect", "app").stdout
    about = json.loads(state)[0] if created.returncode == 0 else {"Config": {"Env": []}, "Mounts": []}
    mounts = [(mount["Source"], mount["Destination"], mount["RW"]) for mount in about["Mounts"]]
    if not harness.ok(words[:2] == ["docker", "run"] and f"LD_PRELOAD={harness.LIBRARY}" in about["Config"]["Env"] and
                      (harness.LIBRARY, harness.LIBRARY, False) in mounts, titles[0]):
        harness.note(created.stderr + state)
    context = os.path.join(folder, "context")
    os.mkdir(context)
    shutil.copy(harness.LIBRARY, os.path.join(context, "libforksafe.so"))
    with open(os.path.join(context, "Dockerfile"), "w") as file:
        file.write("FROM localhost/image\n" + snippet(lines))
    built = run(*podman, "build", "--isolation", "chroot", "-t", "localhost/app", context)
    state = run(*podman, "image", "inspect", "localhost/app").stdout
    environment = json.loads(state)[0]["Config"].get("Env", []) if built.returncode == 0 else []
    preload = next((text.partition("=")[2] for text in environment if text.startswith("LD_PRELOAD=")), None)
    place = run(*podman, "image", "mount", "localhost/app").stdout.strip()
    if not harness.ok(place and preload and os.path.exists(place + preload), titles[1]):
        harness.note(built.stderr + state)
    run(*podman, "system", "reset", "--force")


def check_kubernetes(lines):
    title = "Kubernetes: the lines are YAML, and LD_PRELOAD lies in the volume"
    try:
        import yaml
    except ImportError:
        harness.skip(title, "there is no yaml module")
        return
    container = yaml.safe_load(snippet(lines))
    preload = {entry["name"]: entry["value"] for entry in container["env"]}["LD_PRELOAD"]
    mount = container["volumeMounts"][0]
    harness.ok(set(container) == {"env", "volumeMounts"} and set(mount) == {"name", "mountPath", "readOnly"} and
               os.path.dirname(preload) == mount["mountPath"] and mount["readOnly"] is True, title)


shown = recipes()
harness.begin(4)
with tempfile.TemporaryDirectory() as scratch:
    check_systemd(shown["systemd"], scratch)
    check_containers(shown["Docker, Podman"], scratch)
check_kubernetes(shown["Kubernetes"])
