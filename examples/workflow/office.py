"""The travel office: one workflow, in code.

    office.py serve PORT_FILE        waits to be called for what was cut off
    office.py book GID GUEST PRICE   books a trip, and says how it ended

All its processes have the same code. HOTEL and AIRLINE are URLs, RESUME is where
dtm finds the one that serves, DSN the office's database.
"""
import json
import os
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import urlencode

from workflow import Refused, Superseded, Workflows, serve_in_background

flows = Workflows(os.environ["DSN"], resume=os.environ.get("RESUME", ""),
                  timeout_to_fail="4s", retry_interval="500ms", request_timeout="30s")


def ask(url, payload, call):
    """gid, branch_id and op go along: the other side has a barrier."""
    request = urllib.request.Request(url + "?" + urlencode(call.query()), json.dumps(payload).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 409:
            raise Refused(json.load(error)["refused"]) from error
        raise


def transfer(cursor, payer, payee, amount):
    cursor.execute("UPDATE account SET balance = balance + %s WHERE owner = %s", [amount, payee])
    cursor.execute("UPDATE account SET balance = balance - %s WHERE owner = %s AND balance >= %s",
                   [amount, payer, amount])
    if cursor.rowcount == 0:
        raise Refused("%s cannot pay %d" % (payer, amount))


@flows.register("book-trip")
def book_trip(run, trip):
    hotel, airline = os.environ["HOTEL"], os.environ["AIRLINE"]
    guest, price = trip["guest"], trip["price"]

    run.step(do=lambda call: ask(hotel + "book", {"guest": guest}, call),
             undo=lambda call: ask(hotel + "cancel", {"guest": guest}, call))
    run.local(do=lambda cursor, call: transfer(cursor, guest, "office", price),
              undo=lambda cursor, call: transfer(cursor, "office", guest, price))
    run.step(do=lambda call: ask(airline + "book", {"guest": guest, "picky": True}, call),
             undo=lambda call: ask(airline + "cancel", {"guest": guest}, call))
    return "%s flies" % guest


def book(gid, guest, price):
    try:
        return flows.execute(gid, "book-trip", {"guest": guest, "price": int(price)})
    except Refused as reason:
        return "not booked: %s" % reason
    except Superseded:
        return "somebody else goes on with it"


if sys.argv[1] == "serve":
    serve_in_background(flows, sys.argv[2])
    threading.Event().wait()
else:
    print(book(*sys.argv[2:]), flush=True)
