"""A WSGI application with a thread that logs without pause, as background threads of real ones do, only more often.

Loaded before the workers are forked (--preload), the thread stays in the master: each worker gets the locks as the
thread had them at that moment. It lies in a folder of its own because the folder above has a gunicorn.py. """
import ctypes
import itertools
import logging
import os
import signal
import threading
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

# Not part of the story: a worker that hangs must not outlive a test that was killed.
os.register_at_fork(after_in_child=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))

# Applications that want their records in the server's log use the server's logger; the workers' first act is to log
# there.
log = logging.getLogger("gunicorn.error")


def log_on():
    for number in itertools.count():
        log.info("background record %d", number)


threading.Thread(target=log_on, name="background", daemon=True).start()


def application(environ, start_response):
    log.info("request")
    time.sleep(0.05)  # so that requests sent together come to different workers
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
