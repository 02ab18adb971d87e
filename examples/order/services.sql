-- The three services' databases. Run by examples/order/run, once in each: it says
-- which by the variable "service". Every one has its own dtm.barrier().
CREATE EXTENSION dtm;
SELECT dtm.grant_usage(:'service');

SELECT :'service' = 'stock' AS is_stock, :'service' = 'payment' AS is_payment, :'service' = 'shipping' AS is_shipping \gset

SET ROLE :"service";
\if :is_stock
CREATE TABLE stock (sku int PRIMARY KEY, name text NOT NULL, n int NOT NULL CHECK (n >= 0));
INSERT INTO stock VALUES (7, 'tea pot', 10);
\elif :is_payment
CREATE TABLE account (
	owner text PRIMARY KEY,
	balance int NOT NULL CHECK (balance >= 0),
	thinks_for numeric NOT NULL DEFAULT 0	-- seconds until the bank has decided
);
INSERT INTO account VALUES ('shop', 0, 0), ('ann', 100, 0), ('bob', 5, 0), ('carol', 100, 0), ('dave', 100, 2);
\elif :is_shipping
CREATE TABLE destination (customer text PRIMARY KEY, carrier_needs interval NOT NULL);
INSERT INTO destination VALUES ('ann', '0'), ('bob', '0'), ('carol', '2 seconds'), ('dave', '0');
CREATE TABLE carrier_request (order_id int PRIMARY KEY, answer_at timestamptz NOT NULL);
CREATE TABLE parcel (order_id int PRIMARY KEY, customer text NOT NULL);
\endif
