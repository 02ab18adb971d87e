"""Stock: takes goods from the shelf, and puts them back."""
import sys

from participant import Refused, Service


def deduct(cursor, order):
    cursor.execute("UPDATE stock SET n = n - %(n)s WHERE sku = %(sku)s AND n >= %(n)s", order)
    if cursor.rowcount == 0:
        raise Refused("not enough of it on the shelf")


def restore(cursor, order):
    cursor.execute("UPDATE stock SET n = n + %(n)s WHERE sku = %(sku)s", order)


Service("stock", {"/deduct": deduct, "/restore": restore}).serve(sys.argv[1])
