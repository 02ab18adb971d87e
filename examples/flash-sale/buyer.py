"""What happens when somebody presses the button.

    1. begin a message "make this order", and COMMIT: from now on nobody forgets it
    2. take a piece from the counter in Redis
    3. submit the message; or abort it, if nothing was left

The process may die anywhere. Before 1: nothing has happened. Between 1 and 2 or
between 2 and 3: after patience dtm asks the sale's service, which looks into
Redis whether 2 has happened. After 3: the order is made.
"""
import json

from counter import SoldOut, TooLate


class Buyer:
    def __init__(self, counter, ask, patience):
        self.counter = counter
        self.ask = ask              # the address of the back-check
        self.patience = patience

    def buy(self, connection, name, sku, between=lambda moment: None):
        """'bought', 'sold out' or 'too late'. connection commits each statement by itself."""
        gid = f"sale-{sku}-{name}"
        with connection.cursor() as cursor:
            # One statement is one transaction: the message, and what it will do.
            cursor.execute("""
                SELECT dtm.msg_branch(
                    dtm.msg_begin(%(gid)s, %(ask)s, timeout_to_fail => %(patience)s,
                                  retry_interval => '300ms', request_timeout => '1s'),
                    'sql:public.make_order', %(payload)s)""", {
                    "gid": gid, "ask": self.ask, "patience": self.patience,
                    "payload": json.dumps({"buyer": name, "sku": sku})})
            between("begun")
            try:
                self.counter.take(gid, sku)
            except SoldOut:
                cursor.execute("SELECT dtm.abort(%s, 'sold out')", [gid])
                return "sold out"
            except TooLate:
                return "too late"   # the message has failed already
            between("taken")
            cursor.execute("SELECT dtm.submit(%s)", [gid])
            return "bought"
