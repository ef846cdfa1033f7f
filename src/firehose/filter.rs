//! Selects events by collection and by repo.

use std::collections::HashSet;

use super::path::is_collection;
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
            collections: items(collections)?.map(Collections::new).transpose()?,
            dids: items(dids)?.map(|items| items.map(did).collect()).transpose()?,
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

/// The items of a list, if there is one.
fn items(list: &str) -> Result<Option<impl Iterator<Item = &str>>, String> {
    let is_separator = |c: char| c == ',' || c.is_whitespace();
    let mut items = list.split(is_separator).filter(|item| !item.is_empty()).peekable();
    match items.peek() {
        Some(_) => Ok(Some(items)),
        None if list.is_empty() => Ok(None),
        // It would admit everything, which its author hardly meant.
        None => Err(format!("{list:?} lists nothing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_admits_everything() {
        for filter in [Filter::all(), Filter::new("", "").unwrap()] {
            assert!(filter.admits_collection("app.bsky.feed.post"));
            assert!(filter.admits_did("did:plc:a"));
        }
    }

    #[test]
    fn collections_are_listed_exactly_or_by_their_beginning() {
        let filter = Filter::new("app.bsky.feed.*, com.example.thing", "").unwrap();
        for (collection, is_admitted) in [
            ("app.bsky.feed.post", true),
            ("app.bsky.feed.sub.post", true),
            ("app.bsky.feedback.post", false),
            ("app.bsky.graph.follow", false),
            ("com.example.thing", true),
            ("com.example.things", false),
        ] {
            assert_eq!(filter.admits_collection(collection), is_admitted, "{collection}");
        }
        assert!(filter.admits_did("did:plc:a"));
    }

    #[test]
    fn repos_are_listed_on_one_line_or_several() {
        let filter = Filter::new("", "did:plc:a,did:plc:b\ndid:web:example.org\r\n").unwrap();
        for did in ["did:plc:a", "did:plc:b", "did:web:example.org"] {
            assert!(filter.admits_did(did), "{did}");
        }
        assert!(!filter.admits_did("did:plc:c"));
        assert!(filter.admits_collection("app.bsky.feed.post"));
    }

    #[test]
    fn unusable_lists_are_refused() {
        for collection in [
            "*",
            "app*",
            "app.bsky*",
            ".*",
            "app..*",
            "post",
            "app.bsky.feed.post/1",
            "-a.*",
            "é.*",
        ] {
            let error = Filter::new(collection, "").unwrap_err();
            assert!(error.contains(collection), "{error}");
        }
        assert!(Filter::new("", "alice.example.org").unwrap_err().contains("not a DID"));
        assert!(Filter::new(" ,", "").unwrap_err().contains("lists nothing"));
    }
}
