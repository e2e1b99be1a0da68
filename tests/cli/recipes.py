#!/usr/bin/env python3
"""README's recipes for what is not at hand here as a whole: systemd, containers, Kubernetes.

Each snippet is taken as it stands there: systemd's is read by systemd-analyze, and the others are run by Podman, with a
program whose child hangs bare. (The recipes that are commands are run by pages.py.)
"""
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

VICTIM = os.path.join(os.path.abspath(os.environ.get("TESTS_BUILT") or "tests"), "company", "victim")
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


class Engine:
    """Podman, in a folder of its own, with an image of a program whose child hangs bare."""

    def __init__(self, folder):
        self.folder = folder
        self.why = "there is no podman, or no runtime for it"  # it cannot run the program; None: it can
        for runtime in filter(shutil.which, ("crun", "runc") if shutil.which("podman") else ()):
            # Of its own accord it would set a container higher limits than a test may set.
            with open(self.settings(), "w") as file:
                file.write('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
                           'log_driver = "k8s-file"\n'
                           f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "{runtime}"\n')
            made = self.make_image(os.path.join(folder, runtime))
            self.bare = self.run("run", "--rm", "--network", "none", "localhost/image", "/victim", "held", "1")
            if "child: " in self.bare.stdout:
                self.why = None
                return
            self.why = ((made.stderr + self.bare.stderr).strip().splitlines() or ["podman run fails"])[-1]

    def settings(self):
        return os.path.join(self.folder, "containers.conf")

    def run(self, *arguments):
        return run("podman", "--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run",
                   "--storage-driver", "vfs", *arguments, env={**os.environ, "CONTAINERS_CONF": self.settings()})

    def make_image(self, content):
        """What the program is linked with, at the paths it is linked with."""
        linked = run("ldd", VICTIM).stdout.split()
        for path in [VICTIM, *filter(os.path.isabs, linked)]:
            place = os.path.join(content, "victim" if path == VICTIM else path[1:])
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(path, place)
        return self.run("import", shutil.make_archive(content, "tar", content), "localhost/image")

    def end(self):
        if os.path.exists(self.settings()):
            self.run("system", "reset", "--force")


def saves(ran):
    return ran.returncode == 0 and "child took over mutex" in ran.stdout + ran.stderr


def check_containers(engine, lines):
    titles = [f"{tool}: a child that hangs bare is saved in the container" for tool in ("docker run", "Dockerfile")]
    if engine.why:
        for title in titles:
            harness.skip(title, engine.why)
        return
    nowhere = ("run", "--rm", "--network", "none")
    words = lines[0].replace("IMAGE", "localhost/image").split()
    ran = engine.run(*nowhere, *words[2:], "/victim", "held", "60")
    if not harness.ok(words[:2] == ["docker", "run"] and engine.bare.returncode == 1 and saves(ran),
                      titles[0]):
        harness.note(engine.bare.stdout + ran.stdout + ran.stderr)
    context = os.path.join(engine.folder, "context")
    os.mkdir(context)
    shutil.copy(harness.LIBRARY, os.path.join(context, "libforksafe.so"))
    with open(os.path.join(context, "Dockerfile"), "w") as file:
        file.write("FROM localhost/image\n" + snippet(lines))
    built = engine.run("build", "--isolation", "chroot", "-t", "localhost/app", context)
    ran = engine.run(*nowhere, "localhost/app", "/victim", "held", "60")
    if not harness.ok(built.returncode == 0 and saves(ran), titles[1]):
        harness.note(built.stdout + built.stderr + ran.stdout + ran.stderr)


def check_kubernetes(engine, lines):
    """By `podman kube play`: there is no Kubernetes that could be started for a test."""
    title = "Kubernetes: a child that hangs bare is saved in the pod"
    if engine.why:
        harness.skip(title, engine.why)
        return
    shelf, pod = os.path.join(engine.folder, "shelf"), os.path.join(engine.folder, "pod.yaml")
    os.mkdir(shelf)
    shutil.copy(harness.LIBRARY, os.path.join(shelf, "libforksafe.so"))
    with open(pod, "w") as file:
        file.write("apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec:\n  restartPolicy: Never\n"
                   f"  volumes: [{{name: forksafe, hostPath: {{path: {shelf}}}}}]\n"
                   '  containers:\n  - name: app\n    image: localhost/image\n    command: [/victim, held, "60"]\n' +
                   "".join(f"    {line}\n" for line in snippet(lines).splitlines()))
    played = engine.run("kube", "play", "--network", "none", pod)
    if "catatonit" in played.stderr and shutil.which("catatonit") is None:
        harness.skip(title, "there is no catatonit, which keeps a pod's namespaces")
        return
    status = engine.run("wait", "pod-app")
    logs = engine.run("logs", "pod-app")
    if not harness.ok(status.stdout.strip() == "0" and saves(logs), title):
        harness.note(played.stdout + played.stderr + status.stderr + logs.stdout + logs.stderr)
    engine.run("kube", "down", pod)


shown = recipes()
harness.begin(4)
with tempfile.TemporaryDirectory() as scratch:
    check_systemd(shown["systemd"], scratch)
    engine = Engine(scratch)
    check_containers(engine, shown["Docker, Podman"])
    check_kubernetes(engine, shown["Kubernetes"])
    engine.end()
