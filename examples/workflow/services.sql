-- The database of the hotel, or of the airline: places, and who has them. Only its
-- own service gets in. The service uses dtm's barrier table, so dtm is here too.
CREATE EXTENSION dtm;
SELECT dtm.grant_usage(:'service');

SET ROLE :"service";
CREATE TABLE place (guest text PRIMARY KEY, number serial);

-- Whom the airline does not take, and for whom it needs long to decide.
CREATE TABLE manner (guest text PRIMARY KEY, refused boolean, seconds integer);
INSERT INTO manner VALUES ('bob', true, 0), ('carol', false, 8), ('dave', false, 8);
