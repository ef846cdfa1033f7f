//! Finds the blocks of a commit: a CAR, which is a header and sections of a CID and a block each.
//!
//! Owns how a CAR is read, and which blocks may be used: those whose SHA-256 is the one in their CID. The sections may
//! be in any order, repeat, and contain blocks that no op names. Where the form of a CAR breaks, what precedes that is
//! still used: each block is checked against its CID anyway.

use sha2::{Digest, Sha256};

use super::cbor::{Fault, Item, Keys, Reader, varint};
use super::frame::Commit;
use super::reason::Reason;

/// The length of the CIDs that blocks are found by.
const CID_LEN: usize = 36;

/// With more ops than this, blocks are sorted rather than searched one by one.
const SEARCHES_MAX: usize = 8;

/// Where the blocks of the current commit's CAR are. Reused from commit to commit.
#[derive(Default)]
pub struct Blocks {
    sections: Vec<Section>,
    are_sorted: bool,
}

/// The offsets of a section's CID and of its end in the CAR.
#[derive(Clone, Copy)]
struct Section {
    cid: u32,
    end: u32,
}

impl Section {
    fn cid(self, car: &[u8]) -> &[u8] {
        &car[self.cid as usize..][..CID_LEN]
    }

    fn block(self, car: &[u8]) -> &[u8] {
        &car[self.cid as usize + CID_LEN..self.end as usize]
    }
}

impl Blocks {
    /// Finds the sections of a CAR, in which up to `n_searches` blocks will be searched.
    pub fn read(&mut self, car: &[u8], n_searches: usize) {
        self.sections.clear();
        // What follows a violation of the form cannot be found. The ops that need it will miss their blocks.
        let _ = self.read_sections(car);
        self.are_sorted = n_searches > SEARCHES_MAX;
        if self.are_sorted {
            // Of a CID that is there twice, the first section comes first.
            self.sections
                .sort_unstable_by_key(|section| (section.cid(car), section.cid));
        }
    }

    fn read_sections(&mut self, car: &[u8]) -> Option<()> {
        // Offsets take 32 bits. No message is larger.
        let car_len = u32::try_from(car.len()).ok()?;
        let (header, mut rest) = part(car)?;
        check_header(header)?;
        while !rest.is_empty() {
            let (section, after) = part(rest)?;
            let end = car_len - after.len() as u32;
            if is_checkable(section.get(..CID_LEN).unwrap_or_default()) {
                let cid = end - section.len() as u32;
                self.sections.push(Section { cid, end });
            }
            rest = after;
        }
        Some(())
    }

    /// The block with this CID, unchecked.
    pub fn find<'a>(&self, car: &'a [u8], cid: &[u8]) -> Option<&'a [u8]> {
        let is_it = |section: &&Section| section.cid(car) == cid;
        let found = match self.are_sorted {
            true => {
                let position = self.sections.partition_point(|section| section.cid(car) < cid);
                self.sections.get(position).filter(is_it)
            }
            false => self.sections.iter().find(is_it),
        };
        found.map(|section| section.block(car))
    }

    /// The block with this CID, which has been checked against it.
    pub fn checked<'a>(&self, car: &'a [u8], cid: &[u8]) -> Result<&'a [u8], Reason> {
        if !is_checkable(cid) {
            return Err(Reason::HashMismatch);
        }
        let block = self.find(car, cid).ok_or(Reason::MissingBlock)?;
        match Sha256::digest(block).as_slice() == &cid[CID_LEN - 32..] {
            true => Ok(block),
            false => Err(Reason::HashMismatch),
        }
    }
}

impl Commit<'_> {
    /// Whether the commit object is there and has another repo or rev than the event.
    pub(super) fn differs_from_its_object(&self, blocks: &Blocks) -> bool {
        let object = self.cid.and_then(|cid| blocks.find(self.blocks, cid));
        object.is_some_and(|object| did_and_rev(object) != Ok((Some(self.stamp.did), self.rev)))
    }
}

/// Whether a CID is of the form that blocks of a repo have: version 1, DAG-CBOR or raw bytes, 32 bytes of SHA-256.
fn is_checkable(cid: &[u8]) -> bool {
    cid.len() == CID_LEN && matches!(cid[..4], [1, 0x71 | 0x55, 0x12, 0x20])
}

/// Splits off a part of a CAR, which begins with its length.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = varint(bytes)?;
    if len == 0 {
        return None;
    }
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// Checks that the header of a CAR is of version 1. The roots are not used: the event names the commit object.
fn check_header(header: &[u8]) -> Option<()> {
    let mut reader = Reader::new(header);
    let mut keys = Keys::default();
    let mut version = None;
    for _ in 0..reader.map().ok()? {
        let key = reader.key(&mut keys).ok()?;
        let item = reader.value().ok()?;
        if key == b"version" {
            version = Some(item);
        }
    }
    reader.end().ok()?;
    (version == Some(Item::Unsigned(1))).then_some(())
}

/// The repo and the rev of a commit object.
fn did_and_rev(object: &[u8]) -> Result<(Option<&str>, Option<&str>), Fault> {
    let mut reader = Reader::new(object);
    let mut keys = Keys::default();
    let (mut did, mut rev) = (None, None);
    for _ in 0..reader.map()? {
        let key = reader.key(&mut keys)?;
        match (key, reader.value()?) {
            (b"did", Item::Text(text)) => did = Some(text),
            (b"rev", Item::Text(text)) => rev = Some(text),
            _ => {}
        }
    }
    reader.end()?;
    Ok((did, rev))
}

#[cfg(test)]
mod tests {
    use ipld_core::ipld;

    use super::super::made::{self, Block, block, section};
    use super::*;

    fn blocks() -> Vec<Block> {
        (0..3).map(|n| block(&ipld!({"n": n}))).collect()
    }

    /// Which of the blocks are found.
    fn found(car: &[u8], n_searches: usize) -> Vec<std::result::Result<Vec<u8>, Reason>> {
        let mut read = Blocks::default();
        read.read(car, n_searches);
        let search = |(cid, _): Block| read.checked(car, &cid.to_bytes()).map(<[u8]>::to_vec);
        blocks().into_iter().map(search).collect()
    }

    #[test]
    fn blocks_are_found_whatever_surrounds_them() {
        let blocks = blocks();
        let foreign = section(&[&[1, 0x55, 0, 2, 7, 7], b"identity"]);
        let mut car = made::car(&[blocks[2].clone(), blocks[0].clone()]);
        car.extend(foreign);
        car.extend(section(&[b"short"]));
        car.extend(section(&[&blocks[1].0.to_bytes(), &blocks[1].1]));
        car.extend(section(&[&blocks[0].0.to_bytes(), b"repeated, and another"]));
        for n_searches in [1, 1000] {
            let wanted: Vec<_> = blocks.iter().map(|(_, bytes)| Ok(bytes.clone())).collect();
            assert_eq!(found(&car, n_searches), wanted);
        }
    }

    #[test]
    fn what_precedes_a_break_in_a_car_is_used() {
        let blocks = blocks();
        let whole = made::car(&blocks);
        let last = section(&[&blocks[2].0.to_bytes(), &blocks[2].1]).len();
        let good = whole.len() - last;
        let lie = |byte: u8| [&whole[..good], &[byte], &whole[good + 1..]].concat();
        for broken in [
            whole[..good + 1].to_vec(),
            whole[..whole.len() - 1].to_vec(),
            lie(0xff),
            lie(0x7f),
            lie(0x00),
            [&whole[..good], &[0xff; 11], &whole[good..]].concat(),
        ] {
            let found = found(&broken, 1);
            assert!(found[0].is_ok() && found[1].is_ok(), "{found:?}");
            assert_eq!(found[2], Err(Reason::MissingBlock));
        }
    }

    #[test]
    fn a_car_of_another_version_or_without_a_header_has_no_blocks() {
        let sections: Vec<u8> = blocks()
            .iter()
            .flat_map(|(cid, bytes)| section(&[&cid.to_bytes(), bytes]))
            .collect();
        for header in [
            made::encode(&ipld!({"roots": [], "version": 2})),
            made::encode(&ipld!({"roots": []})),
            made::encode(&ipld!([1])),
            b"\xa2\x67version\x01\x65roots\x80".to_vec(),
            [made::encode(&ipld!({"version": 1})), vec![0]].concat(),
        ] {
            let car = [section(&[&header]), sections.clone()].concat();
            assert_eq!(found(&car, 1), vec![Err(Reason::MissingBlock); 3], "{header:?}");
        }
        assert_eq!(found(&[], 1), vec![Err(Reason::MissingBlock); 3]);
    }
}
