"""The barrier of a participant whose store is Redis.

A participant has one rule to keep: the same call may come twice, late, or after
its own cancellation. In PostgreSQL dtm.barrier() keeps it, in the transaction
of the business. Redis has no transaction to join, but it carries out a script
as one step: so "is this call new?", the business and the mark that it is done
are one script.

The marks are strings named GID-BRANCH_ID-OP-01: the keys that dtm-labs' client
libraries use, and the meaning of the rows in dtm_barrier.barrier. The value is
the op that wrote it.

The order in the script matters, because Redis rolls nothing back when a script
fails in the middle:

    1. look at the marks             nothing is written for a repeat
    2. refused()                     reads only: a refusal leaves no mark
    3. business()                    one writing command: done or not done
    4. write the mark                cannot fail: after its first write a script
                                     is neither stopped nor refused for memory

In a cluster, marks and business must be in one slot: put the same {tag} into the
gid and into the names of the business' keys.
"""
import redis

# How long marks are kept, in seconds: longer than any call can be late.
KEEP = 7 * 86400

# What an op undoes.
ORIGIN = {"compensate": "action", "cancel": "try", "rollback": "action"}

LUA = """
local mark, origin = KEYS[1], KEYS[2]
local op, keep = ARGV[1], ARGV[2]
local by = redis.call('GET', mark)
if by then return {'repeat', by} end
if origin ~= mark and redis.call('EXISTS', origin) == 0 then
    redis.call('SET', origin, op, 'EX', keep)
    redis.call('SET', mark, op, 'EX', keep)
    return {'nothing to undo', op}
end
local why = refused()
if why then return {'refused', why} end
business()
redis.call('SET', mark, op, 'EX', keep)
return {'done', op}
"""

QUERY_PREPARED = """
if redis.call('SET', KEYS[1], 'rollback', 'NX', 'EX', ARGV[1]) then return 'rollback' end
return redis.call('GET', KEYS[1])
"""


def connect(path, patience=0.5):
    """The connection pool for a socket. Nobody waits longer than patience, in seconds."""
    return redis.Redis(unix_socket_path=path, decode_responses=True,
                       socket_timeout=patience, socket_connect_timeout=patience)


def mark_of(gid, branch_id, op):
    return f"{gid}-{branch_id}-{op}-01"


class Barrier:
    """Business in Lua behind the barrier.

    refused and business are bodies of Lua functions. They find their keys from
    KEYS[3] on and their arguments from ARGV[3] on. refused only reads, and
    returns why not, or nothing. business has one writing command.
    """

    def __init__(self, client, business, refused=""):
        self.script = client.register_script(
            f"local function refused()\n{refused}\nend\n"
            f"local function business()\n{business}\nend\n{LUA}")

    def call(self, gid, branch_id, op, keys, args=()):
        """What happened ('done', 'repeat', 'nothing to undo', 'refused'), and by which op, or why."""
        # Without an origin its place is taken by the mark itself: an empty name
        # would be in another slot.
        origin = ORIGIN.get(op, op)
        return self.script(keys=[mark_of(gid, branch_id, op), mark_of(gid, branch_id, origin), *keys],
                           args=[op, KEEP, *args])


class QueryPrepared:
    """The answer to the back-check of a two-phase message, whose business has op msg.

    Where the business left no mark, the question writes one: what comes later
    is a repeat by 'rollback', and does nothing.
    """

    def __init__(self, client):
        self.script = client.register_script(QUERY_PREPARED)

    def was_committed(self, gid):
        return self.script(keys=[mark_of(gid, "00", "msg")], args=[KEEP]) != "rollback"
