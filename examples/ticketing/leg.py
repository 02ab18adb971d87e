"""One leg of a journey: a flight, a hotel or a train. Books places, and cancels them."""
import os
import sys

from participant import Refused, Service


def machine(does):
    """Waits until the old machine has time, before the barrier and without a lock."""
    def wait(cursor, journey):
        cursor.execute("SELECT FROM machine WHERE does = %s FOR SHARE", [does])
    return wait


def book(cursor, journey):
    cursor.execute("UPDATE place SET free = free - 1 WHERE city = %(city)s AND free > 0", journey)
    if cursor.rowcount == 0:
        raise Refused(f"nothing is free in {journey['city']}")
    cursor.execute("INSERT INTO booking VALUES (%(journey)s, %(traveller)s, %(city)s)", journey)


def cancel(cursor, journey):
    cursor.execute("DELETE FROM booking WHERE journey = %(journey)s", journey)
    cursor.execute("UPDATE place SET free = free + 1 WHERE city = %(city)s", journey)


book.prepare = machine("book")
cancel.prepare = machine("cancel")

Service(os.environ["NAME"], {"/book": book, "/cancel": cancel}).serve(sys.argv[1])
