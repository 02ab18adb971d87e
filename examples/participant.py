"""What the services of the examples share: HTTP outside, one transaction inside.

A participant has one rule to keep: the same call may come twice, late, or after its
own cancellation. dtm.barrier() in the transaction that does the business keeps it:

    BEGIN;
    SELECT dtm.barrier('saga', 'order-1', '01', 'action');   -- is this call new?
    UPDATE stock SET n = n - 1 WHERE sku = 7;                -- only if it said true
    COMMIT;

Everything else here is plumbing.
"""
import os
import re
import threading

import psycopg2

from service import NotYet, Refused, serve


class Service:
    """serve() answers calls of routes = {path: function(cursor, payload)}.

    A function with an attribute "prepare", another such function, has that called
    first, in a transaction of its own, at every call: before the barrier. Instead of
    Refused and NotYet, SQL can raise the errors of dtm.fail() and dtm.ongoing().
    """

    def __init__(self, name, routes):
        self.name = name
        self.routes = routes
        self.connections = threading.local()

    def connection(self):
        """This thread's connection; a new one when the server went away."""
        connection = getattr(self.connections, "it", None)
        if connection is None or connection.closed:
            connection = psycopg2.connect(os.environ["DSN"])
            self.connections.it = connection
        return connection

    def call(self, business, call):
        try:
            prepare = getattr(business, "prepare", None)
            if prepare:
                with self.connection() as connection, connection.cursor() as cursor:
                    prepare(cursor, call.payload)
            # "with connection" is one transaction: committed at its end, rolled
            # back when anything is raised.
            with self.connection() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT dtm.barrier(%s, %s, %s, %s)",
                               [call.trans_type, call.gid, call.branch_id, call.op])
                if cursor.fetchone()[0]:
                    business(cursor, call.payload)
        except psycopg2.Error as error:
            # The business' own SQL functions may say it by dtm.fail() and dtm.ongoing().
            what = {"DT409": Refused, "DT425": NotYet}.get(error.pgcode, RuntimeError)
            raise what(error.diag.message_primary or str(error).strip()) from error
        return "done"

    def serve(self, port_file):
        def route(business):
            return lambda call: self.call(business, call)

        serve(self.name, {f"(?:GET|POST) {re.escape(path)}": route(business)
                          for path, business in self.routes.items()}, port_file)
