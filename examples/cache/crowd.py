"""Many readers and writers at once: crowd.py URL READERS READS WRITERS WRITES.

Writers change the prices of all cups, or take some back; readers ask the service for
any of them. Prints how many reads the cache answered.
"""
import http.client
import json
import os
import random
import sys
import threading
from urllib.parse import urlsplit

import psycopg2

url, (readers, reads, writers, writes) = sys.argv[1], map(int, sys.argv[2:])
cups = range(101, 121)
cached = []
failed = []


def guarded(work):
    def run():
        try:
            work()
        except Exception as error:  # pylint: disable=broad-except
            failed.append(error)
    return run


def read():
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    for _ in range(reads):
        connection.request("GET", f"/product/{random.choice(cups)}")
        answer = connection.getresponse()
        product = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(product)
        cached.append(product["from"] == "cache")


def write():
    connection = psycopg2.connect(os.environ["DSN"])
    for n in range(writes):
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE product SET price = price + 1 WHERE id = %s", [random.choice(cups)])
            if n % 4 == 3:
                connection.rollback()


threads = [threading.Thread(target=guarded(work))
           for work, n in ((read, readers), (write, writers)) for _ in range(n)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if failed:
    sys.exit(f"{len(failed)} failed: {failed[0]!r}")
print(sum(cached))
