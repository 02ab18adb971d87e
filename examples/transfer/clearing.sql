-- The clearing house's own database. Run by examples/transfer/run, with the addresses
-- of the banks' services in the variables bank_a and bank_b, and where their servers
-- listen in host_a and host_b.
CREATE EXTENSION dtm;

-- An ordinary role: it may use dtm, and call these two servers and no other.
SELECT dtm.grant_usage('clearing'), dtm.allow('clearing', :'bank_a'), dtm.allow('clearing', :'bank_b');

-- And the banks' servers, with its own password there. Who may use them is said by
-- PostgreSQL's own rights; dtm.allow is about HTTP.
CREATE EXTENSION postgres_fdw;
CREATE SERVER bank_a FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'host_a', dbname 'bank_a');
CREATE SERVER bank_b FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'host_b', dbname 'bank_b');
CREATE USER MAPPING FOR clearing SERVER bank_a OPTIONS (user 'clearing', password :'password');
CREATE USER MAPPING FOR clearing SERVER bank_b OPTIONS (user 'clearing', password :'password');
GRANT USAGE ON FOREIGN SERVER bank_a, bank_b TO clearing;

SET ROLE clearing;
CREATE TABLE bank (name text PRIMARY KEY, url text NOT NULL);
INSERT INTO bank VALUES ('bank_a', :'bank_a'), ('bank_b', :'bank_b');

CREATE TABLE transfer (
	id int PRIMARY KEY,
	"from" text NOT NULL,
	"to" text NOT NULL,
	amount int NOT NULL CHECK (amount > 0),
	way text NOT NULL CHECK (way IN ('http', 'sql')),
	status text NOT NULL DEFAULT 'under way'
);

-- The clearing house's own part, in this database: functions, each run exactly once.
CREATE FUNCTION transfer_done(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.transfer SET status = 'done' WHERE id = (payload->>'transfer')::int $$;

CREATE FUNCTION transfer_refused(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.transfer SET status = 'not done' WHERE id = (payload->>'transfer')::int $$;

-- How a bank is called: its service over HTTP, or its server, with nothing in between.
CREATE FUNCTION address(bank text, call text, way text) RETURNS text LANGUAGE sql STABLE AS
$$
	SELECT CASE way WHEN 'http' THEN b.url || call
					WHEN 'sql' THEN 'sql://' || b.name || '/bank.' || call END
	FROM public.bank b WHERE b.name = bank
$$;

-- A transfer and its TCC are born in one transaction, or neither is. The tries are
-- called at once, and so are confirms and cancels.
CREATE FUNCTION transfer(id int, "from" text, "to" text, amount int, way text,
						 within interval DEFAULT '30 seconds')
RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	p jsonb := jsonb_build_object('transfer', id, 'from', "from", 'to', "to", 'amount', amount);
BEGIN
	INSERT INTO public.transfer VALUES (id, "from", "to", amount, way);
	RETURN dtm.tcc('transfer-' || id, ARRAY[
		dtm.tcc_step('', 'sql:public.transfer_done', 'sql:public.transfer_refused', p),
		dtm.tcc_step(public.address('bank_a', 'try_out', way), public.address('bank_a', 'confirm_out', way),
					 public.address('bank_a', 'cancel_out', way), p),
		dtm.tcc_step(public.address('bank_b', 'try_in', way), public.address('bank_b', 'confirm_in', way),
					 public.address('bank_b', 'cancel_in', way), p)],
		timeout_to_fail => within, request_timeout => '1 second', retry_interval => '300ms', concurrent => true);
END
$$;
