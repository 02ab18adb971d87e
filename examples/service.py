"""HTTP for the services of the examples: only Python's standard library.

What the answers mean to dtm: 200 success, 409 "no, and nothing happened here",
425 "not known yet, ask again"; anything else is asked again.
"""
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Refused(Exception):
    """The answer is no, and nothing happened here."""


class NotYet(Exception):
    """Not known yet: ask again."""


class NotFound(Exception):
    """There is no such thing."""


class Call:
    """One request. Calls by dtm say for whom they are: gid, trans_type, branch_id, op."""

    def __init__(self, path, query, body):
        self.path = path
        self.gid = query.get("gid")
        self.trans_type = query.get("trans_type")
        self.branch_id = query.get("branch_id")
        self.op = query.get("op")
        self.payload = json.loads(body) if body else {}


def answer(routes, method, target, body):
    """Status and answer. routes: {regular expression for "METHOD /path": function(call, groups...)}"""
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    for route, business in routes.items():
        found = re.fullmatch(route, f"{method} {url.path}")
        if found:
            try:
                return 200, business(Call(url.path, query, body), *found.groups())
            except Refused as reason:
                return 409, {"refused": str(reason)}
            except NotYet as reason:
                return 425, {"not yet": str(reason)}
            except NotFound as what:
                return 404, {"error": f"there is no {what}"}
            except Exception as error:  # pylint: disable=broad-except
                # Whatever it is: nobody knows how far it came, so it is asked again.
                return 500, {"error": f"{type(error).__name__}: {error}"}
    return 404, {"error": "there is no such path"}


def serve(name, routes, port_file):
    """Answers for ever; says port and process in port_file when it can."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = answer(routes, self.command, self.path, body)
            text = json.dumps(said).encode()
            self.log_message('"%s" %s %s', self.requestline, status, text.decode())
            try:
                self.send_response_only(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
            except ConnectionError:
                # The caller did not wait for so long. It will ask again.
                self.close_connection = True

        do_GET = do_POST = reply

        def log_message(self, format, *args):
            print(name, format % args, file=sys.stderr, flush=True)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    with open(port_file + ".new", "w", encoding="ascii") as f:
        print(server.server_address[1], os.getpid(), file=f)
    os.rename(port_file + ".new", port_file)
    server.serve_forever()
