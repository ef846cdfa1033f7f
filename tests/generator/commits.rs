//! Which event comes next, and which ops it has.

use super::memory::{Post, skewed};
use super::names::{Key, push_record_key};
use super::records::Body;
use super::world::World;

/// What happens, with its share of 10,000 events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Like,
    Post,
    Follow,
    Repost,
    Delete,
    Block,
    Profile,
    List,
    ListItem,
    ListBlock,
    ListUpdate,
    Generator,
    GeneratorUpdate,
    StarterPack,
    Labeler,
    ThreadGate,
    PostGate,
    Verification,
    Custom,
    NoTable,
    Empty,
    Identity,
    Account,
}

const MIX: [(Happening, u32); 23] = [
    (Happening::Like, 5000),
    (Happening::Post, 1800),
    (Happening::Follow, 1180),
    (Happening::Repost, 710),
    (Happening::Delete, 600),
    (Happening::Block, 200),
    (Happening::Profile, 150),
    (Happening::ListItem, 100),
    (Happening::Custom, 70),
    (Happening::Identity, 40),
    (Happening::List, 30),
    (Happening::ThreadGate, 25),
    (Happening::Account, 20),
    (Happening::StarterPack, 15),
    (Happening::ListBlock, 15),
    (Happening::PostGate, 12),
    (Happening::Generator, 10),
    (Happening::Verification, 8),
    (Happening::ListUpdate, 5),
    (Happening::GeneratorUpdate, 3),
    (Happening::Labeler, 3),
    (Happening::NoTable, 2),
    (Happening::Empty, 2),
];

pub(super) const POST: &str = "app.bsky.feed.post";
pub(super) const LIKE: &str = "app.bsky.feed.like";
pub(super) const REPOST: &str = "app.bsky.feed.repost";
pub(super) const FOLLOW: &str = "app.bsky.graph.follow";
pub(super) const BLOCK: &str = "app.bsky.graph.block";
pub(super) const LIST: &str = "app.bsky.graph.list";
pub(super) const FEED: &str = "app.bsky.feed.generator";
pub(super) const LABELER: &str = "app.bsky.labeler.service";
const THREAD_GATE: &str = "app.bsky.feed.threadgate";
const POST_GATE: &str = "app.bsky.feed.postgate";

/// Verifiers are few, and each person has one.
const N_VERIFIERS: u32 = 8;

/// The ops of one commit, as they are being written.
struct Ops {
    data: String,
    n_ops: usize,
}

impl World {
    /// The next event: its type and its data.
    pub(super) fn event(&mut self) -> (&'static str, String) {
        match self.happening() {
            Happening::Identity => ("identity", self.identity()),
            Happening::Account => ("account", self.account()),
            happening => ("commit", self.commit(happening)),
        }
    }

    fn happening(&mut self) -> Happening {
        let mut share = self.rng.u32(..10_000);
        for (happening, its) in MIX {
            if share < its {
                return happening;
            }
            share -= its;
        }
        Happening::Like
    }

    fn identity(&mut self) -> String {
        let user = self.actor();
        let mut data = String::from(r#"{"did":""#);
        self.names.push_did(&mut data, user);
        data.push_str(r#"","handle":"#);
        match self.rng.u32(..20) {
            0 => data.push_str("null"),
            1 => data.push_str(r#""handle.invalid""#),
            _ => {
                data.push('"');
                self.names.push_handle(&mut data, user);
                data.push('"');
            }
        }
        data.push('}');
        data
    }

    fn account(&mut self) -> String {
        let user = self.actor();
        let mut data = String::from(r#"{"did":""#);
        self.names.push_did(&mut data, user);
        data.push_str(if self.one_in(3) {
            r#"","active":false}"#
        } else {
            r#"","active":true}"#
        });
        data
    }

    /// A commit. If it needs something that does not exist yet, such as a list, it creates that instead.
    fn commit(&mut self, happening: Happening) -> String {
        match happening {
            Happening::Delete => self.delete(),
            Happening::Post => self.post(),
            Happening::Follow => self.follow(),
            Happening::List => self.list(),
            Happening::ListItem | Happening::StarterPack | Happening::ListUpdate => self.about_a_list(happening),
            Happening::GeneratorUpdate => self.generator_update(),
            Happening::ThreadGate | Happening::PostGate => self.gate(happening),
            Happening::Profile => self.profile(),
            Happening::Verification => self.verification(),
            _ => self.single(happening),
        }
    }

    /// The commits of a single create that depends on nothing.
    fn single(&mut self, happening: Happening) -> String {
        let actor = self.actor();
        let key = self.new_key(actor);
        let mut ops = self.open(actor);
        match happening {
            Happening::Repost => {
                ops.create(self, REPOST, key, Body::Subject);
                self.reposts.push(key);
            }
            Happening::Block => {
                ops.create(self, BLOCK, key, Body::Person);
                self.blocks.push(key);
            }
            Happening::ListBlock => ops.create(self, "app.bsky.graph.listblock", key, Body::ListSubject),
            Happening::Generator => {
                ops.create(self, FEED, key, Body::Generator);
                self.feeds.push(key);
            }
            Happening::Labeler => {
                ops.create(self, LABELER, key, Body::Labeler);
                self.labelers.push(key);
            }
            Happening::Custom => {
                let (collection, body) = Body::custom(&mut self.rng);
                ops.create(self, collection, key, body);
            }
            Happening::NoTable => ops.create(self, "app.bsky.actor.status", key, Body::Status),
            Happening::Empty => {}
            _ => {
                ops.create(self, LIKE, key, Body::Subject);
                self.likes.push(key);
            }
        }
        ops.close()
    }

    fn post(&mut self) -> String {
        let actor = self.actor();
        let mut ops = self.open(actor);
        let parent = if self.percent(33) {
            self.posts.pick(&mut self.rng)
        } else {
            None
        };
        let key = self.new_key(actor);
        ops.create(self, POST, key, Body::Post { parent });
        let root = parent.map(|parent| parent.root.unwrap_or(parent.key));
        self.posts.push(&mut self.rng, Post { key, root });
        if parent.is_none() && self.one_in(40) {
            ops.create(self, THREAD_GATE, key, Body::ThreadGate { post: key });
            if self.one_in(3) {
                ops.create(self, POST_GATE, key, Body::PostGate { post: key });
            }
        } else if self.one_in(60) {
            self.thread_on(&mut ops, Post { key, root });
        }
        ops.close()
    }

    /// More posts in the same commit, each an answer to the one before.
    fn thread_on(&mut self, ops: &mut Ops, first: Post) {
        let mut parent = first;
        for _ in 0..self.rng.u32(1..5) {
            let key = self.new_key(first.key.owner);
            ops.create(self, POST, key, Body::Post { parent: Some(parent) });
            parent = Post {
                key,
                root: Some(first.root.unwrap_or(first.key)),
            };
            self.posts.push(&mut self.rng, parent);
        }
    }

    /// One follow; now and then a whole starter pack's.
    fn follow(&mut self) -> String {
        let actor = self.actor();
        let mut ops = self.open(actor);
        let n = if self.one_in(100) { self.rng.u32(3..12) } else { 1 };
        for _ in 0..n {
            let key = self.new_key(actor);
            ops.create(self, FOLLOW, key, Body::Person);
            self.follows.push(key);
        }
        ops.close()
    }

    /// A list, half of the time with members.
    fn list(&mut self) -> String {
        let actor = self.actor();
        let key = self.new_key(actor);
        let mut ops = self.open(actor);
        ops.create(self, LIST, key, Body::List);
        let n = if self.percent(50) { self.rng.u32(1..10) } else { 0 };
        for _ in 0..n {
            let item = self.new_key(actor);
            ops.create(self, "app.bsky.graph.listitem", item, Body::ListItem { list: key });
        }
        self.lists.push(key);
        ops.close()
    }

    fn about_a_list(&mut self, happening: Happening) -> String {
        let Some(list) = self.lists.pick(&mut self.rng) else {
            return self.list();
        };
        let mut ops = self.open(list.owner);
        if happening == Happening::ListUpdate {
            ops.update(self, LIST, list, Body::List);
            return ops.close();
        }
        let key = self.new_key(list.owner);
        match happening {
            Happening::ListItem => ops.create(self, "app.bsky.graph.listitem", key, Body::ListItem { list }),
            _ => ops.create(self, "app.bsky.graph.starterpack", key, Body::StarterPack { list }),
        }
        ops.close()
    }

    fn generator_update(&mut self) -> String {
        let Some(feed) = self.feeds.pick(&mut self.rng) else {
            return self.single(Happening::Generator);
        };
        let mut ops = self.open(feed.owner);
        ops.update(self, FEED, feed, Body::Generator);
        ops.close()
    }

    /// A gate on a post that has been there for a while.
    fn gate(&mut self, happening: Happening) -> String {
        let Some(post) = self.posts.pick_recent(&mut self.rng) else {
            return self.post();
        };
        let mut ops = self.open(post.key.owner);
        match happening {
            Happening::ThreadGate => ops.create(self, THREAD_GATE, post.key, Body::ThreadGate { post: post.key }),
            _ => ops.create(self, POST_GATE, post.key, Body::PostGate { post: post.key }),
        }
        ops.close()
    }

    fn profile(&mut self) -> String {
        let actor = self.actor();
        let key = self.new_key(actor);
        let mut ops = self.open(actor);
        if self.first_profile(actor) {
            ops.create(self, "app.bsky.actor.profile", key, Body::Profile);
        } else {
            ops.update(self, "app.bsky.actor.profile", key, Body::Profile);
        }
        ops.close()
    }

    fn verification(&mut self) -> String {
        let subject = self.famous();
        let verifier = subject % N_VERIFIERS;
        let key = self.new_key(verifier);
        let mut ops = self.open(verifier);
        ops.create(self, "app.bsky.graph.verification", key, Body::Verification { subject });
        ops.close()
    }

    /// A delete of something that exists, as far as the world remembers.
    fn delete(&mut self) -> String {
        let (collection, key) = match self.rng.u32(..100) {
            0..45 => (LIKE, self.likes.take(&mut self.rng)),
            45..70 => (FOLLOW, self.follows.take(&mut self.rng)),
            70..82 => (REPOST, self.reposts.take(&mut self.rng)),
            82..97 => (POST, self.posts.take(&mut self.rng).map(|post| post.key)),
            _ => (BLOCK, self.blocks.take(&mut self.rng)),
        };
        let Some(key) = key else {
            return self.single(Happening::Like);
        };
        let mut ops = self.open(key.owner);
        ops.delete(collection, key);
        ops.close()
    }

    fn open(&self, repo: u32) -> Ops {
        let mut data = String::with_capacity(640);
        data.push_str(r#"{"repo":""#);
        self.names.push_did(&mut data, repo);
        data.push_str(r#"","ops":["#);
        Ops { data, n_ops: 0 }
    }

    /// Whom or what a like or repost is of: nearly always a post, sometimes a feed or a labeler.
    pub(super) fn subject(&mut self) -> (&'static str, Key) {
        let other = match self.rng.u32(..200) {
            0 | 1 => self.feeds.pick(&mut self.rng).map(|feed| (FEED, feed)),
            2 => self.labelers.pick(&mut self.rng).map(|labeler| (LABELER, labeler)),
            _ => None,
        };
        if let Some(other) = other {
            return other;
        }
        match self.posts.pick(&mut self.rng) {
            Some(post) => (POST, post.key),
            None => (POST, self.post_of_long_ago()),
        }
    }

    /// A post that the stream never showed.
    fn post_of_long_ago(&mut self) -> Key {
        let age = skewed(&mut self.rng, 90 * 24, 24).expect("hours") as u64;
        Key {
            owner: self.famous(),
            micros: self.now().saturating_sub((age + 1) * 3_600_000_000),
        }
    }
}

impl Ops {
    fn create(&mut self, world: &mut World, collection: &str, key: Key, body: Body) {
        self.write(world, "create", collection, key, 0, body);
    }

    fn update(&mut self, world: &mut World, collection: &str, key: Key, body: Body) {
        let revision = world.now();
        self.write(world, "update", collection, key, revision, body);
    }

    fn delete(&mut self, collection: &str, key: Key) {
        self.begin("delete", collection, key);
        self.data.push_str(r#""}"#);
    }

    fn close(mut self) -> String {
        self.data.push_str("]}");
        self.data
    }

    fn write(&mut self, world: &mut World, action: &str, collection: &str, key: Key, revision: u64, body: Body) {
        self.begin(action, collection, key);
        self.data.push_str(r#"","cid":""#);
        world.names.push_cid(&mut self.data, key, revision);
        self.data.push_str(r#"","record":{"$type":""#);
        self.data.push_str(collection);
        self.data.push_str(r#"","#);
        body.write(world, &mut self.data, key);
        self.data.push_str("}}");
    }

    /// Up to the path, whose quote is left open.
    fn begin(&mut self, action: &str, collection: &str, key: Key) {
        if self.n_ops > 0 {
            self.data.push(',');
        }
        self.n_ops += 1;
        self.data.push_str(r#"{"action":""#);
        self.data.push_str(action);
        self.data.push_str(r#"","path":""#);
        self.data.push_str(collection);
        self.data.push('/');
        push_record_key(&mut self.data, collection, key.micros);
    }
}
