"""Loyalty points: a participant with Redis. Spends them, and gives them back.

What bank.py does in a transaction of PostgreSQL, this does in a script of Redis: is the
call new, are there enough, take them, leave the mark. See redis_barrier.py.
"""
import os
import sys

from redis_barrier import Barrier, connect
from service import Refused, serve

client = connect(os.environ["REDIS"])
patient = connect(os.environ["REDIS"], patience=None)
suspicious = os.environ.get("SUSPICIOUS", "").split()

spend_script = Barrier(
    client,
    refused="""
        if tonumber(redis.call('GET', KEYS[3]) or 0) < tonumber(ARGV[3]) then
            return 'not enough points'
        end
    """,
    business="redis.call('DECRBY', KEYS[3], ARGV[3])")
give_back_script = Barrier(client, business="redis.call('INCRBY', KEYS[3], ARGV[3])")


def carry_out(script, call):
    customer, points = call.payload["customer"], int(call.payload["points"])
    what, by = script.call(call.gid, call.branch_id, call.op, [f"points:{customer}"], [points])
    if what == "refused":
        raise Refused(f"{customer}: {by}")
    return what


def spend(call):
    if int(call.payload["points"]) < 0:
        raise Refused("a negative number of points")
    # Some customers are looked at by a person first, who pushes the answer
    # into a list. That may take longer than the caller waits.
    customer = call.payload["customer"]
    if customer in suspicious:
        patient.blpop(f"cleared:{customer}", timeout=60)
    return carry_out(spend_script, call)


def give_back(call):
    return carry_out(give_back_script, call)


serve("points", {r"POST /spend": spend, r"POST /give-back": give_back}, sys.argv[1])
