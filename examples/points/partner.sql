-- The partner's database, on a server of its own. Run by examples/points/run.
CREATE EXTENSION dtm;
SELECT dtm.grant_usage('partner');

SET ROLE partner;
-- What the programme has asked for. A clerk decides, when he has time for it.
CREATE TABLE request (
	redemption int PRIMARY KEY,
	article text NOT NULL,
	decision text CHECK (decision IN ('yes', 'no', 'withdrawn'))
);
CREATE TABLE asked (redemption int NOT NULL REFERENCES request, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE voucher (redemption int PRIMARY KEY REFERENCES request, name text NOT NULL, article text NOT NULL);
