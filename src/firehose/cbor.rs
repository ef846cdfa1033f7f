//! Reads DAG-CBOR, strictly and without building a tree.
//!
//! Owns the rules of the encoding: the shortest form of every number and length, definite lengths only, text in UTF-8,
//! text keys in ascending order of length and then bytes, no tag but that of CIDs, no number but 64-bit integers and
//! finite 64-bit floats. Readers of the network refuse what breaks them, so it has no meaning that all agree on.
//!
//! Invariant: containers nest `DEPTH_MAX` levels at most, and recursion goes as deep as they do. A container's stated
//! length never exceeds the bytes that are left, and nothing is allocated for it.

/// The maximum nesting of arrays and maps. Records in use have about a dozen levels, and the network's guide to data
/// validation suggests 32.
pub const DEPTH_MAX: usize = 64;

/// The multihash code of SHA-256, and the length of its digest.
const SHA2_256: u8 = 0x12;
const SHA2_256_LEN: u8 = 0x20;

/// The maximum length of a digest in a CID, as other readers limit it.
const DIGEST_MAX: u64 = 64;

/// The rule that an encoding breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Truncated,
    TrailingBytes,
    NotShortest,
    Indefinite,
    NotUtf8,
    KeyNotText,
    KeyOrder,
    Tag,
    Cid,
    /// A CID that is followed by other bytes.
    CidTooLong,
    Float,
    Simple,
    TooDeep,
    LengthBeyondEnd,
    WrongType,
}

impl Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Truncated => "it ends within an item",
            Fault::TrailingBytes => "bytes follow its last item",
            Fault::NotShortest => "a number or length is not in its shortest form",
            Fault::Indefinite => "a length is indefinite or reserved",
            Fault::NotUtf8 => "a text is not UTF-8",
            Fault::KeyNotText => "a map's key is not a text",
            Fault::KeyOrder => "a map's keys are repeated or out of order",
            Fault::Tag => "a tag is not that of a CID",
            Fault::Cid => "a link is not a CID of version 1",
            Fault::CidTooLong => "bytes follow a CID",
            Fault::Float => "a number is not finite or not of 64 bits",
            Fault::Simple => "a simple value is not false, true or null",
            Fault::TooDeep => "its containers nest too deep",
            Fault::LengthBeyondEnd => "a length exceeds the bytes that are left",
            Fault::WrongType => "an item has the wrong type",
        }
    }
}

/// One item; of a container, only its head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    Unsigned(u64),
    /// The number −1 − n.
    Negative(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// The number of items that follow.
    Array(usize),
    /// The number of pairs of key and value that follow.
    Map(usize),
    /// The bytes of a CID of version 1.
    Link(&'a [u8]),
    Float(f64),
    Bool(bool),
    Null,
}

/// What becomes of the items that are read.
pub trait Sink {
    fn scalar(&mut self, item: Item<'_>);
    /// The key is UTF-8.
    fn key(&mut self, key: &[u8]);
    fn open(&mut self, container: Container);
    /// Between two items of an array, or two pairs of a map.
    fn next(&mut self);
    fn close(&mut self, container: Container);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Array,
    Map,
}

/// Items that are checked, and not used.
struct Checked;

impl Sink for Checked {
    fn scalar(&mut self, _: Item<'_>) {}
    fn key(&mut self, _: &[u8]) {}
    fn open(&mut self, _: Container) {}
    fn next(&mut self) {}
    fn close(&mut self, _: Container) {}
}

/// The keys of one map, which have to ascend.
#[derive(Default)]
pub struct Keys<'a> {
    last: Option<&'a [u8]>,
}

/// Reads items one after the other.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn end(&self) -> Result<(), Fault> {
        match self.rest {
            [] => Ok(()),
            _ => Err(Fault::TrailingBytes),
        }
    }

    /// Reads the next item; of a container, only its head.
    #[inline]
    pub fn item(&mut self) -> Result<Item<'a>, Fault> {
        let first = *self.rest.first().ok_or(Fault::Truncated)?;
        match first >> 5 {
            0 => self.argument().map(Item::Unsigned),
            1 => self.argument().map(Item::Negative),
            2 => self.bytes().map(Item::Bytes),
            3 => self.text().map(Item::Text),
            4 => self.len(1).map(Item::Array),
            5 => self.len(2).map(Item::Map),
            6 => self.link().map(Item::Link),
            _ => self.simple(first),
        }
    }

    /// Reads a map's head: its number of pairs.
    pub fn map(&mut self) -> Result<usize, Fault> {
        match self.item()? {
            Item::Map(n_pairs) => Ok(n_pairs),
            _ => Err(Fault::WrongType),
        }
    }

    /// Reads the next key of a map, which is UTF-8.
    #[inline]
    pub fn key(&mut self, keys: &mut Keys<'a>) -> Result<&'a [u8], Fault> {
        match self.rest.first() {
            None => return Err(Fault::Truncated),
            Some(first) if first >> 5 != 3 => return Err(Fault::KeyNotText),
            Some(_) => {}
        }
        let key = self.bytes()?;
        // Nearly all keys are short and ASCII, for which this is faster than the full check.
        if !key.is_ascii() {
            utf8(key)?;
        }
        let ascends = |last: &[u8]| last.len() < key.len() || (last.len() == key.len() && last < key);
        if !keys.last.is_none_or(ascends) {
            return Err(Fault::KeyOrder);
        }
        keys.last = Some(key);
        Ok(key)
    }

    /// Reads the value of a map's member with all that it contains, and returns it; of a container, only its head.
    #[inline]
    pub fn value(&mut self) -> Result<Item<'a>, Fault> {
        let before = *self;
        let item = self.item()?;
        if matches!(item, Item::Array(_) | Item::Map(_)) {
            *self = before;
            self.span()?;
        }
        Ok(item)
    }

    /// Reads the value of a map's member with all that it contains, and returns its encoding.
    pub fn span(&mut self) -> Result<&'a [u8], Fault> {
        let before = self.rest;
        // The map is one level.
        self.walk_within(DEPTH_MAX - 1, &mut Checked)?;
        Ok(&before[..before.len() - self.rest.len()])
    }

    /// Reads one item with all that it contains into a sink.
    pub fn walk(&mut self, sink: &mut impl Sink) -> Result<(), Fault> {
        self.walk_within(DEPTH_MAX, sink)
    }

    fn walk_within(&mut self, levels: usize, sink: &mut impl Sink) -> Result<(), Fault> {
        match self.item()? {
            Item::Array(n_items) => {
                let levels = levels.checked_sub(1).ok_or(Fault::TooDeep)?;
                sink.open(Container::Array);
                for index in 0..n_items {
                    if index > 0 {
                        sink.next();
                    }
                    self.walk_within(levels, sink)?;
                }
                sink.close(Container::Array);
            }
            Item::Map(n_pairs) => {
                let levels = levels.checked_sub(1).ok_or(Fault::TooDeep)?;
                let mut keys = Keys::default();
                sink.open(Container::Map);
                for index in 0..n_pairs {
                    if index > 0 {
                        sink.next();
                    }
                    sink.key(self.key(&mut keys)?);
                    self.walk_within(levels, sink)?;
                }
                sink.close(Container::Map);
            }
            scalar => sink.scalar(scalar),
        }
        Ok(())
    }

    /// Reads the number in an item's head, which must have its shortest form.
    #[inline]
    fn argument(&mut self) -> Result<u64, Fault> {
        if let [first, rest @ ..] = self.rest
            && first & 0x1f < 24
        {
            self.rest = rest;
            return Ok(u64::from(first & 0x1f));
        }
        self.long_argument()
    }

    fn long_argument(&mut self) -> Result<u64, Fault> {
        let (info, argument) = self.any_argument()?;
        let least = match info {
            24 => 24,
            25 => 1 << 8,
            26 => 1 << 16,
            27 => 1 << 32,
            _ => 0,
        };
        if argument < least {
            return Err(Fault::NotShortest);
        }
        Ok(argument)
    }

    /// Reads the number in an item's head in whatever form, with the five bits that tell its form.
    fn any_argument(&mut self) -> Result<(u8, u64), Fault> {
        let info = self.take(1)?[0] & 0x1f;
        let argument = match info {
            0..=23 => u64::from(info),
            24 => u64::from(self.take(1)?[0]),
            25 => u64::from(u16::from_be_bytes(self.take_array()?)),
            26 => u64::from(u32::from_be_bytes(self.take_array()?)),
            27 => u64::from_be_bytes(self.take_array()?),
            _ => return Err(Fault::Indefinite),
        };
        Ok((info, argument))
    }

    /// Reads a length in units of which each takes at least this many bytes.
    #[inline]
    fn len(&mut self, unit_len: usize) -> Result<usize, Fault> {
        let len = self.argument()?;
        if len > (self.rest.len() / unit_len) as u64 {
            return Err(Fault::LengthBeyondEnd);
        }
        Ok(len as usize)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.len(1)?;
        self.take(len)
    }

    #[inline]
    fn text(&mut self) -> Result<&'a str, Fault> {
        utf8(self.bytes()?)
    }

    /// Reads a tag and the CID that it marks: a string of bytes, of which the first is zero.
    fn link(&mut self) -> Result<&'a [u8], Fault> {
        if self.argument()? != 42 {
            return Err(Fault::Tag);
        }
        match self.rest.first().ok_or(Fault::Truncated)? >> 5 {
            2 => {}
            _ => return Err(Fault::Cid),
        }
        match self.bytes()? {
            [0, cid @ ..] => check_cid(cid).map(|()| cid),
            _ => Err(Fault::Cid),
        }
    }

    fn simple(&mut self, first: u8) -> Result<Item<'a>, Fault> {
        self.take(1)?;
        match first & 0x1f {
            20 => Ok(Item::Bool(false)),
            21 => Ok(Item::Bool(true)),
            22 => Ok(Item::Null),
            27 => match f64::from_be_bytes(self.take_array()?) {
                float if float.is_finite() => Ok(Item::Float(float)),
                _ => Err(Fault::Float),
            },
            25 | 26 => Err(Fault::Float),
            31 => Err(Fault::Indefinite),
            _ => Err(Fault::Simple),
        }
    }

    /// Reads over one item with all that it contains, whatever rules it breaks. Finds the end of every item of which
    /// the lengths are right, at any depth.
    pub fn skim(&mut self) -> Result<(), Fault> {
        let mut n_items = 1_u64;
        while n_items > 0 {
            let major = self.rest.first().ok_or(Fault::Truncated)? >> 5;
            let (_, argument) = self.any_argument()?;
            n_items -= 1;
            let inside = match major {
                2 | 3 => {
                    self.take(usize::try_from(argument).map_err(|_| Fault::LengthBeyondEnd)?)?;
                    0
                }
                4 => argument,
                5 => argument.saturating_mul(2),
                6 => 1,
                _ => 0,
            };
            n_items = n_items.saturating_add(inside);
        }
        Ok(())
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)
}

/// Checks the parts of a CID: version, codec, hash, and a digest of the length it states.
fn check_cid(cid: &[u8]) -> Result<(), Fault> {
    // Nearly all are SHA-256 of a record or of raw bytes.
    if let [1, 0x71 | 0x55, SHA2_256, SHA2_256_LEN, digest @ ..] = cid
        && digest.len() == usize::from(SHA2_256_LEN)
    {
        return Ok(());
    }
    let (version, rest) = varint(cid).ok_or(Fault::Cid)?;
    let (_codec, rest) = varint(rest).ok_or(Fault::Cid)?;
    let (_hash, rest) = varint(rest).ok_or(Fault::Cid)?;
    let (len, digest) = varint(rest).ok_or(Fault::Cid)?;
    if version != 1 || len > DIGEST_MAX || digest.len() < len as usize {
        return Err(Fault::Cid);
    }
    if digest.len() > len as usize {
        return Err(Fault::CidTooLong);
    }
    Ok(())
}

/// Reads an unsigned number in groups of seven bits, the lowest first, in its shortest form.
pub fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let group = u64::from(byte & 0x7f);
        if index == 9 && group > 1 {
            return None;
        }
        value |= group << (7 * index);
        if byte & 0x80 == 0 {
            let is_shortest = *byte != 0 || index == 0;
            return is_shortest.then(|| (value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn hex(digits: &str) -> Vec<u8> {
        HEXLOWER.decode(digits.replace(' ', "").as_bytes()).unwrap()
    }

    /// Reads one item with all that it contains, and nothing after it.
    fn check(bytes: &[u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(bytes);
        reader.walk(&mut Checked)?;
        reader.end()
    }

    /// An array in an array, and so on, around one item.
    fn nested(depth: usize) -> Vec<u8> {
        [vec![0x81; depth], vec![0]].concat()
    }

    #[test]
    fn items_are_read_in_their_shortest_form() {
        for (bytes, item) in [
            ("00", Item::Unsigned(0)),
            ("17", Item::Unsigned(23)),
            ("1818", Item::Unsigned(24)),
            ("190100", Item::Unsigned(256)),
            ("1a00010000", Item::Unsigned(1 << 16)),
            ("1b0000000100000000", Item::Unsigned(1 << 32)),
            ("1bffffffffffffffff", Item::Unsigned(u64::MAX)),
            ("20", Item::Negative(0)),
            ("3bffffffffffffffff", Item::Negative(u64::MAX)),
            ("4201ff", Item::Bytes(&[1, 0xff])),
            ("62c3a9", Item::Text("é")),
            ("6100", Item::Text("\0")),
            ("fb3ff8000000000000", Item::Float(1.5)),
            ("f4", Item::Bool(false)),
            ("f5", Item::Bool(true)),
            ("f6", Item::Null),
            ("d82a450001710000", Item::Link(&[1, 0x71, 0, 0])),
        ] {
            assert_eq!(Reader::new(&hex(bytes)).item(), Ok(item), "{bytes}");
            assert_eq!(check(&hex(bytes)), Ok(()), "{bytes}");
        }
    }

    #[test]
    fn every_violation_of_the_encoding_is_refused() {
        let long_digest = format!("d82a5846 0001711241 {}", "00".repeat(65));
        for (bytes, fault) in [
            ("", Fault::Truncated),
            ("18", Fault::Truncated),
            ("1900", Fault::Truncated),
            ("d8", Fault::Truncated),
            ("d82a", Fault::Truncated),
            ("fb00", Fault::Truncated),
            ("8100 00", Fault::TrailingBytes),
            ("1817", Fault::NotShortest),
            ("1900ff", Fault::NotShortest),
            ("1a0000ffff", Fault::NotShortest),
            ("1b00000000ffffffff", Fault::NotShortest),
            ("3800", Fault::NotShortest),
            ("580100", Fault::NotShortest),
            ("780161", Fault::NotShortest),
            ("980100", Fault::NotShortest),
            ("b801 6161 00", Fault::NotShortest),
            ("a1 780161 00", Fault::NotShortest),
            ("d9002a450001710000", Fault::NotShortest),
            ("1c", Fault::Indefinite),
            ("5f4100ff", Fault::Indefinite),
            ("7f6161ff", Fault::Indefinite),
            ("9f00ff", Fault::Indefinite),
            ("bf616100ff", Fault::Indefinite),
            ("ff", Fault::Indefinite),
            ("61ff", Fault::NotUtf8),
            ("63eda080", Fault::NotUtf8),
            ("a1 61ff 00", Fault::NotUtf8),
            ("a1 00 00", Fault::KeyNotText),
            ("a1 4161 00", Fault::KeyNotText),
            ("a2 6161 00 6161 00", Fault::KeyOrder),
            ("a2 6162 00 6161 00", Fault::KeyOrder),
            ("a2 626161 00 6162 00", Fault::KeyOrder),
            ("c000", Fault::Tag),
            ("c24101", Fault::Tag),
            ("d82b4100", Fault::Tag),
            ("d82a6100", Fault::Cid),
            ("d82a40", Fault::Cid),
            ("d82a4100", Fault::Cid),
            ("d82a4401710000", Fault::Cid),
            ("d82a450002710000", Fault::Cid),
            ("d82a450001711201", Fault::Cid),
            ("d82a46000181000000", Fault::Cid),
            (&long_digest, Fault::Cid),
            ("d82a46000171000000", Fault::CidTooLong),
            ("fb7ff8000000000000", Fault::Float),
            ("fb7ff0000000000000", Fault::Float),
            ("fbfff0000000000000", Fault::Float),
            ("f93c00", Fault::Float),
            ("fa3fc00000", Fault::Float),
            ("f7", Fault::Simple),
            ("e0", Fault::Simple),
            ("f818", Fault::Simple),
            ("5a7fffffff00", Fault::LengthBeyondEnd),
            ("7bffffffffffffffff", Fault::LengthBeyondEnd),
            ("9bffffffffffffffff00", Fault::LengthBeyondEnd),
            ("bbffffffffffffffff00", Fault::LengthBeyondEnd),
            ("a4 6161 00 6162 00", Fault::LengthBeyondEnd),
        ] {
            assert_eq!(check(&hex(bytes)), Err(fault), "{bytes}: {}", fault.as_str());
        }
    }

    #[test]
    fn a_cid_of_version_0_is_refused() {
        let cid = [&[0xd8, 0x2a, 0x58, 35, 0, 0x12, 0x20][..], &[7; 32]].concat();
        assert_eq!(check(&cid), Err(Fault::Cid));
    }

    #[test]
    fn keys_ascend_by_length_and_then_by_bytes() {
        assert_eq!(check(&hex("a3 617a 00 626161 00 626162 00")), Ok(()));
    }

    #[test]
    fn containers_nest_64_levels_and_no_more() {
        assert_eq!(check(&nested(DEPTH_MAX)), Ok(()));
        assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(Fault::TooDeep));
        let maps = [[0xa1, 0x60].repeat(DEPTH_MAX + 1), vec![0]].concat();
        assert_eq!(check(&maps), Err(Fault::TooDeep));
        assert_eq!(check(&[0x81; 1_000_000]), Err(Fault::TooDeep));
    }

    #[test]
    fn an_item_of_any_depth_and_fault_is_skimmed_to_its_end() {
        for bytes in [
            nested(100_000),
            hex("a2 61ff 1817 61ff d9002a4100"),
            hex("8263eda080fb7ff8000000000000"),
            hex("bb0000000000000001 00 f7"),
        ] {
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.skim().map(|()| reader.rest().len()), Ok(0), "{bytes:.20?}");
        }
        for endless in [
            hex("9bffffffffffffffff00"),
            hex("bbffffffffffffffff"),
            vec![0x81; 9],
            hex("9f00ff"),
        ] {
            assert!(Reader::new(&endless).skim().is_err(), "{endless:.20?}");
        }
    }

    #[test]
    fn a_varint_is_read_in_its_shortest_form_only() {
        assert_eq!(varint(&[0x00, 9]), Some((0, &[9][..])));
        assert_eq!(varint(&[0xf1, 0x01]), Some((241, &[][..])));
        let max = [[0xff; 9].as_slice(), &[0x01]].concat();
        assert_eq!(varint(&max), Some((u64::MAX, &[][..])));
        for bytes in [
            &[][..],
            &[0x80],
            &[0x80, 0x00],
            &[0xff; 11],
            &[[0xff; 9].as_slice(), &[2]].concat(),
        ] {
            assert_eq!(varint(bytes), None, "{bytes:?}");
        }
    }
}
