"""Products: answers GET /product/ID from Redis, or from the table behind it."""
import os
import sys
import threading

import psycopg2
import redis

from cache import Cache
from redis_barrier import connect
from service import NotFound, serve

cache = Cache(connect(os.environ["REDIS"]))
connections = threading.local()


def key_of(product_id):
    return f"product:{product_id}"


def from_table(product_id):
    """The committed row of this moment, or None. Each statement is a transaction."""
    connection = getattr(connections, "it", None)
    if connection is None or connection.closed:
        connection = connections.it = psycopg2.connect(os.environ["DSN"])
        connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, price FROM product WHERE id = %s", [product_id])
        row = cursor.fetchone()
    return row and {"id": int(product_id), "name": row[0], "price": row[1]}


def look(product_id):
    try:
        return cache.look(key_of(product_id))
    except redis.RedisError:
        return False, None      # slower, but never wrong


def keep(product_id, lease, product):
    try:
        return cache.keep(key_of(product_id), lease, product)
    except redis.RedisError:
        return False


def show(_, product_id):
    found, it = look(product_id)
    if found:
        product, source = it, "cache"
    else:
        product, source = from_table(product_id), "table"
        keep(product_id, it, product)
    if product is None:
        raise NotFound(f"product {product_id}")
    return {**product, "from": source}


def invalidate(call):
    """What dtm.msg_trigger tells: a row has changed, was there, or is no more.

    No barrier is needed, since doing it twice is doing it once. If Redis does not
    answer this is no success: dtm calls again until it was one.
    """
    rows = [row for row in (call.payload["old"], call.payload["new"]) if row]
    cache.delete(*{key_of(row["id"]) for row in rows})
    return "deleted"


def clear(_):
    """The table was emptied by TRUNCATE."""
    cache.delete_all(key_of("*"))
    return "cleared"


if __name__ == "__main__":
    serve("products", {r"GET /product/(\d+)": show,
                       r"POST /invalidate": invalidate,
                       r"POST /clear": clear}, sys.argv[1])
