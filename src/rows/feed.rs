//! Rows of the `app.bsky.feed` collections that are keyed by their URI: posts, feed generators, gates.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{DID_MAX, Record, URI_MAX, json_array, optional_cid, optional_uri, strings};
use crate::decode::embed::{self, Quoted};
use crate::decode::json::Json;
use crate::decode::text::fits;
use crate::entry::Position;
use crate::micros::Micros;

/// A row of `posts`, and what it causes in other tables. JSON columns are JSON text.
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
    /// DIDs that the facets mention, each once.
    pub mentions: Vec<Mention<'a>>,
}

/// The DID that a facet mentions.
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

/// The quoted record, if its URI is one that a row can name.
fn quoted<'a>(embed: &Json<'a>) -> Option<Quoted<'a>> {
    let mut quoted = embed::quoted(embed)?;
    if !quoted.uri.starts_with("at://") || !fits(&quoted.uri, URI_MAX) {
        return None;
    }
    quoted.cid = quoted.cid.filter(|cid| fits(cid, super::CID_MAX));
    Some(quoted)
}

/// The DIDs that facets mention, each once, in order.
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

/// A row of `feed_generators`.
#[derive(Debug, PartialEq)]
pub struct FeedGenerator<'a> {
    pub uri: String,
    pub cid: Cow<'a, str>,
    pub creator_did: Cow<'a, str>,
    pub did: Cow<'a, str>,
    pub display_name: Cow<'a, str>,
    pub description: Option<Cow<'a, str>>,
    pub avatar_url: Option<Cow<'a, str>>,
    pub created_at: Micros,
    pub indexed_at: Micros,
}

pub(super) fn feed_generator<'a>(record: Record<'_, 'a>) -> FeedGenerator<'a> {
    let did = record.text("did");
    FeedGenerator {
        did: if fits(&did, DID_MAX) { did } else { Cow::Borrowed("") },
        display_name: record.name("displayName"),
        description: record.optional_text("description"),
        avatar_url: record.blob("avatar"),
        created_at: record.created_at(),
        indexed_at: record.source.time,
        creator_did: record.repo,
        cid: record.cid,
        uri: record.uri,
    }
}

/// A row of `thread_gates`, but for its key.
#[derive(Debug, PartialEq)]
pub struct ThreadGate<'a> {
    pub owner_did: Cow<'a, str>,
    pub allow_mentions: bool,
    pub allow_following: bool,
    pub allow_list_members: bool,
    /// JSON array of strings.
    pub allow_list_uris: String,
    pub created_at: Micros,
}

/// `None` where the gate names no rules: then everyone may reply, which the AppView can only be told by no row.
pub(super) fn thread_gate<'a>(record: Record<'_, 'a>) -> Option<ThreadGate<'a>> {
    let rules = record.json.array("allow")?;
    let of_type = |name: &'static str| {
        rules
            .iter()
            .filter(move |rule| rule.str("$type").is_some_and(|of| of == name))
    };
    let mut list_rules = of_type("app.bsky.feed.threadgate#listRule").peekable();
    Some(ThreadGate {
        allow_mentions: of_type("app.bsky.feed.threadgate#mentionRule").next().is_some(),
        allow_following: of_type("app.bsky.feed.threadgate#followingRule").next().is_some(),
        allow_list_members: list_rules.peek().is_some(),
        allow_list_uris: json_array(list_rules.filter_map(|rule| rule.str("list"))),
        created_at: record.created_at(),
        owner_did: record.repo,
    })
}

/// A row of `post_gates`, but for its key.
#[derive(Debug, PartialEq)]
pub struct PostGate {
    /// JSON object `{disableRule?, detachedEmbeddingUris?}`.
    pub embedding_rules: String,
    pub created_at: Micros,
}

const DISABLE_RULE: &str = "app.bsky.feed.postgate#disableRule";

pub(super) fn post_gate(record: Record) -> PostGate {
    let mut rules = Vec::new();
    let is_disabled = record
        .json
        .array("embeddingRules")
        .into_iter()
        .flatten()
        .any(|rule| rule.str("$type").is_some_and(|name| name == DISABLE_RULE));
    if is_disabled {
        rules.push((Cow::Borrowed("disableRule"), Json::String(Cow::Borrowed(DISABLE_RULE))));
    }
    if let Some(uris) = record
        .json
        .array("detachedEmbeddingUris")
        .filter(|uris| !uris.is_empty())
    {
        let uris = strings(uris).cloned().map(Json::String).collect();
        rules.push((Cow::Borrowed("detachedEmbeddingUris"), Json::Array(uris)));
    }
    PostGate {
        embedding_rules: Json::Object(rules).to_text(),
        created_at: record.created_at(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json;

    /// A post of a commit's largest size has some 17,000; comparing each with all before it would take minutes here.
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
