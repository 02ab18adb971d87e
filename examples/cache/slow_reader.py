"""A reader that stops between reading a row and keeping it, for as long as one likes.

slow_reader.py ID [careless]: says what it read, waits for a line, says whether
it was kept. "careless" does what is done everywhere: SET, without a lease.
"""
import json
import sys

from products import cache, from_table, key_of


def careless(key, product):
    cache.client.hset(key, "value", json.dumps(product))
    return True


product_id = int(sys.argv[1])
key = key_of(product_id)
found, lease = cache.look(key)
if found:
    sys.exit(f"{key} is in the cache already")
product = from_table(product_id)
print("read", product["price"], flush=True)
sys.stdin.readline()
if "careless" in sys.argv:
    kept = careless(key, product)
else:
    kept = cache.keep(key, lease, product)
print("kept" if kept else "refused", flush=True)
