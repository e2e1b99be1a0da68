"""For celery: each process of the pool asks for a price when it starts."""
import os

import celery
from celery.signals import worker_process_init

import stock

app = celery.Celery("tasks", broker="memory://")


@worker_process_init.connect
def warm_up(**_):
    os.write(1, b"price %d\n" % stock.price("bread"))  # standard output is celery's by now
