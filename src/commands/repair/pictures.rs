//! Corrects avatars and banners whose stored value is not a CID in the form that the AppView reads.
//!
//! A URL in its place would make every reader's client load a picture from an untrusted server. Other forms of a CID
//! are rewritten as the worker writes them.

use std::borrow::Cow;

use super::{CHUNK, Key, Slice, Step, USUAL, find, in_tables, repairing};
use crate::decode::cid;
use crate::decode::json::Json;
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;

const TABLES: [&str; 3] = ["users", "lists", "feed_generators"];

pub const STEP: Step = Step {
    name: "pictures",
    key_columns: 2,
    read,
    ..USUAL
};

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Picture {
    key: String,
    is_banner: bool,
    stored: String,
    cid: Option<String>,
}

impl Picture {
    /// `None` if the stored value is the one that a worker would store.
    fn read(row: &Row) -> Result<Option<Picture>, ApplyError> {
        let Some(stored) = row.get::<_, Option<String>>("stored")? else {
            return Ok(None);
        };
        let cid = cid::of_blob(&Json::String(Cow::Borrowed(&stored))).map(Cow::into_owned);
        if cid.as_ref() == Some(&stored) {
            return Ok(None);
        }
        Ok(Some(Picture {
            key: row.get("key")?,
            is_banner: row.get("is_banner")?,
            stored,
            cid,
        }))
    }
}

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    in_tables(
        &TABLES,
        |table| table,
        after,
        |table, after| {
            let rows = find(client, sql::REPAIR_PICTURES_FIND, &[table, after], length)?;
            let describe = |picture: &Picture| format!("{}: {}", picture.key, picture.stored);
            let fix = move |client: &mut Client, pictures: &[Picture]| fix(client, table, pictures);
            Slice::of(&rows, &["last_key"], Picture::read, describe, CHUNK, fix)
        },
    )
}

/// Writes CIDs, or NULL; returns the number of pictures.
fn fix(client: &mut Client, table: &str, pictures: &[Picture]) -> Result<u64, ApplyError> {
    repairing(client, |client| {
        let rows = Params::new()
            .text(table)
            .texts(pictures.iter().map(|picture| &picture.key))
            .bools(pictures.iter().map(|picture| picture.is_banner))
            .texts(pictures.iter().map(|picture| &picture.stored))
            .optional_texts(pictures.iter().map(|picture| &picture.cid))
            .query(client, sql::REPAIR_PICTURES_SET)?;
        let banners = || pictures.iter().filter(|picture| picture.is_banner);
        let n_banners = Params::new()
            .texts(banners().map(|picture| &picture.key))
            .texts(banners().map(|picture| &picture.stored))
            .optional_texts(banners().map(|picture| &picture.cid))
            .execute(client, sql::REPAIR_BANNERS_SET)?;
        Ok(n_banners + rows.first().map_or(Ok(0), |row| row.get::<_, i64>(0))? as u64)
    })
}
