//! Measures how fast messages of a relay become entries, without any server: `cargo run --profile demo --example decode
//! FILE`, with a file of recorded frames (for each a u32, little endian, its length, and its bytes; `.gz` is unpacked).

use std::error::Error;
use std::hint::black_box;
use std::io::Read;
use std::time::{Duration, Instant};

use firehose_worker::firehose::entry::Writer;
use firehose_worker::firehose::filter::Filter;
use firehose_worker::firehose::frame::{Frame, read};
use flate2::read::MultiGzDecoder;

/// How long each stage is measured.
const TIME: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: decode FILE")?;
    let frames = frames(std::fs::read(path)?)?;
    let n_bytes: usize = frames.iter().map(Vec::len).sum();
    println!("{} frames of {} bytes on average", frames.len(), n_bytes / frames.len());
    measure("read", &frames, |frame| _ = black_box(read(frame)));
    let (mut writer, mut data, filter) = (Writer::new(), Vec::new(), Filter::all());
    measure("read and write", &frames, |frame| {
        data.clear();
        match read(frame) {
            Ok(Frame::Commit(commit)) => _ = black_box(writer.commit(&commit, &filter, &mut data)),
            Ok(Frame::Identity { stamp, handle }) => writer.identity(&stamp, handle, &mut data),
            Ok(Frame::Account { stamp, active, status }) => writer.account(&stamp, active, status, &mut data),
            _ => {}
        }
        black_box(&data);
    });
    Ok(())
}

/// Runs a stage over all frames again and again.
fn measure(stage: &str, frames: &[Vec<u8>], mut run: impl FnMut(&[u8])) {
    let start = Instant::now();
    let mut n_frames = 0;
    while start.elapsed() < TIME {
        frames.iter().for_each(|frame| run(frame));
        n_frames += frames.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{stage}: {:.0} frames/s, {:.2} µs per frame",
        n_frames as f64 / seconds,
        seconds * 1e6 / n_frames as f64
    );
}

fn frames(file: Vec<u8>) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    match file.starts_with(&[0x1f, 0x8b]) {
        true => _ = MultiGzDecoder::new(file.as_slice()).read_to_end(&mut bytes)?,
        false => bytes = file,
    }
    let mut frames = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((len, after)) = rest.split_first_chunk() {
        let frame = after.split_at_checked(u32::from_le_bytes(*len) as usize);
        let (frame, after) = frame.ok_or("the file ends within a frame")?;
        frames.push(frame.to_vec());
        rest = after;
    }
    Ok(frames)
}
