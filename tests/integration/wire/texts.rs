//! Texts that PostgreSQL would refuse, values too long for their columns, and members of the wrong type.

use serde_json::{Value, json};

use crate::records::*;
use crate::support::Stack;

/// Appends a commit whose JSON no serialiser would write, since it has escapes for what is no character.
fn push_raw(stack: &Stack, data: &str) {
    stack.push_fields(&[("type", b"commit"), ("data", data.as_bytes()), ("seq", b"1")]);
}

/// The commit of one record as JSON text, with `{}` in its record replaced by `raw`.
fn raw_commit(record: &Record, placeholder: &str, raw: &str) -> String {
    let data = commit(&record.repo, vec![record.op("create")]).to_string();
    assert!(data.contains(placeholder), "{placeholder} is not in {data}");
    data.replace(placeholder, raw)
}

#[test]
fn nul_is_removed_from_every_text_of_a_post() {
    let stack = Stack::new("nul_post");
    let facets = |uri: &str| {
        json!([{
            "index": {"byteStart": 0, "byteEnd": 2},
            "features": [{"$type": "app.bsky.richtext.facet#link", "uri": uri}],
        }])
    };
    let embed = |title: &str| {
        json!({
            "$type": "app.bsky.embed.external",
            "external": {"uri": "https://example.com", "title": title, "description": ""},
        })
    };
    let sent = post(ALICE, "p", "a\0b\0").with(json!({
        "langs": ["e\0n"], "tags": ["\0"], "facets": facets("https://\0example.com"), "embed": embed("\0t\0"),
    }));
    sent.create(&stack);
    stack.drain();
    let columns = json!({
        "text": "ab", "langs": ["en"], "tags": [""], "facets": facets("https://example.com"), "embed": embed("t"),
    });
    Expected::none()
        .users(&[ALICE])
        .post_with(&sent, 1, columns)
        .assert(&stack);
}

#[test]
fn nul_is_removed_from_keys_subjects_names_and_handles() {
    let stack = Stack::new("nul_elsewhere");
    let subject = post(ALICE, "p", "hello");
    let clean = like(BOB, "l", &subject);
    let mut like = clean.with(json!({"subject": {"uri": format!("{}\0", subject.uri()), "cid": subject.cid}}));
    like.cid = clean.cid.clone();
    like.create(&stack);
    let list = list(BOB, "l").with(json!({"name": "pe\0ople", "description": "\0"}));
    list.create(&stack);
    let custom = custom(BOB, "c", "note").with(json!({"a\0b": {"\0": "c\0"}}));
    custom.create(&stack);
    stack.push("identity", json!({"did": CAROL, "handle": "car\0ol.example"}));
    stack.drain();
    let mut stored = custom.value.clone();
    stored.as_object_mut().expect("a record is an object").remove("a\0b");
    stored["ab"] = json!({"": "c"});
    Expected::none()
        .users(&[BOB])
        .row("users", with(user_row(CAROL), json!({"handle": "carol.example"})))
        .only_like(&clean, &subject, 1)
        .row("lists", with(list_row(&list), json!({"description": null})))
        .row("generic_records", with(generic_row(&custom), json!({"record": stored})))
        .assert(&stack);
}

#[test]
fn a_lone_surrogate_becomes_a_replacement_character_and_a_pair_its_character() {
    let stack = Stack::new("surrogates");
    let cases = [
        ("high", r"a\ud83db", "a\u{fffd}b"),
        ("low", r"a\ude00b", "a\u{fffd}b"),
        ("end", r"a\uD83D", "a\u{fffd}"),
        ("two_high", r"\ud83d\ud83d", "\u{fffd}\u{fffd}"),
        ("reversed", r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
        ("high_then_pair", r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        ("high_then_escape", r"\ud83d\n", "\u{fffd}\n"),
        ("pair", r"\ud83d\ude00", "\u{1f600}"),
        ("backslash", r"\\ud83d", r"\ud83d"),
    ];
    let mut expected = Expected::none().users(&[ALICE]);
    for (rkey, raw, stored) in cases {
        let post = post(ALICE, rkey, "TEXT");
        push_raw(&stack, &raw_commit(&post, "TEXT", raw));
        expected = expected.post_with(&post, 1, json!({"text": stored}));
    }
    stack.drain();
    expected.assert(&stack);
}

#[test]
fn a_lone_surrogate_in_a_key_becomes_a_replacement_character() {
    let stack = Stack::new("surrogate_key");
    let sent = custom(ALICE, "c", "note").with(json!({"KEY": 1}));
    push_raw(&stack, &raw_commit(&sent, "KEY", r"k\udfffy"));
    stack.drain();
    let mut stored = sent.value.clone();
    stored.as_object_mut().expect("a record is an object").remove("KEY");
    stored["k\u{fffd}y"] = json!(1);
    Expected::none()
        .row("generic_records", with(generic_row(&sent), json!({"record": stored})))
        .assert(&stack);
}

#[test]
fn text_of_any_script_arrives_unchanged() {
    let stack = Stack::new("text_unchanged");
    let text =
        "tab\t quote\" back\\slash 'single' $1 {} NULL \\N ümläut 日本語 \u{202e}rtl\u{202c} \u{10ffff} e\u{301}\r\n";
    let (post, odd_key) = (post(ALICE, "p", text), custom(ALICE, "it's 100% 日本 \\", text));
    post.create(&stack);
    odd_key.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post(&post, 1)
        .row("generic_records", generic_row(&odd_key))
        .assert(&stack);
}

#[test]
fn display_text_is_cut_at_the_last_character_that_fits() {
    let stack = Stack::new("long_names");
    let long = "é".repeat(300);
    let cut = "é".repeat(255);
    let profile = profile(ALICE).with(json!({"displayName": long}));
    let list = list(ALICE, "l").with(json!({"name": long}));
    let feed = generator(ALICE, "g").with(json!({"displayName": long}));
    let pack = starter_pack(ALICE, "s", &list, &[]).with(json!({"name": long}));
    for record in [&profile, &list, &feed, &pack] {
        record.create(&stack);
    }
    stack.drain();
    Expected::none()
        .row("users", with(profile_row(&profile), json!({"display_name": cut})))
        .row("lists", with(list_row(&list), json!({"name": cut})))
        .row(
            "feed_generators",
            with(generator_row(&feed), json!({"display_name": cut})),
        )
        .row("starter_packs", with(starter_pack_row(&pack), json!({"name": cut})))
        .assert(&stack);
}

#[test]
fn names_that_just_fit_and_texts_without_a_limit_are_whole() {
    let stack = Stack::new("long_but_whole");
    let name = "日".repeat(255);
    let text = "word ".repeat(20_000);
    let post = post(ALICE, "p", &text);
    let list = list(ALICE, "l").with(json!({"name": name, "description": text}));
    post.create(&stack);
    list.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post(&post, 1)
        .row(
            "lists",
            with(list_row(&list), json!({"name": name, "description": text})),
        )
        .assert(&stack);
}

#[test]
fn references_too_long_for_their_column_are_absent() {
    let stack = Stack::new("long_references");
    let long_uri = format!("at://{BOB}/app.bsky.feed.post/{}", "x".repeat(500));
    let long = "x".repeat(256);
    let subject = post(BOB, "p", "hello");
    let reference = json!({"uri": long_uri, "cid": long});
    let embed = json!({"$type": "app.bsky.embed.record", "record": reference});
    let facets = json!([mention_facet(&format!("did:web:{long}"))]);
    let fields = json!({"reply": {"parent": reference, "root": reference}, "embed": embed, "facets": facets});
    let post = post(ALICE, "p", "hello").with(fields);
    let like = like(ALICE, "l", &subject).with(json!({"subject": {"uri": subject.uri(), "cid": long}}));
    let feed = generator(ALICE, "g").with(json!({"did": format!("did:web:{long}")}));
    let list = list(ALICE, "l").with(json!({"purpose": "x".repeat(65)}));
    let pack = starter_pack(ALICE, "s", &list, &[]).with(json!({"list": long_uri}));
    let custom = custom(ALICE, "c", "note").with(json!({"$type": long}));
    for record in [&post, &like, &feed, &list, &pack, &custom] {
        record.create(&stack);
    }
    stack.drain();
    let mut expected = Expected::none().users(&[ALICE]).only_like(&like, &subject, 2);
    expected.change("likes", json!({"subject_cid": null}));
    expected
        .post_with(&post, 1, json!({"embed": embed, "facets": facets}))
        .row("feed_generators", with(generator_row(&feed), json!({"did": ""})))
        .row("lists", with(list_row(&list), json!({"purpose": ""})))
        .row(
            "starter_packs",
            with(starter_pack_row(&pack), json!({"list_uri": null})),
        )
        .row("generic_records", generic_row(&custom))
        .assert(&stack);
}

#[test]
fn a_quoted_or_parent_cid_too_long_is_null_and_the_reference_counts() {
    let stack = Stack::new("long_cids");
    let target = post(BOB, "p", "hello");
    let reference = json!({"uri": target.uri(), "cid": "x".repeat(256)});
    let embed = json!({"$type": "app.bsky.embed.record", "record": reference});
    let post = post(ALICE, "p", "hello").with(json!({
        "reply": {"parent": reference, "root": reference}, "embed": embed,
    }));
    post.create(&stack);
    stack.drain();
    let columns = with(
        reply_columns(&target, &target),
        json!({"parent_cid": null, "root_cid": null, "embed": embed}),
    );
    Expected::none()
        .users(&[ALICE])
        .post_with(&post, 1, columns)
        .counts(&target, json!({"reply_count": 1, "quote_count": 1}))
        .row("quotes", with(quote_row(&post, &target), json!({"quoted_cid": null})))
        .row("notifications", reply_notification(&post, BOB))
        .row("notifications", quote_notification(&post, BOB))
        .assert(&stack);
}

#[test]
fn a_notification_whose_uri_does_not_fit_is_not_written_and_its_record_is() {
    let stack = Stack::new("long_notifications");
    let subject = post(BOB, "p", "hello");
    let rkey = |collection: &str| "x".repeat(512 - uri(ALICE, collection, "").len());
    let reply = reply(ALICE, &rkey(POST), &subject, &subject);
    let like = like(ALICE, &rkey(LIKE), &subject);
    assert_eq!((reply.uri().len(), like.uri().len()), (512, 512));
    reply.create(&stack);
    like.create(&stack);
    stack.drain();
    let mut expected = Expected::none().users(&[ALICE]).only_like(&like, &subject, 2);
    expected.clear("notifications");
    expected.change("post_aggregations", json!({"reply_count": 1}));
    expected
        .post_with(&reply, 1, reply_columns(&subject, &subject))
        .assert(&stack);
}

#[test]
fn members_of_the_wrong_type_are_absent_in_a_post() {
    let stack = Stack::new("types_post");
    let odd = [
        json!({"text": 5, "langs": 5, "tags": "cats", "facets": "none", "embed": 5, "reply": "no", "createdAt": CREATED}),
        json!({"text": null, "langs": null, "tags": null, "facets": {}, "embed": "x", "reply": [], "createdAt": CREATED}),
        json!({"text": {}, "langs": {}, "tags": 1, "facets": 1, "embed": [], "reply": {"parent": "x", "root": 5}}),
        json!({"text": [], "reply": {"parent": {"uri": 5, "cid": 5}}, "facets": [], "langs": []}),
    ];
    let mut expected = Expected::none().users(&[ALICE]);
    for (members, n) in odd.into_iter().zip(1..) {
        let post = post(ALICE, &format!("p{n}"), "hello").without("langs").with(members);
        post.create(&stack);
        expected = expected.post_with(&post, n, json!({"text": "", "langs": null}));
    }
    stack.drain();
    expected.assert(&stack);
}

#[test]
fn langs_as_a_text_are_one_language() {
    let stack = Stack::new("types_langs");
    let (one, none) = (
        post(ALICE, "one", "hi").with(json!({"langs": "en"})),
        post(ALICE, "none", "hi"),
    );
    let none = none.with(json!({"langs": ""}));
    one.create(&stack);
    none.create(&stack);
    stack.drain();
    Expected::none()
        .users(&[ALICE])
        .post(&one, 1)
        .post_with(&none, 2, json!({"langs": null}))
        .assert(&stack);
}

#[test]
fn members_of_the_wrong_type_are_absent_elsewhere() {
    let stack = Stack::new("types_elsewhere");
    let subject = post(BOB, "p", "hello");
    let like = like(ALICE, "l", &subject).with(json!({"subject": {"uri": subject.uri(), "cid": 5}, "via": "repost"}));
    let feed = generator(ALICE, "g")
        .with(json!({"did": 5, "displayName": [], "description": {}, "avatar": true, "createdAt": CREATED}));
    let list = list(ALICE, "l").with(json!({"name": 5, "purpose": {}, "description": 5, "avatar": [5]}));
    let pack = starter_pack(ALICE, "s", &list, &[])
        .with(json!({"name": {}, "description": 5, "list": {"uri": "x"}, "feeds": "none"}));
    let gate = thread_gate(ALICE, "p", json!("everybody"));
    let labeler = labeler(ALICE).with(json!({"policies": ["spam"]}));
    let label = label(ALICE, "l", &subject.uri()).with(json!({"neg": "no"}));
    let custom = custom(ALICE, "c", "note").with(json!({"$type": 5}));
    for record in [&like, &feed, &list, &pack, &gate, &labeler, &label, &custom] {
        record.create(&stack);
    }
    stack.drain();
    let no_list = json!({"name": "", "purpose": "", "description": null, "avatar_url": null});
    let no_feed = json!({"did": "", "display_name": "", "description": null, "avatar_url": null});
    let no_pack = json!({"name": "", "description": null, "list_uri": null});
    let policies = json!({"policies": {"labelValues": [], "labelValueDefinitions": []}});
    let mut expected = Expected::none().users(&[ALICE]).only_like(&like, &subject, 1);
    expected.change("likes", json!({"subject_cid": null}));
    expected
        .row("feed_generators", with(generator_row(&feed), no_feed))
        .row("lists", with(list_row(&list), no_list))
        .row("starter_packs", with(starter_pack_row(&pack), no_pack))
        .row("labeler_services", with(labeler_row(&labeler), policies))
        .row("labels", label_row(&label, &subject.uri()))
        .row("label_events", label_event_row(&label))
        .row("generic_records", generic_row(&custom))
        .assert(&stack);
}

#[test]
fn a_profile_with_members_of_the_wrong_type_keeps_its_record() {
    let stack = Stack::new("types_profile");
    let value = json!({"$type": PROFILE, "displayName": 5, "description": [], "avatar": 5, "pinnedPost": "x"});
    let profile = Record::new(ALICE, PROFILE, "self", value);
    profile.create(&stack);
    stack.drain();
    let columns = json!({"profile_record": profile.value});
    Expected::none()
        .row("users", with(user_row(ALICE), columns))
        .assert(&stack);
}

#[test]
fn numbers_of_a_custom_record_keep_their_value() {
    let stack = Stack::new("numbers");
    let numbers = json!([0, -1, 9_007_199_254_740_993_i64, 1.5, u64::MAX, -0.25]);
    let record = custom(ALICE, "c", "note").with(json!({"numbers": numbers}));
    record.create(&stack);
    stack.drain();
    Expected::none()
        .row("generic_records", generic_row(&record))
        .assert(&stack);
}

#[test]
fn a_deeply_nested_record_is_stored() {
    let stack = Stack::new("deep");
    let deep = (0..60).fold(json!("bottom"), |inner, _| json!([{ "in": inner }]));
    let record = custom(ALICE, "c", "note").with(json!({"deep": deep}));
    record.create(&stack);
    stack.drain();
    let stored: Vec<Value> = stack.rows("generic_records");
    assert_eq!(stored, [generic_row(&record)]);
}
