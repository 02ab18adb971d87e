"""What the services of the examples share: HTTP outside, one transaction inside.

A participant has one rule to keep: the same call may come twice, late, or after its
own cancellation. dtm.barrier() in the transaction that does the business keeps it:

    BEGIN;
    SELECT dtm.barrier('saga', 'order-1', '01', 'action');   -- is this call new?
    UPDATE stock SET n = n - 1 WHERE sku = 7;                -- only if it said true
    COMMIT;

Everything else here is plumbing of Python's standard library and psycopg2.
"""
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg2


class Refused(Exception):
    """The answer is no, and nothing happened here: the whole is rolled back."""


class NotYet(Exception):
    """Not known yet: ask again."""


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

    def call(self, path, query, payload):
        business = self.routes[path]
        prepare = getattr(business, "prepare", None)
        if prepare:
            with self.connection() as connection, connection.cursor() as cursor:
                prepare(cursor, payload)
        # "with connection" is one transaction: committed at its end, rolled
        # back when anything is raised.
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT dtm.barrier(%s, %s, %s, %s)",
                           [query[name] for name in ("trans_type", "gid", "branch_id", "op")])
            if cursor.fetchone()[0]:
                business(cursor, payload)

    def serve(self, port_file):
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                url = urlsplit(self.path)
                query = {k: v[0] for k, v in parse_qs(url.query).items()}
                if url.path not in service.routes:
                    status, answer = 404, "no such path"
                else:
                    status, answer = self.ask(url.path, query, json.loads(body or "{}"))
                text = json.dumps({"answer": answer}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            @staticmethod
            def ask(path, query, payload):
                try:
                    service.call(path, query, payload)
                    return 200, "done"
                except Refused as reason:
                    return 409, str(reason)
                except NotYet as reason:
                    return 425, str(reason)
                except psycopg2.Error as error:
                    status = {"DT409": 409, "DT425": 425}.get(error.pgcode, 500)
                    return status, error.diag.message_primary or str(error).strip()

            def log_message(self, format, *args):
                print(service.name, format % args, file=sys.stderr, flush=True)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        with open(port_file + ".new", "w", encoding="ascii") as f:
            print(server.server_address[1], file=f)
        os.rename(port_file + ".new", port_file)
        server.serve_forever()
