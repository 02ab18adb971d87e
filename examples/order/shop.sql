-- The shop's own database. Run by examples/order/run, with the services' addresses in
-- the variables stock, payment and shipping.
CREATE EXTENSION dtm;

-- An ordinary role: it may use dtm, and call these three servers and no other.
SELECT dtm.grant_usage('shop'), dtm.allow('shop', :'stock'), dtm.allow('shop', :'payment'), dtm.allow('shop', :'shipping');

SET ROLE shop;
CREATE TABLE service (name text PRIMARY KEY, url text NOT NULL);
INSERT INTO service VALUES ('stock', :'stock'), ('payment', :'payment'), ('shipping', :'shipping');

CREATE TABLE orders (
	id int PRIMARY KEY,
	customer text NOT NULL,
	sku int NOT NULL,
	n int NOT NULL,
	amount int NOT NULL,
	status text NOT NULL DEFAULT 'pending'
);

CREATE FUNCTION url(service text, path text) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT s.url || path FROM public.service s WHERE s.name = $1 $$;

-- An order and its saga are born in one transaction, or neither is.
CREATE FUNCTION place_order(id int, customer text, sku int, n int, amount int)
RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	p jsonb := jsonb_build_object('order', id, 'customer', customer,
								  'sku', sku, 'n', n, 'amount', amount);
BEGIN
	INSERT INTO public.orders VALUES (id, customer, sku, n, amount);
	-- How it ends is written by these statements, in the same commit as the saga's end.
	RETURN dtm.saga('order-' || id, ARRAY[
		dtm.step(public.url('stock', 'deduct'), public.url('stock', 'restore'), p),
		dtm.step(public.url('payment', 'charge'), public.url('payment', 'refund'), p),
		dtm.step(public.url('shipping', 'book'), public.url('shipping', 'cancel'), p)],
		retry_interval => '500ms',
		on_success => format('UPDATE public.orders SET status = %L WHERE id = %s', 'confirmed', id),
		on_failure => format('UPDATE public.orders SET status = %L WHERE id = %s', 'cancelled', id));
END
$$;
