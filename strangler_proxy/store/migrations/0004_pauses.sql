-- Streams that are paused. Pre: code that does not know these columns neither reads nor writes them.

ALTER TABLE strangler.stream ADD COLUMN paused_at timestamptz;
ALTER TABLE strangler.stream ADD COLUMN paused_by text NOT NULL DEFAULT '';
ALTER TABLE strangler.stream ADD COLUMN paused_why text NOT NULL DEFAULT '';
ALTER TABLE strangler.stream ADD COLUMN paused_drift boolean NOT NULL DEFAULT false;
