\set ECHO none
-- The worker rests, so that nothing is called. It says so itself; and whoever has
-- told it has told new sessions too. It must not be the rest of the test before.
DO $$
BEGIN
	FOR i IN 1 .. 6000 LOOP
		PERFORM pg_stat_clear_snapshot();
		IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = 'idle: dtm.enabled is off') THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'the worker still rests, from the test before';
END $$;
ALTER SYSTEM SET dtm.enabled = off;
DO $$
BEGIN
	PERFORM pg_reload_conf();
	FOR i IN 1 .. 6000 LOOP
		PERFORM pg_stat_clear_snapshot();
		IF EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = 'idle: dtm.enabled is off') THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'the worker does not rest';
END $$;
\c
\set ECHO all
