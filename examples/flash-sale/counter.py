"""The counter of a flash sale, in Redis: what is sold is decided here, in one step.

take() counts down and leaves a mark that it did, in one script behind the barrier
of redis_barrier.py. The mark is the evidence that the back-check looks for.
"""
from redis_barrier import Barrier, QueryPrepared


class SoldOut(Exception):
    """There was none left: nothing happened."""


class TooLate(Exception):
    """The back-check has said meanwhile that nothing was taken, so nothing may be."""


def key_of(sku):
    return f"stock:{sku}"


class Counter:
    def __init__(self, client):
        self.barrier = Barrier(
            client,
            refused="""
                local left = tonumber(redis.call('GET', KEYS[3]))
                if not left then error('there is no such sale') end
                if left < 1 then return 'sold out' end
            """,
            business="redis.call('DECR', KEYS[3])")
        self.was_taken = QueryPrepared(client).was_committed

    def take(self, gid, sku):
        """One piece for this message; again is as good as once."""
        what, by = self.barrier.call(gid, "00", "msg", [key_of(sku)])
        if what == "refused":
            raise SoldOut
        if what == "repeat" and by == "rollback":
            raise TooLate
