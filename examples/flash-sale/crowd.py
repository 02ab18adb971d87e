"""crowd.py FIRST LAST [DIES_AFTER]: that many buyers at once, on five connections.

With DIES_AFTER the whole process is killed as soon as so many of its buyers have
taken a piece, before the last of them can submit: kill -9, wherever the others are.
Says "ready" when all is prepared, and begins when a line comes.
"""
import os
import queue
import signal
import sys
import threading
from collections import Counter as Tally

import psycopg2

from buyer import Buyer
from counter import Counter
from redis_barrier import connect

first, last = int(sys.argv[1]), int(sys.argv[2])
dies_after = int(sys.argv[3]) if len(sys.argv) > 3 else None
buyer = Buyer(Counter(connect(os.environ["REDIS"], patience=10)), os.environ["ASK"], "2s")
connections = queue.Queue()
for _ in range(5):
    connection = psycopg2.connect(os.environ["DSN"])
    connection.autocommit = True
    connections.put(connection)
lock = threading.Lock()
said = Tally()
taken = 0


def watch(now):
    global taken
    if now == "taken" and dies_after:
        with lock:
            taken += 1
            if taken >= dies_after:
                os.kill(os.getpid(), signal.SIGKILL)


def press(n):
    connection = connections.get()
    try:
        outcome = buyer.buy(connection, f"buyer-{n}", 8, watch)
    except Exception as error:  # pylint: disable=broad-except
        outcome = f"{type(error).__name__}: {error}"
    finally:
        connections.put(connection)
    with lock:
        said[outcome] += 1


threads = [threading.Thread(target=press, args=[n]) for n in range(first, last + 1)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(", ".join(f"{n} {what}" for what, n in sorted(said.items())), flush=True)
sys.exit(bool(set(said) - {"bought", "sold out", "too late"}))
