"""Answers dtm's question when a buyer was not heard of again: was a piece taken?

200: it was, and the order must be made. 409: it was not, and from now on it cannot be.
If Redis does not answer, nobody knows: that is a 500, and dtm asks again.
"""
import os
import sys

from counter import Counter
from redis_barrier import connect
from service import Refused, serve

counter = Counter(connect(os.environ["REDIS"]))


def query_prepared(call):
    if not counter.was_taken(call.gid):
        raise Refused("nothing was taken")
    return "taken"


serve("sale", {r"GET /query-prepared": query_prepared}, sys.argv[1])
