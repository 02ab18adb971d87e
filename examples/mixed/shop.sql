-- The shop's database. Run by examples/mixed/run, with the addresses of the services
-- in the variables points and bank.
CREATE EXTENSION dtm;

-- An ordinary role: it may use dtm, and call these two servers and no other.
SELECT dtm.grant_usage('shop'), dtm.allow('shop', :'points'), dtm.allow('shop', :'bank');

SET ROLE shop;
CREATE TABLE service (name text PRIMARY KEY, url text NOT NULL);
INSERT INTO service VALUES ('points', :'points'), ('bank', :'bank');

CREATE TABLE stock (sku int PRIMARY KEY, name text NOT NULL, n int NOT NULL CHECK (n >= 0));
INSERT INTO stock VALUES (7, 'tea pot', 10);

CREATE TABLE orders (
	id int PRIMARY KEY,
	customer text NOT NULL,
	sku int NOT NULL,
	points int NOT NULL,	-- paid in points, and
	amount int NOT NULL,	-- ... in money
	status text NOT NULL DEFAULT 'pending'
);

-- The saga's steps in this database: functions, each run exactly once. They need no barrier.
CREATE FUNCTION take(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	UPDATE public.stock SET n = n - 1 WHERE sku = (payload->>'sku')::int AND n > 0;
	IF NOT FOUND THEN
		PERFORM dtm.fail('none of it on the shelf');
	END IF;
END
$$;

-- Not run when take() has refused, or was never run: dtm knows, both are in its tables.
CREATE FUNCTION put_back(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.stock SET n = n + 1 WHERE sku = (payload->>'sku')::int $$;

CREATE FUNCTION confirm(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.orders SET status = 'confirmed' WHERE id = (payload->>'order')::int $$;

CREATE FUNCTION cancel(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.orders SET status = 'cancelled' WHERE id = (payload->>'order')::int $$;

CREATE FUNCTION url(service text, path text) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT s.url || path FROM public.service s WHERE s.name = $1 $$;

-- An order and its saga are born in one transaction, or neither is.
CREATE FUNCTION place_order(id int, customer text, points int, amount int) RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	p jsonb := jsonb_build_object('order', id, 'customer', customer, 'sku', 7,
								  'points', points, 'amount', amount);
BEGIN
	INSERT INTO public.orders VALUES (id, customer, 7, points, amount);
	RETURN dtm.saga('order-' || id, ARRAY[
		dtm.step('', 'sql:public.cancel', p),
		dtm.step('sql:public.take', 'sql:public.put_back', p),
		dtm.step(public.url('points', 'spend'), public.url('points', 'give-back'), p),
		dtm.step(public.url('bank', 'charge'), public.url('bank', 'refund'), p),
		dtm.step('sql:public.confirm', '', p)],
		request_timeout => '1s', retry_interval => '300ms');
END
$$;
