//! The two addresses that contain passwords.
//!
//! Owns where each comes from: its variable, a file named by another variable, or systemd's credentials directory. No
//! message of this module quotes a value.

use std::fs;
use std::path::{Path, PathBuf};

/// The possible sources of an address.
pub struct Secret<'a> {
    pub variable: &'static str,
    pub value: &'a str,
    /// The path in the variable with the suffix `_FILE`.
    pub file: &'a str,
    /// systemd's credentials directory, in which the file has the variable's name in lower case.
    pub credentials: Option<&'a Path>,
}

impl Secret<'_> {
    /// The address; `None` if no source has one.
    ///
    /// # Errors
    ///
    /// Fails if both the variable and the file are set, or if the file is unreadable or empty.
    pub fn read(&self) -> Result<Option<String>, String> {
        let (value, file) = (self.value.trim(), self.file.trim());
        match (value.is_empty(), file.is_empty()) {
            (false, false) => Err(format!(
                "{0} and {0}_FILE are both set; unset one of them",
                self.variable
            )),
            (false, true) => Ok(Some(value.to_owned())),
            (true, false) => self.read_file(Path::new(file)).map(Some),
            (true, true) => self.credential().map(|path| self.read_file(&path)).transpose(),
        }
    }

    fn credential(&self) -> Option<PathBuf> {
        let path = self.credentials?.join(self.variable.to_ascii_lowercase());
        path.exists().then_some(path)
    }

    fn read_file(&self, path: &Path) -> Result<String, String> {
        let unusable = |reason: &str| format!("{} cannot be read from {}: {reason}", self.variable, path.display());
        let text = fs::read_to_string(path).map_err(|error| unusable(&error.to_string()))?;
        match text.trim() {
            "" => Err(unusable("the file is empty")),
            text => Ok(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_the_file_and_the_credential_are_looked_at_in_this_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        fs::write(&file, "from the file\n").unwrap();
        fs::write(folder.path().join("redis_url"), "from the credential\n").unwrap();
        let file = file.to_str().unwrap();
        let read = |value, file| {
            let secret = Secret {
                variable: "REDIS_URL",
                value,
                file,
                credentials: Some(folder.path()),
            };
            secret.read()
        };
        assert_eq!(read("from the variable", ""), Ok(Some("from the variable".to_owned())));
        assert_eq!(read("", file), Ok(Some("from the file".to_owned())));
        assert_eq!(read(" ", " "), Ok(Some("from the credential".to_owned())));
        assert!(read("redis://:hunter2@h", file).is_err_and(|reason| !reason.contains("hunter2")));
        assert!(read("", "/not/there").is_err_and(|reason| reason.contains("/not/there")));
    }
}
