//! Models of the SDK that the events of tests and benchmarks need, and those of every record of the network's own
//! lexicons.

use Kind::{Blob, Many, One, Plain, Union, Unions};

/// What a member holds, as far as it matters here.
pub(super) enum Kind {
    /// Text, numbers, lists of them: the same in both dialects.
    Plain,
    Blob,
    One(&'static Model),
    Many(&'static Model),
    /// An object whose `$type` determines its model.
    Union,
    Unions,
}

/// A model of the SDK: its type, and the lexicon's names of its members.
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) members: &'static [(&'static str, Kind)],
}

pub(super) const RECORDS: [&str; 23] = [
    "app.bsky.actor.contentVisibilityDeclaration",
    "app.bsky.actor.link",
    "app.bsky.actor.profile",
    "app.bsky.actor.status",
    "app.bsky.feed.generator",
    "app.bsky.feed.like",
    "app.bsky.feed.post",
    "app.bsky.feed.postgate",
    "app.bsky.feed.repost",
    "app.bsky.feed.threadgate",
    "app.bsky.graph.block",
    "app.bsky.graph.follow",
    "app.bsky.graph.list",
    "app.bsky.graph.listblock",
    "app.bsky.graph.listitem",
    "app.bsky.graph.referencelistoptout",
    "app.bsky.graph.starterpack",
    "app.bsky.graph.verification",
    "app.bsky.labeler.service",
    "app.bsky.notification.declaration",
    "chat.bsky.actor.declaration",
    "com.atproto.lexicon.schema",
    "place.stream.livestream",
];

/// The records, and all that can stand within them.
#[rustfmt::skip]
pub(super) const MODELS: [&Model; 46] = [
    &PROFILE, &STATUS, &GENERATOR, &LIKE, &POST, &POSTGATE, &REPOST, &THREADGATE, &BLOCK, &FOLLOW, &LIST, &LISTBLOCK,
    &LISTITEM, &STARTERPACK, &VERIFICATION, &LABELER, &STRONG_REF, &SELF_LABELS, &SELF_LABEL, &FACET, &BYTE_SLICE,
    &MENTION, &LINK, &TAG, &ENTITY, &REPLY_REF, &IMAGES, &IMAGE, &RATIO, &EXTERNAL, &EXTERNAL_INNER, &VIDEO, &CAPTION,
    &RECORD, &RECORD_WITH_MEDIA, &LIST_RULE, &POLICIES, &FEED_ITEM,
    &VISIBILITY, &ACTOR_LINK, &LIST_OPT_OUT, &NOTIFICATIONS, &CHATS, &SCHEMA, &LIVESTREAM, &LIVESTREAM_SETTINGS,
];

static STRONG_REF: Model = Model {
    name: "com.atproto.repo.strongRef",
    members: &[("cid", Plain), ("uri", Plain)],
};
static SELF_LABELS: Model = Model {
    name: "com.atproto.label.defs#selfLabels",
    members: &[("values", Many(&SELF_LABEL))],
};
static SELF_LABEL: Model = Model {
    name: "com.atproto.label.defs#selfLabel",
    members: &[("val", Plain)],
};

static FACET: Model = Model {
    name: "app.bsky.richtext.facet",
    members: &[("features", Unions), ("index", One(&BYTE_SLICE))],
};
static BYTE_SLICE: Model = Model {
    name: "app.bsky.richtext.facet#byteSlice",
    members: &[("byteEnd", Plain), ("byteStart", Plain)],
};
static MENTION: Model = Model {
    name: "app.bsky.richtext.facet#mention",
    members: &[("did", Plain)],
};
static LINK: Model = Model {
    name: "app.bsky.richtext.facet#link",
    members: &[("uri", Plain)],
};
static TAG: Model = Model {
    name: "app.bsky.richtext.facet#tag",
    members: &[("tag", Plain)],
};

static IMAGES: Model = Model {
    name: "app.bsky.embed.images",
    members: &[("images", Many(&IMAGE))],
};
static IMAGE: Model = Model {
    name: "app.bsky.embed.images#image",
    members: &[("alt", Plain), ("image", Blob), ("aspectRatio", One(&RATIO))],
};
static RATIO: Model = Model {
    name: "app.bsky.embed.defs#aspectRatio",
    members: &[("height", Plain), ("width", Plain)],
};
static EXTERNAL: Model = Model {
    name: "app.bsky.embed.external",
    members: &[("external", One(&EXTERNAL_INNER))],
};
static EXTERNAL_INNER: Model = Model {
    name: "app.bsky.embed.external#external",
    members: &[
        ("description", Plain),
        ("title", Plain),
        ("uri", Plain),
        ("associatedRefs", Many(&STRONG_REF)),
        ("thumb", Blob),
    ],
};
static VIDEO: Model = Model {
    name: "app.bsky.embed.video",
    members: &[
        ("video", Blob),
        ("alt", Plain),
        ("aspectRatio", One(&RATIO)),
        ("captions", Many(&CAPTION)),
        ("presentation", Plain),
    ],
};
static CAPTION: Model = Model {
    name: "app.bsky.embed.video#caption",
    members: &[("file", Blob), ("lang", Plain)],
};
static RECORD: Model = Model {
    name: "app.bsky.embed.record",
    members: &[("record", One(&STRONG_REF))],
};
static RECORD_WITH_MEDIA: Model = Model {
    name: "app.bsky.embed.recordWithMedia",
    members: &[("media", Union), ("record", One(&RECORD))],
};

static POST: Model = Model {
    name: "app.bsky.feed.post",
    members: &[
        ("createdAt", Plain),
        ("text", Plain),
        ("embed", Union),
        ("entities", Many(&ENTITY)),
        ("facets", Many(&FACET)),
        ("labels", Union),
        ("langs", Plain),
        ("reply", One(&REPLY_REF)),
        ("tags", Plain),
    ],
};
static REPLY_REF: Model = Model {
    name: "app.bsky.feed.post#replyRef",
    members: &[("parent", One(&STRONG_REF)), ("root", One(&STRONG_REF))],
};
static ENTITY: Model = Model {
    name: "app.bsky.feed.post#entity",
    members: &[("index", One(&TEXT_SLICE)), ("type", Plain), ("value", Plain)],
};
static TEXT_SLICE: Model = Model {
    name: "app.bsky.feed.post#textSlice",
    members: &[("end", Plain), ("start", Plain)],
};
static LIKE: Model = Model {
    name: "app.bsky.feed.like",
    members: &[
        ("createdAt", Plain),
        ("subject", One(&STRONG_REF)),
        ("via", One(&STRONG_REF)),
    ],
};
static REPOST: Model = Model {
    name: "app.bsky.feed.repost",
    members: &[
        ("createdAt", Plain),
        ("subject", One(&STRONG_REF)),
        ("via", One(&STRONG_REF)),
    ],
};
static GENERATOR: Model = Model {
    name: "app.bsky.feed.generator",
    members: &[
        ("createdAt", Plain),
        ("did", Plain),
        ("displayName", Plain),
        ("acceptsInteractions", Plain),
        ("avatar", Blob),
        ("contentMode", Plain),
        ("description", Plain),
        ("descriptionFacets", Many(&FACET)),
        ("labels", Union),
    ],
};
static THREADGATE: Model = Model {
    name: "app.bsky.feed.threadgate",
    members: &[
        ("createdAt", Plain),
        ("post", Plain),
        ("allow", Unions),
        ("hiddenReplies", Plain),
    ],
};
static LIST_RULE: Model = Model {
    name: "app.bsky.feed.threadgate#listRule",
    members: &[("list", Plain)],
};
static POSTGATE: Model = Model {
    name: "app.bsky.feed.postgate",
    members: &[
        ("createdAt", Plain),
        ("post", Plain),
        ("detachedEmbeddingUris", Plain),
        ("embeddingRules", Unions),
    ],
};

static FOLLOW: Model = Model {
    name: "app.bsky.graph.follow",
    members: &[("createdAt", Plain), ("subject", Plain), ("via", One(&STRONG_REF))],
};
static BLOCK: Model = Model {
    name: "app.bsky.graph.block",
    members: &[("createdAt", Plain), ("subject", Plain)],
};
static LIST: Model = Model {
    name: "app.bsky.graph.list",
    members: &[
        ("createdAt", Plain),
        ("name", Plain),
        ("purpose", Plain),
        ("avatar", Blob),
        ("description", Plain),
        ("descriptionFacets", Many(&FACET)),
        ("labels", Union),
    ],
};
static LISTITEM: Model = Model {
    name: "app.bsky.graph.listitem",
    members: &[("createdAt", Plain), ("list", Plain), ("subject", Plain)],
};
static LISTBLOCK: Model = Model {
    name: "app.bsky.graph.listblock",
    members: &[("createdAt", Plain), ("subject", Plain)],
};
static STARTERPACK: Model = Model {
    name: "app.bsky.graph.starterpack",
    members: &[
        ("createdAt", Plain),
        ("list", Plain),
        ("name", Plain),
        ("description", Plain),
        ("descriptionFacets", Many(&FACET)),
        ("feeds", Many(&FEED_ITEM)),
    ],
};
static FEED_ITEM: Model = Model {
    name: "app.bsky.graph.starterpack#feedItem",
    members: &[("uri", Plain)],
};
static VERIFICATION: Model = Model {
    name: "app.bsky.graph.verification",
    members: &[
        ("createdAt", Plain),
        ("displayName", Plain),
        ("handle", Plain),
        ("subject", Plain),
    ],
};

static PROFILE: Model = Model {
    name: "app.bsky.actor.profile",
    members: &[
        ("avatar", Blob),
        ("banner", Blob),
        ("createdAt", Plain),
        ("description", Plain),
        ("displayName", Plain),
        ("joinedViaStarterPack", One(&STRONG_REF)),
        ("labels", Union),
        ("links", Many(&STRONG_REF)),
        ("pinnedPost", One(&STRONG_REF)),
        ("pronouns", Plain),
        ("website", Plain),
    ],
};
static STATUS: Model = Model {
    name: "app.bsky.actor.status",
    members: &[
        ("createdAt", Plain),
        ("status", Plain),
        ("durationMinutes", Plain),
        ("embed", Union),
    ],
};
static LABELER: Model = Model {
    name: "app.bsky.labeler.service",
    members: &[
        ("createdAt", Plain),
        ("policies", One(&POLICIES)),
        ("labels", Union),
        ("reasonTypes", Plain),
        ("subjectCollections", Plain),
        ("subjectTypes", Plain),
    ],
};
static POLICIES: Model = Model {
    name: "app.bsky.labeler.defs#labelerPolicies",
    members: &[
        ("labelValues", Plain),
        ("labelValueDefinitions", Many(&LABEL_DEFINITION)),
    ],
};
static LABEL_DEFINITION: Model = Model {
    name: "com.atproto.label.defs#labelValueDefinition",
    members: &[
        ("blurs", Plain),
        ("identifier", Plain),
        ("locales", Many(&LABEL_STRINGS)),
        ("severity", Plain),
        ("adultOnly", Plain),
        ("defaultSetting", Plain),
    ],
};
static LABEL_STRINGS: Model = Model {
    name: "com.atproto.label.defs#labelValueDefinitionStrings",
    members: &[("description", Plain), ("lang", Plain), ("name", Plain)],
};

static VISIBILITY: Model = Model {
    name: "app.bsky.actor.contentVisibilityDeclaration",
    members: &[("hideFromAlgorithmicRecommendations", Plain)],
};
static ACTOR_LINK: Model = Model {
    name: "app.bsky.actor.link",
    members: &[
        ("createdAt", Plain),
        ("url", Plain),
        ("icon", Blob),
        ("labels", Union),
        ("title", Plain),
    ],
};
static LIST_OPT_OUT: Model = Model {
    name: "app.bsky.graph.referencelistoptout",
    members: &[("createdAt", Plain), ("subject", Plain)],
};
static NOTIFICATIONS: Model = Model {
    name: "app.bsky.notification.declaration",
    members: &[("allowSubscriptions", Plain)],
};
static CHATS: Model = Model {
    name: "chat.bsky.actor.declaration",
    members: &[("allowIncoming", Plain), ("allowGroupInvites", Plain)],
};
static SCHEMA: Model = Model {
    name: "com.atproto.lexicon.schema",
    members: &[("lexicon", Plain)],
};
static LIVESTREAM: Model = Model {
    name: "place.stream.livestream",
    members: &[
        ("createdAt", Plain),
        ("title", Plain),
        ("activity", Union),
        ("agent", Plain),
        ("canonicalUrl", Plain),
        ("endedAt", Plain),
        ("idleTimeoutSeconds", Plain),
        ("lastSeenAt", Plain),
        ("notificationSettings", One(&LIVESTREAM_SETTINGS)),
        ("post", One(&STRONG_REF)),
        ("tags", Plain),
        ("thumb", Blob),
        ("url", Plain),
    ],
};
static LIVESTREAM_SETTINGS: Model = Model {
    name: "place.stream.livestream#notificationSettings",
    members: &[("pushNotification", Plain)],
};
