-- The databases of the services. Run by examples/ticketing/run, once in each: it says
-- which by the variable "service". Every one has its own dtm.barrier().
CREATE EXTENSION dtm;
SELECT dtm.grant_usage(:'service');

SELECT :'service' = 'payment' AS is_payment \gset

SET ROLE :"service";
\if :is_payment
CREATE TABLE account (owner text PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0));
INSERT INTO account VALUES ('agency', 0), ('ann', 500), ('bob', 50);
\else
-- Of a flight, a hotel or a train: what is free, and what is booked.
CREATE TABLE place (city text PRIMARY KEY, free int NOT NULL CHECK (free >= 0));
INSERT INTO place VALUES ('Lisbon', 5), ('Oslo', CASE :'service' WHEN 'hotel' THEN 0 ELSE 5 END);
CREATE TABLE booking (
	journey int PRIMARY KEY,
	traveller text NOT NULL,
	city text NOT NULL REFERENCES place
);

-- The old machine behind the service, which it asks before it answers. Whoever locks
-- a row here keeps everybody waiting.
CREATE TABLE machine (does text PRIMARY KEY);
INSERT INTO machine VALUES ('book'), ('cancel');
\endif
