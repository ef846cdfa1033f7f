//! Rows of labels, and of every collection that has no table of its own.

use std::borrow::Cow;

use super::{DID_MAX, Ignored, Record, URI_MAX};
use crate::decode::json::Json;
use crate::decode::text::{cut, fits};
use crate::micros::Micros;

/// A row of `labels`.
#[derive(Debug, PartialEq)]
pub struct Label<'a> {
    pub uri: String,
    pub src: Cow<'a, str>,
    pub subject: Cow<'a, str>,
    pub val: Cow<'a, str>,
    pub neg: bool,
    pub created_at: Micros,
    pub indexed_at: Micros,
}

const VAL_MAX: usize = 128;

pub(super) fn label<'a>(record: Record<'_, 'a>) -> Result<Label<'a>, Ignored> {
    let subject = record
        .optional_text("uri")
        .or_else(|| record.optional_text("did"))
        .ok_or(Ignored::NoSubject)?;
    let val = record.optional_text("val").ok_or(Ignored::NoSubject)?;
    if !fits(&subject, URI_MAX) {
        return Err(Ignored::KeyTooLong);
    }
    Ok(Label {
        subject,
        val: cut(val, VAL_MAX),
        neg: record.json.get("neg") == Some(&Json::Bool(true)),
        created_at: record.first_date(["createdAt", "cts"]),
        indexed_at: record.source.time,
        src: record.repo,
        uri: record.uri,
    })
}

/// A row of `generic_records`.
#[derive(Debug, PartialEq)]
pub struct GenericRecord<'a> {
    pub uri: String,
    pub cid: Cow<'a, str>,
    pub author_did: Cow<'a, str>,
    pub record_type: Cow<'a, str>,
    /// JSON text.
    pub record: String,
    pub created_at: Micros,
    pub indexed_at: Micros,
}

pub(super) fn generic_record<'a>(record: Record<'_, 'a>) -> GenericRecord<'a> {
    let own_type = record
        .json
        .str("$type")
        .filter(|name| !name.is_empty() && fits(name, DID_MAX));
    GenericRecord {
        record_type: own_type
            .cloned()
            .unwrap_or_else(|| cut(Cow::Owned(record.collection.to_owned()), DID_MAX)),
        record: record.json.to_text(),
        created_at: record.created_at(),
        indexed_at: record.source.time,
        author_did: record.repo,
        cid: record.cid,
        uri: record.uri,
    }
}
