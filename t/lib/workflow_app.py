"""An application with a workflow, for tests: the client that examples/workflow has.

    workflow_app.py DSN serve PORT_FILE            resumes what it is called for
    workflow_app.py DSN execute URL GID DATA       runs one; prints the outcome

The workflow "trip" does a step for each path in data["steps"]: it calls data["stub"]
+ path, as op action, and to undo it path + "/undo" as op rollback; "local" is an
insert into the table done (in which every row is a step that has happened).

serve ends with its standard input.
"""
import json
import os
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import urlencode

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "workflow"))
from workflow import NotYet, Refused, Superseded, Workflows, serve_in_background

dsn, command, *arguments = sys.argv[1:]
flows = Workflows(dsn, timeout_to_fail="1500ms")


def ask(data, path, call):
    request = urllib.request.Request(data["stub"] + path + "?" + urlencode(call.query()),
                                     data=b"{}", headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        text = error.read().decode() or "no"
        if error.code == 409:
            raise Refused(text) from error
        if error.code == 425:
            raise NotYet(text) from error
        raise
    return path


def note(cursor, call):
    cursor.execute("INSERT INTO done VALUES (%s, %s, %s)", [call.gid, call.branch_id, call.op])


@flows.register("trip")
def trip(run, data):
    done = []
    for path in data["steps"]:
        if path == "local":
            run.local(do=note, undo=note, commit=note)
            done.append(path)
        else:
            done.append(run.step(do=lambda call, path=path: ask(data, path, call),
                                 undo=lambda call, path=path: ask(data, path + "/undo", call)))
    return done


if command == "serve":
    serve_in_background(flows, arguments[0])
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)
elif command == "execute":
    url, gid, data = arguments
    flows.resume = url
    try:
        print("succeed", json.dumps(flows.execute(gid, "trip", json.loads(data))))
    except Refused as reason:
        print("failed", reason)
    except Superseded as reason:
        print("superseded", reason)
