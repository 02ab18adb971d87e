"""The clients of the crash tests: they begin transactions while processes are being killed.

    crash_clients.py DSN SHOP_URL LOG KINDS

KINDS is a file with what CrashModes.pm says of each kind, as JSON. Commands come
on standard input; each is answered by "done" when it is:

    burst LABEL NUMBER KIND,...      so many, of these kinds in turn, in a few threads
    alone LABEL NUMBER KIND,...      the same, in one: nobody else commits meanwhile
    flood LABEL SECONDS KIND,...     as many as go

What a client knows of each transaction goes into the log, "state gid kind", where
the last line of a gid counts:

    rolledback    it never got as far as a commit: nobody may be called
    try           it is being begun: nobody knows (the commit got no answer)
    acked         the server said COMMIT: it must end
    S, F          and the server has promised, or told, that it ends like this

Some sessions commit asynchronously, or in REPEATABLE READ: neither may matter.
Every transaction has an order, a row that is inserted together with it. The
clients end when their standard input does.
"""
import http.client
import itertools
import json
import random
import sys
import threading
import time
import traceback

import psycopg2

THREADS = 4
# What our own functions raise on a bad day, and what is nobody's fault.
ONCE_MORE = ("P0001", "DT425", "40001", "40P01")
TOO_LATE = "DT412"

dsn, shop, log_file, kinds_file = sys.argv[1:]
with open(kinds_file, encoding="utf-8") as f:
    KINDS = json.load(f)
lock = threading.Lock()
log = open(log_file, "a", encoding="utf-8")
numbers = itertools.count(1)


class Lost(Exception):
    """The connection has broken."""


def say(state, gid, kind):
    with lock:
        log.write("%s %s %s\n" % (state, gid, kind))
        log.flush()


class Client:
    def __init__(self):
        self.connection = None

    def connect(self):
        deadline = time.time() + 120
        while self.connection is None:
            try:
                self.connection = psycopg2.connect(dsn)
                self.connection.autocommit = True
                with self.connection.cursor() as cursor:
                    cursor.execute("SET synchronous_commit = %s" % random.choice(("on", "off")))
                    cursor.execute("SET default_transaction_isolation = '%s'"
                                   % random.choice(("read committed", "repeatable read")))
            except psycopg2.Error:
                self.connection = None
                if time.time() > deadline:
                    raise
                time.sleep(0.02)

    def run(self, statement):
        """Returns the rows, or the SQLSTATE of an honest error."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        except psycopg2.Error as error:
            if error.pgcode is not None and not error.pgcode.startswith("57P"):
                raise
            # No word of the server, or its last one.
            try:
                self.connection.close()
            except psycopg2.Error:
                pass
            self.connection = None
            raise Lost(str(error)) from error

    def one(self, label, kind):
        gid = "%s-%d" % (label, next(numbers))
        how = KINDS[kind]
        self.connect()
        say("rolledback", gid, kind)
        try:
            manner = getattr(self, "begin_" + how.get("manner", "plain"))
            manner(gid, kind, how["begin"].replace("GID", gid))
            self.go_on(gid, kind, how)
        except Lost:
            pass

    # The manners of beginning

    def begin_order(self, gid):
        self.run("BEGIN")
        self.run("INSERT INTO crash.orders VALUES ('%s')" % gid)

    def commit(self, gid, kind):
        say("try", gid, kind)
        self.run("COMMIT")
        say("acked", gid, kind)

    def begin_plain(self, gid, kind, begin):
        self.begin_order(gid)
        self.run(begin)
        self.commit(gid, kind)

    def begin_again(self, gid, kind, begin):
        """Until the server has said yes: the same twice is one."""
        acked = False
        while not acked:
            self.connect()
            try:
                self.run("BEGIN")
                self.run("INSERT INTO crash.orders VALUES ('%s') ON CONFLICT DO NOTHING" % gid)
                self.run(begin)
                self.commit(gid, kind)
                acked = True
            except Lost:
                pass

    def begin_wait(self, gid, kind, begin):
        self.begin_plain(gid, kind, begin)
        outcome = self.run("SELECT dtm.wait('%s', '30s')" % gid)[0][0]
        if outcome is None:
            raise AssertionError("%s: no outcome" % gid)
        say("S" if outcome == "succeed" else "F", gid, kind)

    def begin_rollback(self, gid, kind, begin):
        self.begin_order(gid)
        if random.random() < 0.5:
            self.run(begin)
            self.run("ROLLBACK")
        else:
            self.run("SAVEPOINT s")
            self.run(begin)
            self.run("ROLLBACK TO s")
            self.run("DELETE FROM crash.orders WHERE gid = '%s'" % gid)
            self.run("COMMIT")

    def begin_twophase(self, gid, kind, begin):
        self.begin_order(gid)
        self.run(begin)
        # Whoever finds it prepared finishes it: what it was meant to do is in its name.
        say("try", gid, kind)
        self.run("PREPARE TRANSACTION 'commit %s %s'" % (gid, kind))
        self.run("COMMIT PREPARED 'commit %s %s'" % (gid, kind))
        say("acked", gid, kind)

    def begin_tworollback(self, gid, kind, begin):
        self.begin_order(gid)
        self.run(begin)
        self.run("PREPARE TRANSACTION 'rollback %s %s'" % (gid, kind))
        self.run("ROLLBACK PREPARED 'rollback %s %s'" % (gid, kind))

    # What comes afterwards

    def go_on(self, gid, kind, how):
        """Ends early where the transaction was decided before, or the shop refuses."""
        for step in how.get("then", ()):
            if "pause" in step:
                time.sleep(random.random() * step["pause"])
            elif "stop" in step:
                return
            elif "shop" in step:
                if not call_shop(step["shop"].replace("GID", gid), step["body"]):
                    self.command(how["otherwise"].replace("GID", gid))
                    return
                if "told" in step:
                    say(step["told"], gid, kind)
            elif not self.command(step["sql"].replace("GID", gid)):
                return
            elif "told" in step:
                say(step["told"], gid, kind)

    def command(self, statement):
        while True:
            try:
                self.run(statement)
                return True
            except psycopg2.Error as error:
                if error.pgcode == TOO_LATE:
                    return False
                if error.pgcode not in ONCE_MORE:
                    raise

    def finish_prepared(self):
        while True:
            self.connect()
            try:
                found = self.run("SELECT gid FROM pg_prepared_xacts")
                for (name,) in found:
                    what, gid, kind = name.split()
                    try:
                        self.run("%s PREPARED '%s'" % (what.upper(), name))
                        if what == "commit":
                            say("acked", gid, kind)
                    except psycopg2.errors.UndefinedObject:
                        pass
                return
            except Lost:
                pass


def call_shop(path, body):
    """The shop's word on it: yes or no. It has its days."""
    deadline = time.time() + 60
    while True:
        connection = http.client.HTTPConnection(shop.split("//")[1], timeout=30)
        try:
            connection.request("POST", path, body)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            status = None
        finally:
            connection.close()
        if status in (200, 409):
            return status == 200
        if time.time() > deadline:
            raise AssertionError("the shop does not answer %s" % path)


def work(label, kinds):
    client = Client()
    try:
        for kind in kinds:
            client.one(label, kind)
    except Exception:
        # Neither a broken connection nor an error that was expected.
        say("broken", label, traceback.format_exc().replace("\n", " | "))


def until(deadline, kinds):
    while time.time() < deadline:
        yield random.choice(kinds)


def main():
    for line in sys.stdin:
        command, label, number, names = line.split()
        chosen = names.split(",")
        if command in ("burst", "alone"):
            turn = itertools.cycle(chosen)
            kinds = [next(turn) for _ in range(int(number))]
            random.shuffle(kinds)
            n = THREADS if command == "burst" else 1
            parts = [iter(kinds[i::n]) for i in range(n)]
        else:
            deadline = time.time() + float(number)
            parts = [until(deadline, chosen) for _ in range(THREADS)]
        threads = [threading.Thread(target=work, args=(label, part)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        Client().finish_prepared()
        print("done", flush=True)


main()
