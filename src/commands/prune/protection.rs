//! Which posts stay: those that concern a local account, and the threads above them.
//!
//! Owns the walk through the replies to the posts of a slice, level by level. Each reply is looked at once. A reply that
//! stays keeps the posts above it, as far as they are in the walk.

use std::collections::{HashMap, HashSet};

use super::accounts::Accounts;
use crate::apply::prune::touched;
use crate::micros::Micros;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;

pub struct Candidate {
    pub uri: String,
    author: String,
}

impl Candidate {
    pub fn read(row: &Row) -> Result<Candidate, ApplyError> {
        Ok(Candidate {
            uri: row.get("uri")?,
            author: row.get("author_did")?,
        })
    }
}

/// The maximum number of posts in a walk, at some 200 bytes each.
const MAX_POSTS: usize = 100_000;

/// Posts in a statement, all of whose likes are read.
const CHUNK: usize = 500;

/// The posts among the candidates that stay; `None` if there are too many replies to look at.
pub fn protected(
    client: &mut Client,
    accounts: &Accounts,
    candidates: &[Candidate],
) -> Result<Option<HashSet<String>>, ApplyError> {
    let mut thread = Thread::default();
    for candidate in candidates {
        thread.enter(&candidate.uri, accounts.has(&candidate.author));
    }
    let mut level: Vec<String> = candidates.iter().map(|candidate| candidate.uri.clone()).collect();
    while !level.is_empty() {
        let mut next = Vec::new();
        for chunk in level.chunks(CHUNK) {
            let chunk: Vec<&String> = chunk.iter().filter(|uri| !thread.stays(uri)).collect();
            let touched = touched(client, &chunk, Micros::INFINITY)?;
            touched.iter().for_each(|uri| thread.protect(uri));
        }
        for chunk in level.chunks(CHUNK) {
            let chunk: Vec<&String> = chunk.iter().filter(|uri| !thread.stays(uri)).collect();
            let rows = Params::new()
                .texts(chunk.into_iter())
                .long(MAX_POSTS as i64)
                .query(client, sql::PRUNE_REPLIES_FIND)?;
            if thread.len() + rows.len() >= MAX_POSTS {
                return Ok(None);
            }
            for row in &rows {
                next.extend(thread.reply(row, accounts)?);
            }
        }
        level = next;
    }
    let staying = candidates.iter().map(|candidate| &candidate.uri);
    Ok(Some(staying.filter(|uri| thread.stays(uri)).cloned().collect()))
}

/// The posts of a walk, and the replies among them.
#[derive(Default)]
struct Thread {
    numbers: HashMap<String, usize>,
    posts: Vec<Post>,
}

#[derive(Default)]
struct Post {
    stays: bool,
    /// The numbers of its parent and its root, if they are in the walk.
    above: Vec<usize>,
}

impl Thread {
    fn len(&self) -> usize {
        self.posts.len()
    }

    fn enter(&mut self, uri: &str, stays: bool) -> usize {
        let number = self.posts.len();
        self.numbers.insert(uri.to_owned(), number);
        self.posts.push(Post {
            stays,
            above: Vec::new(),
        });
        number
    }

    fn stays(&self, uri: &str) -> bool {
        self.numbers.get(uri).is_some_and(|number| self.posts[*number].stays)
    }

    fn protect(&mut self, uri: &str) {
        if let Some(number) = self.numbers.get(uri) {
            self.protect_from(*number);
        }
    }

    /// Protects a post and what is above it.
    fn protect_from(&mut self, number: usize) {
        let mut rest = vec![number];
        while let Some(number) = rest.pop() {
            let post = &mut self.posts[number];
            if !std::mem::replace(&mut post.stays, true) {
                rest.extend(&post.above);
            }
        }
    }

    /// Adds a reply. Returns its URI if it is new.
    fn reply(&mut self, row: &Row, accounts: &Accounts) -> Result<Option<String>, ApplyError> {
        let uri: &str = row.get("uri")?;
        let known = self.numbers.get(uri).copied();
        let number = known.unwrap_or_else(|| self.enter(uri, false));
        for column in ["parent_uri", "root_uri"] {
            let above: Option<&str> = row.get(column)?;
            if let Some(above) = above.and_then(|above| self.numbers.get(above)) {
                self.posts[number].above.push(*above);
            }
        }
        if std::mem::take(&mut self.posts[number].stays) || known.is_none() && accounts.has(row.get("author_did")?) {
            self.protect_from(number);
        }
        Ok(known.is_none().then(|| uri.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_that_stays_keeps_everything_above_it_whatever_is_found_first() {
        let mut thread = Thread::default();
        let numbers: Vec<usize> = ["root", "first", "second", "beside"]
            .into_iter()
            .map(|uri| thread.enter(uri, false))
            .collect();
        thread.posts[numbers[1]].above.push(numbers[0]);
        thread.posts[numbers[3]].above.push(numbers[1]);
        // Its parent and its root; a circle must not be walked for ever.
        thread.posts[numbers[2]].above.extend([numbers[1], numbers[0]]);
        thread.posts[numbers[0]].above.push(numbers[2]);
        thread.protect("second");
        let staying = ["root", "first", "second", "beside", "unknown"].map(|uri| thread.stays(uri));
        assert_eq!(staying, [true, true, true, false, false]);
    }
}
