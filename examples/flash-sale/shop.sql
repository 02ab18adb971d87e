-- The shop's database. Run by examples/flash-sale/run, with the address of the sale's
-- service in the variable sale.
CREATE EXTENSION dtm;

-- An ordinary role: it may use dtm, and have this one server asked and no other.
SELECT dtm.grant_usage('shop'), dtm.allow('shop', :'sale');

SET ROLE shop;
CREATE TABLE orders (
	gid text PRIMARY KEY,			-- one piece for each press of the button
	buyer text NOT NULL,
	sku int NOT NULL,
	ordered_at timestamptz NOT NULL DEFAULT now()
);

-- What the message does once it is sent: exactly once, since it runs here.
CREATE FUNCTION make_order(payload jsonb) RETURNS void LANGUAGE sql AS
$$
	INSERT INTO public.orders (gid, buyer, sku)
	SELECT gid, payload->>'buyer', (payload->>'sku')::int FROM dtm.current_branch()
$$;
