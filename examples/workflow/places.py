"""The service of the hotel, and that of the airline: a place for a guest, or not."""
import sys

from participant import Refused, Service


def book(cursor, payload):
    cursor.execute("SELECT refused FROM manner WHERE guest = %s", [payload["guest"]])
    if payload.get("picky") and cursor.fetchone() == (True,):
        raise Refused("no place for %s" % payload["guest"])
    cursor.execute("INSERT INTO place (guest) VALUES (%s)", [payload["guest"]])


def think(cursor, payload):
    """Before anything is done, and for the first time only."""
    if payload.get("picky"):
        cursor.execute("WITH once AS (UPDATE manner SET seconds = 0 WHERE guest = %s AND seconds > 0"
                       " RETURNING (SELECT m.seconds FROM manner AS m WHERE m.guest = manner.guest) AS s)"
                       " SELECT s FROM once", [payload["guest"]])
        row = cursor.fetchone()
        cursor.connection.commit()
        if row:
            cursor.execute("SELECT pg_sleep(%s)", [row[0]])


def cancel(cursor, payload):
    cursor.execute("DELETE FROM place WHERE guest = %s", [payload["guest"]])


book.prepare = think
Service("places", {"/book": book, "/cancel": cancel}).serve(sys.argv[1])
