"""The clients of the crash tests: they begin sagas while processes are being killed.

    crash_clients.py DSN SHOP_URL LOG

Commands come on standard input; each is answered by "done" when it is:

    burst LABEL NUMBER [KIND,...]    so many sagas, of all kinds in turn, in a few threads
    flood LABEL SECONDS              as many as go

What a client knows of each saga goes into the log, "state gid kind", where the
last line of a gid counts:

    try           it is being begun: nobody knows (the commit got no answer)
    acked         the server said COMMIT: it must end; as kind "told S" or "told F",
                  once somebody has waited for the outcome
    rolledback    it never got as far as a commit: nobody may be called

Some sessions commit asynchronously, or in REPEATABLE READ: neither may matter.
Every saga has an order, a row that is inserted in the same transaction. It
ends when its standard input does.
"""
import itertools
import random
import sys
import threading
import time
import traceback

import psycopg2

THREADS = 4
KINDS = ("ok", "refuse", "sqlfail", "rollback", "conc", "concrefuse", "twophase",
         "tworollback", "steps", "abort", "stepsabort", "again", "wait",
         "maybe", "sqlmaybe", "maybewait")

dsn, shop, log_file = sys.argv[1:]
lock = threading.Lock()
log = open(log_file, "a", encoding="utf-8")
numbers = itertools.count(1)


class Lost(Exception):
    """The connection has broken."""


def say(state, gid, kind):
    with lock:
        log.write("%s %s %s\n" % (state, gid, kind))
        log.flush()


def http(account, amount, path="move"):
    return "dtm.step('%s/%s', '%s/move', '{\"account\": \"%s\", \"amount\": %d}')" % (
        shop, path, shop, account, amount)


def sql(account, amount, function="move"):
    return ("dtm.step('sql:crash.%s', 'sql:crash.move_back', '{\"account\": \"%s\", \"amount\": %d}')"
            % (function, account, amount))


HTTP_REFUSES = http("a", 1000, "refuse")
SQL_REFUSES = sql("l", 1000, "refuse")
OPTIONS = "retry_interval => '100ms', request_timeout => '2s'"

STEPS = {
    "ok": [http("a", -5), sql("l", 2), http("b", 3)],
    "refuse": [http("a", -5), sql("l", 5), HTTP_REFUSES],
    "sqlfail": [sql("l", -5), http("a", 5), SQL_REFUSES],
    "maybe": [http("a", -5), sql("l", 2), http("b", 3, "maybe")],
    "maybewait": [http("a", -5), http("b", 3, "maybe"), http("a", 2)],
    "sqlmaybe": [http("a", -5), http("b", 3), sql("l", 2, "maybe")],
    "conc": [http("a", -5), sql("l", 2), http("b", 3)],
    "concrefuse": [http("a", -5), sql("l", 5), HTTP_REFUSES],
}


def saga(gid, kind):
    steps = STEPS.get(kind, STEPS["ok"])
    options = OPTIONS
    if kind == "conc":
        options += ", orders => '{\"3\": [1, 2]}'"
    elif kind == "concrefuse":
        options += ", concurrent => true"
    return "SELECT dtm.saga('%s', ARRAY[%s], %s)" % (gid, ", ".join(steps), options)


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
        self.connect()
        say("rolledback", gid, kind)
        try:
            getattr(self, "do_" + kind, self.do_plain)(gid, kind)
        except Lost:
            pass

    def begin(self, gid):
        self.run("BEGIN")
        self.run("INSERT INTO crash.orders VALUES ('%s')" % gid)

    def commit(self, gid, kind):
        say("try", gid, kind)
        self.run("COMMIT")
        say("acked", gid, kind)

    def do_plain(self, gid, kind):
        self.begin(gid)
        self.run(saga(gid, kind))
        self.commit(gid, kind)

    def do_again(self, gid, kind):
        """Until the server has said yes: the same saga twice is one."""
        acked = False
        while not acked:
            self.connect()
            try:
                self.run("BEGIN")
                self.run("INSERT INTO crash.orders VALUES ('%s') ON CONFLICT DO NOTHING" % gid)
                self.run(saga(gid, kind))
                self.commit(gid, kind)
                acked = True
            except Lost:
                pass

    def do_wait(self, gid, kind):
        self.do_plain(gid, kind)
        outcome = self.run("SELECT dtm.wait('%s', '30s')" % gid)[0][0]
        if outcome is None or (kind == "wait" and outcome != "succeed"):
            raise AssertionError("%s: the outcome is %s" % (gid, outcome))
        say("acked", gid, "told S" if outcome == "succeed" else "told F")

    do_maybewait = do_wait

    def do_rollback(self, gid, kind):
        self.begin(gid)
        if random.random() < 0.5:
            self.run(saga(gid, kind))
            self.run("ROLLBACK")
        else:
            self.run("SAVEPOINT s")
            self.run(saga(gid, kind))
            self.run("ROLLBACK TO s")
            self.run("DELETE FROM crash.orders WHERE gid = '%s'" % gid)
            self.run("COMMIT")

    def do_twophase(self, gid, kind):
        self.begin(gid)
        self.run(saga(gid, kind))
        # Whoever finds it prepared finishes it: what it was meant to do is in its name.
        say("try", gid, kind)
        self.run("PREPARE TRANSACTION 'commit %s %s'" % (gid, kind))
        self.run("COMMIT PREPARED 'commit %s %s'" % (gid, kind))
        say("acked", gid, kind)

    def do_tworollback(self, gid, kind):
        self.begin(gid)
        self.run(saga(gid, kind))
        self.run("PREPARE TRANSACTION 'rollback %s %s'" % (gid, kind))
        self.run("ROLLBACK PREPARED 'rollback %s %s'" % (gid, kind))

    def do_steps(self, gid, kind):
        """In its own transactions; if we never get to the end, its deadline does."""
        self.begin(gid)
        self.run("SELECT dtm.saga_begin('%s', %s, timeout_to_fail => '1s')" % (gid, OPTIONS))
        self.commit(gid, kind)
        for step in STEPS["ok"]:
            arguments = step[len("dtm.step("):-1]
            self.expect("DT412", "SELECT dtm.saga_branch('%s', %s)" % (gid, arguments))
        if kind == "stepsabort":
            self.expect(None, "SELECT dtm.abort('%s')" % gid)
        else:
            self.expect("DT412", "SELECT dtm.submit('%s')" % gid)

    do_stepsabort = do_steps

    def do_abort(self, gid, kind):
        self.do_plain(gid, kind)
        time.sleep(random.random() * 0.05)
        self.expect("DT412", "SELECT dtm.abort('%s', 'second thoughts')" % gid)

    def expect(self, state, statement):
        while True:
            try:
                self.run(statement)
                return
            except psycopg2.errors.SerializationFailure:
                pass            # the worker was faster: once more
            except psycopg2.Error as error:
                if error.pgcode != state:
                    raise
                return

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


def work(label, kinds):
    client = Client()
    try:
        for kind in kinds:
            client.one(label, kind)
    except Exception:
        # Neither a broken connection nor an error that was expected.
        say("broken", label, traceback.format_exc().replace("\n", " | "))


def until(deadline):
    while time.time() < deadline:
        yield random.choice(KINDS)


def main():
    for line in sys.stdin:
        command, label, number, *only = line.split()
        if command == "burst":
            turn = itertools.cycle(only[0].split(",") if only else KINDS)
            kinds = [next(turn) for _ in range(int(number))]
            random.shuffle(kinds)
            parts = [iter(kinds[i::THREADS]) for i in range(THREADS)]
        else:
            deadline = time.time() + float(number)
            parts = [until(deadline) for _ in range(THREADS)]
        threads = [threading.Thread(target=work, args=(label, part)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        Client().finish_prepared()
        print("done", flush=True)


main()
