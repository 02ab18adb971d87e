-- The travel agency's own database. Run by examples/ticketing/run, with the services'
-- addresses in the variables flight, hotel, train and payment.
CREATE EXTENSION dtm;

-- An ordinary role: it may use dtm, and call these four servers and no other.
SELECT dtm.grant_usage('agency');
SELECT dtm.allow('agency', url) FROM unnest(ARRAY[:'flight', :'hotel', :'train', :'payment']) url;

SET ROLE agency;
CREATE TABLE service (name text PRIMARY KEY, url text NOT NULL);
INSERT INTO service VALUES ('flight', :'flight'), ('hotel', :'hotel'), ('train', :'train'), ('payment', :'payment');

CREATE TABLE journey (
	id int PRIMARY KEY,
	traveller text NOT NULL,
	city text NOT NULL,
	amount int NOT NULL,
	status text NOT NULL DEFAULT 'asked for'
);

-- The agency's own steps: functions, each run exactly once.
CREATE FUNCTION journey_booked(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.journey SET status = 'booked' WHERE id = (payload->>'journey')::int $$;

CREATE FUNCTION journey_given_up(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.journey SET status = 'given up' WHERE id = (payload->>'journey')::int $$;

CREATE FUNCTION url(service text, path text) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT s.url || path FROM public.service s WHERE s.name = $1 $$;

-- A journey and its saga are born in one transaction. Steps 2, 3 and 4, the legs, do not
-- wait for each other; step 5, payment, waits for all three. Step 1 only undoes, last.
CREATE FUNCTION book_journey(id int, traveller text, city text, amount int,
							 within interval DEFAULT '2 hours')
RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	p jsonb := jsonb_build_object('journey', id, 'traveller', traveller, 'city', city, 'amount', amount);
BEGIN
	INSERT INTO public.journey VALUES (id, traveller, city, amount);
	RETURN dtm.saga('journey-' || id, ARRAY[
		dtm.step('', 'sql:public.journey_given_up', p),
		dtm.step(public.url('flight', 'book'), public.url('flight', 'cancel'), p),
		dtm.step(public.url('hotel', 'book'), public.url('hotel', 'cancel'), p),
		dtm.step(public.url('train', 'book'), public.url('train', 'cancel'), p),
		dtm.step(public.url('payment', 'charge'), public.url('payment', 'refund'), p),
		dtm.step('sql:public.journey_booked', '', p)],
		concurrent => true,
		orders => '{"2": [1], "3": [1], "4": [1], "5": [2, 3, 4], "6": [5]}',
		timeout_to_fail => within, request_timeout => '1 second', retry_interval => '500ms');
END
$$;
