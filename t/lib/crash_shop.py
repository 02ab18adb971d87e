"""The participant of the crash tests: honest behind its barrier, ill-mannered before it.

    crash_shop.py PORT_FILE DSN JOURNAL MAIN_DSN

    POST /move     {"account": "a", "amount": -5}: moves money, or holds, confirms,
                   releases, returns it, as the op says
    POST /refuse   never does anything, and says so; no action and no try, that is
    POST /maybe    as one or the other, and it may be the other when asked again
    POST /business is committed here, for a message that was begun elsewhere
    GET  /asked    was it?
    POST /xa       op=prepare, commit, rollback: a local transaction in two phases
    POST /run      the client of a workflow, which is called op: begins or goes on

Every answer has another token; a payload may bring one back.
Every call goes into the journal before anything else: "time gid branch_id op".
Some calls fail before their effect, some after it, some want to be asked again.
It ends when its standard input does.
"""
import contextlib
import json
import os
import random
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg2

CONNECTIONS = 12
# What an op does to an account.
BOOKS = {
    "action": "balance = balance + %(amount)s",
    "compensate": "balance = balance - %(amount)s",
    "rollback": "balance = balance - %(amount)s",
    "try": "held = held + %(amount)s",
    "confirm": "balance = balance + %(amount)s, held = held - %(amount)s",
    "cancel": "held = held - %(amount)s",
}

lock = threading.Lock()
places = threading.BoundedSemaphore(CONNECTIONS)
idle = []
# One after the other for each branch of an xa, as a resource manager would.
xa_locks = [threading.Lock() for _ in range(64)]


def note(query):
    with lock:
        journal.write("%.6f %s %s %s\n" % (time.time(), query["gid"], query["branch_id"], query["op"]))
        journal.flush()


@contextlib.contextmanager
def database():
    """A connection that commits each statement, but for what says BEGIN."""
    with places:
        connection = idle.pop() if idle else psycopg2.connect(dsn)
        connection.autocommit = True
        with connection.cursor() as cursor:
            try:
                yield cursor
            except psycopg2.Error:
                cursor.execute("ROLLBACK")
                raise
            finally:
                idle.append(connection)


def barrier(cursor, query, op=None):
    cursor.execute("SELECT dtm.barrier(%s, %s, %s, %s)",
                   [query["trans_type"], query["gid"], query["branch_id"], op or query["op"]])
    return cursor.fetchone()[0]


def note_effect(cursor, query, op, token=None):
    cursor.execute("INSERT INTO effect (gid, branch_id, op, token) VALUES (%s, %s, %s, %s)",
                   [query["gid"], query["branch_id"], op, token])


def move(query, payload):
    """The barrier, the business and the proof of it: one transaction."""
    with database() as cursor:
        cursor.execute("BEGIN")
        if barrier(cursor, query):
            note_effect(cursor, query, query["op"], payload.get("token"))
            cursor.execute("UPDATE account SET " + BOOKS[query["op"]] + " WHERE name = %(account)s", payload)
        cursor.execute("COMMIT")
    return 200


def business(query):
    """Once; not at all when somebody has asked before, and was told no."""
    with database() as cursor:
        try:
            cursor.execute("BEGIN")
            barrier(cursor, query)
            cursor.execute("INSERT INTO business VALUES (%s)", [query["gid"]])
            # Who asks meanwhile waits for the answer.
            if random.random() < 0.3:
                cursor.execute("SELECT pg_sleep(random() * 0.1)")
            cursor.execute("COMMIT")
        except psycopg2.errors.UniqueViolation:
            cursor.execute("ROLLBACK")
            cursor.execute("SELECT 1 FROM business WHERE gid = %s", [query["gid"]])
            return 200 if cursor.rowcount else 409
    return 200


def asked(query):
    with database() as cursor:
        cursor.execute("SELECT dtm.query_prepared(%s)", [query["gid"]])
        return 200 if cursor.fetchone()[0] == "SUCCESS" else 409


def xa(query, payload):
    name = "%s %s" % (query["gid"], query["branch_id"])
    with xa_locks[hash(name) % len(xa_locks)], database() as cursor:
        cursor.execute("SELECT 1 FROM pg_prepared_xacts WHERE gid = %s", [name])
        is_prepared = cursor.rowcount > 0
        if query["op"] == "prepare":
            return 200 if is_prepared else prepare(cursor, name, query, payload)
        if is_prepared:
            cursor.execute(query["op"] + " PREPARED %s", [name])
        # Whether it had been committed before, or never was there: the check will tell.
        if query["op"] == "rollback":
            cursor.execute("BEGIN")
            barrier(cursor, query)
            cursor.execute("COMMIT")
    return 200


def prepare(cursor, name, query, payload):
    cursor.execute("BEGIN")
    if not barrier(cursor, query, "action"):
        cursor.execute("ROLLBACK")
        return 409
    note_effect(cursor, query, "commit")
    cursor.execute("INSERT INTO ledger VALUES (%(account)s, %(amount)s)", payload)
    cursor.execute("PREPARE TRANSACTION %s", [name])
    return 200


class Workflow:
    """One run of a workflow: 01 here, 02 there, 03 here, which may refuse.

    Whoever is superseded, or loses the server, gives up; it is called again.
    """

    def __init__(self, query):
        self.gid, self.name = query["gid"], query["op"]

    def run(self):
        try:
            connection = psycopg2.connect(main_dsn)
        except psycopg2.Error:
            return 500
        try:
            connection.autocommit = True
            with connection.cursor() as self.cursor:
                self.go_on()
        except psycopg2.Error:
            return 500
        finally:
            connection.close()
        return 200

    def go_on(self):
        self.cursor.execute("SELECT branch_id, op, status, run FROM dtm.workflow_prepare(%s, %s, '')",
                            [self.gid, self.name])
        (_, _, status, self.number), *journal = self.cursor.fetchall()
        if status != "prepared":
            return
        self.journal = {(branch, op): status for branch, op, status, _ in journal}
        self.here("01", "action", "a", -5)
        self.there("02", "action", "l", 2)
        refused = self.journal.get(("03", "action")) == "failed"
        if ("03", "action") not in self.journal and self.name == "maybe" and random.random() < 0.5:
            self.record("03", "action", "failed")
            refused = True
        if not refused:
            self.here("03", "action", "b", 3)
            return self.finish("succeed")
        # An earlier run may have thought otherwise, and have done it.
        self.here("03", "rollback", "b", 3)
        self.there("02", "rollback", "l", 2)
        self.here("01", "rollback", "a", -5)
        self.finish("failed")

    def here(self, branch_id, op, account, amount):
        """In the shop, behind its barrier; then it is recorded."""
        if (branch_id, op) not in self.journal:
            move({"trans_type": "workflow", "gid": self.gid, "branch_id": branch_id, "op": op},
                 {"account": account, "amount": amount})
            self.record(branch_id, op, "succeed")

    def there(self, branch_id, op, account, amount):
        """In one transaction with its record."""
        if (branch_id, op) not in self.journal:
            self.cursor.execute("BEGIN")
            if self.record(branch_id, op, "succeed"):
                self.cursor.execute("SELECT crash.do(%s, %s, %s, %s)", [
                    self.gid, branch_id, op, json.dumps({"account": account, "amount": amount})])
            self.cursor.execute("COMMIT")

    def record(self, branch_id, op, status):
        if random.random() < 0.03:
            raise psycopg2.OperationalError("it has died")
        self.cursor.execute("SELECT dtm.workflow_record(%s, %s, %s, %s, run => %s)",
                            [self.gid, branch_id, op, status, self.number])
        return self.cursor.fetchone()[0]

    def finish(self, status):
        self.cursor.execute("SELECT dtm.workflow_finish(%s, %s, run => %s)", [self.gid, status, self.number])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))

    def answer(self, payload):
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        note(query)
        mood = random.random()
        if mood < 0.04:
            return self.reply(500)
        if mood < 0.07:
            return self.reply(425)
        refuses = url.path == "/refuse" or (url.path == "/maybe" and random.random() < 0.5)
        if refuses and query["op"] in ("action", "try"):
            return self.reply(409)
        if url.path == "/business":
            status = business(query)
        elif url.path == "/asked":
            status = asked(query)
        elif url.path == "/xa":
            status = xa(query, payload)
        elif url.path == "/run":
            status = Workflow(query).run()
        else:
            status = move(query, payload)
        if mood < 0.11:
            return self.hang_up()
        return self.reply(status)

    def reply(self, status):
        text = json.dumps({"token": str(random.getrandbits(60))}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def hang_up(self):
        """It is done, but the caller will never know."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Callers that die are what this is all about; anything else is a bug."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


port_file, dsn, journal_file, main_dsn = sys.argv[1:]
journal = open(journal_file, "a", encoding="utf-8")
server = Server(("127.0.0.1", 0), Handler)
with open(port_file + ".new", "w", encoding="ascii") as f:
    f.write(str(server.server_address[1]))
os.rename(port_file + ".new", port_file)
threading.Thread(target=server.serve_forever, daemon=True).start()
while sys.stdin.buffer.read(4096):
    pass
os._exit(0)
