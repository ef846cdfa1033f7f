-- Inserts viewer states that do not exist yet. An existing one fails the transaction, which is then repeated with
-- viewer_states_set.sql. For many rows COPY costs PostgreSQL a fifth less.
-- post_uri viewer_did like_uri repost_uri bookmarked: rows in binary format, sorted by post and viewer
-- Safe twice: an existing state is a unique violation, and the whole transaction is rolled back.
-- Locks: new rows in the order of post and viewer.
COPY post_viewer_states (post_uri, viewer_did, like_uri, repost_uri, bookmarked) FROM STDIN (FORMAT binary)
