-- Reads a slice of the posts that quote an account's posts, and which of the quotes are recent.
-- $1 low $2 high, between which the URIs of the account's posts are  $3 quoted_uri $4 uri of the last quote of the
-- previous slice  $5 indexed_at from which on a quote is recent  $6 number of quotes in a slice
-- Safe twice: reads only.
-- Locks: none.
SELECT quoted_uri, uri, post_uri, indexed_at >= $5::timestamp AS is_recent
FROM quotes
WHERE quoted_uri >= greatest($1::text, $3::text) AND quoted_uri < $2::text AND (quoted_uri, uri) > ($3::text, $4::text)
ORDER BY quoted_uri, uri
LIMIT $6::bigint
