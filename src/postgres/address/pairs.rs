//! The text of an address → its parameters, as libpq names them.
//!
//! Owns both forms, a URL and key=value pairs. What a parameter means is the parent's.
//!
//! Invariant: no error holds a piece of the text, and where a character that was not encoded may have cut a password in
//! two, there is an error, not an address of which a part is the password.

use percent_encoding::percent_decode_str;

use super::ALLOWED;

/// Name and value, in the text's order.
pub type Pairs = Vec<(String, String)>;

/// How the parameters were written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Which other programs share, and add parameters of their own to.
    Url,
    KeyValue,
}

/// The parameters in a text.
///
/// # Errors
///
/// Why it is of neither form; holds nothing of it.
pub fn parse(text: &str) -> Result<(Pairs, Form), String> {
    match text.split_once("://") {
        Some((scheme, rest)) if is_ours(scheme) => Ok((url(rest)?, Form::Url)),
        // A driver's name in the scheme, another database's URL, quotes around it: no pair begins like that.
        Some((scheme, _)) if !scheme.contains('=') => Err(format!(
            "it does not begin with postgresql://; write that instead of postgresql+asyncpg:// or jdbc:postgresql://, and no \
             quotes around it; {ALLOWED}"
        )),
        _ => Ok((key_value(text)?, Form::KeyValue)),
    }
}

/// libpq takes no capitals; the drivers of other languages, which share the setting, do.
fn is_ours(scheme: &str) -> bool {
    ["postgresql", "postgres"]
        .iter()
        .any(|ours| scheme.eq_ignore_ascii_case(ours))
}

fn url(rest: &str) -> Result<Pairs, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains('@') || query.contains('@') {
        // What stands before it would be taken for a host, and be said in errors.
        return Err(
            "there is an @ after the host: in a password / is to be written %2F, ? %3F and @ %40, elsewhere @ is %40 too"
                .to_owned(),
        );
    }
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (names, ports) = split_hosts(hosts);
    let named = [
        ("user", user),
        ("password", password),
        ("dbname", database),
        ("host", &names),
        ("port", &ports),
    ];
    let asked = query.split('&').filter(|pair| !pair.is_empty());
    let asked = asked.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs = Pairs::new();
    for (name, value) in named.into_iter().chain(asked) {
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| "a part of it is not UTF-8 once its percent signs are decoded")?;
        if !value.is_empty() {
            pairs.push((name.to_owned(), value.into_owned()));
        }
    }
    Ok(pairs)
}

/// Hosts and ports, each with commas between them, as key=value pairs have them.
fn split_hosts(hosts: &str) -> (String, String) {
    let split = |host: &str| match host.rsplit_once(':') {
        // An IPv6 address stands in brackets, which the key=value form does not have.
        Some((name, port)) if !port.contains(']') => (name.to_owned(), port.to_owned()),
        _ => (host.to_owned(), "5432".to_owned()),
    };
    let unbracketed = |name: String| name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (names, ports): (Vec<_>, Vec<_>) = hosts.split(',').map(split).unzip();
    if hosts.is_empty() {
        return (String::new(), String::new());
    }
    let names: Vec<String> = names.into_iter().map(unbracketed).collect();
    (names.join(","), ports.join(","))
}

fn key_value(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(neither)?;
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')) {
            return Err(neither());
        }
        let (value, after) = value(after.trim_start())?;
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

fn neither() -> String {
    format!("it is neither a postgresql:// URL nor key=value pairs; a value with blanks stands in quotes; {ALLOWED}")
}

/// A value, quoted or not, and what follows it.
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
    if is_quoted {
        return Err("a quoted value does not end".to_owned());
    }
    Ok((value, ""))
}
