//! Records of pairs: the first of several live ones holds the row and causes the side effects.

use serde_json::{Value, json};

use super::super::columns::Put;
use super::times::either;
use super::{Model, Pair, authority, counter, feed_item, is_post, notification, pair_of};
use crate::records::*;

impl Model {
    /// The record whose row the pair's is.
    pub(super) fn holder(&self, collection: &str, pair: &(String, String)) -> Option<String> {
        let of_pair = self.pairs.iter().filter(|(_, other)| other.is_of(collection, pair));
        of_pair.min_by_key(|(_, other)| other.place).map(|(uri, _)| uri.clone())
    }

    pub(super) fn put_pair(&mut self, put: &Put, place: (u64, usize)) {
        let uri = put.uri();
        self.keep_read(&uri);
        let subject = pair_of(put.collection, put.repo, put.record).1;
        if let Some(left) = self.states_left.get(&uri).filter(|left| **left != subject) {
            self.open.states.insert((left.clone(), uri.clone()));
            // What else it causes stays too where a batch sees only the last of its ops, and goes where it sees each.
            let times = self.times.now();
            self.open.effects.entry(uri.clone()).or_insert(times);
        }
        let old = self.pairs.get(&uri).map(|old| (self.holds(&uri), old.clone()));
        self.remove_pair(&uri);
        let mut new = Pair {
            collection: put.collection.to_owned(),
            actor: put.repo.to_owned(),
            pair: pair_of(put.collection, put.repo, put.record),
            row: with(put.row(), json!({"indexed_at": put.time()})),
            times: put.time(),
            cid: put.cid.to_owned(),
            place,
            is_foreign: false,
            had_rival: false,
            was_next: false,
            may_be_forgotten: false,
        };
        if let Some((held, old)) = old {
            self.keep_time(&uri, &mut new, held, &old);
        }
        self.add_pair(&uri, new);
    }

    fn holds(&self, uri: &str) -> bool {
        let pair = &self.pairs[uri];
        self.holder(&pair.collection, &pair.pair).as_deref() == Some(uri)
    }

    /// A record's row keeps its time as long as it exists. Whether it existed throughout is open if other repos have
    /// records of the pair, and for a record that moves while entries are redelivered: when its earlier put is
    /// redelivered, another record may hold the old pair, and the later put creates the row anew.
    fn keep_time(&self, uri: &str, new: &mut Pair, held: bool, old: &Pair) {
        let holds = self
            .holder(&new.collection, &new.pair)
            .is_none_or(|holder| holder == uri);
        let may_go = self.times.repeats && old.pair != new.pair || old.was_next;
        new.was_next = old.was_next;
        let times = either(&old.times, &new.times);
        new.row["indexed_at"] = match held && holds && !may_go && new.collection != VERIFICATION {
            true => old.row["indexed_at"].clone(),
            // It may have waited for its row meanwhile, with the time of an earlier put that came again.
            false if self.times.repeats => either(&old.row["indexed_at"], &times),
            false => either(&old.row["indexed_at"], &new.times),
        };
        new.times = times;
    }

    pub(super) fn add_pair(&mut self, uri: &str, mut new: Pair) {
        let holder = self.holder(&new.collection, &new.pair);
        new.had_rival = holder.is_some();
        for other in self.pairs.values_mut() {
            other.had_rival |= other.is_of(&new.collection, &new.pair);
        }
        self.pairs.insert(uri.to_owned(), new.clone());
        match holder {
            None => self.establish(uri, &new),
            Some(holder) if self.pairs[&holder].is_foreign => self.met.push((holder, uri.to_owned())),
            Some(_) => {}
        }
    }

    /// Takes a live record out, and lets the next of its pair take its place.
    pub(super) fn remove_pair(&mut self, uri: &str) {
        let Some(old) = self.pairs.get(uri).cloned() else {
            return;
        };
        if old.is_foreign {
            self.known(&old);
            self.close_effects(uri);
        }
        let holder = self.holder(&old.collection, &old.pair);
        let was_holder = holder.as_deref() == Some(uri);
        self.pairs.remove(uri);
        if self.opted_out.contains(&old.actor) && old.collection != VERIFICATION {
            // No row comes of those that wait, and they are forgotten.
            self.pairs
                .retain(|other, pair| Some(other) == holder.as_ref() || !pair.is_of(&old.collection, &old.pair));
        }
        if was_holder {
            self.take_back_pair(uri, &old.collection, &old.actor, &old.pair.1);
            if let Some(next) = self.holder(&old.collection, &old.pair) {
                self.pairs.get_mut(&next).expect("just found").was_next = true;
                let pair = self.pairs[&next].clone();
                self.establish(&next, &pair);
            }
        }
    }

    pub(super) fn delete_pair(&mut self, uri: &str, collection: &str, actor: &str) {
        self.forget_read(uri);
        self.states_left.remove(uri);
        if let Some(pair) = self.pairs.get(uri) {
            let is_holder = self.holder(collection, &pair.pair).as_deref() == Some(uri);
            self.remove_pair(uri);
            if is_holder {
                return;
            }
        }
        // The AppView has deleted the row that the record once held; the notification still shows whose it was.
        if let Some(caused) = self.notifications.get(&format!("{uri}#notification")) {
            let subject = caused["reason_subject"]
                .as_str()
                .or(caused["recipient_did"].as_str())
                .unwrap_or_default()
                .to_owned();
            if let Some(counter) = counter(collection) {
                self.open.counters.remove(&(subject.clone(), counter));
            }
            self.take_back_pair(uri, collection, actor, &subject);
        }
    }

    /// A row of others is met: its subject is counted anew.
    pub(super) fn known(&mut self, pair: &Pair) {
        if let Some(counter) = counter(&pair.collection) {
            self.open.counters.remove(&(pair.pair.1.clone(), counter));
        }
    }

    pub(super) fn take_back_pair(&mut self, uri: &str, collection: &str, actor: &str, subject: &str) {
        let own = format!("{uri}#notification");
        if let Some(row) = self.notifications.remove(&own) {
            self.times.goes(&own, &row["indexed_at"]);
        }
        if let Some(row) = self.feed_items.remove(uri) {
            self.times.goes(uri, &row["indexed_at"]);
        }
        let viewer = self.viewers.entry((subject.to_owned(), actor.to_owned())).or_default();
        match collection {
            LIKE => viewer.like_uri = viewer.like_uri.take().filter(|like| like != uri),
            REPOST => viewer.repost_uri = viewer.repost_uri.take().filter(|repost| repost != uri),
            BOOKMARK => viewer.bookmarked = false,
            _ => {}
        }
    }

    /// All that a record causes which holds its pair's row.
    pub(super) fn establish(&mut self, uri: &str, pair: &Pair) {
        let (subject, created_at) = (&pair.pair.1, &pair.row["created_at"]);
        let viewer = self.viewers.entry((subject.clone(), pair.actor.clone())).or_default();
        if self.switched.viewer_states {
            match pair.collection.as_str() {
                LIKE => viewer.like_uri = Some(uri.to_owned()),
                REPOST => viewer.repost_uri = Some(uri.to_owned()),
                BOOKMARK => viewer.bookmarked = true,
                _ => {}
            }
        }
        if pair.collection == REPOST {
            let item = feed_item(uri, subject, &pair.actor, "repost", &pair.cid, created_at);
            let time = self.times.of_effect(uri, pair.times.clone());
            self.feed_items
                .insert(uri.to_owned(), with(item, json!({"indexed_at": time})));
        }
        let (reason, recipient, about) = match pair.collection.as_str() {
            LIKE if is_post(subject) => ("like", authority(subject), json!(subject)),
            REPOST if is_post(subject) => ("repost", authority(subject), json!(subject)),
            FOLLOW => ("follow", subject.as_str(), Value::Null),
            _ => return,
        };
        if recipient.starts_with("did:") && recipient != pair.actor {
            let own = format!("{uri}#notification");
            let row = notification(&own, recipient, &pair.actor, reason, about, json!(pair.cid), created_at);
            self.notify(own, row);
        }
    }
}
