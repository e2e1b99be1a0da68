"""Celery's broker and results are files in the folder FOLDER; a thread of the worker's first process logs without
pause."""
import logging
import os
import threading
import time

import celery

folder = os.environ["FOLDER"]
broker = os.path.join(folder, "broker")
app = celery.Celery("celery_app", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.update(
    broker_transport_options={"data_folder_in": broker, "data_folder_out": broker, "data_folder_processed": broker},
    worker_hijack_root_logger=False)
log = logging.getLogger("background")
log.setLevel(logging.INFO)
log.propagate = False
handler = logging.FileHandler(os.path.join(folder, "log"))
log.addHandler(handler)


def log_on():
    while True:
        log.info("a record")
        time.sleep(0.0002)


if "WORKER" in os.environ:
    threading.Thread(target=log_on, name="background", daemon=True).start()


@app.task
def answer(number):
    log.info("task %d", number)
    return number, os.getpid()
