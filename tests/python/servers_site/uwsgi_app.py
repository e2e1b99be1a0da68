"""A WSGI application with a thread that computes without pause: it has the GIL at most forks of the master, and a
lock."""
import os
import threading

lock = threading.Lock()
numbers = [0, 0]


def compute():
    while True:
        with lock:
            numbers[0] += 1
            sum(range(2000))
            numbers[1] += 1


threading.Thread(target=compute, name="background", daemon=True).start()


def application(environ, start_response):
    with lock:
        numbers[0] = numbers[1] = 0
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
