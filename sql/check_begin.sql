-- Begins the transaction of a look, which changes nothing and is rolled back.
-- No parameters: sent as simple text, in one message.
-- Safe twice: reads only, and what is set ends with the transaction.
-- Locks: none; statements wait for the locks of others, and for their answer, for less than the limit of a look.
BEGIN READ ONLY;
SET LOCAL statement_timeout = '4s';
SET LOCAL lock_timeout = '4s';
SET LOCAL row_security = off;
