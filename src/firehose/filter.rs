//! Selects events by collection and by repo.

use std::collections::HashSet;

use super::entry::is_collection;
use crate::decode::is_did;

/// What is wanted. Ops that are not are neither hashed nor written.
#[derive(Debug, Default)]
pub struct Filter {
    collections: Option<Collections>,
    dids: Option<HashSet<Box<str>>>,
}

#[derive(Debug, Default)]
struct Collections {
    exact: HashSet<Box<str>>,
    /// Each ends with a dot.
    prefixes: Vec<Box<str>>,
}

impl Filter {
    /// Admits everything.
    pub fn all() -> Filter {
        Filter::default()
    }

    /// Reads two lists, of which the items are separated by commas or white space. An empty list admits everything.
    /// A collection may end with `.*`.
    pub fn new(collections: &str, dids: &str) -> Result<Filter, String> {
        Ok(Filter {
            collections: some_if_any(items(collections)).map(Collections::new).transpose()?,
            dids: some_if_any(items(dids))
                .map(|items| items.map(did).collect())
                .transpose()?,
        })
    }

    #[inline]
    pub fn admits_collection(&self, collection: &str) -> bool {
        self.collections
            .as_ref()
            .is_none_or(|collections| collections.admit(collection))
    }

    #[inline]
    pub fn admits_did(&self, did: &str) -> bool {
        self.dids.as_ref().is_none_or(|dids| dids.contains(did))
    }
}

impl Collections {
    fn new<'a>(items: impl Iterator<Item = &'a str>) -> Result<Collections, String> {
        let mut collections = Collections::default();
        for item in items {
            match item.strip_suffix('*') {
                Some(prefix) if is_prefix(prefix) => collections.prefixes.push(prefix.into()),
                None if is_collection(item) => _ = collections.exact.insert(item.into()),
                _ => {
                    return Err(format!(
                        "{item:?} is neither a collection nor the beginning of one as app.bsky.*"
                    ));
                }
            }
        }
        Ok(collections)
    }

    fn admit(&self, collection: &str) -> bool {
        self.exact.contains(collection) || self.prefixes.iter().any(|prefix| collection.starts_with(&**prefix))
    }
}

/// Whether a collection may begin with this text and the dot at its end.
fn is_prefix(text: &str) -> bool {
    text.strip_suffix('.')
        .is_some_and(|prefix| is_collection(&format!("{prefix}.a.a")))
}

fn did(item: &str) -> Result<Box<str>, String> {
    match is_did(item) {
        true => Ok(item.into()),
        false => Err(format!("{item:?} is not a DID")),
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|item| !item.is_empty())
}

fn some_if_any<I: Iterator>(items: I) -> Option<std::iter::Peekable<I>> {
    let mut items = items.peekable();
    items.peek().is_some().then_some(items)
}
