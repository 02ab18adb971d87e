-- A bank's database, on a server of its own. Run by examples/transfer/run, once in each
-- of the two: it says which by the variable "bank". Every one has its own dtm.barrier().
CREATE EXTENSION dtm;

-- "clearing" is who comes from outside, without a service in between. It may do
-- nothing but call the six functions below.
CREATE ROLE clearing LOGIN PASSWORD :'password';
SELECT dtm.grant_usage(:'bank'), dtm.grant_usage('clearing');

SELECT :'bank' = 'bank_a' AS is_a \gset
CREATE SCHEMA bank AUTHORIZATION :"bank";
SET ROLE :"bank";

CREATE TABLE bank.account (
	owner text PRIMARY KEY,
	balance int NOT NULL CHECK (balance >= 0),
	frozen int NOT NULL DEFAULT 0 CHECK (frozen BETWEEN 0 AND balance),	-- will perhaps go
	expected int NOT NULL DEFAULT 0 CHECK (expected >= 0),				-- will perhaps come
	closed boolean NOT NULL DEFAULT false CHECK (NOT closed OR expected = 0)
);
\if :is_a
INSERT INTO bank.account VALUES ('ann', 100);
\else
INSERT INTO bank.account VALUES ('bob', 50);
INSERT INTO bank.account (owner, balance, closed) VALUES ('eve', 0, true);
\endif

-- Money goes: frozen by the try, gone by the confirm, free again by the cancel. After a
-- try has succeeded neither of the others can fail.
CREATE FUNCTION bank.try_out(payload jsonb) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
	UPDATE bank.account SET frozen = frozen + (payload->>'amount')::int
	WHERE owner = payload->>'from' AND balance - frozen >= (payload->>'amount')::int;
	IF NOT FOUND THEN
		PERFORM dtm.fail(pg_catalog.format('%s has less than %s', payload->>'from', payload->>'amount'));
	END IF;
END
$$;

CREATE FUNCTION bank.confirm_out(payload jsonb) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
	UPDATE bank.account SET balance = balance - (payload->>'amount')::int, frozen = frozen - (payload->>'amount')::int
	WHERE owner = payload->>'from'
$$;

CREATE FUNCTION bank.cancel_out(payload jsonb) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ UPDATE bank.account SET frozen = frozen - (payload->>'amount')::int WHERE owner = payload->>'from' $$;

-- Money comes: the try sees to it that the account is there, and cannot be closed now.
CREATE FUNCTION bank.try_in(payload jsonb) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
	UPDATE bank.account SET expected = expected + (payload->>'amount')::int
	WHERE owner = payload->>'to' AND NOT closed;
	IF NOT FOUND THEN
		PERFORM dtm.fail(pg_catalog.format('%s has no open account', payload->>'to'));
	END IF;
END
$$;

CREATE FUNCTION bank.confirm_in(payload jsonb) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
	UPDATE bank.account SET balance = balance + (payload->>'amount')::int, expected = expected - (payload->>'amount')::int
	WHERE owner = payload->>'to'
$$;

CREATE FUNCTION bank.cancel_in(payload jsonb) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ UPDATE bank.account SET expected = expected - (payload->>'amount')::int WHERE owner = payload->>'to' $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA bank FROM public;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bank TO clearing;
GRANT USAGE ON SCHEMA bank TO clearing;

-- The line to the outside: a call of the service comes through when nobody has locked
-- its row.
CREATE TABLE bank.line (call text PRIMARY KEY);
INSERT INTO bank.line VALUES ('try_out'), ('confirm_out'), ('cancel_out'), ('try_in'), ('confirm_in'), ('cancel_in');
