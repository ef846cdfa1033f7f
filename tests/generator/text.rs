//! Texts as people post them: several languages, of lifelike length, with emoji, links, mentions and tags.

use std::fmt::Write as _;

use fastrand::Rng;

use super::names::Names;

/// A language: its code, its likelihood in percent, what stands between words, and words.
struct Language {
    code: &'static str,
    percent: u32,
    separator: &'static str,
    words: &'static [&'static str],
}

#[rustfmt::skip]
const LANGUAGES: [Language; 6] = [
    Language { code: "en", percent: 56, separator: " ", words: &[
        "the", "of", "and", "a", "to", "in", "is", "that", "it", "was", "for", "on", "I", "with", "just", "this", "my",
        "have", "not", "so", "people", "about", "new", "today", "really", "think", "good", "morning", "coffee", "work",
        "still", "because", "what", "who", "when", "should've", "don't", "it's", "never", "always", "love", "music",
        "rain", "train", "late", "again", "photo", "book", "weekend", "\"finally\"", "weird", "cat", "garden", "game",
        "watching", "reading", "old", "friend", "tomorrow", "night", "beautiful", "nobody", "something", "internet",
    ] },
    Language { code: "ja", percent: 18, separator: "", words: &[
        "今日", "は", "の", "に", "を", "が", "です", "ます", "いい", "天気", "おはよう", "仕事", "終わった", "猫", "かわいい",
        "と", "も", "で", "ました", "ください", "ラーメン", "食べたい", "眠い", "新刊", "描いた", "イラスト", "明日", "雨", "、", "。",
    ] },
    Language { code: "pt", percent: 11, separator: " ", words: &[
        "de", "que", "não", "é", "eu", "um", "uma", "para", "com", "hoje", "muito", "gente", "aqui", "tá", "você", "mas",
        "já", "bom", "dia", "café", "música", "saudade", "coração", "então", "amanhã", "também", "nossa", "kkkkk",
    ] },
    Language { code: "de", percent: 6, separator: " ", words: &[
        "der", "die", "und", "ich", "nicht", "das", "ist", "ein", "heute", "schön", "Wetter", "für", "über", "Zug",
        "natürlich", "Katze", "Straße", "mal", "wieder", "Gespräch", "Frühstück", "gut", "morgen", "endlich", "Buch",
    ] },
    Language { code: "es", percent: 6, separator: " ", words: &[
        "de", "la", "que", "el", "en", "y", "no", "me", "hoy", "mañana", "qué", "más", "gracias", "siempre", "también",
        "niño", "corazón", "¿por", "qué?", "noche", "gente", "libro", "año", "feliz", "¡vamos!", "aquí", "cómo",
    ] },
    Language { code: "ko", percent: 3, separator: " ", words: &[
        "오늘", "진짜", "너무", "좋다", "고양이", "커피", "내일", "아침", "집에", "가고", "싶다", "그림", "그렸어요", "감사합니다", "ㅋㅋㅋ",
    ] },
];

const EMOJI: [&str; 12] = ["😂", "❤️", "🥹", "🔥", "👀", "✨", "🙏", "🌧️", "🐈‍⬛", "👩🏽‍💻", "🇧🇷", "🫠"];
const SITES: [&str; 6] = [
    "example.com",
    "news.example.org",
    "blog.example.net",
    "video.example",
    "shop.example.com",
    "wiki.example.org",
];

/// A text, its language, and its facets as the inside of a JSON array.
#[derive(Default)]
pub(crate) struct Text {
    pub(crate) plain: String,
    pub(crate) language: &'static str,
    pub(crate) facets: String,
}

/// What is to be linked inside the text.
#[derive(Clone, Copy, Default)]
pub(crate) struct Linked {
    pub(crate) mention: Option<u32>,
    pub(crate) link: bool,
    pub(crate) tag: bool,
}

impl Text {
    /// Makes up a new text in place of the old one.
    pub(crate) fn fill(&mut self, rng: &mut Rng, names: Names, max_chars: usize, linked: Linked) {
        self.plain.clear();
        self.facets.clear();
        if let Some(user) = linked.mention {
            self.mention(names, user);
        }
        let language = pick_language(rng);
        self.language = language.code;
        self.words(rng, language, max_chars);
        if linked.tag {
            self.tag(rng, language);
        }
        if linked.link {
            self.link(rng);
        }
    }

    fn words(&mut self, rng: &mut Rng, language: &Language, max_chars: usize) {
        // Half of all posts are short; a few use all that is allowed.
        let n_chars = 4 + (rng.f64().powi(2) * max_chars as f64) as usize;
        let mut n = 0;
        while n < n_chars {
            let word = language.words[rng.usize(..language.words.len())];
            self.plain.push_str(word);
            self.plain
                .push_str(if rng.u32(..40) == 0 { "\n\n" } else { language.separator });
            n += word.chars().count() + 1;
        }
        if language.separator == " " {
            self.plain.truncate(self.plain.trim_end().len());
        }
        for _ in 0..rng.u32(..8).saturating_sub(5) {
            self.plain.push_str(EMOJI[rng.usize(..EMOJI.len())]);
        }
    }

    fn mention(&mut self, names: Names, user: u32) {
        let start = self.plain.len();
        self.plain.push('@');
        names.push_handle(&mut self.plain, user);
        let end = self.plain.len();
        self.plain.push(' ');
        self.open_facet(start, end);
        self.facets
            .push_str(r#"{"$type":"app.bsky.richtext.facet#mention","did":""#);
        names.push_did(&mut self.facets, user);
        self.facets.push_str(r#""}]}"#);
    }

    fn tag(&mut self, rng: &mut Rng, language: &Language) {
        let tag = language.words[rng.usize(..language.words.len())].trim_matches(|c: char| !c.is_alphanumeric());
        if tag.is_empty() {
            return;
        }
        self.plain.push_str(" #");
        let start = self.plain.len() - 1;
        self.plain.push_str(tag);
        self.open_facet(start, self.plain.len());
        write!(
            self.facets,
            r#"{{"$type":"app.bsky.richtext.facet#tag","tag":"{tag}"}}]}}"#
        )
        .expect("a String");
    }

    fn link(&mut self, rng: &mut Rng) {
        let (site, page) = (SITES[rng.usize(..SITES.len())], rng.u32(..100_000));
        self.plain.push('\n');
        let start = self.plain.len();
        write!(self.plain, "{site}/{page}…").expect("a String");
        self.open_facet(start, self.plain.len());
        let feature = r#"{"$type":"app.bsky.richtext.facet#link","uri":"https://"#;
        write!(self.facets, r#"{feature}{site}/{page}/story"}}]}}"#).expect("a String");
    }

    /// Offsets are in bytes of UTF-8, as the lexicon has them.
    fn open_facet(&mut self, start: usize, end: usize) {
        if !self.facets.is_empty() {
            self.facets.push(',');
        }
        write!(
            self.facets,
            r#"{{"index":{{"byteStart":{start},"byteEnd":{end}}},"features":["#
        )
        .expect("a String");
    }
}

/// A link's address, as an external embed has it.
pub(crate) fn push_address(out: &mut String, rng: &mut Rng) {
    write!(
        out,
        "https://{}/{}/story",
        SITES[rng.usize(..SITES.len())],
        rng.u32(..100_000)
    )
    .expect("a String");
}

/// Appends the text as a JSON string, quotes and all.
pub(crate) fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn pick_language(rng: &mut Rng) -> &'static Language {
    let mut percent = rng.u32(..100);
    for language in &LANGUAGES {
        if percent < language.percent {
            return language;
        }
        percent -= language.percent;
    }
    &LANGUAGES[0]
}
