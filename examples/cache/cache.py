"""A cache in Redis that nothing outdated can stay in.

To delete a key after each change is not enough. A reader that has read the old
row just before the change may write it just after the deletion, and it stays:

    reader    not cached; reads price 30
    writer                                 price = 31; COMMIT; deletes the key
    reader                                                                     writes 30

So who may write is decided before the row is read. A reader that finds nothing
takes out a lease: a random token under the same key. To delete the key deletes
the lease. To write a value takes the lease that one has; without it the
value is not written, but only given to whoever asked for it.

Why that is enough: the row that a reader read is older than a COMMIT only if it
was read, and so its lease was taken, before that COMMIT. The deletion comes
after the COMMIT. If it comes before the write, the lease is gone and the
write is refused. If it comes after, it deletes what was written. No clock, and no
guess how slow a reader can be, is in this.

It also holds for a Redis that restarts empty (no leases: nothing is written),
for deletions that come twice, late or in another order, and for writes that a
hung Redis carries out long after their writer has given up. It does not hold for
rows read from a standby, which may be older than the lease: read from the primary.
"""
import json
import secrets

# A lease whose reader has died blocks the key no longer than this. It may be
# anything: a reader that is slower finds its lease gone, and does not write.
LEASE_MS = 3000
# What is kept is correct however old it is; this only bounds memory.
KEEP_MS = 3600 * 1000

LOOK = """
local value = redis.call('HGET', KEYS[1], 'value')
if value then return {'value', value} end
if redis.call('HSETNX', KEYS[1], 'lease', ARGV[1]) == 0 then return {'taken', ''} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'lease', ARGV[1]}
"""

KEEP = """
if redis.call('HGET', KEYS[1], 'lease') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'value', ARGV[2])
redis.call('HDEL', KEYS[1], 'lease')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


class Cache:
    """Values are whatever JSON can say; None is one of them."""

    def __init__(self, client):
        self.client = client
        self.look_script = client.register_script(LOOK)
        self.keep_script = client.register_script(KEEP)

    def look(self, key):
        """(True, value), or (False, lease): read, then keep(). The lease is None while
        another reader has it: read, and keep nothing."""
        what, it = self.look_script(keys=[key], args=[secrets.token_hex(16), LEASE_MS])
        if what == "value":
            return True, json.loads(it)
        return False, it if what == "lease" else None

    def keep(self, key, lease, value):
        """True: it is in the cache. False: it has changed meanwhile, or may have."""
        if lease is None:
            return False
        return bool(self.keep_script(keys=[key], args=[lease, json.dumps(value), KEEP_MS]))

    def delete(self, *keys):
        """Values and leases. To do it again does no harm."""
        self.client.delete(*keys)

    def delete_all(self, pattern):
        """The same for all that match. SCAN finds every key that is there from its beginning
        to its end; what comes in between was read after the COMMIT, or has its lease deleted."""
        for key in self.client.scan_iter(match=pattern, count=1000):
            self.client.delete(key)
