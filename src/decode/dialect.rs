//! Converts records to lexicon JSON, whichever producer sent them.
//!
//! Owns the rewriting. The names `created_at` and `py_type` of the atproto SDK's models become the lexicon's
//! `createdAt` and `$type` again, null fields are removed, and blobs get one form. Later code need not know that there
//! are two dialects.

use std::borrow::Cow;

use super::cid;
use super::json::{Json, Member, member, type_of};

/// Pairs of the name that the SDK (version 0.0.73) uses and the lexicon's name, sorted by the first. The SDK does not
/// change any other name, even one with underscores.
type Names = [(&'static str, &'static str)];

/// The names in the network's own lexicons that can occur in a record.
const NETWORK_NAMES: [(&str, &str); 27] = [
    ("accepts_interactions", "acceptsInteractions"),
    ("adult_only", "adultOnly"),
    ("allow_group_invites", "allowGroupInvites"),
    ("allow_incoming", "allowIncoming"),
    ("allow_subscriptions", "allowSubscriptions"),
    ("aspect_ratio", "aspectRatio"),
    ("associated_refs", "associatedRefs"),
    ("byte_end", "byteEnd"),
    ("byte_start", "byteStart"),
    ("content_mode", "contentMode"),
    ("created_at", "createdAt"),
    ("default_setting", "defaultSetting"),
    ("description_facets", "descriptionFacets"),
    ("detached_embedding_uris", "detachedEmbeddingUris"),
    ("display_name", "displayName"),
    ("duration_minutes", "durationMinutes"),
    ("embedding_rules", "embeddingRules"),
    ("hidden_replies", "hiddenReplies"),
    (
        "hide_from_algorithmic_recommendations",
        "hideFromAlgorithmicRecommendations",
    ),
    ("joined_via_starter_pack", "joinedViaStarterPack"),
    ("label_value_definitions", "labelValueDefinitions"),
    ("label_values", "labelValues"),
    ("mime_type", "mimeType"),
    ("pinned_post", "pinnedPost"),
    ("reason_types", "reasonTypes"),
    ("subject_collections", "subjectCollections"),
    ("subject_types", "subjectTypes"),
];

/// The names in the other lexicons for which the SDK has models.
const OTHER_NAMES: [(&str, &str); 28] = [
    ("accent_foreground", "accentForeground"),
    ("aspect_ratio", "aspectRatio"),
    ("basic_theme", "basicTheme"),
    ("bsky_post_ref", "bskyPostRef"),
    ("canonical_url", "canonicalUrl"),
    ("continuity_proofs", "continuityProofs"),
    ("cover_image", "coverImage"),
    ("created_at", "createdAt"),
    ("current_key", "currentKey"),
    ("display_name", "displayName"),
    ("ended_at", "endedAt"),
    ("expires_at", "expiresAt"),
    ("global_", "global"),
    ("idle_timeout_seconds", "idleTimeoutSeconds"),
    ("key_package", "keyPackage"),
    ("last_seen_at", "lastSeenAt"),
    ("message_me", "messageMe"),
    ("message_me_url", "messageMeUrl"),
    ("notification_settings", "notificationSettings"),
    ("pinned_by", "pinnedBy"),
    ("pinned_message", "pinnedMessage"),
    ("published_at", "publishedAt"),
    ("push_notification", "pushNotification"),
    ("self_labels", "selfLabels"),
    ("show_button_to", "showButtonTo"),
    ("show_in_discover", "showInDiscover"),
    ("text_content", "textContent"),
    ("updated_at", "updatedAt"),
];

/// Each namespace that the SDK knows, with its names. A third party's member `updated_at` within a post keeps its
/// name, because only another namespace has that name.
const NAMESPACES: [(&str, &Names); 9] = [
    ("app.bsky.", &NETWORK_NAMES),
    ("blob", &NETWORK_NAMES),
    ("chat.bsky.", &NETWORK_NAMES),
    // Lexicon schemas define member names freely.
    ("com.atproto.lexicon.", &[]),
    ("com.atproto.", &NETWORK_NAMES),
    ("com.germnetwork.", &OTHER_NAMES),
    ("place.stream.", &OTHER_NAMES),
    ("site.standard.", &OTHER_NAMES),
    ("social.grain.", &OTHER_NAMES),
];

/// The members that hold arbitrary text according to their lexicons, sorted. In any other member, a text that is a
/// CID's bytes in hex was a link: the SDK does not convert CBOR links in members that its models do not know.
const TEXTS: [&str; 40] = [
    "$link",
    "$type",
    "agent",
    "alt",
    "canonicalUrl",
    "cid",
    "content",
    "contentMode",
    "createdAt",
    "description",
    "detachedEmbeddingUris",
    "did",
    "displayName",
    "handle",
    "hiddenReplies",
    "identifier",
    "labelValues",
    "lang",
    "langs",
    "list",
    "mimeType",
    "name",
    "post",
    "presentation",
    "pronouns",
    "purpose",
    "reasonTypes",
    "severity",
    "status",
    "subject",
    "subjectCollections",
    "tag",
    "tags",
    "text",
    "title",
    "uri",
    "url",
    "val",
    "value",
    "website",
];

/// Whether the SDK serialised this record. The SDK marks the top level of each one.
pub fn is_sdk(record: &Json) -> bool {
    record.get("py_type").is_some()
}

/// Rewrites a record as lexicon JSON. The record must be of a known collection or in the SDK's dialect.
pub fn normalise(record: &mut Json) {
    let scope = Scope {
        names: &NETWORK_NAMES,
        is_sdk: is_sdk(record),
    };
    scope.normalise(record);
}

/// How to interpret the members of a value.
#[derive(Clone, Copy)]
struct Scope {
    /// Empty within objects of an unknown namespace.
    names: &'static Names,
    is_sdk: bool,
}

impl Scope {
    fn normalise(self, value: &mut Json) {
        match value {
            Json::Array(items) => items.iter_mut().for_each(|item| self.normalise(item)),
            Json::Object(members) => self.normalise_object(members),
            _ => {}
        }
    }

    fn normalise_object(self, members: &mut Vec<Member>) {
        members.retain(|(_, value)| !matches!(value, Json::Null));
        restore_type(members);
        let names = type_of(members).map_or(self.names, names_of);
        restore_names(members, names);
        restore_blob(members);
        let within = Scope { names, ..self };
        for (name, value) in members {
            if self.is_sdk {
                restore_links(name, value);
            }
            within.normalise(value);
        }
    }
}

/// Renames `py_type` to `$type`, or removes it if there is a `$type`.
fn restore_type(members: &mut Vec<Member>) {
    if member(members, "$type").is_none()
        && let Some(at) = members.iter().rposition(|(name, _)| name == "py_type")
    {
        members[at].0 = Cow::Borrowed("$type");
    }
    members.retain(|(name, _)| name != "py_type");
}

/// Converts texts back to links if they are CIDs in hex: the text of a member, or those in its array.
fn restore_links(name: &str, value: &mut Json) {
    match value {
        Json::String(text) => {
            if let Some(cid) = cid::from_link_hex(text).filter(|_| TEXTS.binary_search(&name).is_err()) {
                *value = link(Cow::Owned(cid));
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| restore_links(name, item)),
        _ => {}
    }
}

fn link(cid: Cow<str>) -> Json {
    Json::Object(vec![(Cow::Borrowed("$link"), Json::String(cid))])
}

/// The names that an object of this type, and untyped objects within it, may use.
fn names_of(type_name: &str) -> &'static Names {
    let known = NAMESPACES
        .iter()
        .find(|(namespace, _)| type_name.starts_with(namespace));
    known.map_or(&[], |(_, names)| names)
}

fn restore_names(members: &mut [Member], names: &Names) {
    // Each name is searched for only once, however often a record repeats it.
    let mut present: Vec<&str> = Vec::new();
    // In reverse order, because the last of several equal names counts.
    for at in (0..members.len()).rev() {
        let Some(lexicon) = lexicon_name(&members[at].0, names).filter(|lexicon| !present.contains(lexicon)) else {
            continue;
        };
        if !members.iter().any(|(name, _)| name == lexicon) {
            members[at].0 = Cow::Borrowed(lexicon);
        }
        present.push(lexicon);
    }
}

fn lexicon_name(name: &str, names: &Names) -> Option<&'static str> {
    if !name.contains('_') {
        return None;
    }
    let at = names.binary_search_by_key(&name, |&(sdk, _)| sdk).ok()?;
    Some(names[at].1)
}

/// Gives a blob the form that the AppView's readers expect, including an old blob `{cid, mimeType}`. A blob without a
/// CID is left unchanged.
fn restore_blob(members: &mut Vec<Member>) {
    if is_blob(members) {
        rewrite_blob(members);
    }
}

/// Rewrites the members of a blob in the lexicon's form, whatever the form of its CID. Returns whether it has a CID.
pub fn rewrite_blob(members: &mut Vec<Member>) -> bool {
    let Some(text) = ["ref", "cid"]
        .iter()
        .find_map(|name| member(members, name).and_then(cid::of_link))
    else {
        return false;
    };
    members.retain(|(name, _)| !["ref", "cid", "$type"].contains(&name.as_ref()));
    members.push((Cow::Borrowed("$type"), Json::String(Cow::Borrowed("blob"))));
    members.push((Cow::Borrowed("ref"), link(text)));
    true
}

fn is_blob(members: &[Member]) -> bool {
    if let Some(name) = type_of(members) {
        return name == "blob";
    }
    let is_text = |name| matches!(member(members, name), Some(Json::String(_)));
    members.len() == 2 && is_text("cid") && is_text("mimeType")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_turned_back_where_their_lexicon_is_meant_and_nowhere_else() {
        for (sdk, lexicon) in [
            (
                r#"{"associated_refs":[],"updated_at":1}"#,
                r#"{"associatedRefs":[],"updated_at":1}"#,
            ),
            (
                r#"{"hide_from_algorithmic_recommendations":true}"#,
                r#"{"hideFromAlgorithmicRecommendations":true}"#,
            ),
            (
                r#"{"py_type":"chat.bsky.actor.declaration","allow_group_invites":"all"}"#,
                r#"{"$type":"chat.bsky.actor.declaration","allowGroupInvites":"all"}"#,
            ),
            (
                r#"{"py_type":"site.standard.document","updated_at":1}"#,
                r#"{"$type":"site.standard.document","updatedAt":1}"#,
            ),
            (
                r#"{"py_type":"com.atproto.lexicon.schema","defs":{"created_at":{}}}"#,
                r#"{"$type":"com.atproto.lexicon.schema","defs":{"created_at":{}}}"#,
            ),
        ] {
            assert_eq!(normalised(sdk), json(lexicon), "{sdk}");
        }
    }

    fn normalised(text: &str) -> serde_json::Value {
        let mut record = super::super::json::parse(text).unwrap();
        normalise(&mut record);
        serde_json::from_str(&record.to_text()).unwrap()
    }

    fn json(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_names_are_sorted_so_that_each_is_found() {
        for (_, names) in NAMESPACES {
            assert!(names.is_sorted());
            for &(sdk, lexicon) in names {
                assert_eq!(lexicon_name(sdk, names), Some(lexicon));
            }
        }
    }

    #[test]
    fn an_sdk_record_becomes_the_lexicons() {
        assert_eq!(
            normalised(
                r#"{"created_at":"t","text":"x","facets":null,"my_own":{"created_at":1,"py_type":"com.example.x"},
                    "embed":{"images":[{"alt":"","aspect_ratio":{"height":3,"width":4,"py_type":"app.bsky.embed.defs#aspectRatio"},
                    "image":{"mime_type":"image/jpeg","size":9,"py_type":"blob",
                    "ref":"015512200000000000000000000000000000000000000000000000000000000000000000"}}],"py_type":"app.bsky.embed.images"},
                    "py_type":"app.bsky.feed.post","$type":"app.bsky.feed.post"}"#
            ),
            json(
                r#"{"createdAt":"t","text":"x","my_own":{"created_at":1,"$type":"com.example.x"},
                    "embed":{"images":[{"alt":"","aspectRatio":{"height":3,"width":4,"$type":"app.bsky.embed.defs#aspectRatio"},
                    "image":{"$type":"blob","mimeType":"image/jpeg","size":9,
                    "ref":{"$link":"bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}}],"$type":"app.bsky.embed.images"},
                    "$type":"app.bsky.feed.post"}"#
            )
        );
    }

    #[test]
    fn a_link_of_a_member_that_no_model_knows_is_a_link_again_and_text_stays_text() {
        let hex = "017112200000000000000000000000000000000000000000000000000000000000000000";
        let link = r#"{"$link":"bafyreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;
        let sdk =
            |own: &str| format!(r#"{{"text":"{hex}","tags":["{hex}"],"own":{own},"py_type":"app.bsky.feed.post"}}"#);
        let lexicon =
            |own: &str| format!(r#"{{"text":"{hex}","tags":["{hex}"],"own":{own},"$type":"app.bsky.feed.post"}}"#);
        let all = |one: &str| format!(r#"[{one},{{"a":{one},"cid":"{hex}"}},[[{one}]]]"#);
        let (quoted, longer) = (format!("\"{hex}\""), format!("\"{hex}0\""));
        assert_eq!(normalised(&sdk(&all(&quoted))), json(&lexicon(&all(link))));
        assert_eq!(normalised(&lexicon(&all(&quoted))), json(&lexicon(&all(&quoted))));
        assert_eq!(normalised(&sdk(&longer)), json(&lexicon(&longer)));
        assert!(TEXTS.is_sorted());
    }

    #[test]
    fn the_last_of_two_members_counts_whatever_it_is() {
        assert_eq!(
            normalised(r#"{"created_at":"a","created_at":"b","py_type":"x","py_type":"app.bsky.y"}"#),
            json(r#"{"created_at":"a","createdAt":"b","$type":"app.bsky.y"}"#)
        );
        assert_eq!(
            normalised(r#"{"$type":"blob","ref":"bafkreia","ref":{"$link":"bafkreib"}}"#),
            json(r#"{"$type":"blob","ref":{"$link":"bafkreib"}}"#)
        );
    }

    /// Searching all members for each of them would take minutes here.
    #[test]
    fn a_name_that_is_repeated_is_looked_for_once() {
        let repeated = r#""created_at":"a","mime_type":"b","#.repeat(200_000);
        assert_eq!(
            normalised(&format!(r#"{{{repeated}"created_at":"c","py_type":"app.bsky.y"}}"#)),
            json(r#"{"createdAt":"c","created_at":"a","mimeType":"b","mime_type":"b","$type":"app.bsky.y"}"#)
        );
    }

    #[test]
    fn the_lexicons_name_goes_before_the_sdks() {
        let both = r#"{"createdAt":"a","created_at":"b"}"#;
        assert_eq!(normalised(both), json(both));
    }

    #[test]
    fn an_old_blob_becomes_a_blob_and_one_without_a_cid_stays() {
        assert_eq!(
            normalised(r#"{"avatar":{"cid":"bafkrei","mimeType":"image/png"}}"#),
            json(r#"{"avatar":{"$type":"blob","ref":{"$link":"bafkrei"},"mimeType":"image/png"}}"#)
        );
        let without = r#"{"avatar":{"$type":"blob","mimeType":"image/png"}}"#;
        assert_eq!(normalised(without), json(without));
    }
}
