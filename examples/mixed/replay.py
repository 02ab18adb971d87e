"""replay.py: every call to a service that dtm has made, once more, as a network may do it.

Prints what was answered, and how often.
"""
import os
import urllib.error
import urllib.request
from collections import Counter
from urllib.parse import urlencode

import psycopg2

with psycopg2.connect(os.environ["DSN"]) as connection, connection.cursor() as cursor:
    cursor.execute("""
        SELECT b.address, b.gid, t.trans_type, b.branch_id, b.op,
               jsonb_build_object('order', o.id, 'customer', o.customer, 'sku', o.sku,
                                  'points', o.points, 'amount', o.amount)::text
        FROM dtm.branches b
        JOIN dtm.transactions t USING (gid)
        JOIN orders o ON 'order-' || o.id = b.gid
        WHERE b.attempts > 0 AND b.address LIKE 'http:%'
        ORDER BY b.gid, b.last_attempt DESC""")
    calls = cursor.fetchall()

said = Counter()
for address, gid, trans_type, branch_id, op, payload in calls:
    query = urlencode({"gid": gid, "trans_type": trans_type, "branch_id": branch_id, "op": op})
    try:
        with urllib.request.urlopen(f"{address}?{query}", payload.encode(), timeout=10) as response:
            said[response.status] += 1
    except urllib.error.HTTPError as error:
        said[error.code] += 1
print(", ".join(f"{n} times {status}" for status, n in sorted(said.items())))
