//! A file of settings, in the format of systemd's EnvironmentFile=.
//!
//! Owns the format, and the file that commands read by default. `cli` owns the meaning of the variables.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;
use std::{env, fs};

use clap::{ArgMatches, Command};

use crate::logging::stderr;

/// The file with the settings of the worker's unit, as the package and the README place it.
pub const DEFAULT: &str = "/etc/default/firehose-worker";

/// The file with the settings of the consumer's unit.
const CONSUMER: &str = "/etc/default/firehose-consumer";

/// If any of these is in the environment, the caller has chosen the servers, and the unit's settings are not used.
const ADDRESSES: [&str; 5] = [
    "REDIS_URL",
    "REDIS_URL_FILE",
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "CREDENTIALS_DIRECTORY",
];

/// The contents of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    pub variables: HashMap<String, String>,
    /// Warnings about malformed lines. They quote no values.
    pub warnings: Vec<String>,
    /// The numbers of the lines that begin with `export`, which systemd ignores.
    pub exports: Vec<usize>,
    /// The path of the file; empty if none was read.
    pub path: PathBuf,
}

impl EnvFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn read(path: &Path) -> Result<EnvFile, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(EnvFile {
            path: path.to_owned(),
            ..parse(&text)
        })
    }

    /// Whether this is the file with a unit's settings.
    pub fn is_of_unit(&self) -> bool {
        [DEFAULT, CONSUMER].iter().any(|path| self.path == Path::new(path))
    }

    /// Whether the file or, instead of it, the environment sets the variable. An empty value counts as unset.
    pub fn sets(&self, variable: &str) -> bool {
        is_set(variable) || self.variables.get(variable).is_some_and(|value| !value.is_empty())
    }

    /// Parses the command line. Flags and the environment override the file's values.
    ///
    /// # Errors
    ///
    /// Fails if clap rejects the command line.
    pub fn matches(&self, command: Command) -> clap::error::Result<ArgMatches> {
        self.with_defaults(command).try_get_matches()
    }

    /// The command, whose arguments have the variables of the file as their defaults, and so have its subcommands'.
    pub fn with_defaults(&self, mut command: Command) -> Command {
        let names: Vec<_> = command
            .get_arguments()
            .map(|argument| argument.get_id().clone())
            .collect();
        for name in names {
            command = command.mut_arg(name, |argument| {
                let variable = argument.get_env().and_then(|name| name.to_str()).map(str::to_owned);
                let value = variable.as_ref().and_then(|name| self.variables.get(name));
                match (variable.as_deref(), value) {
                    (Some(variable), Some(value)) => {
                        let argument = argument.default_value(value.clone());
                        // An empty variable counts as unset.
                        if is_set(variable) {
                            argument
                        } else {
                            argument.env(None::<&'static str>)
                        }
                    }
                    _ => argument,
                }
            });
        }
        command.mut_subcommands(|subcommand| self.with_defaults(subcommand))
    }
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Whether the caller names servers in the environment.
pub fn names_servers() -> bool {
    ADDRESSES.iter().any(|variable| is_set(variable))
}

/// The settings of the worker's unit, for a caller that names no servers.
pub fn of_the_unit() -> EnvFile {
    match names_servers() {
        true => EnvFile::default(),
        false => read_default(DEFAULT).unwrap_or_default(),
    }
}

/// The settings of the consumer's unit. `None` if this user may not read them.
pub fn of_the_consumers_unit() -> Option<EnvFile> {
    read_default(CONSUMER)
}

/// Reads a unit's file, which need not exist, and reports on standard error that it is used. `None` if this user may
/// not read it.
fn read_default(path: &str) -> Option<EnvFile> {
    match fs::read_to_string(path) {
        Ok(text) => {
            stderr::print(&format!("using the settings in {path}"));
            Some(EnvFile {
                path: path.into(),
                ..parse(&text)
            })
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            stderr::print(&format!(
                "this user may not read {path}, so its settings are not used: try sudo"
            ));
            None
        }
        Err(_) => Some(EnvFile::default()),
    }
}

fn parse(text: &str) -> EnvFile {
    let mut file = EnvFile::default();
    let mut rest = text.chars().peekable();
    let mut line = 1;
    while rest.peek().is_some() {
        let begin = line;
        skip_blanks(&mut rest);
        match rest.peek() {
            Some('#' | ';') => while rest.next_if(|next| *next != '\n').is_some() {},
            Some('\n') | None => {}
            Some(_) => file.parse_assignment(begin, &mut rest, &mut line),
        }
        rest.next();
        line += 1;
    }
    file
}

fn skip_blanks(rest: &mut Peekable<Chars>) {
    while rest.next_if(|next| is_blank(*next)).is_some() {}
}

/// Includes the carriage return, with which lines of files from Windows end.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r')
}

impl EnvFile {
    /// Parses one assignment, up to the end of its last line.
    fn parse_assignment(&mut self, begin: usize, rest: &mut Peekable<Chars>, line: &mut usize) {
        let mut name = String::new();
        while let Some(next) = rest.next_if(|next| !matches!(next, '=' | '\n')) {
            name.push(next);
        }
        if rest.next_if_eq(&'=').is_none() {
            self.warnings
                .push(format!("line {begin} is not NAME=value and is ignored"));
            return;
        }
        let mut name = name.trim();
        if let Some(exported) = name.strip_prefix("export ") {
            self.warnings.push(format!(
                "line {begin} begins with export, so systemd ignores it: remove the word"
            ));
            self.exports.push(begin);
            name = exported.trim();
        }
        let value = value(rest, line);
        self.variables.insert(name.to_owned(), value);
    }
}

/// Parses a value up to the end of its line. A quote opens quoted text at the start of the value or after other quoted
/// text. Quoted text is kept as it is, and blanks between quoted parts are dropped. After unquoted text, a quote is an
/// ordinary character.
fn value(rest: &mut Peekable<Chars>, line: &mut usize) -> String {
    let mut value = String::new();
    loop {
        skip_blanks(rest);
        match rest.next_if(|next| matches!(next, '"' | '\'')) {
            Some(quote) => take_quoted(quote, rest, line, &mut value),
            None => break,
        }
    }
    take_unquoted(rest, line, &mut value);
    value
}

/// Reads up to the closing quote, across lines.
fn take_quoted(quote: char, rest: &mut Peekable<Chars>, line: &mut usize, value: &mut String) {
    while let Some(next) = rest.next() {
        *line += usize::from(next == '\n');
        match next {
            _ if next == quote => return,
            '\\' if quote == '"' => {
                let Some(escaped) = rest.next() else { return };
                *line += usize::from(escaped == '\n');
                let stays = !matches!(escaped, '"' | '\\' | '$' | '`' | '\n');
                value.extend(stays.then_some('\\'));
                value.extend((escaped != '\n').then_some(escaped));
            }
            _ => value.push(next),
        }
    }
}

/// Reads up to the end of the line, without trailing blanks, unless they are escaped.
fn take_unquoted(rest: &mut Peekable<Chars>, line: &mut usize, value: &mut String) {
    let mut kept = value.len();
    while let Some(next) = rest.next_if(|next| *next != '\n') {
        if next == '\\' {
            let Some(escaped) = rest.next() else { break };
            *line += usize::from(escaped == '\n');
            value.extend((escaped != '\n').then_some(escaped));
            kept = value.len();
        } else {
            value.push(next);
            if !is_blank(next) {
                kept = value.len();
            }
        }
    }
    value.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(text: &str) -> Vec<(String, String)> {
        let mut variables: Vec<_> = parse(text).variables.into_iter().collect();
        variables.sort();
        variables
    }

    #[test]
    fn values_are_those_that_systemd_reads() {
        for (line, value) in [
            ("A=b", "b"),
            ("  A = b c \t", "b c"),
            ("A=", ""),
            ("A='b # \"c\"' ", "b # \"c\""),
            ("A=\"b \\\" \\$ \\x \"", "b \" $ \\x "),
            ("A=redis://u:p=q#1@h", "redis://u:p=q#1@h"),
            ("A=b\\\nc", "bc"),
            ("A=b\\ ", "b "),
            ("A='b\nc'", "b\nc"),
            ("A='b", "b"),
            ("A=\"b\\\nc\"", "bc"),
            ("A=b  \\\n  c  ", "b    c"),
            // A quote opens quoted text only at the start or after other quoted text.
            ("A=x'y z'", "x'y z'"),
            ("A='b' c", "bc"),
            ("A='b' 'c d' ", "bc d"),
            ("A='b'c'd'", "bc'd'"),
            ("A=\"b\"'c' d \"e\" ", "bcd \"e\""),
            ("A='b'\\ c", "b c"),
            ("A=  \"\"  b\r\n", "b"),
            (
                "A=host=/run/postgresql password='a b'",
                "host=/run/postgresql password='a b'",
            ),
            ("A=postgresql://me:it's@h/db", "postgresql://me:it's@h/db"),
        ] {
            assert_eq!(variables(line), [("A".to_owned(), value.to_owned())], "{line:?}");
        }
        assert_eq!(variables("A=it's\nB=1").len(), 2);
        assert_eq!(variables("#A=1\n;A=2\n\n  # A=3\nA=4\n").len(), 1);
    }

    #[test]
    fn warnings_number_the_lines_with_export_or_without_a_value() {
        let file = parse("A='1\n2'\nexport B=3\nhunter2\nC=4");
        assert_eq!(file.variables.len(), 3);
        assert_eq!(file.variables["B"], "3");
        assert_eq!(file.exports, [3]);
        let warnings = file.warnings.join("\n");
        assert!(warnings.contains("line 3 begins with export"), "{warnings}");
        assert!(warnings.contains("line 4 is not NAME=value"), "{warnings}");
        assert!(!warnings.contains("hunter2"), "{warnings}");
    }
}
