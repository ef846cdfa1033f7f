//! What posts carry with them: other records, images, links, videos.

use std::fmt::Write as _;

use super::records::{close_array, close_object, member_name, push_ref};
use super::text::push_address;
use super::world::World;

/// Appends an embed, as a good third of all posts have one.
pub(super) fn push(world: &mut World, out: &mut String) {
    match world.rng.u32(..100) {
        0..6 => {
            out.push_str(r#""embed":"#);
            embed_record(world, out);
        }
        6..8 => {
            out.push_str(r#""embed":{"$type":"app.bsky.embed.recordWithMedia","record":"#);
            embed_record(world, out);
            out.push_str(r#""media":"#);
            embed_media(world, out);
            close_object(out);
        }
        8..38 => {
            out.push_str(r#""embed":"#);
            embed_media(world, out);
        }
        _ => {}
    }
}

fn embed_record(world: &mut World, out: &mut String) {
    let (collection, key) = world.subject();
    out.push_str(r#"{"$type":"app.bsky.embed.record","#);
    push_ref(world, out, "record", collection, key);
    close_object(out);
}

fn embed_media(world: &mut World, out: &mut String) {
    match world.rng.u32(..15) {
        0..9 => embed_images(world, out),
        9..14 => embed_external(world, out),
        _ => embed_video(world, out),
    }
}

fn embed_images(world: &mut World, out: &mut String) {
    out.push_str(r#"{"$type":"app.bsky.embed.images","images":["#);
    for _ in 0..world.rng.u32(0..4).max(1) {
        let alt = ["", "", "A photo of the garden", "猫の写真", "Screenshot of a text"][world.rng.usize(..5)];
        write!(out, r#"{{"alt":"{alt}","#).expect("a String");
        push_blob(world, out, "image", "image/jpeg");
        if world.percent(90) {
            push_ratio(world, out);
        }
        close_object(out);
    }
    close_array(out);
    close_object(out);
}

fn embed_external(world: &mut World, out: &mut String) {
    out.push_str(r#"{"$type":"app.bsky.embed.external","external":{"uri":""#);
    push_address(out, &mut world.rng);
    out.push_str(r#"","title":"What happened next","description":"A story of the day","#);
    if world.percent(80) {
        push_blob(world, out, "thumb", "image/jpeg");
    }
    close_object(out);
    close_object(out);
}

fn embed_video(world: &mut World, out: &mut String) {
    out.push_str(r#"{"$type":"app.bsky.embed.video","#);
    push_blob(world, out, "video", "video/mp4");
    if world.percent(20) {
        out.push_str(r#""alt":"A train in the rain","#);
    }
    push_ratio(world, out);
    close_object(out);
}

pub(super) fn push_blob(world: &mut World, out: &mut String, member: &str, mime_type: &str) {
    member_name(out, member);
    out.push_str(r#"{"$type":"blob","ref":{"$link":""#);
    let number = world.rng.u64(..);
    world.names.push_blob_cid(out, number);
    let size = world.rng.u32(2_000..1_000_000);
    write!(out, r#""}},"mimeType":"{mime_type}","size":{size}}},"#).expect("a String");
}

fn push_ratio(world: &mut World, out: &mut String) {
    let (width, height) = [(1600, 1200), (1080, 1920), (1000, 1000), (2000, 1125)][world.rng.usize(..4)];
    write!(out, r#""aspectRatio":{{"width":{width},"height":{height}}},"#).expect("a String");
}
