"""Shipping: books a parcel with a carrier, who may need time to answer."""
import sys

from participant import NotYet, Service


def ask_carrier(cursor, order):
    """In a transaction of its own: that we have asked is true whatever follows."""
    cursor.execute("""INSERT INTO carrier_request (order_id, answer_at)
                      SELECT %(order)s, clock_timestamp() + carrier_needs
                      FROM destination WHERE customer = %(customer)s
                      ON CONFLICT (order_id) DO NOTHING""", order)


def book(cursor, order):
    cursor.execute("SELECT answer_at > clock_timestamp() FROM carrier_request WHERE order_id = %(order)s", order)
    if cursor.fetchone()[0]:
        raise NotYet("the carrier has not answered")
    cursor.execute("INSERT INTO parcel (order_id, customer) VALUES (%(order)s, %(customer)s)", order)


book.prepare = ask_carrier


def cancel(cursor, order):
    cursor.execute("DELETE FROM parcel WHERE order_id = %(order)s", order)


Service("shipping", {"/book": book, "/cancel": cancel}).serve(sys.argv[1])
