-- Begins the transaction of a check, which changes nothing and is rolled back.
-- No parameters: sent as simple text, in one message.
-- Safe twice: reads only, and the settings end with the transaction.
-- Locks: none. A statement waits four seconds at most for a lock or its result, which is less than a check may take.
BEGIN READ ONLY;
SET LOCAL statement_timeout = '4s';
SET LOCAL lock_timeout = '4s';
SET LOCAL row_security = off;
