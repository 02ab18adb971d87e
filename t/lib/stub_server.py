"""A branch service for tests: answers as told, and keeps a journal of its calls.

    stub_server.py PORT_FILE [CERTIFICATE KEY]

It listens on a free port of 127.0.0.1, writes the port to PORT_FILE, and ends
when its standard input does, so it never outlives the test that started it.

Any path is a branch. What it answers is a list of answers, set by a test:

    POST /_program   {"path": "/pay", "answers": [{"status": 409}, {"status": 200}]}

Answers are used up in order; the last one stays. An answer has

    status    200 unless told        body      "" unless told
    hex       instead of body: bytes of any kind, as hexadecimal digits
    headers   {"Name": "value"}      delay     seconds before anything happens
    hold      wait until POST /_release {"path": "/pay"}
    effect    count the call's effect; on unless the answer is a refusal or error
    manner    what happens on the wire instead of an honest answer:
              drop (close without a word), hang (never answer), short (promise
              more bytes than come), trickle (a byte each 50 ms), huge (bytes
              bytes of body), garbage (no HTTP at all)

Effects stand behind a barrier in memory, the same as dtm's in a table: an
action counts once, and not after its compensation; a compensation counts once,
and only if its action did.

    GET /_journal    every call, in order of arrival; ?gid= only of that gid
    GET /_count      ?path= how many calls of that path have arrived
    GET /_effects    {gid: {branch_id: [actions, compensations]}}
    POST /_reset     forget programs, journal and effects
"""
import hashlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

UNDOES = {"compensate": "action", "cancel": "try", "rollback": "action"}

lock = threading.Condition()
programs = {}
released = {}
journal = []
barrier = set()
effects = {}


def reset():
    programs.clear()
    released.clear()
    journal.clear()
    barrier.clear()
    effects.clear()


def next_answer(path):
    """The caller holds the lock."""
    answers = programs.get(path) or programs.get("*") or [{}]
    return answers.pop(0) if len(answers) > 1 else answers[0]


def count_effect(call):
    """The barrier's algorithm; the caller holds the lock."""
    gid, branch, op = call["gid"], call["branch_id"], call["op"]
    origin = UNDOES.get(op)
    nothing_to_undo = False
    if origin:
        nothing_to_undo = (gid, branch, origin) not in barrier
        barrier.add((gid, branch, origin))
    repeat = (gid, branch, op) in barrier
    barrier.add((gid, branch, op))
    if repeat or nothing_to_undo:
        return False
    effects.setdefault(gid, {}).setdefault(branch, [0, 0])[1 if origin else 0] += 1
    return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *args):
        pass

    def setup(self):
        super().setup()
        self.connection_id = id(self.connection)

    def reply(self, status, body, headers=None):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def handle_any(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        path = urlsplit(self.path).path
        if path.startswith("/_"):
            self.control(path, json.loads(body) if body else self.query())
        else:
            self.branch(path, body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def control(self, path, given):
        result = {}
        with lock:
            if path == "/_program":
                programs[given["path"]] = given["answers"]
            elif path == "/_release":
                released[given["path"]] = released.get(given["path"], 0) + given.get("calls", 1 << 30)
                lock.notify_all()
            elif path == "/_journal":
                result = [call for call in journal if "gid" not in given or call["gid"] == given["gid"]]
            elif path == "/_count":
                result = {"calls": sum(call["path"] == given["path"] for call in journal)}
            elif path == "/_effects":
                result = effects
            elif path == "/_reset":
                reset()
            text = json.dumps(result)
        self.reply(200, text)

    def query(self):
        return {k: v[-1] for k, v in parse_qs(urlsplit(self.path).query, keep_blank_values=True).items()}

    def branch(self, path, body):
        query = self.query()
        call = {
            "n": 0, "path": path, "method": self.command, "target": self.path, "query": query,
            "gid": query.get("gid"), "trans_type": query.get("trans_type"),
            "branch_id": query.get("branch_id"), "op": query.get("op"),
            "headers": dict(self.headers.items()),
            "body": body[:65536].decode("utf-8", "replace"), "size": len(body),
            "md5": hashlib.md5(body).hexdigest(),
            "connection": self.connection_id, "began": time.time(), "ended": None, "status": None,
        }
        with lock:
            answer = dict(next_answer(path))
            call["n"] = len(journal)
            journal.append(call)
            lock.notify_all()
            if answer.get("hold"):
                while not released.get(path):
                    lock.wait()
                released[path] -= 1
        time.sleep(answer.get("delay", 0))
        status = answer.get("status", 200)
        text = answer.get("body", "")
        refused = status != 200 or "FAILURE" in text or "ONGOING" in text
        with lock:
            if answer.get("effect", not refused):
                call["effect"] = count_effect(call)
            call["status"] = status
            call["ended"] = time.time()
            lock.notify_all()
        self.speak(answer, status, text)

    def speak(self, answer, status, text):
        manner = answer.get("manner")
        if manner is None:
            self.reply(status, bytes.fromhex(answer["hex"]) if "hex" in answer else text,
                       answer.get("headers"))
            return
        self.close_connection = True
        head = "HTTP/1.1 %d Told\r\nContent-Type: text/plain\r\n" % status
        if manner == "hang":
            while True:
                time.sleep(3600)
        elif manner == "garbage":
            self.wfile.write(b"\x00\x01 this is no HTTP \r\n\r\n")
        elif manner == "short":
            self.wfile.write((head + "Content-Length: 100000\r\n\r\n" + text).encode())
        elif manner == "trickle":
            self.wfile.write((head + "Content-Length: 100000\r\n\r\n").encode())
            for _ in range(100000):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.05)
        elif manner == "huge":
            size = answer.get("bytes", 1 << 30)
            self.wfile.write((head + "Content-Length: %d\r\n\r\n" % size).encode())
            chunk = b"x" * 65536
            while size > 0:
                self.wfile.write(chunk[:size])
                size -= len(chunk)
        elif manner == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(b"HTTP/1.1 500 No such manner\r\nContent-Length: 0\r\n\r\n")
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        """A caller that went away is what many tests are about."""


def main():
    port_file, *tls = sys.argv[1:]
    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with open(port_file + ".new", "w") as f:
        f.write(str(server.server_address[1]))
    os.rename(port_file + ".new", port_file)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
