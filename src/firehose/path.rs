//! The syntax of an op's path: the name of a collection and a record key.

/// The collection of a path, if the path is `collection/rkey`.
pub fn collection(path: &str) -> Option<&str> {
    let (collection, rkey) = path.split_once('/')?;
    (is_collection(collection) && is_rkey(rkey)).then_some(collection)
}

/// Whether a text is the name of a collection: an NSID.
pub fn is_collection(text: &str) -> bool {
    let is_segment = |segment: &str| {
        (1..=63).contains(&segment.len())
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !segment.starts_with('-')
            && !segment.ends_with('-')
    };
    let begins_with_a_letter = |text: &str| text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    let Some((authority, name)) = text.rsplit_once('.') else {
        return false;
    };
    text.len() <= 317
        && authority.len() <= 253
        && authority.contains('.')
        && authority.split('.').all(is_segment)
        && begins_with_a_letter(authority)
        && begins_with_a_letter(name)
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a text is a record key.
fn is_rkey(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_~.:-".contains(&byte);
    (1..=512).contains(&text.len()) && text.bytes().all(is_allowed) && text != "." && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_collection_and_a_record_key() {
        for (path, name) in [
            ("app.bsky.feed.post/3l3qo2vuowo2b", "app.bsky.feed.post"),
            ("com.example.fooBar/self", "com.example.fooBar"),
            ("a.b.c/~1.2-3_4:5", "a.b.c"),
            ("cn.8.lex.stuff/x", "cn.8.lex.stuff"),
            ("com.ex-ample.thing2/...", "com.ex-ample.thing2"),
        ] {
            assert_eq!(collection(path), Some(name), "{path}");
        }
        for path in [
            "",
            "/",
            "app.bsky.feed.post",
            "app.bsky.feed.post/",
            "/3l3qo2vuowo2b",
            "app.bsky.feed.post/a/b",
            "app.bsky.feed.post//a",
            "app.bsky.feed.post/.",
            "app.bsky.feed.post/..",
            "app.bsky.feed.post/é",
            "app.bsky.feed.post/a b",
            "app.bsky.feed.post/a\"",
            "app.bsky.feed.post/a\0",
            "app.bsky/a",
            "app..post/a",
            ".app.bsky/a",
            "app.bsky./a",
            "4app.bsky.post/a",
            "app.bsky.4post/a",
            "app.bsky.po-st/a",
            "app.-bsky.post/a",
            "app.bsky-.post/a",
            "app.bsky.feed.post#main/a",
        ] {
            assert_eq!(collection(path), None, "{path}");
        }
    }

    #[test]
    fn collections_and_record_keys_have_a_maximum_length() {
        let (label, key) = ("a".repeat(63), "k".repeat(512));
        assert!(is_collection(&format!("{label}.{label}.{label}")));
        assert!(!is_collection(&format!("{label}a.{label}.{label}")));
        assert!(!is_collection(&format!("{label}.{label}.{label}a")));
        assert!(!is_collection(&format!("{label}.{label}.{label}.{label}.a")));
        assert!(is_rkey(&key));
        assert!(!is_rkey(&format!("{key}k")));
    }
}
