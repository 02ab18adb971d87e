"""Payment: moves money from a traveller's account to the agency's, and back."""
import sys

from participant import Refused, Service


def move(cursor, from_whom, to_whom, amount):
    cursor.execute("UPDATE account SET balance = balance - %s WHERE owner = %s AND balance >= %s",
                   [amount, from_whom, amount])
    if cursor.rowcount == 0:
        raise Refused(f"{from_whom} cannot pay {amount}")
    cursor.execute("UPDATE account SET balance = balance + %s WHERE owner = %s", [amount, to_whom])


def charge(cursor, journey):
    move(cursor, journey["traveller"], "agency", journey["amount"])


def refund(cursor, journey):
    move(cursor, "agency", journey["traveller"], journey["amount"])


Service("payment", {"/charge": charge, "/refund": refund}).serve(sys.argv[1])
