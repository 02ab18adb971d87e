"""A client of dtm's workflows: ordinary code that goes on where it was cut off.

    flows = Workflows("dbname=office", resume="http://office:8000/resume")

    @flows.register("book-trip")
    def book_trip(run, trip):
        room = run.step(do=lambda call: book_room(trip, call),
                        undo=lambda call: cancel_room(trip, call))
        run.local(do=lambda cursor, call: pay(cursor, trip, room["price"]),
                  undo=lambda cursor, call: pay(cursor, trip, -room["price"]))
        return {"room": room["number"]}

    flows.execute("trip-7", "book-trip", {"guest": "ann"})

dtm keeps what came of each step. Should this process die, dtm calls resume, on
this or any other machine, and execute() runs the same code again: steps that are
in the journal are not done, they return what they returned the first time. So
the code must take the same way again: what decides about that comes from the
data or from steps. Clocks and random numbers belong into steps.

A step over the network may have happened without an entry in the journal, and is
then done again: it hands gid, trans_type, branch_id and op on, for the barrier of
the other side. A local step needs none: its business and its entry are one
transaction of this database.

Refused, raised by a step, means "no, and nothing happened": all steps before it
are undone, from the last to the first, and the workflow has failed. Any other
exception only ends this run; the next one tries again.
"""
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import psycopg2


class Refused(Exception):
    """The answer is no, and nothing happened: what was done before is undone."""


class NotYet(Exception):
    """Not known yet: try again later."""


class Superseded(Exception):
    """Another run goes on with this workflow, or it has ended: stop here."""


class Call:
    """What a step tells the other side, for its barrier."""

    def __init__(self, gid, branch_id, op):
        self.gid = gid
        self.branch_id = branch_id
        self.op = op

    def query(self):
        return {"gid": self.gid, "trans_type": "workflow",
                "branch_id": self.branch_id, "op": self.op}


class Run:
    """One run of a workflow: what its function gets."""

    def __init__(self, connection, gid, number, journal):
        self.connection = connection
        self.gid = gid
        self.number = number
        self.journal = journal
        self.steps = 0
        self.undos = []
        self.commits = []

    def step(self, do, undo=None, commit=None):
        """Do it, or return what it returned in an earlier run.

        undo is called if a later step refuses, commit when all have succeeded:
        neither can refuse, they are repeated until they succeed. All three get a
        Call. What do returns must be something that JSON can hold.
        """
        return self._step(self._remote, do, undo, commit)

    def local(self, do, undo=None, commit=None):
        """The same in this database, in the transaction of the entry.

        The functions get a cursor and a Call, and must not commit. What they do
        happens exactly once.
        """
        return self._step(self._local, do, undo, commit)

    def _step(self, way, do, undo, commit):
        self.steps += 1
        branch_id = "%02d" % self.steps
        # A step that refuses is not undone: nothing happened. One whose end is
        # not known ends this run, and is done again by the next.
        result = self._once(way, branch_id, "action", do)
        if undo:
            self.undos.append((way, branch_id, undo))
        if commit:
            self.commits.append((way, branch_id, commit))
        return result

    def finish(self, result, reason):
        """All that is left to be done, and then the outcome. Returns it."""
        if reason is None:
            for way, branch_id, commit in self.commits:
                self._once(way, branch_id, "commit", commit)
        else:
            for way, branch_id, undo in reversed(self.undos):
                self._once(way, branch_id, "rollback", undo)
        with Transaction(self.connection) as cursor:
            cursor.execute("SELECT dtm.workflow_finish(%s, %s, %s::text, %s, %s)",
                           [self.gid, "succeed" if reason is None else "failed",
                            json.dumps(result if reason is None else reason),
                            None if reason is None else reason[:250], self.number])

    def _once(self, way, branch_id, op, function):
        if (branch_id, op) not in self.journal:
            try:
                entry = way(function, Call(self.gid, branch_id, op))
            except Refused as refusal:
                if op != "action":
                    raise RuntimeError("%s of step %s cannot be refused: %s"
                                       % (op, branch_id, refusal)) from refusal
                entry = ("failed", str(refusal))
                with Transaction(self.connection) as cursor:
                    self._record(cursor, branch_id, op, *entry)
            self.journal[branch_id, op] = entry
        status, result = self.journal[branch_id, op]
        if status == "failed":
            raise Refused(result)
        return result

    def _remote(self, function, call):
        result = function(call)
        with Transaction(self.connection) as cursor:
            self._record(cursor, call.branch_id, call.op, "succeed", result)
        return "succeed", result

    def _local(self, function, call):
        with Transaction(self.connection) as cursor:
            result = function(cursor, call)
            self._record(cursor, call.branch_id, call.op, "succeed", result)
        return "succeed", result

    def _record(self, cursor, branch_id, op, status, result):
        """An error, if another run goes on: then what was done here is rolled back."""
        cursor.execute("SELECT dtm.workflow_record(%s, %s, %s, %s, %s::text, %s)",
                       [self.gid, branch_id, op, status, json.dumps(result), self.number])
        if not cursor.fetchone()[0]:
            raise Superseded("step %s is in the journal already" % branch_id)


class Transaction:
    """One transaction: committed at the end of the block, or rolled back."""

    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        self.cursor = self.connection.cursor()
        return self.cursor

    def __exit__(self, kind, error, trace):
        self.cursor.close()
        if kind is None:
            self.connection.commit()
        elif not self.connection.closed:
            self.connection.rollback()
        if isinstance(error, psycopg2.Error) and error.pgcode == "DT412":
            raise Superseded(str(error).strip()) from error


class Workflows:
    """Workflows of one application. resume: where dtm finds it again."""

    def __init__(self, dsn, resume="", **options):
        self.dsn = dsn
        self.resume = resume
        self.options = options
        self.functions = {}

    def register(self, name):
        def keep(function):
            self.functions[name] = function
            return function
        return keep

    def execute(self, gid, name, data=None):
        """Run it, or go on with it, to its end; returns its result.

        Of one that has ended already, too. Refused: it has failed, and is undone.
        """
        return self._execute(gid, name, json.dumps(data))

    def _execute(self, gid, name, body):
        connection = psycopg2.connect(self.dsn)
        try:
            run, ended = self._prepare(connection, gid, name, body)
            if ended:
                status, result = ended
            else:
                try:
                    status, result = "succeed", self.functions[name](run, json.loads(body))
                except Refused as refusal:
                    status, result = "failed", str(refusal)
                run.finish(result, None if status == "succeed" else result)
        finally:
            connection.close()
        if status == "failed":
            raise Refused(result)
        return result

    def _prepare(self, connection, gid, name, body):
        names = "".join(", %s => %%s" % option for option in self.options)
        with Transaction(connection) as cursor:
            cursor.execute("SELECT branch_id, op, status, result, run"
                           " FROM dtm.workflow_prepare(%s, %s, %s, %s::text" + names + ")",
                           [gid, name, self.resume, body] + list(self.options.values()))
            rows = cursor.fetchall()
        journal = {(branch_id, op): (status, json.loads(bytes(result)) if result is not None else None)
                   for branch_id, op, status, result, run in rows}
        whole = journal.pop(("00", name))
        return Run(connection, gid, rows[0][4], journal), None if whole[0] == "prepared" else whole

    def answer(self, query, body):
        """To a call of resume: HTTP status and text. Success: it has ended."""
        gid, name = query["gid"], query["op"]
        if name not in self.functions:
            return 404, "there is no workflow %s here" % name
        try:
            self._execute(gid, name, body or "null")
        except Refused:
            pass
        except (NotYet, Superseded) as reason:
            return 425, str(reason)
        except Exception as error:
            return 500, "%s: %s" % (type(error).__name__, error)
        return 200, "it has ended"


def listen(flows, host="127.0.0.1", port=0):
    """A server for the calls of resume; serve_forever() it. Sets flows.resume."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.do_POST()

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            url = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(url.query).items()}
            if url.path == "/resume" and "gid" in query and "op" in query:
                status, text = flows.answer(query, body)
            else:
                status, text = 404, "no such path"
            answer = text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                self.close_connection = True    # dtm has not waited for so long

        def log_message(self, format, *args):
            print(format % args, file=sys.stderr, flush=True)

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    flows.resume = "http://%s:%d/resume" % server.server_address
    return server


def serve_in_background(flows, port_file):
    """listen() in a thread; the port goes to a file, for whoever started us."""
    server = listen(flows)
    with open(port_file + ".new", "w", encoding="ascii") as f:
        print(server.server_address[1], file=f)
    os.rename(port_file + ".new", port_file)
    threading.Thread(target=server.serve_forever, daemon=True).start()
