-- The travel office: its accounts, and nothing else. Who books is in its code.
CREATE EXTENSION dtm;
SELECT dtm.grant_usage('office'), dtm.allow('office', '*');

SET ROLE office;
CREATE TABLE account (owner text PRIMARY KEY, balance integer NOT NULL CHECK (balance >= 0));
INSERT INTO account VALUES ('ann', 100), ('bob', 100), ('carol', 100), ('dave', 100), ('office', 0);
