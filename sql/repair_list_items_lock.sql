-- Blocks workers from list items while one item replaces another. A worker that deletes an item first reads its row
-- and then the remembered record. It must find both in the state before the replacement, or both in the state after
-- it.
-- No parameters.
-- Safe twice: the transaction keeps the lock it has.
-- Locks: the table against writes, for the time that a few hundred rows take.
LOCK TABLE list_items IN SHARE ROW EXCLUSIVE MODE
