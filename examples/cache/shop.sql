-- The shop's database. Run by examples/cache/run, with the address of the
-- product service in the variable products.
CREATE EXTENSION dtm;

-- An ordinary role: it may use dtm, and call this one server and no other.
SELECT dtm.grant_usage('shop'), dtm.allow('shop', :'products');

SET ROLE shop;
CREATE TABLE product (id int PRIMARY KEY, name text NOT NULL, price int NOT NULL);
INSERT INTO product VALUES (7, 'tea pot', 30);
INSERT INTO product SELECT id, 'cup ' || id, 5 FROM generate_series(101, 120) AS id;

-- This is all: whoever changes a product, by whatever statement, tells the cache
-- with the same COMMIT. New rows too: "there is no such product" is kept as well.
SELECT format($$
CREATE TRIGGER product_changed AFTER INSERT OR UPDATE OR DELETE ON product
FOR EACH ROW EXECUTE FUNCTION dtm.msg_trigger(%L)
$$, :'products' || 'invalidate') \gexec
SELECT format($$
CREATE TRIGGER product_emptied AFTER TRUNCATE ON product
FOR EACH STATEMENT EXECUTE FUNCTION dtm.msg_trigger(%L)
$$, :'products' || 'clear') \gexec
