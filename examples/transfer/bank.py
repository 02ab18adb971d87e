"""A bank's service: what the functions of bank.sql do, behind a barrier, over HTTP."""
import json
import os
import sys

from participant import Service


def call(function):
    """The route of one function: called in the transaction of its barrier."""
    def business(cursor, payload):
        cursor.execute(f"SELECT bank.{function}(%s)", [json.dumps(payload)])

    def line(cursor, payload):
        """Calls can be slow to arrive: before the barrier, and without a lock."""
        cursor.execute("SELECT FROM bank.line WHERE call = %s FOR SHARE", [function])

    business.prepare = line
    return business


functions = ["try_out", "confirm_out", "cancel_out", "try_in", "confirm_in", "cancel_in"]
Service(os.environ["NAME"], {"/" + f: call(f) for f in functions}).serve(sys.argv[1])
