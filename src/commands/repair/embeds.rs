//! Corrects embeds that older versions stored under a type name that readers do not know, or with a URL in place of a
//! blob's CID.

use super::{CHUNK, Key, Slice, Step, USUAL, find, quotes, repairing};
use crate::decode::{dialect, embed, json};
use crate::postgres::client::Client;
use crate::postgres::fault::ApplyError;
use crate::postgres::params::Params;
use crate::postgres::row::Row;
use crate::postgres::sql;

pub const STEP: Step = Step {
    name: "embeds",
    read,
    not_known: Some("which accounts were not notified of a quote: notifications are not created afterwards"),
    ..USUAL
};

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Embed {
    post: String,
    stored: String,
    /// The corrected embed; `None` if nothing of it may be shown.
    embed: Option<String>,
}

impl Embed {
    /// `None` if the stored value is the one that a worker would store.
    fn read(row: &Row) -> Result<Option<Embed>, ApplyError> {
        let (post, stored): (Option<String>, Option<String>) = (row.get("uri")?, row.get("embed")?);
        Ok(post.zip(stored).and_then(|(post, stored)| Embed::of(post, stored)))
    }

    fn of(post: String, stored: String) -> Option<Embed> {
        let mut read = json::parse(&stored).ok()?;
        dialect::normalise(&mut read);
        let embed = embed::sanitise(read).map(|embed| embed.to_text());
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let is_same = embed.as_deref().and_then(value) == Some(value(&stored)?);
        (!is_same).then_some(Embed { post, stored, embed })
    }
}

fn read(client: &mut Client, after: &Key, length: u32) -> Result<Option<Slice>, ApplyError> {
    let rows = find(client, sql::REPAIR_EMBEDS_FIND, after, length)?;
    Slice::of(
        &rows,
        &["last_uri"],
        Embed::read,
        |embed| embed.post.clone(),
        CHUNK,
        fix,
    )
}

/// Writes embeds as the worker does, and the quotes that they contain; returns the number of embeds.
fn fix(client: &mut Client, embeds: &[Embed]) -> Result<u64, ApplyError> {
    let posts = || embeds.iter().map(|embed| &embed.post);
    repairing(client, |client| {
        let set = Params::new()
            .texts(posts())
            .jsons(embeds.iter().map(|embed| &embed.stored))
            .optional_jsons(embeds.iter().map(|embed| &embed.embed))
            .execute(client, sql::REPAIR_EMBEDS_SET)?;
        quotes::insert(client, posts())?;
        Ok(set)
    })
}
