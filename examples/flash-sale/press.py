"""press.py NAME [PATIENCE [MOMENT]]: one buyer, who presses the button.

At the MOMENT (begun, taken), if there is one, the program stops until a line comes.
"""
import os
import sys

import psycopg2

from buyer import Buyer
from counter import Counter
from redis_barrier import connect

name, patience, moment = (sys.argv[1:] + ["2s", None][len(sys.argv) - 2:])[:3]


def stop_there(now):
    if now == moment:
        print(now, flush=True)
        sys.stdin.readline()


connection = psycopg2.connect(os.environ["DSN"])
connection.autocommit = True
buyer = Buyer(Counter(connect(os.environ["REDIS"])), os.environ["ASK"], patience)
print(buyer.buy(connection, name, 7, stop_there), flush=True)
