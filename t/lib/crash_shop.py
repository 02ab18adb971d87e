"""The participant of the crash tests: honest behind its barrier, ill-mannered before it.

    crash_shop.py PORT_FILE DSN JOURNAL

    POST /move     {"account": "a", "amount": -5}: moves money; compensated, back
    POST /refuse   never does anything, and says so
    POST /maybe    as one or the other, and it may be the other when asked again

Every call goes into the journal before anything else: "time gid branch_id op".
Some calls fail before their effect, some after it, some want to be asked again.
It ends when its standard input does.
"""
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

lock = threading.Lock()
places = threading.BoundedSemaphore(CONNECTIONS)
idle = []


def note(query):
    with lock:
        journal.write("%.6f %s %s %s\n" % (time.time(), query["gid"], query["branch_id"], query["op"]))
        journal.flush()


def move(query, payload):
    """The barrier, the business and the proof of it: one transaction."""
    amount = payload["amount"] if query["op"] == "action" else -payload["amount"]
    with places:
        connection = idle.pop() if idle else psycopg2.connect(dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT dtm.barrier('saga', %s, %s, %s)",
                           [query["gid"], query["branch_id"], query["op"]])
            if cursor.fetchone()[0]:
                cursor.execute("INSERT INTO effect (gid, branch_id, op) VALUES (%s, %s, %s)",
                               [query["gid"], query["branch_id"], query["op"]])
                cursor.execute("UPDATE account SET balance = balance + %s WHERE name = %s",
                               [amount, payload["account"]])
        idle.append(connection)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        note(query)
        mood = random.random()
        if mood < 0.04:
            return self.reply(500, "a bad day")
        if mood < 0.07:
            return self.reply(425, "ask again")
        refuses = url.path == "/refuse" or (url.path == "/maybe" and random.random() < 0.5)
        if refuses and query["op"] == "action":
            return self.reply(409, "no")
        move(query, payload)
        if mood < 0.11:
            return self.hang_up()
        return self.reply(200, "done")

    def reply(self, status, text):
        text = text.encode()
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


port_file, dsn, journal_file = sys.argv[1:]
journal = open(journal_file, "a", encoding="utf-8")
server = Server(("127.0.0.1", 0), Handler)
with open(port_file + ".new", "w", encoding="ascii") as f:
    f.write(str(server.server_address[1]))
os.rename(port_file + ".new", port_file)
threading.Thread(target=server.serve_forever, daemon=True).start()
while sys.stdin.buffer.read(4096):
    pass
os._exit(0)
