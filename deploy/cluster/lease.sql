-- Which node may add to which log. The node makes this table itself if it may;
-- so that it need not be allowed to, it is made here. Rows are never deleted: an
-- old epoch would come back.
CREATE TABLE IF NOT EXISTS scripta_lease (
  origin   text PRIMARY KEY,
  epoch    bigint NOT NULL CHECK (epoch > 0),
  node     text NOT NULL,
  expires  timestamptz NOT NULL,
  tree     bigint NOT NULL DEFAULT 0,
  adopted  bigint NOT NULL DEFAULT 0,
  previous text NOT NULL DEFAULT ''
);
REVOKE ALL ON scripta_lease FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE ON scripta_lease TO scripta;
