"""same_rules.py: does the barrier in Redis judge as dtm.barrier() does?

Every order in which the calls to one branch can come, up to four for a saga and three
for TCC, with all repeats: both are asked at each call whether it is to be carried out.
"""
import itertools
import os
import sys

import psycopg2

from redis_barrier import Barrier, connect

ORDERS = [("saga", order) for n in (1, 2, 3, 4) for order in itertools.product(("action", "compensate"), repeat=n)] \
    + [("tcc", order) for n in (1, 2, 3) for order in itertools.product(("try", "confirm", "cancel"), repeat=n)]

barrier = Barrier(connect(os.environ["REDIS"]), business="redis.call('INCR', KEYS[3])")
connection = psycopg2.connect(os.environ["DSN"])
asked = carried_out = 0
for number, (trans_type, order) in enumerate(ORDERS):
    gid = f"rules-{number}"
    here = []
    there = []
    for op in order:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT dtm.barrier(%s, %s, '01', %s)", [trans_type, gid, op])
            here.append(cursor.fetchone()[0])
        what, _ = barrier.call(gid, "01", op, ["rules"])
        there.append(what == "done")
    if here != there:
        sys.exit(f"{order}: dtm.barrier() says {here}, Redis {there}")
    asked += len(order)
    carried_out += sum(here)
if int(barrier.script.registered_client.get("rules")) != carried_out:
    sys.exit("what Redis says and what it does are not the same")
print(f"{asked} calls in {len(ORDERS)} orders, {carried_out} of them to be carried out: no difference")
