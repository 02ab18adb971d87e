-- The bank's own database, with a barrier of its own. Run by examples/mixed/run.
CREATE EXTENSION dtm;
SELECT dtm.grant_usage('bank');

SET ROLE bank;
CREATE TABLE account (owner text PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0));
INSERT INTO account VALUES ('shop', 0), ('ann', 100), ('bob', 5), ('carol', 100), ('dave', 100), ('eve', 100);
