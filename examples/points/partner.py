"""The partner: gives vouchers, once its clerk has found the time to decide."""
import sys

from participant import NotYet, Refused, Service


def take_down(cursor, wish):
    """In a transaction of its own: that we were asked is true whatever follows."""
    cursor.execute("""INSERT INTO request (redemption, article) VALUES (%(redemption)s, %(article)s)
                      ON CONFLICT (redemption) DO NOTHING""", wish)
    cursor.execute("INSERT INTO asked (redemption) VALUES (%(redemption)s)", wish)


def order(cursor, wish):
    cursor.execute("SELECT decision FROM request WHERE redemption = %(redemption)s FOR UPDATE", wish)
    decision = cursor.fetchone()[0]
    if decision is None:
        raise NotYet("the clerk has not decided")
    if decision != "yes":
        raise Refused(f"{wish['article']}: {decision}")
    cursor.execute("INSERT INTO voucher VALUES (%(redemption)s, %(name)s, %(article)s)", wish)


order.prepare = take_down


def note_withdrawal(cursor, wish):
    """The clerk need not look into it any more, if he has not done so yet."""
    cursor.execute("""UPDATE request SET decision = 'withdrawn'
                      WHERE redemption = %(redemption)s AND decision IS NULL""", wish)


def withdraw(cursor, wish):
    cursor.execute("DELETE FROM voucher WHERE redemption = %(redemption)s", wish)


# Not behind the barrier: a request can be withdrawn although no order was carried out.
withdraw.prepare = note_withdrawal

Service("partner", {"/order": order, "/withdraw": withdraw}).serve(sys.argv[1])
