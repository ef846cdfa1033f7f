//! The statements of `sql/`, embedded in the binary.

use super::templates;

/// A statement: the name of its file, for errors; the comment at the start of the file; its text.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    pub name: &'static str,
    pub header: &'static str,
    pub text: &'static str,
}

macro_rules! statements {
    ($(#[$doc:meta])* $list:ident: $($constant:ident = $name:literal;)*) => {
        $(pub const $constant: Statement =
            Statement::of_file($name, include_str!(concat!("../../sql/", $name, ".sql")));)*

        $(#[$doc])*
        pub const $list: &[Statement] = &[$($constant),*];
    };
}

statements! {
    /// Statements that find their rows by key or by a range of keys. A test checks that none of them scans a table.
    QUERIES:
    MISSING_TABLES = "missing_tables";
    OWN_SCHEMA_LOCK = "own_schema_lock";
    BEGIN = "begin";
    OPT_OUTS = "opt_outs";
    USERS_ENSURE = "users_ensure";
    USERS_LOCK = "users_lock";
    USERS_WITHOUT_HANDLE = "users_without_handle";
    USERS_UPDATE = "users_update";
    PAIRS_LOCK = "pairs_lock";
    PAIRS_FORGOTTEN = "pairs_forgotten";
    POSTS_INSERT = "posts_insert";
    POSTS_EXISTING = "posts_existing";
    POSTS_UPDATE = "posts_update";
    POSTS_DELETE = "posts_delete";
    THREAD_CONTEXTS_DELETE = "thread_contexts_delete";
    QUOTES_INSERT = "quotes_insert";
    QUOTES_UPDATE = "quotes_update";
    QUOTES_DELETE = "quotes_delete";
    MEMBERS_CHECK = "members_check";
    MEMBERS_GATE = "members_gate";
    MEMBERS_JOIN = "members_join";
    MEMBERS_READ = "members_read";
    MEMBERS_PROVE = "members_prove";
    MEMBERS_LEAVE = "members_leave";
    MEMBERS_REMOVE = "members_remove";
    MEMBERS_SETTLE = "members_settle";
    MEMBERS_SETTLED = "members_settled";
    LOCAL_DIDS_ENTER = "local_dids_enter";
    VERSIONS_TAKE = "versions_take";
    VERSIONS_POSITIONS = "versions_positions";
    VERSIONS_PRUNE = "versions_prune";
    RIVALS_TAKE = "rivals_take";
    RIVALS_EXISTING = "rivals_existing";
    RIVALS_WAITING = "rivals_waiting";
    RIVALS_UPSERT = "rivals_upsert";
    LABELS_UPSERT = "labels_upsert";
    FEED_ITEMS_UPSERT = "feed_items_upsert";
    FEED_ITEMS_DELETE = "feed_items_delete";
    NOTIFICATIONS_UPSERT = "notifications_upsert";
    NOTIFICATIONS_DELETE = "notifications_delete";
    VIEWER_STATES_SET = "viewer_states_set";
    VIEWER_STATES_CLEAR = "viewer_states_clear";
    COUNTERS_ADD = "counters_add";
    COUNTERS_RECOUNT = "counters_recount";
    JOB_RIGHTS = "job_rights";
    JOB_YIELD = "job_yield";
    FILL_FOLLOWS_FIND = "fill_follows_find";
    FILL_REPLIES_FIND = "fill_replies_find";
    FILL_QUOTES_FIND = "fill_quotes_find";
    FILL_MENTIONS_FIND = "fill_mentions_find";
    FILL_POSTS_READ = "fill_posts_read";
    FILL_CIDS_READ = "fill_cids_read";
    FILL_TIMES_TAKEN = "fill_times_taken";
    FILL_NOTIFICATIONS_UPSERT = "fill_notifications_upsert";
    JOB_TAKE = "job_take";
    JOB_TAKE_IDLE = "job_take_idle";
    JOB_LOAD = "job_load";
    JOB_SAVE = "job_save";
    JOB_END = "job_end";
    REPAIR_LIST_ITEMS_FIND = "repair_list_items_find";
    REPAIR_LIST_ITEMS_LOCK = "repair_list_items_lock";
    REPAIR_LIST_ITEMS_DELETE = "repair_list_items_delete";
    REPAIR_LIST_ITEMS_INSERT = "repair_list_items_insert";
    REPAIR_REMEMBERED_FIND = "repair_remembered_find";
    REPAIR_REMEMBERED_SET = "repair_remembered_set";
    REPAIR_EMBEDS_FIND = "repair_embeds_find";
    REPAIR_EMBEDS_SET = "repair_embeds_set";
    REPAIR_PICTURES_FIND = "repair_pictures_find";
    REPAIR_PICTURES_SET = "repair_pictures_set";
    REPAIR_BANNERS_SET = "repair_banners_set";
    REPAIR_HANDLES_FIND = "repair_handles_find";
    REPAIR_HANDLES_SET = "repair_handles_set";
    REPAIR_QUOTES_FIND = "repair_quotes_find";
    REPAIR_QUOTES_INSERT = "repair_quotes_insert";
    REPAIR_COUNTERS_BOUND = "repair_counters_bound";
    REPAIR_COUNTERS_FIND = "repair_counters_find";
    REPAIR_STATES_FIND = "repair_states_find";
    REPAIR_LIKES_FIND = "repair_likes_find";
    REPAIR_REPOSTS_FIND = "repair_reposts_find";
    REPAIR_BOOKMARKS_FIND = "repair_bookmarks_find";
    STATES_HELD = "states_held";
    STATES_MAKE = "states_make";
    STATES_LOCK = "states_lock";
    STATES_SET = "states_set";
    PRUNE_CLOCK = "prune_clock";
    PRUNE_FOLLOWED_READ = "prune_followed_read";
    PRUNE_POSTS_FIND = "prune_posts_find";
    PRUNE_REPLIES_FIND = "prune_replies_find";
    PRUNE_TOUCHED_FIND = "prune_touched_find";
    PRUNE_PAIRS_FIND = "prune_pairs_find";
    PRUNE_STATES_FIND = "prune_states_find";
    PRUNE_STATES_LOCK = "prune_states_lock";
    PRUNE_STATES_DELETE = "prune_states_delete";
    PRUNE_FEED_ITEMS_FIND = "prune_feed_items_find";
    PRUNE_RIVALS_FIND = "prune_rivals_find";
    PRUNE_RIVALS_DELETE = "prune_rivals_delete";
    PRUNE_COUNTERS_DELETE = "prune_counters_delete";
    PRUNE_SUBJECTS_FIND = "prune_subjects_find";
    PRUNE_NOTIFICATIONS_FIND = "prune_notifications_find";
    PRUNE_GENERIC_RECORDS_FIND = "prune_generic_records_find";
    PRUNE_GENERIC_RECORDS_DELETE = "prune_generic_records_delete";
    PRUNE_COUNTS = "prune_counts";
    PRUNE_SIZES = "prune_sizes";
}

statements! {
    /// Templates, which `templates` expands into the statements of each table.
    TEMPLATES:
    PAIRS_INSERT = "pairs_insert";
    PAIRS_EXISTING = "pairs_existing";
    PAIRS_UPDATE = "pairs_update";
    PAIRS_DELETE = "pairs_delete";
    PAIRS_HELD = "pairs_held";
    PAIRS_COPY = "pairs_copy";
    KEYED_UPSERT = "keyed_upsert";
    KEYED_DELETE = "keyed_delete";
    REPAIR_DATES_FIND = "repair_dates_find";
    REPAIR_DATES_SET = "repair_dates_set";
    FILL_PAIRS_FIND = "fill_pairs_find";
    FILL_STATES_FIND = "fill_states_find";
    PRUNE_LEFTOVERS_FIND = "prune_leftovers_find";
}

/// How the names of statements begin that only commands send.
const OF_COMMANDS: [&str; 3] = ["job_", "repair_", "prune_"];

/// All statements except COPY.
pub fn queries() -> impl Iterator<Item = &'static Statement> {
    QUERIES.iter().chain(templates::queries())
}

/// All statements that receive rows in COPY's binary format.
pub fn copies() -> impl Iterator<Item = &'static Statement> {
    COPIES.iter().chain(templates::copies())
}

statements! {
    /// The statements of `check`, which read the session's state, the catalog and a sample of rows.
    LOOKS:
    CHECK_BEGIN = "check_begin";
    CHECK_POOLER = "check_pooler";
    CHECK_SERVER = "check_server";
    CHECK_CONNECTIONS = "check_connections";
    CHECK_COLUMNS = "check_columns";
    CHECK_KEYS = "check_keys";
    CHECK_COUNTER_INDEXES = "check_counter_indexes";
    CHECK_ROW_SECURITY = "check_row_security";
    CHECK_REPLICA_IDENTITY = "check_replica_identity";
    CHECK_RIGHTS = "check_rights";
    CHECK_SEQUENCES = "check_sequences";
    CHECK_SAMPLE = "check_sample";
    CHECK_SIZES = "check_sizes";
    CHECK_STORAGE = "check_storage";
    CHECK_UNUSED_INDEXES = "check_unused_indexes";
}

statements! {
    /// Statements that read small tables as a whole, some of which an AppView may lack. Names in
    /// braces are replaced at run time.
    LOCAL:
    LOCAL_TABLES = "local_tables";
    LOCAL_DIDS_LEAVE = "local_dids_leave";
    LOCAL_DIDS_READ = "local_dids_read";
    LOCAL_DIDS_FIND = "local_dids_find";
    FILL_PENDING = "fill_pending";
    FILL_DONE = "fill_done";
    FILL_AGAIN = "fill_again";
    FILL_SEEN_READ = "fill_seen_read";
}

statements! {
    /// Statements that receive rows in COPY's binary format.
    COPIES:
    POSTS_COPY = "posts_copy";
    FEED_ITEMS_COPY = "feed_items_copy";
    NOTIFICATIONS_COPY = "notifications_copy";
    STATES_COPY = "states_copy";
}

statements! {
    /// Statements that diagnose a failure or measure; they read the session's state and the catalog.
    DIAGNOSES:
    CONSTRAINT_COLUMNS = "constraint_columns";
    SESSION_END = "session_end";
    SESSION_PROCESS = "session_process";
    DATABASE_ENCODING = "database_encoding";
    DATABASE_SIZE = "database_size";
}

/// The text of all statements, each under its name and header.
pub fn describe() -> String {
    let text = |statement: &Statement| {
        format!(
            "-- {}\n{}{};\n",
            statement.name,
            statement.header,
            statement.text.trim_end()
        )
    };
    let statements = queries().chain(LOCAL).chain(copies());
    statements.map(text).collect::<Vec<_>>().join("\n")
}

/// Whether the worker writes the column, judged by the words of the statements that write the table.
pub fn writes(table: &str, column: &str) -> bool {
    queries()
        .chain(copies())
        .filter(Statement::is_of_worker)
        .any(|statement| {
            let words = words(statement.text);
            let is_of_table = words
                .windows(2)
                .any(|pair| matches!(pair[0], "INTO" | "UPDATE" | "COPY") && pair[1] == table);
            is_of_table && words.contains(&column)
        })
}

/// Whether any statement of the worker itself names the column of the table.
pub fn uses(table: &str, column: &str) -> bool {
    queries()
        .chain(copies())
        .filter(Statement::is_of_worker)
        .any(|statement| {
            let words = words(statement.text);
            words.contains(&table) && words.contains(&column)
        })
}

/// The names and key words of a statement. A name with its schema counts as one word.
pub fn words(text: &str) -> Vec<&str> {
    let is_between = |next: char| !(next.is_alphanumeric() || matches!(next, '_' | '.'));
    let words = text.split(is_between).filter(|word| !word.is_empty());
    // A column qualified by its table's name or alias counts as the column.
    words
        .map(|word| match word.rsplit_once('.') {
            Some((before, column)) if before != "firehose_worker" => column,
            _ => word,
        })
        .collect()
}

/// The tables of the AppView that the worker reads and writes. Includes the comments, because `firehose-worker schema`
/// prints the file.
pub const SCHEMA: &str = include_str!("../../sql/schema.sql");

/// The worker's own tables.
pub const OWN_SCHEMA: &str = include_str!("../../sql/own_schema.sql");

impl Statement {
    /// Whether the worker itself sends it, not only a command that works on stored rows.
    pub fn is_of_worker(self: &&Self) -> bool {
        !OF_COMMANDS.iter().any(|prefix| self.name.starts_with(prefix))
    }

    /// Splits a file after the comment lines at its start.
    const fn of_file(name: &'static str, file: &'static str) -> Statement {
        let bytes = file.as_bytes();
        let mut at = 0;
        while at + 1 < bytes.len() && bytes[at] == b'-' && bytes[at + 1] == b'-' {
            while bytes[at] != b'\n' {
                at += 1;
            }
            at += 1;
        }
        let (header, text) = file.split_at(at);
        Statement { name, header, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_written_if_a_statement_that_writes_its_table_names_it() {
        assert!(writes("likes", "post_uri"));
        assert!(writes("posts", "embed"));
        assert!(writes("users", "handle"));
        assert!(writes("post_aggregations", "like_count"));
        assert!(!writes("likes", "like_count"));
        assert!(!writes("likes", "reviewed_by"));
        assert!(!writes("users", "created_at"), "a repair reads it");
    }

    /// If the database's encoding is not UTF-8, PostgreSQL refuses a statement with non-ASCII characters, with an
    /// error that does not reveal the cause.
    #[test]
    fn what_is_sent_is_ascii() {
        let texts = queries().chain(copies()).chain(DIAGNOSES).chain(LOOKS).chain(LOCAL);
        for statement in texts {
            assert!(statement.text.is_ascii(), "{}", statement.name);
        }
        assert!(SCHEMA.is_ascii() && OWN_SCHEMA.is_ascii());
    }

    /// The headers serve database administrators, and only files in use describe what the worker does.
    #[test]
    fn every_file_is_used_and_its_header_states_safety_and_locks() {
        let used: Vec<&str> = QUERIES
            .iter()
            .chain(COPIES)
            .chain(TEMPLATES)
            .chain(DIAGNOSES)
            .chain(LOOKS)
            .chain(LOCAL)
            .map(|statement| statement.name)
            .collect();
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("-- "), "{name} has no header");
            if ["schema", "own_schema"].contains(&name) {
                continue;
            }
            assert!(used.contains(&name), "{name} is not used");
            assert!(
                text.contains("\n-- Safe twice: "),
                "{name} does not say whether it is safe twice"
            );
            assert!(text.contains("\n-- Locks: "), "{name} does not say what it locks");
        }
    }
}
