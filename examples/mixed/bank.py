"""The bank: a participant with PostgreSQL. Moves money to the shop, and back."""
import sys

from participant import Refused, Service


def move(cursor, from_whom, to_whom, amount):
    cursor.execute("UPDATE account SET balance = balance - %s WHERE owner = %s AND balance >= %s",
                   [amount, from_whom, amount])
    if cursor.rowcount == 0:
        raise Refused(f"{from_whom} cannot pay {amount}")
    cursor.execute("UPDATE account SET balance = balance + %s WHERE owner = %s", [amount, to_whom])


def charge(cursor, order):
    move(cursor, order["customer"], "shop", order["amount"])


def refund(cursor, order):
    move(cursor, "shop", order["customer"], order["amount"])


Service("bank", {"/charge": charge, "/refund": refund}).serve(sys.argv[1])
