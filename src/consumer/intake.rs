//! What becomes of a message: an entry of the batch, something set aside, or nothing.
//!
//! Owns the order of events: one with a seq that the stream has already is dropped and counted. A seq that is smaller
//! although the event is newer means that the relay counts anew, which interrupts reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::DateTime;

use super::batch::{Batch, Form, SetAside};
use super::counts::Counts;
use super::dashboard::Sample;
use crate::firehose::entry::Writer;
use crate::firehose::filter::Filter;
use crate::firehose::frame::{self, Frame, Unreadable};
use crate::firehose::reason::Reason;
use crate::logging::repeats::Repeats;
use crate::logging::shown;

/// The largest message that becomes an entry, in bytes. Relays send 5 MB at most.
const MAX_FRAME: usize = 8 << 20;

/// So many unreadable frames in a row are worth a new connection.
const MAX_UNREADABLE: u32 = 20;

/// An event's time is trusted if it is at most so far ahead of this machine's clock, in milliseconds.
pub const CLOCK_SKEW_MS: u64 = 60_000;

/// A jump of the seq that is logged: gaps are normal, since relays leave out what was taken down.
const JUMP: u64 = 10_000;

/// Events that are missing between two connections are reported if at least so many seqs and milliseconds are.
const GAP: (u64, u64) = (1000, 60_000);

/// The dashboard shows events, at most one per `SAMPLE_INTERVAL`.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// How far the relay's stream has been read.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The seq of the last event; `None` before the first one if reading began with the present.
    pub seq: Option<u64>,
    /// The time of the newest event so far, in milliseconds since 1970; 0 if unknown.
    pub time_ms: u64,
    /// How often the frame behind this event was too large to be read.
    pub n_too_large: u64,
}

impl Progress {
    pub fn new(seq: Option<u64>, time_ms: u64) -> Progress {
        Progress {
            seq,
            time_ms,
            n_too_large: 0,
        }
    }

    /// The cursor that the relay is asked for.
    ///
    /// A frame that was too large once is asked for again, since its length may have been wrong. From then on each try
    /// passes over one seq more: neither the frame's seq is known, nor whether the relay begins with the cursor's own
    /// event or the one after it.
    pub fn cursor(&self) -> Option<u64> {
        self.seq.map(|seq| seq + self.n_too_large.saturating_sub(1))
    }
}

/// Why the relay cannot be read further over the connection.
#[derive(Debug)]
pub enum Interruption {
    /// The relay's seqs are smaller than before, for newer events.
    Reset,
    /// The relay ends the stream.
    Error { name: String, message: String },
    /// Too many frames in a row were unreadable.
    Unreadable,
}

/// The filter, which SIGHUP replaces.
#[derive(Clone)]
pub struct CurrentFilter(Arc<Replaceable>);

struct Replaceable {
    filter: Mutex<Arc<Filter>>,
    is_new: AtomicBool,
}

impl CurrentFilter {
    pub fn new(filter: Filter) -> CurrentFilter {
        CurrentFilter(Arc::new(Replaceable {
            filter: Mutex::new(Arc::new(filter)),
            is_new: AtomicBool::new(false),
        }))
    }

    pub fn replace(&self, filter: Filter) {
        *self.0.filter.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(filter);
        self.0.is_new.store(true, Relaxed);
    }

    fn get(&self) -> Arc<Filter> {
        Arc::clone(&self.0.filter.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads messages.
pub struct Intake {
    form: Form,
    writer: Writer,
    filter: Arc<Filter>,
    current_filter: CurrentFilter,
    counts: Arc<Counts>,
    /// The data of the entry that is being written.
    data: Vec<u8>,
    sampled_at: Option<Instant>,
    n_unreadable: u32,
    is_first: bool,
    /// Things set aside that are not logged individually.
    pub repeats: Repeats,
}

impl Intake {
    pub fn new(form: Form, filter: CurrentFilter, counts: Arc<Counts>) -> Intake {
        Intake {
            form,
            writer: Writer::new(),
            filter: filter.get(),
            current_filter: filter,
            counts,
            data: Vec::new(),
            sampled_at: None,
            n_unreadable: 0,
            is_first: true,
            repeats: Repeats::default(),
        }
    }

    /// Prepares for the first message of a connection.
    pub fn reconnected(&mut self) {
        self.is_first = true;
        self.n_unreadable = 0;
    }

    /// Adds what becomes of a message to the batch.
    ///
    /// # Errors
    ///
    /// The connection is of no further use. What came before is in the batch.
    pub fn take(&mut self, message: &[u8], at: &mut Progress, batch: &mut Batch) -> Result<(), Interruption> {
        self.counts.frames.add(1);
        self.counts.bytes.add(message.len() as u64);
        if self.current_filter.0.is_new.swap(false, Relaxed) {
            self.filter = self.current_filter.get();
        }
        match frame::read(message) {
            Ok(frame) => self.frame(&frame, message.len(), at, batch),
            Err(unreadable) => self.unreadable(&unreadable, message, at, batch),
        }
    }

    fn frame(
        &mut self,
        frame: &Frame<'_>,
        length: usize,
        at: &mut Progress,
        batch: &mut Batch,
    ) -> Result<(), Interruption> {
        self.n_unreadable = 0;
        match frame {
            Frame::Error { error, message } => {
                return Err(Interruption::Error {
                    name: shown::cut(&shown::one_line(error), 60),
                    message: shown::cut(&shown::one_line(message.unwrap_or_default()), 200),
                });
            }
            Frame::Info { name, message } => {
                self.counts.ignored.add(1);
                let message = shown::one_line(message.unwrap_or_default());
                log::info!(
                    "the relay reports {}: {}",
                    shown::one_line(name),
                    shown::cut(&message, 200)
                );
                return Ok(());
            }
            _ => {}
        }
        let Some(seq) = frame.seq() else {
            self.counts.ignored.add(1);
            return Ok(());
        };
        let now_ms = now_ms();
        let time_ms = frame
            .time()
            .and_then(millis)
            .filter(|time| *time <= now_ms + CLOCK_SKEW_MS);
        if let Some(last) = at.seq.filter(|last| seq <= *last) {
            let is_newer = time_ms.is_some_and(|time| at.time_ms > 0 && time > at.time_ms && time <= now_ms);
            if seq < last && is_newer {
                return Err(Interruption::Reset);
            }
            self.counts.replayed.add(1);
            return Ok(());
        }
        self.note_gaps(seq, time_ms, at, now_ms);
        self.advance(seq, at, batch);
        at.time_ms = at.time_ms.max(time_ms.unwrap_or_default());
        match length > MAX_FRAME {
            true => self.set_event_aside(
                Reason::TooLarge,
                frame.stamp().map_or("", |stamp| stamp.did),
                seq,
                batch,
            ),
            false => self.event(frame, seq, batch),
        }
        batch.done(seq, at.time_ms);
        Ok(())
    }

    fn event(&mut self, frame: &Frame<'_>, seq: u64, batch: &mut Batch) {
        self.data.clear();
        match frame {
            Frame::Commit(commit) => {
                let written = self.writer.commit(commit, &self.filter, &mut self.data);
                let tally = &mut batch.tally;
                tally.creates += u64::from(written.creates);
                tally.updates += u64::from(written.updates);
                tally.deletes += u64::from(written.deletes);
                tally.filtered += u64::from(written.filtered);
                tally.floats += u64::from(written.floats);
                tally.mismatched += u64::from(written.mismatched);
                let did = commit.stamp.did;
                // Of very many, only the first are listed.
                for (count, n) in tally.set_aside.iter_mut().zip(written.n_set_aside) {
                    *count += u64::from(n);
                }
                for op in &written.set_aside {
                    self.set_aside(op.reason, did, &op.path, seq, batch);
                }
                if let Some((collection, action)) = written.first {
                    batch.push_entry(&self.form, "commit", &self.data, seq);
                    batch.tally.commits += 1;
                    self.sample(batch, || Sample::commit(did, collection, action));
                }
            }
            Frame::Identity { stamp, handle } if self.filter.admits_did(stamp.did) => {
                self.writer.identity(stamp, *handle, &mut self.data);
                batch.push_entry(&self.form, "identity", &self.data, seq);
                batch.tally.identities += 1;
                self.sample(batch, || Sample::identity(stamp.did, *handle));
            }
            Frame::Account { stamp, active, status } if self.filter.admits_did(stamp.did) => {
                self.writer.account(stamp, *active, *status, &mut self.data);
                batch.push_entry(&self.form, "account", &self.data, seq);
                batch.tally.accounts += 1;
                self.sample(batch, || Sample::account(stamp.did, *active));
            }
            Frame::Sync { stamp } if self.filter.admits_did(stamp.did) => {
                self.set_event_aside(Reason::Sync, stamp.did, seq, batch);
            }
            Frame::Other { .. } => self.counts.ignored.add(1),
            _ => batch.tally.filtered += 1,
        }
    }

    fn unreadable(
        &mut self,
        unreadable: &Unreadable<'_>,
        message: &[u8],
        at: &mut Progress,
        batch: &mut Batch,
    ) -> Result<(), Interruption> {
        // A number that is found in a damaged frame may be anything: one far ahead would make later events look old.
        let seq = unreadable
            .seq
            .filter(|seq| at.seq.is_some_and(|last| *seq <= last + JUMP));
        if seq.zip(at.seq).is_some_and(|(seq, last)| seq <= last) {
            self.counts.replayed.add(1);
            return Ok(());
        }
        let did = unreadable.did.unwrap_or_default();
        let reason = match message.len() > MAX_FRAME {
            true => Reason::TooLarge,
            false => Reason::UnreadableFrame,
        };
        if let Some(seq) = seq {
            self.advance(seq, at, batch);
            batch.done(seq, at.time_ms);
        }
        let text = seq.map(|seq| seq.to_string());
        batch.push_set_aside(&SetAside {
            reason,
            seq: text.as_deref().unwrap_or_default(),
            did,
            path: "",
            frame: message,
        });
        batch.tally.set_aside[reason as usize] += 1;
        let shown = text.as_deref().unwrap_or("unknown");
        let example = format_args!("seq {shown}");
        if self.repeats.is_first("frames set aside", unreadable.reason, example) {
            log::warn!("set aside a frame: {} (seq {shown})", unreadable.reason);
        }
        self.n_unreadable += 1;
        match self.n_unreadable == MAX_UNREADABLE {
            true => Err(Interruption::Unreadable),
            false => Ok(()),
        }
    }

    fn set_event_aside(&mut self, reason: Reason, did: &str, seq: u64, batch: &mut Batch) {
        batch.tally.set_aside[reason as usize] += 1;
        self.set_aside(reason, did, "", seq, batch);
    }

    fn set_aside(&mut self, reason: Reason, did: &str, path: &str, seq: u64, batch: &mut Batch) {
        batch.push_set_aside(&SetAside {
            reason,
            seq: &seq.to_string(),
            did,
            path,
            frame: &[],
        });
        // The state of a repo is replaced every few seconds somewhere in the network.
        if reason == Reason::Sync {
            return;
        }
        let example = format_args!("seq {seq}");
        if self.repeats.is_first("ops set aside", reason.as_str(), example) {
            log::warn!(
                "set aside an op: {} ({}, seq {seq}); firehose-worker set-aside list shows them",
                reason.as_str(),
                shown::one_line(did)
            );
        }
    }

    /// Moves on to this event. Frames before it that could not be read because of their size are set aside with it.
    fn advance(&mut self, seq: u64, at: &mut Progress, batch: &mut Batch) {
        let Progress {
            seq: last, n_too_large, ..
        } = std::mem::replace(at, Progress::new(Some(seq), at.time_ms));
        let passed = match last {
            _ if n_too_large == 0 => return,
            None => String::new(),
            Some(last) => match (last + 1, (last + n_too_large - 1).min(seq - 1)) {
                (first, last) if first > last => return,
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            },
        };
        batch.push_set_aside(&SetAside {
            reason: Reason::TooLarge,
            seq: &passed,
            did: "",
            path: "",
            frame: &[],
        });
        batch.tally.set_aside[Reason::TooLarge as usize] += 1;
        let shown = if passed.is_empty() { "unknown" } else { &passed };
        let example = format_args!("seq {shown}");
        if self
            .repeats
            .is_first("frames passed over", "larger than 16 MiB", example)
        {
            log::error!("passed over a frame that is larger than 16 MiB (seq {shown}): its event is lost");
        }
    }

    /// Reports events that are missing before this one.
    fn note_gaps(&mut self, seq: u64, time_ms: Option<u64>, at: &Progress, now_ms: u64) {
        let is_first = std::mem::take(&mut self.is_first);
        let Some(last) = at.seq.filter(|_| at.time_ms > 0) else {
            return;
        };
        let skipped = seq - last - 1;
        let time = time_ms.unwrap_or_default().saturating_sub(at.time_ms);
        if is_first && skipped >= GAP.0 && time >= GAP.1 {
            self.counts.outdated.add(1);
            log::error!(
                "lost the events of {} s: the relay begins with seq {seq} instead of {}, the older ones are outside its \
                 window; start the consumer again sooner, or name a relay that keeps events for longer",
                time / 1000,
                last + 1
            );
        } else if !is_first && skipped >= JUMP && now_ms.saturating_sub(at.time_ms) < CLOCK_SKEW_MS {
            self.counts.jumps.add(1);
            log::warn!("the relay's seq jumped from {last} to {seq}: it may have lost events");
        }
    }

    fn sample(&mut self, batch: &mut Batch, sample: impl FnOnce() -> Sample) {
        if self.sampled_at.is_none_or(|at| at.elapsed() >= SAMPLE_INTERVAL) {
            self.sampled_at = Some(Instant::now());
            batch.sample = Some(sample());
        }
    }
}

/// Milliseconds since 1970 by this machine's clock.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

/// Milliseconds since 1970 of an event's time.
pub fn millis(time: &str) -> Option<u64> {
    DateTime::parse_from_rfc3339(time)
        .ok()?
        .timestamp_millis()
        .try_into()
        .ok()
}
