//! Splits the text of an address into parameters, with libpq's names.
//!
//! Owns both forms, a URL and key=value pairs. The parent module owns what a parameter means.
//!
//! Invariant: no error quotes a part of the text. If an unencoded character may have split a password, the result is an
//! error, and never an address that contains a part of the password.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use postgres::Config;

use super::ALLOWED;

/// The parameters of one address. If a parameter is given twice, the last one counts; an empty one counts as not given.
pub struct Parameters {
    values: BTreeMap<String, String>,
    /// The hosts and ports before a URL's path.
    pub authority: Config,
    /// Whether the address is a URL. Other programs share URLs and add parameters of their own.
    pub is_url: bool,
}

impl Parameters {
    /// # Errors
    ///
    /// Fails if the text has neither form. The error quotes nothing of it.
    pub fn parse(text: &str) -> Result<Parameters, String> {
        match text.split_once("://") {
            Some((scheme, rest)) if is_ours(scheme) => url(rest),
            // A driver's name in the scheme, another database's URL, or quotes around the URL. Key=value pairs do not
            // begin like that.
            Some((scheme, _)) if !scheme.contains('=') => Err(format!(
                "it does not begin with postgresql://; write that instead of postgresql+asyncpg:// or jdbc:postgresql://, \
                 and no quotes around it; {ALLOWED}"
            )),
            _ => key_value(text),
        }
    }

    pub fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name).filter(|value| !value.is_empty())
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.take(from) {
            self.values.insert(to.to_owned(), value);
        }
    }

    /// Removes the parameters with those names, and parses them with the postgres crate on top of `defaults`.
    pub fn take_config(&mut self, defaults: &str, names: &str) -> Result<Config, String> {
        let malformed = |name: &str| format!("the parameter {name} is malformed; {ALLOWED}");
        let mut text = defaults.to_owned();
        let mut config = text.parse().map_err(|_| malformed(names))?;
        for name in names.split(' ') {
            let Some(value) = self.take(name) else { continue };
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            text += &format!(" {name}='{quoted}'");
            config = text.parse().map_err(|_| malformed(name))?;
        }
        Ok(config)
    }

    /// The names of the parameters that were not removed.
    pub fn into_names(self) -> impl Iterator<Item = String> {
        self.values.into_keys()
    }
}

/// Accepts capitals: libpq does not, but drivers of other languages, which share the setting, do.
fn is_ours(scheme: &str) -> bool {
    ["postgresql", "postgres"]
        .iter()
        .any(|ours| scheme.eq_ignore_ascii_case(ours))
}

fn url(rest: &str) -> Result<Parameters, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains('@') || query.contains('@') {
        // The text before it would be parsed as a host and appear in error messages.
        return Err(
            "there is an @ after the host: in a password write / as %2F, ? as %3F and @ as %40; elsewhere write @ as %40 too"
                .to_owned(),
        );
    }
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let named = [("user", user), ("password", password), ("dbname", database)];
    let queried = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = BTreeMap::new();
    let given = named.into_iter().chain(queried).filter(|(_, value)| !value.is_empty());
    for (name, value) in given {
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| "a part of it is not UTF-8 once its percent signs are decoded")?;
        values.insert(name.to_owned(), value.into_owned());
    }
    let authority = format!("postgresql://{hosts}")
        .parse()
        .map_err(|_| format!("a host is malformed, or a port is not a number up to 65535; {ALLOWED}"))?;
    Ok(Parameters {
        values,
        authority,
        is_url: true,
    })
}

fn key_value(text: &str) -> Result<Parameters, String> {
    let mut values = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(neither)?;
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')) {
            return Err(neither());
        }
        let (value, after) = value(after.trim_start())?;
        values.insert(name.to_owned(), value);
        rest = after.trim_start();
    }
    Ok(Parameters {
        values,
        authority: Config::new(),
        is_url: false,
    })
}

fn neither() -> String {
    format!("it is neither a postgresql:// URL nor key=value pairs; quote values that contain spaces; {ALLOWED}")
}

/// Splits off a value, quoted or not, from the text after it.
fn value(text: &str) -> Result<(String, &str), String> {
    let is_quoted = text.starts_with('\'');
    let text = text.strip_prefix('\'').unwrap_or(text);
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Ok((value, &text[at + 1..])),
            _ if character.is_whitespace() && !is_quoted => return Ok((value, &text[at..])),
            _ => value.push(character),
        }
    }
    match is_quoted {
        true => Err("a quoted value does not end".to_owned()),
        false => Ok((value, "")),
    }
}
