//! What is in the records: each as its client writes it, in the lexicon's JSON.

use std::fmt::Write as _;

use fastrand::Rng;

use super::commits::{FEED, LIST, POST, REPOST};
use super::embeds::{self, push_blob};
use super::memory::Post;
use super::names::{Key, push_time};
use super::text::{Linked, push_json};
use super::world::World;

/// A record, but for its `$type` and its createdAt.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// A like or a repost.
    Subject,
    /// A follow or a block.
    Person,
    Post {
        parent: Option<Post>,
    },
    Profile,
    List,
    ListItem {
        list: Key,
    },
    ListSubject,
    Generator,
    StarterPack {
        list: Key,
    },
    Labeler,
    ThreadGate {
        post: Key,
    },
    PostGate {
        post: Key,
    },
    Verification {
        subject: u32,
    },
    Status,
    Play,
    Star,
    Pixel,
    Document,
}

impl Body {
    /// A record of one of the applications that are not Bluesky's.
    pub(super) fn custom(rng: &mut Rng) -> (&'static str, Self) {
        match rng.u32(..10) {
            0..5 => ("fm.teal.alpha.feed.play", Self::Play),
            5..7 => ("sh.tangled.feed.star", Self::Star),
            7..9 => ("blue.place.pixel", Self::Pixel),
            _ => ("pub.leaflet.document", Self::Document),
        }
    }

    /// Appends the record's members, createdAt last.
    pub(super) fn write(self, world: &mut World, out: &mut String, key: Key) {
        match self {
            Self::Subject => subject(world, out),
            Self::Person => person(world, out, "subject"),
            Self::Post { parent } => post(world, out, parent),
            Self::Profile => profile(world, out, key),
            Self::List => list(world, out),
            Self::ListItem { list } => list_item(world, out, list),
            Self::ListSubject => list_subject(world, out, key),
            Self::Generator => generator(world, out),
            Self::StarterPack { list } => starter_pack(world, out, list),
            Self::Labeler => out.push_str(LABELER_POLICIES),
            Self::ThreadGate { post } => thread_gate(world, out, post),
            Self::PostGate { post } => post_gate(world, out, post),
            Self::Verification { subject } => verification(world, out, subject),
            Self::Status | Self::Play | Self::Star | Self::Pixel | Self::Document => custom(self, world, out),
        }
        created_at(world, out, key);
    }
}

const LABELER_POLICIES: &str = r#""policies":{"labelValues":["spam","rude"],"labelValueDefinitions":[{"identifier":"rude","severity":"inform","blurs":"none","defaultSetting":"warn","adultOnly":false,"locales":[{"lang":"en","name":"Rude","description":"Not nice"}]}]},"#;

fn created_at(world: &mut World, out: &mut String, key: Key) {
    // A few clients send what was written long before.
    let age = if world.one_in(300) {
        world.rng.u64(..30 * 86_400) * 1_000_000
    } else {
        0
    };
    out.push_str(r#""createdAt":""#);
    push_time(out, key.micros.saturating_sub(age));
    out.push('"');
}

fn subject(world: &mut World, out: &mut String) {
    let (collection, key) = world.subject();
    push_ref(world, out, "subject", collection, key);
    if world.one_in(12)
        && let Some(repost) = world.reposts.pick(&mut world.rng)
    {
        push_ref(world, out, "via", REPOST, repost);
    }
}

fn person(world: &mut World, out: &mut String, member: &str) {
    let user = world.famous();
    push_person(world, out, member, user);
}

fn push_person(world: &World, out: &mut String, member: &str, user: u32) {
    member_name(out, member);
    out.push('"');
    world.names.push_did(out, user);
    out.push_str(r#"","#);
}

fn post(world: &mut World, out: &mut String, parent: Option<Post>) {
    let mention = match parent {
        Some(parent) if world.one_in(8) => Some(parent.key.owner),
        _ => world.one_in(20).then(|| world.famous()),
    };
    let linked = Linked {
        mention,
        link: world.percent(7),
        tag: world.percent(10),
    };
    fill_text(world, 260, linked);
    text_member(world, out, "text");
    if !world.text.facets.is_empty() {
        write!(out, r#""facets":[{}],"#, world.text.facets).expect("a String");
    }
    if world.percent(92) {
        write!(out, r#""langs":["{}"],"#, world.text.language).expect("a String");
    }
    if let Some(parent) = parent {
        out.push_str(r#""reply":{"#);
        push_ref(world, out, "root", POST, parent.root.unwrap_or(parent.key));
        push_ref(world, out, "parent", POST, parent.key);
        close_object(out);
    }
    embeds::push(world, out);
    if world.one_in(80) {
        out.push_str(r#""labels":{"$type":"com.atproto.label.defs#selfLabels","values":[{"val":"sexual"}]},"#);
    }
    if world.one_in(100) {
        out.push_str(r#""tags":["made up","demo"],"#);
    }
}

fn profile(world: &mut World, out: &mut String, key: Key) {
    let mut name = String::new();
    world.names.push_display_name(&mut name, key.owner, key.micros);
    write!(out, r#""displayName":"{name}","#).expect("a String");
    if world.percent(75) {
        fill_text(world, 160, Linked::default());
        text_member(world, out, "description");
    }
    if world.percent(85) {
        push_blob(world, out, "avatar", "image/jpeg");
    }
    if world.percent(50) {
        push_blob(world, out, "banner", "image/jpeg");
    }
    if world.percent(15)
        && let Some(post) = world.posts.pick_recent(&mut world.rng)
    {
        push_ref(world, out, "pinnedPost", POST, post.key);
    }
}

fn list(world: &mut World, out: &mut String) {
    let purpose = ["modlist", "curatelist", "curatelist", "referencelist"][world.rng.usize(..4)];
    write!(out, r#""purpose":"app.bsky.graph.defs#{purpose}","#).expect("a String");
    fill_text(world, 30, Linked::default());
    text_member(world, out, "name");
    if world.percent(60) {
        fill_text(world, 120, Linked::default());
        text_member(world, out, "description");
    }
    if world.percent(20) {
        push_blob(world, out, "avatar", "image/png");
    }
}

fn list_item(world: &mut World, out: &mut String, list: Key) {
    person(world, out, "subject");
    push_uri(world, out, "list", LIST, list);
}

/// Another person's list to block; if there is none yet, one that never occurs in the stream.
fn list_subject(world: &mut World, out: &mut String, key: Key) {
    let list = world.lists.pick(&mut world.rng);
    push_uri(world, out, "subject", LIST, list.unwrap_or(Key { owner: 0, ..key }));
}

fn generator(world: &mut World, out: &mut String) {
    out.push_str(r#""did":"did:web:feeds.example.com","#);
    fill_text(world, 20, Linked::default());
    text_member(world, out, "displayName");
    if world.percent(70) {
        fill_text(world, 120, Linked::default());
        text_member(world, out, "description");
    }
    if world.percent(50) {
        push_blob(world, out, "avatar", "image/png");
    }
}

fn starter_pack(world: &mut World, out: &mut String, list: Key) {
    fill_text(world, 30, Linked::default());
    text_member(world, out, "name");
    push_uri(world, out, "list", LIST, list);
    if world.percent(60) {
        out.push_str(r#""feeds":["#);
        for _ in 0..world.rng.u32(..4) {
            if let Some(feed) = world.feeds.pick(&mut world.rng) {
                out.push('{');
                push_uri(world, out, "uri", FEED, feed);
                close_object(out);
            }
        }
        close_array(out);
    }
}

fn thread_gate(world: &mut World, out: &mut String, post: Key) {
    push_uri(world, out, "post", POST, post);
    if world.percent(10) {
        return; // no rules at all: everybody may answer
    }
    out.push_str(r#""allow":["#);
    for rule in ["mentionRule", "followingRule", "followerRule"] {
        if world.percent(40) {
            write!(out, r#"{{"$type":"app.bsky.feed.threadgate#{rule}"}},"#).expect("a String");
        }
    }
    if world.percent(15)
        && let Some(list) = world.lists.pick(&mut world.rng)
    {
        out.push_str(r#"{"$type":"app.bsky.feed.threadgate#listRule","#);
        push_uri(world, out, "list", LIST, list);
        close_object(out);
    }
    close_array(out);
}

fn post_gate(world: &mut World, out: &mut String, post: Key) {
    push_uri(world, out, "post", POST, post);
    out.push_str(r#""detachedEmbeddingUris":["#);
    if world.percent(30)
        && let Some(other) = world.posts.pick_recent(&mut world.rng)
    {
        out.push('"');
        world.names.push_uri(out, POST, other.key);
        out.push_str(r#"","#);
    }
    close_array(out);
    if world.percent(70) {
        out.push_str(r#""embeddingRules":[{"$type":"app.bsky.feed.postgate#disableRule"}],"#);
    }
}

fn verification(world: &mut World, out: &mut String, subject: u32) {
    push_person(world, out, "subject", subject);
    out.push_str(r#""handle":""#);
    world.names.push_handle(out, subject);
    out.push_str(r#"","displayName":""#);
    world.names.push_display_name(out, subject, 0);
    out.push_str(r#"","#);
}

fn custom(body: Body, world: &mut World, out: &mut String) {
    let n = world.rng.u32(..1000);
    match body {
        Body::Status => {
            write!(out, r#""status":"app.bsky.actor.status#live","durationMinutes":{},"#, n % 240 + 1)
        }
        Body::Play => write!(
            out,
            r#""trackName":"Track {n}","artists":[{{"artistName":"The {n}s"}}],"duration":{},"isrc":null,"#,
            120 + n % 200
        ),
        Body::Pixel => write!(out, r##""x":{n},"y":{},"color":"#{n:06x}","note":"","##, 999 - n),
        Body::Document => write!(
            out,
            r#""title":"Notes {n}","pages":[{{"$type":"pub.leaflet.pages.linearDocument","blocks":[{{"text":"One","n":[1,-2,30]}},{{}}]}}],"#
        ),
        _ => write!(out, r#""subject":"at://did:web:git.example.com/sh.tangled.repo/{n}","#),
    }
    .expect("a String");
}

fn fill_text(world: &mut World, max_chars: usize, linked: Linked) {
    world.text.fill(&mut world.rng, world.names, max_chars, linked);
}

fn text_member(world: &World, out: &mut String, member: &str) {
    member_name(out, member);
    push_json(out, &world.text.plain);
    out.push(',');
}

fn push_uri(world: &World, out: &mut String, member: &str, collection: &str, key: Key) {
    member_name(out, member);
    out.push('"');
    world.names.push_uri(out, collection, key);
    out.push_str(r#"","#);
}

pub(super) fn push_ref(world: &World, out: &mut String, member: &str, collection: &str, key: Key) {
    member_name(out, member);
    out.push_str(r#"{"uri":""#);
    world.names.push_uri(out, collection, key);
    out.push_str(r#"","cid":""#);
    world.names.push_cid(out, key, 0);
    out.push_str(r#""},"#);
}

pub(super) fn member_name(out: &mut String, member: &str) {
    out.push('"');
    out.push_str(member);
    out.push_str(r#"":"#);
}

/// Ends an object whose last member left a comma.
pub(super) fn close_object(out: &mut String) {
    close(out, "},");
}

pub(super) fn close_array(out: &mut String) {
    close(out, "],");
}

fn close(out: &mut String, end: &str) {
    if out.ends_with(',') {
        out.pop();
    }
    out.push_str(end);
}
