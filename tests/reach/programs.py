#!/usr/bin/env python3
"""Programs of other projects that are right as they are: with the library they end the same, with the same output, and
nothing is said.

    programs.py [WORD ...]          those whose name has one of the words; without one all: by hand, or make check-real

What is not installed is left out. A program that ends differently is run up to three times, bare and with the library,
before it counts. Settings as in tests/python/harness.py.
"""
import os
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "python"))

import harness

SECONDS, TRIES = 120, 3

# Of Python: a module that is needed, and the program.
PYTHON = {
    "torch: loaders of data": ("torch", """
import torch
from torch.utils.data import DataLoader, Dataset
class Numbers(Dataset):
    def __len__(self): return 64
    def __getitem__(self, i): return torch.full((10,), float(i))
for workers in 0, 2, 3:
    print(sum(float(x.sum()) for x in DataLoader(Numbers(), batch_size=8, num_workers=workers,
                                                multiprocessing_context="fork" if workers else None)))
"""),
    "numpy beside threads": ("numpy", """
import numpy, os, threading
a = numpy.arange(40000.).reshape(200, 200) / 1e4
wanted, stopped = (a @ a).sum(), []
def work():
    while not stopped: a @ a
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0: os._exit(abs((a @ a).sum() - wanted) > 1e-6 * wanted)
    print(os.waitpid(child, 0)[1])
stopped.append(1)
"""),
    "multiprocessing: three ways to start": ("multiprocessing", """
import concurrent.futures, multiprocessing
def double(x): return 2 * x
def count(lock, value, queue):
    with lock: value.value += 1
    queue.put(1)
if __name__ == "__main__":
    for method in "fork", "forkserver", "spawn":
        context = multiprocessing.get_context(method)
        with context.Pool(3) as pool: print(method, sum(pool.imap_unordered(double, range(200), 7)))
        lock, value, queue = context.Lock(), context.Value("i", 0), context.Queue()
        workers = [context.Process(target=count, args=(lock, value, queue)) for _ in range(4)]
        for worker in workers: worker.start()
        print(sum(queue.get() for _ in workers), [worker.join() or worker.exitcode for worker in workers], value.value)
        with context.Manager() as manager: print(list(manager.list([1, 2])), dict(manager.dict(a=1)))
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            print(list(pool.map(double, range(9))))
"""),
    "pools beside threads that log": ("logging", """
import logging, multiprocessing, threading, time
logging.basicConfig(filename="log", level=logging.INFO)
lock, condition, stopped = threading.RLock(), threading.Condition(), []
def log():
    while not stopped: logging.info("line")
def hold():
    while not stopped:
        with lock: time.sleep(0.0003)
        with condition: condition.notify_all()
def square(x): return x * x
threads = [threading.Thread(target=work) for work in (log, log, hold)]
for thread in threads: thread.start()
for _ in range(4):
    with multiprocessing.get_context("fork").Pool(6, maxtasksperchild=5) as pool:
        print(sum(pool.map(square, range(100), chunksize=1)))
stopped.append(1)
"""),
    "asyncio: processes, threads, pools": ("asyncio", """
import asyncio, concurrent.futures, multiprocessing, os
def more(x): return x + 1
async def echo(i):
    process = await asyncio.create_subprocess_exec("echo", str(i), stdout=asyncio.subprocess.PIPE)
    return int((await process.communicate())[0])
async def main():
    loop = asyncio.get_running_loop()
    print(sum(await asyncio.gather(*[loop.run_in_executor(None, more, i) for i in range(50)])))
    print(sum(await asyncio.gather(*[echo(i) for i in range(30)])))
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        print(sum(await asyncio.gather(*[loop.run_in_executor(pool, more, i) for i in range(50)])))
asyncio.run(main())
"""),
}

# Of a shell: the commands that are needed, and the program.
SHELL = {
    "bash: jobs, traps, coprocesses": ("bash", """bash -c '
for i in 1 2 3 4; do (exit $i) & all+=($!); done; for p in ${all[@]}; do wait $p; echo $?; done
trap "echo t" USR1; kill -USR1 $$
coproc cat; echo x >&${COPROC[1]}; read y <&${COPROC[0]}; echo $y; cat <(echo a | rev)'"""),
    "dash, zsh, ksh": ("dash zsh ksh", """for s in dash zsh ksh; do
    $s -c 'for i in 1 2 3; do (exit $i) & done; wait; echo $(echo a; (echo b) | cat); exit 5'; echo $?
done"""),
    "perl: threads beside forks": ("perl", """perl -Mthreads -Mthreads::shared -MPOSIX -e '
my $n :shared = 0; my @t = map { threads->create(sub { for (1..300) { lock $n; $n++ } }) } 1..4;
for (1..20) { my $p = fork; POSIX::_exit(3) if !$p; waitpid $p, 0; print $? >> 8; system("true") }
$_->join for @t; print "$n\\n", `echo hi`'"""),
    "ruby: threads beside forks": ("ruby", """ruby -rlogger -e '
log, mutex = Logger.new("log"), Mutex.new; 3.times { Thread.new { loop { mutex.synchronize { log.info "a" } } } }
p (1..20).map { |i| fork { mutex.synchronize { log.info "c" }; Thread.new { 1 }.join; exit!(i % 7) } }
  .map { |pid| Process.wait2(pid)[1].exitstatus }; puts `echo hi`'"""),
    "php: forks": ("php", """php -r 'if (!function_exists("pcntl_fork")) exit; for ($i = 0; $i < 20; $i++) {
$p = pcntl_fork(); if (!$p) { date("c"); exit($i % 5); } pcntl_waitpid($p, $s); echo pcntl_wexitstatus($s); }
echo shell_exec("echo hi");'"""),
    "node: processes and threads": ("node", """node -e '
const {exec} = require("child_process"), {Worker} = require("worker_threads"); let n = 0, w = 0;
for (let i = 0; i < 20; i++) exec("true", () => { if (++n == 20) console.log("commands") });
process.on("exit", () => console.log(n, w));
for (let i = 0; i < 3; i++)
    new Worker("for (let i = 0; i < 1e6; i++);", {eval: true}).on("exit", () => w++)' | sort"""),
    "java: processes from a pool": ("javac java", """cat >X.java <<'END'
import java.util.concurrent.*;
public class X { public static void main(String[] a) throws Exception {
    var pool = Executors.newFixedThreadPool(4); int sum = 0; var all = new java.util.ArrayList<Future<Integer>>();
    for (int i = 0; i < 16; i++) {
        int k = i % 3; all.add(pool.submit(() -> new ProcessBuilder("sh", "-c", "exit " + k).start().waitFor())); }
    for (var one : all) sum += one.get(); System.out.println(sum); pool.shutdown(); } }
END
javac X.java && java X && java -Djdk.lang.Process.launchMechanism=FORK X"""),
    "R: mclapply": ("Rscript", """Rscript -e 'library(parallel); 
print(sum(unlist(mclapply(1:40, function(i) i * 2, mc.cores = 4)))); a <- matrix(1, 200, 200); print(sum(a %*% a))
print(sum(unlist(mclapply(1:4, function(i) sum(a %*% a), mc.cores = 2))))'"""),
    "octave": ("octave-cli", """octave-cli --eval 'disp(sum((ones(100) * ones(100))(:)));
[s, o] = system("echo hi"); disp(o)' 2>/dev/null"""),
    "erlang: ports": ("erl", """erl -noshell -eval '[os:cmd("true") || _ <- lists:seq(1, 20)],
io:format("~s", [os:cmd("echo hi")]), halt().'"""),
    "git: pack, clone, grep": ("git", """export HOME=$PWD GIT_CONFIG_NOSYSTEM=1; git config --global user.email a@b
git config --global user.name a; git init -q g; cd g
for i in 1 2 3 4 5 6 7 8; do echo $i >f$i; git add f$i; git commit -qm $i; done
git gc -q --aggressive; git clone -q --no-local . ../h; git -C ../h log --oneline | wc -l; git -C ../h fsck
git grep --threads=4 1 | wc -l"""),
    "make -j": ("make gcc", """for i in 1 2 3 4 5 6; do echo "int f$i(int a) { return a + $i; }" >f$i.c; done
printf 'all: f1.o f2.o f3.o f4.o f5.o f6.o\\n%%.o: %%.c\\n\\tgcc -O1 -pipe -c $<\\n' >Makefile
make -j4 -s -Otarget; ls"""),
    "xz, sort, xargs": ("xz", """seq 200000 | xz -T2 -1 | xz -d | sort --parallel=4 -S 2M -rn | head -1
seq 40 | xargs -P4 -n1 true; echo $?"""),
    "gpg and its agent": ("gpg", """export GNUPGHOME=$PWD/g; mkdir -m700 g
gpg -q --batch --passphrase '' --quick-gen-key a@b 2>/dev/null
echo hi | gpg -q --batch --trust-model always -e -r a@b | gpg -q -d 2>/dev/null; gpgconf --kill all"""),
    "tmux": ("tmux", """export TMUX_TMPDIR=$PWD SHELL=/bin/sh TERM=xterm; tmux -f /dev/null new-session -d 'sleep 20'
tmux split-window 'sleep 20'; tmux list-panes | wc -l; tmux run-shell 'echo x >made'; tmux kill-server; cat made"""),
    "redis: snapshots": ("redis-server redis-cli", """
redis-server --port 0 --unixsocket s --dir $PWD --logfile l --daemonize yes
until redis-cli -s s ping 2>/dev/null | grep -q PONG; do sleep 0.1; done; redis-cli -s s set a 1
for i in 1 2 3; do
    redis-cli -s s bgsave >/dev/null; while redis-cli -s s info persistence | grep -q in_progress:1; do sleep 0.1; done
done
redis-cli -s s info persistence | grep last_bgsave_status; redis-cli -s s shutdown nosave; grep forksafe l"""),
    "ffmpeg": ("ffmpeg ffprobe", """ffmpeg -v error -f lavfi -i testsrc=d=1:s=128x96 -threads 4 -y o.mkv; echo $?
ffprobe -v error -show_entries stream=width,height -of csv o.mkv"""),
    "imagemagick": ("convert identify", """
convert -size 200x200 gradient:red-blue a.png; convert a.png -resize 50% b.jpg
identify -format '%wx%h\\n' b.jpg"""),
    "libreoffice": ("soffice", """export HOME=$PWD; echo hello >a.txt
soffice --headless --convert-to pdf a.txt >/dev/null 2>e; echo $?; ls a.pdf; grep forksafe e"""),
}


def programs(folder):
    """Name, argv; None: not here."""
    for name, (module, text) in PYTHON.items():
        path = os.path.join(folder, f"{len(name)}{module}_program.py")
        with open(path, "w") as file:
            file.write(text)
        here = harness.run([harness.PYTHON3, "-c", f"import {module}"], False, SECONDS).status == 0
        yield name, [harness.PYTHON3, "-W", "ignore", path] if here else None
    for name, (commands, text) in SHELL.items():
        yield name, ["sh", "-c", text] if all(map(shutil.which, commands.split())) else None


def run(argv, preload):
    with tempfile.TemporaryDirectory() as folder:
        return harness.run(["env", "-C", folder, *argv], preload, SECONDS)


def check(name, argv):
    bares, saveds = [], []
    for _ in range(TRIES):
        bares.append(run(argv, False))
        if bares[-1].timed_out:
            return harness.skip(name, f"here it does not end in {SECONDS} s without the library either")
        saveds.append(run(argv, True))
        if saveds[-1] in bares:
            break
    if not harness.ok(saveds[-1] in bares, f"{name}: with the library the same"):
        harness.note_tail("bare", f"{bares[-1].status} {bares[-1].out}{bares[-1].err}")
        harness.note_tail("library", f"{saveds[-1].status} {saveds[-1].out}{saveds[-1].err}")


words = sys.argv[1:] or [""]
with tempfile.TemporaryDirectory() as scratch:
    chosen = [(name, argv) for name, argv in programs(scratch) if any(word in name for word in words)]
    harness.begin(len(chosen))
    for name, argv in chosen:
        if argv is None:
            harness.skip(name, "it is not installed")
        else:
            check(name, argv)
