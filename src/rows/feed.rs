//! The rows of posts.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{DID_MAX, Record, URI_MAX, json_array, optional_cid, optional_uri, strings};
use crate::decode::embed::{self, Quoted};
use crate::decode::json::Json;
use crate::decode::text::fits;
use crate::entry::Position;
use crate::micros::Micros;

/// A row of `posts`, and the data for its side effects in other tables. JSON columns hold JSON text.
#[derive(Debug, PartialEq)]
pub struct Post<'a> {
    pub uri: String,
    pub cid: Cow<'a, str>,
    pub author_did: Cow<'a, str>,
    pub text: Cow<'a, str>,
    pub langs: Option<String>,
    pub parent_uri: Option<Cow<'a, str>>,
    pub parent_cid: Option<Cow<'a, str>>,
    pub root_uri: Option<Cow<'a, str>>,
    pub root_cid: Option<Cow<'a, str>>,
    pub embed: Option<String>,
    pub facets: Option<String>,
    pub tags: String,
    pub created_at: Micros,
    pub indexed_at: Micros,
    pub position: Position,
    pub commit_seq: Cow<'a, str>,
    pub quoted: Option<Quoted<'a>>,
    /// The DIDs mentioned by the facets, without duplicates.
    pub mentions: Vec<Mention<'a>>,
}

/// The DID in a mention facet.
pub type Mention<'a> = Cow<'a, str>;

const MENTION: &str = "app.bsky.richtext.facet#mention";

pub(super) fn post<'a>(record: Record<'_, 'a>) -> Post<'a> {
    let json = &record.json;
    let reply = json.get("reply");
    let reference = |name, part| reply.and_then(|reply| reply.get(name)?.get(part));
    let embed = json.get("embed").cloned().and_then(embed::sanitise);
    let facets = json.array("facets").filter(|facets| !facets.is_empty());
    Post {
        text: record.text("text"),
        langs: langs(json),
        parent_uri: optional_uri(reference("parent", "uri")),
        parent_cid: optional_cid(reference("parent", "cid")),
        root_uri: optional_uri(reference("root", "uri")),
        root_cid: optional_cid(reference("root", "cid")),
        quoted: embed
            .as_ref()
            .and_then(quoted)
            .filter(|_| fits(&record.uri, URI_MAX - "#quote".len())),
        embed: embed.map(|embed| embed.to_text()),
        mentions: facets.map(mentions).unwrap_or_default(),
        facets: facets.and_then(|_| json.get("facets")).map(Json::to_text),
        tags: json_array(json.array("tags").map(strings).into_iter().flatten()),
        created_at: record.created_at(),
        indexed_at: record.source.time,
        position: record.position,
        commit_seq: record.source.seq.clone(),
        author_did: record.repo,
        cid: record.cid,
        uri: record.uri,
    }
}

fn langs(json: &Json) -> Option<String> {
    match json.get("langs")? {
        Json::String(lang) if !lang.is_empty() => Some(json_array([lang].into_iter())),
        Json::Array(langs) => strings(langs).next().map(|_| json_array(strings(langs))),
        _ => None,
    }
}

/// The quoted record, if its URI fits a row.
fn quoted<'a>(embed: &Json<'a>) -> Option<Quoted<'a>> {
    let mut quoted = embed::quoted(embed)?;
    if !quoted.uri.starts_with("at://") || !fits(&quoted.uri, URI_MAX) {
        return None;
    }
    quoted.cid = quoted.cid.filter(|cid| fits(cid, super::CID_MAX));
    Some(quoted)
}

/// The DIDs mentioned by facets, without duplicates, in order.
pub fn mentions<'a>(facets: &[Json<'a>]) -> Vec<Mention<'a>> {
    let mut dids: Vec<Mention> = Vec::new();
    let mut known: HashSet<&str> = HashSet::new();
    let features = facets.iter().filter_map(|facet| facet.array("features")).flatten();
    for feature in features {
        let is_mention = feature.str("$type").is_some_and(|name| name == MENTION);
        if let Some(did) = feature.str("did").filter(|_| is_mention)
            && did.starts_with("did:")
            && fits(did, DID_MAX)
            && known.insert(did)
        {
            dids.push(did.clone());
        }
    }
    dids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json;

    /// The largest possible commit has a post with about 17,000 mentions. If each mention were compared with all
    /// earlier ones, the number in this test would take minutes.
    #[test]
    fn a_hundred_thousand_mentions_are_each_found_once() {
        let feature = |n: usize| format!(r#"{{"$type":"{MENTION}","did":"did:plc:{n:024}"}}"#);
        let features: Vec<String> = (0..200_000).map(|n| feature(n % 100_000)).collect();
        let facets = format!(r#"[{{"features":[{}]}}]"#, features.join(","));
        let Ok(Json::Array(facets)) = json::parse(&facets) else {
            panic!("not an array");
        };
        let found = mentions(&facets);
        assert_eq!(found.len(), 100_000);
        assert_eq!(found[99_999], format!("did:plc:{:024}", 99_999));
    }
}
