//! Writes a batch's side effects: feed items, notifications, viewer states and counters.
//!
//! Owns the statements for these tables and their order. The counters come last, because all workers share them.

use std::collections::{BTreeMap, BTreeSet};

use super::notifications::Notification;
use super::{Counter, Effects, FeedItem, FreshStates, Text, Viewers};
use crate::apply::copy::WriteMode;
use crate::apply::page_keys::PageKeys;
use crate::metrics::RecordCounts;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::copy::copy;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;

impl Effects<'_> {
    /// Writes everything except the counters, in the order of tables that every worker follows.
    pub fn write_rows(
        &mut self,
        client: &mut Client,
        write_mode: WriteMode,
        page_keys: &PageKeys,
        fresh: Option<&FreshStates>,
    ) -> Result<(), ApplyError> {
        let write_mode = if self.has_old_rows {
            WriteMode::Insert
        } else {
            write_mode
        };
        self.write_feed_items(client, write_mode)?;
        self.write_notifications(client, write_mode, page_keys)?;
        self.write_viewers(client, fresh)
    }

    /// The same for a transaction that only deletes. Viewer states that stand for nothing any longer are deleted: those
    /// of the deleted likes, reposts and bookmarks, and `states`. Returns their number.
    pub fn delete_rows(&mut self, client: &mut Client, states: &[(String, String)]) -> Result<u64, ApplyError> {
        self.write_feed_items(client, WriteMode::Insert)?;
        let of_pairs: Vec<_> = self
            .viewers_gone
            .keys()
            .map(|(post, viewer)| (post.clone().into_owned(), viewer.clone().into_owned()))
            .collect();
        let n_deleted = delete_states(client, of_pairs.iter().chain(states))?;
        self.write_viewers(client, None)?;
        Ok(n_deleted)
    }

    /// Writes the counters, which come last. Returns the changes of the record counts.
    pub fn finish(mut self, client: &mut Client) -> Result<RecordCounts, ApplyError> {
        self.write_counters(client)?;
        Ok(self.record_counts)
    }

    fn write_feed_items(&mut self, client: &mut Client, write_mode: WriteMode) -> Result<(), ApplyError> {
        self.feed_items_gone.retain(|uri| !self.feed_items.contains_key(uri));
        if !self.feed_items_gone.is_empty() {
            let deleted = Params::new()
                .texts(self.feed_items_gone.iter())
                .execute(client, sql::FEED_ITEMS_DELETE)?;
            self.record_counts.feed_items -= deleted as i64;
        }
        if self.feed_items.is_empty() {
            return Ok(());
        }
        if write_mode.copies(self.feed_items.len()) {
            self.record_counts.feed_items += copy_feed_items(client, &self.feed_items)? as i64;
            return Ok(());
        }
        let items = || self.feed_items.values();
        let rows = Params::new()
            .texts(self.feed_items.keys())
            .texts(items().map(|item| &item.post_uri))
            .texts(items().map(|item| &item.originator_did))
            .texts(items().map(|item| item.kind))
            .times(items().map(|item| item.created_at))
            .optional_texts(items().map(|item| &item.cid))
            .times(items().map(|item| item.indexed_at))
            .query(client, sql::FEED_ITEMS_UPSERT)?;
        self.record_counts.feed_items += first_number(&rows)?;
        Ok(())
    }

    fn write_notifications(
        &mut self,
        client: &mut Client,
        write_mode: WriteMode,
        page_keys: &PageKeys,
    ) -> Result<(), ApplyError> {
        if !self.notifications_gone.is_empty() {
            Params::new()
                .texts(self.notifications_gone.iter())
                .execute(client, sql::NOTIFICATIONS_DELETE)?;
        }
        if self.notifications.is_empty() {
            return Ok(());
        }
        let times = self.notification_times(page_keys);
        if write_mode.copies(self.notifications.len()) {
            copy_notifications(client, &self.notifications, &times)?;
            return Ok(());
        }
        let notifications = || self.notifications.values();
        Params::new()
            .texts(self.notifications.keys())
            .texts(notifications().map(|n| &n.recipient_did))
            .texts(notifications().map(|n| &n.author_did))
            .texts(notifications().map(|n| n.reason))
            .optional_texts(notifications().map(|n| &n.reason_subject))
            .optional_texts(notifications().map(|n| &n.cid))
            .times(notifications().map(|n| n.created_at))
            .times(times.into_iter())
            .execute(client, sql::NOTIFICATIONS_UPSERT)?;
        Ok(())
    }

    /// The times of the notifications, in the order of the map. For each recipient, the times increase in stream order.
    fn notification_times(&self, page_keys: &PageKeys) -> Vec<Micros> {
        let notifications: Vec<&Notification> = self.notifications.values().collect();
        let mut in_stream_order: Vec<usize> = (0..notifications.len()).collect();
        in_stream_order.sort_by_key(|index| notifications[*index].position);
        let recipients = in_stream_order
            .iter()
            .map(|index| notifications[*index].recipient_did.as_ref());
        let mut times = vec![Micros(0); notifications.len()];
        for (index, time) in in_stream_order.iter().zip(page_keys.notify(recipients)) {
            times[*index] = time;
        }
        times
    }

    fn write_viewers(&mut self, client: &mut Client, fresh: Option<&FreshStates>) -> Result<(), ApplyError> {
        if !self.viewers_gone.is_empty() {
            clear_viewers(client, &self.viewers_gone)?;
        }
        let mut viewers = std::mem::take(&mut self.viewers);
        if let Some(fresh) = fresh {
            let (new, old): (Viewers, Viewers) = viewers
                .into_iter()
                .partition(|((post, viewer), _)| fresh.contains(post, viewer));
            if !new.is_empty() {
                copy_viewers(client, &new)?;
            }
            viewers = old;
        }
        if !viewers.is_empty() {
            viewer_params(&viewers).execute(client, sql::VIEWER_STATES_SET)?;
        }
        Ok(())
    }

    fn write_counters(&mut self, client: &mut Client) -> Result<(), ApplyError> {
        if self.counters.is_empty() {
            return Ok(());
        }
        let counters = Params::new().texts(self.counters.keys());
        let rows = Counter::ALL
            .iter()
            .fold(counters, |params, counter| {
                params.ints(self.counters.values().map(|c| c.differences[*counter as usize]))
            })
            .query(client, sql::COUNTERS_ADD)?;
        self.record_counts.post_aggregations += first_number(&rows)?;
        let recounted = self
            .counters
            .iter()
            .filter(|(_, counters)| counters.recounted.contains(&true));
        recount(
            client,
            recounted
                .map(|(subject, counters)| (subject.as_ref(), counters.recounted))
                .collect(),
        )
    }
}

/// Recounts counters from rows. `subjects` is sorted; the flags select which of the five counters to set.
fn recount(client: &mut Client, subjects: Vec<(&str, [bool; Counter::ALL.len()])>) -> Result<(), ApplyError> {
    if subjects.is_empty() {
        return Ok(());
    }
    let params = Params::new().texts(subjects.iter().map(|(subject, _)| *subject));
    Counter::ALL
        .iter()
        .fold(params, |params, counter| {
            params.bools(subjects.iter().map(|(_, wanted)| wanted[*counter as usize]))
        })
        .execute(client, sql::COUNTERS_RECOUNT)?;
    Ok(())
}

fn copy_feed_items(client: &mut Client, items: &BTreeMap<Text, FeedItem>) -> Result<u64, ApplyError> {
    copy(client, sql::FEED_ITEMS_COPY, |rows| {
        items.iter().try_for_each(|(uri, item)| {
            rows.write(|columns| {
                columns
                    .text(uri)
                    .text(&item.post_uri)
                    .text(&item.originator_did)
                    .text(item.kind)
                    .time(item.created_at)
                    .time(item.created_at)
                    .optional_text(item.cid.as_deref())
                    .time(item.indexed_at);
            })
        })
    })
}

fn copy_notifications(
    client: &mut Client,
    items: &BTreeMap<String, Notification>,
    times: &[Micros],
) -> Result<u64, ApplyError> {
    copy(client, sql::NOTIFICATIONS_COPY, |rows| {
        items.iter().zip(times).try_for_each(|((uri, item), time)| {
            rows.write(|columns| {
                columns
                    .text(uri)
                    .text(&item.recipient_did)
                    .text(&item.author_did)
                    .text(item.reason)
                    .optional_text(item.reason_subject.as_deref())
                    .optional_text(item.cid.as_deref())
                    .time(item.created_at)
                    .time(*time);
            })
        })
    })
}

fn copy_viewers(client: &mut Client, viewers: &Viewers) -> Result<u64, ApplyError> {
    copy(client, sql::STATES_COPY, |rows| {
        viewers.iter().try_for_each(|((post_uri, viewer_did), viewer)| {
            rows.write(|columns| {
                columns
                    .text(post_uri)
                    .text(viewer_did)
                    .optional_text(viewer.like_uri.as_deref())
                    .optional_text(viewer.repost_uri.as_deref())
                    .boolean(viewer.is_bookmark);
            })
        })
    })
}

fn clear_viewers(client: &mut Client, gone: &Viewers) -> Result<(), ApplyError> {
    // A second round is needed only if a state was deleted between the statement's read and its write.
    for _ in 0..2 {
        let rows = viewer_params(gone).query(client, sql::VIEWER_STATES_CLEAR)?;
        if first_number(&rows)? == 0 {
            return Ok(());
        }
    }
    Err(ApplyError::Vanished("post_viewer_states"))
}

/// Deletes viewer states, except those that still stand for something. They are locked first, so that a like that was
/// committed until then is seen.
pub fn delete_states<'s>(
    client: &mut Client,
    states: impl Iterator<Item = &'s (String, String)>,
) -> Result<u64, ApplyError> {
    let keys: BTreeSet<&(String, String)> = states.collect();
    if keys.is_empty() {
        return Ok(0);
    }
    let params = || {
        Params::new()
            .texts(keys.iter().map(|(post_uri, _)| post_uri))
            .texts(keys.iter().map(|(_, viewer_did)| viewer_did))
    };
    params().execute(client, sql::PRUNE_STATES_LOCK)?;
    params().execute(client, sql::PRUNE_STATES_DELETE)
}

/// The single number that a statement returns.
fn first_number(rows: &[Row]) -> Result<i64, ApplyError> {
    rows.first().map_or(Ok(0), |row| row.get(0))
}

fn viewer_params<'p>(viewers: &'p Viewers<'_>) -> Params<'p> {
    Params::new()
        .texts(viewers.keys().map(|(post_uri, _)| post_uri))
        .texts(viewers.keys().map(|(_, viewer_did)| viewer_did))
        .optional_texts(viewers.values().map(|viewer| &viewer.like_uri))
        .optional_texts(viewers.values().map(|viewer| &viewer.repost_uri))
        .bools(viewers.values().map(|viewer| viewer.is_bookmark))
}
