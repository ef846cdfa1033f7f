//! Tables whose rows depend on nothing but their record: feed generators, starter packs, labelers, lists, labels, gates,
//! generic records.
//!
//! Owns these tables. What was deleted is deleted first, so that what follows in the same batch is new.

use postgres::Client;

use crate::fold::Changes;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::sql::{self, Statement};

/// Writes the changes of all these tables.
pub fn write(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    delete(client, &changes.feed_generators.deleted, sql::FEED_GENERATORS_DELETE)?;
    feed_generators(client, changes)?;
    delete(client, &changes.starter_packs.deleted, sql::STARTER_PACKS_DELETE)?;
    starter_packs(client, changes)?;
    delete(client, &changes.labelers.deleted, sql::LABELER_SERVICES_DELETE)?;
    labelers(client, changes)?;
    delete(client, &changes.lists.deleted, sql::LISTS_DELETE)?;
    lists(client, changes)?;
    delete(client, &changes.labels.deleted, sql::LABELS_DELETE)?;
    labels(client, changes)?;
    delete(client, &changes.thread_gates.deleted, sql::THREAD_GATES_DELETE)?;
    thread_gates(client, changes)?;
    delete(client, &changes.post_gates.deleted, sql::POST_GATES_DELETE)?;
    post_gates(client, changes)?;
    delete(client, &changes.generic_records.deleted, sql::GENERIC_RECORDS_DELETE)?;
    generic_records(client, changes)
}

fn delete(client: &mut Client, keys: &[&str], statement: Statement) -> Result<(), ApplyError> {
    if !keys.is_empty() {
        Params::new().texts(keys.iter().copied()).execute(client, statement)?;
    }
    Ok(())
}

fn feed_generators(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let feeds = &changes.feed_generators.put;
    if feeds.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(feeds.iter().map(|feed| &feed.uri))
        .texts(feeds.iter().map(|feed| &feed.cid))
        .texts(feeds.iter().map(|feed| &feed.creator_did))
        .texts(feeds.iter().map(|feed| &feed.did))
        .texts(feeds.iter().map(|feed| &feed.display_name))
        .optional_texts(feeds.iter().map(|feed| &feed.description))
        .optional_texts(feeds.iter().map(|feed| &feed.avatar_url))
        .times(feeds.iter().map(|feed| feed.created_at))
        .times(feeds.iter().map(|feed| feed.indexed_at))
        .execute(client, sql::FEED_GENERATORS_UPSERT)?;
    Ok(())
}

fn starter_packs(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let packs = &changes.starter_packs.put;
    if packs.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(packs.iter().map(|pack| &pack.uri))
        .texts(packs.iter().map(|pack| &pack.cid))
        .texts(packs.iter().map(|pack| &pack.creator_did))
        .texts(packs.iter().map(|pack| &pack.name))
        .optional_texts(packs.iter().map(|pack| &pack.description))
        .optional_texts(packs.iter().map(|pack| &pack.list_uri))
        .jsons(packs.iter().map(|pack| &pack.feeds))
        .times(packs.iter().map(|pack| pack.created_at))
        .times(packs.iter().map(|pack| pack.indexed_at))
        .execute(client, sql::STARTER_PACKS_UPSERT)?;
    Ok(())
}

fn labelers(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let labelers = &changes.labelers.put;
    if labelers.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(labelers.iter().map(|labeler| &labeler.uri))
        .texts(labelers.iter().map(|labeler| &labeler.cid))
        .texts(labelers.iter().map(|labeler| &labeler.creator_did))
        .jsons(labelers.iter().map(|labeler| &labeler.policies))
        .times(labelers.iter().map(|labeler| labeler.created_at))
        .times(labelers.iter().map(|labeler| labeler.indexed_at))
        .execute(client, sql::LABELER_SERVICES_UPSERT)?;
    Ok(())
}

fn lists(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let lists = &changes.lists.put;
    if lists.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(lists.iter().map(|list| &list.uri))
        .texts(lists.iter().map(|list| &list.cid))
        .texts(lists.iter().map(|list| &list.creator_did))
        .texts(lists.iter().map(|list| &list.name))
        .texts(lists.iter().map(|list| &list.purpose))
        .optional_texts(lists.iter().map(|list| &list.description))
        .optional_texts(lists.iter().map(|list| &list.avatar_url))
        .times(lists.iter().map(|list| list.created_at))
        .times(lists.iter().map(|list| list.indexed_at))
        .execute(client, sql::LISTS_UPSERT)?;
    Ok(())
}

fn labels(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let labels = &changes.labels.put;
    if labels.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(labels.iter().map(|label| &label.uri))
        .texts(labels.iter().map(|label| &label.src))
        .texts(labels.iter().map(|label| &label.subject))
        .texts(labels.iter().map(|label| &label.val))
        .bools(labels.iter().map(|label| label.neg))
        .times(labels.iter().map(|label| label.created_at))
        .times(labels.iter().map(|label| label.indexed_at))
        .execute(client, sql::LABELS_UPSERT)?;
    Ok(())
}

fn thread_gates(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let gates = &changes.thread_gates.put;
    if gates.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(gates.iter().map(|(post_uri, _)| *post_uri))
        .texts(gates.iter().map(|(_, gate)| &gate.owner_did))
        .bools(gates.iter().map(|(_, gate)| gate.allow_mentions))
        .bools(gates.iter().map(|(_, gate)| gate.allow_following))
        .bools(gates.iter().map(|(_, gate)| gate.allow_list_members))
        .jsons(gates.iter().map(|(_, gate)| &gate.allow_list_uris))
        .times(gates.iter().map(|(_, gate)| gate.created_at))
        .execute(client, sql::THREAD_GATES_UPSERT)?;
    Ok(())
}

fn post_gates(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let gates = &changes.post_gates.put;
    if gates.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(gates.iter().map(|(post_uri, _)| *post_uri))
        .jsons(gates.iter().map(|(_, gate)| &gate.embedding_rules))
        .times(gates.iter().map(|(_, gate)| gate.created_at))
        .execute(client, sql::POST_GATES_UPSERT)?;
    Ok(())
}

fn generic_records(client: &mut Client, changes: &Changes) -> Result<(), ApplyError> {
    let records = &changes.generic_records.put;
    if records.is_empty() {
        return Ok(());
    }
    Params::new()
        .texts(records.iter().map(|record| &record.uri))
        .texts(records.iter().map(|record| &record.cid))
        .texts(records.iter().map(|record| &record.author_did))
        .texts(records.iter().map(|record| &record.record_type))
        .jsons(records.iter().map(|record| &record.record))
        .times(records.iter().map(|record| record.created_at))
        .times(records.iter().map(|record| record.indexed_at))
        .execute(client, sql::GENERIC_RECORDS_UPSERT)?;
    Ok(())
}
