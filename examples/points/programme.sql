-- The loyalty programme's own database. Run by examples/points/run, with the partner's
-- address in the variable partner.
CREATE EXTENSION dtm;

-- An ordinary role: it may use dtm, and call the partner and nobody else.
SELECT dtm.grant_usage('programme'), dtm.allow('programme', :'partner');

SET ROLE programme;
CREATE TABLE partner (url text NOT NULL);
INSERT INTO partner VALUES (:'partner');

CREATE TABLE member (name text PRIMARY KEY, points int NOT NULL CHECK (points >= 0));
INSERT INTO member VALUES ('ann', 1000), ('bob', 1000), ('carol', 1000), ('dave', 20);

CREATE TABLE redemption (
	id int PRIMARY KEY,
	name text NOT NULL REFERENCES member,
	points int NOT NULL CHECK (points > 0),
	article text NOT NULL,
	status text NOT NULL DEFAULT 'asked for'
);

-- The saga's steps in this database: functions, each run exactly once.
CREATE FUNCTION take_points(payload jsonb) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
	UPDATE public.member m SET points = m.points - r.points FROM public.redemption r
	WHERE r.id = (payload->>'redemption')::int AND m.name = r.name AND m.points >= r.points;
	IF NOT FOUND THEN
		PERFORM dtm.fail('not enough points');
	END IF;
	UPDATE public.redemption SET status = 'waits for the partner' WHERE id = (payload->>'redemption')::int;
END
$$;

-- Called only when take_points() has taken them.
CREATE FUNCTION give_points_back(payload jsonb) RETURNS void LANGUAGE sql AS
$$
	UPDATE public.member m SET points = m.points + r.points FROM public.redemption r
	WHERE r.id = (payload->>'redemption')::int AND m.name = r.name
$$;

CREATE FUNCTION refuse_voucher(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.redemption SET status = 'not granted' WHERE id = (payload->>'redemption')::int $$;

CREATE FUNCTION grant_voucher(payload jsonb) RETURNS void LANGUAGE sql AS
$$ UPDATE public.redemption SET status = 'granted' WHERE id = (payload->>'redemption')::int $$;

-- A redemption and its saga are born in one transaction, or neither is. The partner may
-- take as long as it likes: "not yet" is no failure. Two failures are too many.
CREATE FUNCTION redeem(id int, name text, points int, article text)
RETURNS text LANGUAGE plpgsql AS
$$
DECLARE
	p jsonb := jsonb_build_object('redemption', id, 'name', name, 'article', article);
	partner text := (SELECT url FROM public.partner);
BEGIN
	INSERT INTO public.redemption VALUES (id, name, points, article);
	RETURN dtm.saga('redeem-' || id, ARRAY[
		dtm.step('', 'sql:public.refuse_voucher', p),
		dtm.step('sql:public.take_points', 'sql:public.give_points_back', p),
		dtm.step(partner || 'order', partner || 'withdraw', p),
		dtm.step('sql:public.grant_voucher', '', p)],
		retry_interval => '300ms', retry_limit => 2);
END
$$;
