"""Payment: moves money from a customer's account to the shop's, and back."""
import sys
import time

from participant import Refused, Service


def move(cursor, from_whom, to_whom, amount):
    cursor.execute("UPDATE account SET balance = balance - %s WHERE owner = %s AND balance >= %s",
                   [amount, from_whom, amount])
    if cursor.rowcount == 0:
        raise Refused(f"{from_whom} cannot pay {amount}")
    cursor.execute("UPDATE account SET balance = balance + %s WHERE owner = %s",
                   [amount, to_whom])


def charge(cursor, order):
    move(cursor, order["customer"], "shop", order["amount"])
    # Some banks think for a while, with the transaction still open.
    cursor.execute("SELECT thinks_for FROM account WHERE owner = %s", [order["customer"]])
    time.sleep(float(cursor.fetchone()[0]))


def refund(cursor, order):
    move(cursor, "shop", order["customer"], order["amount"])


Service("payment", {"/charge": charge, "/refund": refund}).serve(sys.argv[1])
