//! JSON that borrows from the entry it arrived in.
//!
//! Owns the tree in which records are read and rewritten. Strings without escapes are slices of the entry. Numbers
//! that are not 64-bit integers keep their text, because PostgreSQL's jsonb stores digits that no machine number can
//! hold. The parser is serde_json.
//!
//! If an object has several members with the same name, the last counts, as in every other reader of the stream;
//! `member` implements this.
//!
//! Invariant: no value is nested deeper than `DEPTH_MAX`, so that recursion over a value takes little of a thread's
//! stack.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    /// Most numbers. Needs no allocation, because a record may consist of millions of numbers.
    Integer(i64),
    /// Any other number, as its original text.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<Member<'a>>),
}

/// Name and value of an object's member. An object keeps the order in which its members arrived.
pub type Member<'a> = (Cow<'a, str>, Json<'a>);

/// The maximum nesting of arrays and objects. PostgreSQL accepts a few thousand levels; the deepest records in use
/// have about a dozen.
pub const DEPTH_MAX: usize = 1000;

/// Parses a text that holds exactly one JSON value.
pub fn parse(text: &str) -> serde_json::Result<Json<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // serde_json's own limit of 128 levels is not part of JSON.
    deserializer.disable_recursion_limit();
    let value = Nested { levels: DEPTH_MAX }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The value of the last member with this name.
pub fn member<'m, V>(members: &'m [(Cow<str>, V)], name: &str) -> Option<&'m V> {
    members
        .iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

pub fn member_mut<'m, 'a>(members: &'m mut [Member<'a>], name: &str) -> Option<&'m mut Json<'a>> {
    members
        .iter_mut()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

/// The `$type` of an object with these members.
pub fn type_of<'m>(members: &'m [Member]) -> Option<&'m str> {
    match member(members, "$type")? {
        Json::String(name) => Some(name),
        _ => None,
    }
}

impl<'a> Json<'a> {
    /// The member with this name; null counts as absent.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        let Json::Object(members) = self else {
            return None;
        };
        let value = member(members, name)?;
        (!matches!(value, Json::Null)).then_some(value)
    }

    /// The member with this name, if it is a string.
    pub fn str(&self, name: &str) -> Option<&Cow<'a, str>> {
        match self.get(name)? {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The member with this name, if it is an array.
    pub fn array(&self, name: &str) -> Option<&[Json<'a>]> {
        match self.get(name)? {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Json::Object(_))
    }

    /// The value as JSON text.
    pub fn to_text(&self) -> String {
        let mut out = Vec::with_capacity(256);
        self.write(&mut out);
        String::from_utf8(out).expect("JSON is written from strings")
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Null => out.extend_from_slice(b"null"),
            Json::Bool(true) => out.extend_from_slice(b"true"),
            Json::Bool(false) => out.extend_from_slice(b"false"),
            Json::Integer(number) => write_integer(*number, out),
            Json::Number(digits) => out.extend_from_slice(digits.as_bytes()),
            Json::String(text) => write_string(text, out),
            Json::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Json::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn write_integer(number: i64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &number).expect("a Vec takes every number");
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a Vec takes every string");
}

/// Deserialises a value that may nest this many more levels.
#[derive(Clone, Copy)]
struct Nested {
    levels: usize,
}

impl Nested {
    fn inner<E: Error>(self) -> Result<Nested, E> {
        let too_deep = || E::custom(format_args!("nested more than {DEPTH_MAX} levels deep"));
        let levels = self.levels.checked_sub(1).ok_or_else(too_deep)?;
        Ok(Nested { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// serde_json hands over a number that is not a 64-bit integer as text, in an object whose only member has this name.
const NUMBER: &str = "$serde_json::private::Number";

impl<'de> Visitor<'de> for Nested {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(number).map_or_else(|_| Json::Number(Cow::Owned(number.to_string())), Json::Integer))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        fit(&mut items);
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let inner = self.inner()?;
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value_seed(inner)?));
        }
        fit(&mut members);
        Ok(match members.as_slice() {
            [(name, Json::String(digits))] if name == NUMBER && is_number(digits) => Json::Number(digits.clone()),
            _ => Json::Object(members),
        })
    }
}

/// Releases unused capacity. A Vec allocates room for four items with the first one, and millions of short arrays may
/// be nested in one another.
fn fit<T>(items: &mut Vec<T>) {
    if items.len() * 2 <= items.capacity() {
        items.shrink_to_fit();
    }
}

/// Tells a number made by serde_json from a string in the stream: only the text of a number may be written without
/// quotes.
fn is_number(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        && text.parse::<serde_json::Number>().is_ok()
}

/// A member's name.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        match deserializer.deserialize_str(Nested { levels: 0 })? {
            Json::String(name) => Ok(name),
            _ => Err(D::Error::custom("a member's name is a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Json<'_> {
        super::parse(text).unwrap()
    }

    #[test]
    fn what_is_read_is_written_back() {
        for text in [
            r#"{"a":[1,-2.50,1e+400,123456789012345678901234567890],"b":{"c":null,"d":true,"e":false}}"#,
            r#""\"\\\n\u0001é😀""#,
            "[]",
            "{}",
        ] {
            assert_eq!(parse(text).to_text(), text);
        }
    }

    #[test]
    fn short_arrays_and_integers_take_no_more_than_they_need() {
        assert_eq!(parse("9223372036854775807"), Json::Integer(i64::MAX));
        assert_eq!(
            parse("9223372036854775808"),
            Json::Number(Cow::Borrowed("9223372036854775808"))
        );
        let Json::Array(items) = parse("[0]") else {
            panic!("not an array");
        };
        assert_eq!(items.capacity(), 1);
    }

    #[test]
    fn strings_without_escapes_are_borrowed() {
        let text = r#"{"name":"value"}"#;
        let Json::Object(members) = parse(text) else {
            panic!("not an object");
        };
        assert!(matches!(
            &members[0],
            (Cow::Borrowed("name"), Json::String(Cow::Borrowed("value")))
        ));
    }

    #[test]
    fn the_last_of_two_members_counts_and_null_is_absent() {
        assert_eq!(parse(r#"{"a":"x","a":"y"}"#).str("a").unwrap(), "y");
        assert_eq!(parse(r#"{"a":"x","a":null}"#).get("a"), None);
    }

    #[test]
    fn an_object_in_the_form_of_serde_jsons_number_is_harmless() {
        let hostile = parse(r#"{"$serde_json::private::Number":"1],\"x\":["}"#);
        assert!(hostile.is_object());
        assert_eq!(parse(&hostile.to_text()), hostile);
    }

    #[test]
    fn nesting_without_end_is_an_error_not_a_crash() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(parse(&nested(DEPTH_MAX)).to_text(), nested(DEPTH_MAX));
        for deep in [nested(DEPTH_MAX + 1), "[".repeat(100_000), r#"{"a":"#.repeat(100_000)] {
            let error = super::parse(&deep).unwrap_err().to_string();
            assert!(error.starts_with("nested more than 1000 levels deep"), "{error}");
        }
    }
}
