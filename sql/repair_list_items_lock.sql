-- Keeps workers from list items while one is put in another's place: a worker that deletes an item looks for its row first
-- and for the remembered record afterwards, and must find both as they were or both as they will be.
-- No parameters.
-- Safe twice: the lock is the transaction's.
-- Locks: the table against writes, for as long as a few hundred rows take.
LOCK TABLE list_items IN SHARE ROW EXCLUSIVE MODE
