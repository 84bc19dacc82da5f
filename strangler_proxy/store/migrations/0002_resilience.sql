-- Policies of clusters and routes, and what proxies say of sick upstreams. Pre: code that does not know these columns
-- neither reads nor writes them, and their defaults are what it did before.

ALTER TABLE strangler.cluster ADD COLUMN policy jsonb NOT NULL DEFAULT '{}';
ALTER TABLE strangler.route ADD COLUMN policy jsonb NOT NULL DEFAULT '{}';
ALTER TABLE strangler.proxy ADD COLUMN upstreams jsonb NOT NULL DEFAULT '{}';
