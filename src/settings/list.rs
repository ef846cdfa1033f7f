//! Lists in settings: the list itself, or `@` and the name of a file with it.

/// A list, or the content of the file that `value` names after an `@`.
///
/// # Errors
///
/// Names the setting and the file if the file cannot be read or is empty.
pub fn list(variable: &str, value: &str) -> Result<String, String> {
    let Some(path) = value.strip_prefix('@') else {
        return Ok(value.to_owned());
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{variable} cannot be read from {path}: {error}"))?;
    match text.trim().is_empty() {
        // An empty list would mean what an unset one does.
        true => Err(format!("{variable} cannot be read from {path}: the file is empty")),
        false => Ok(text),
    }
}

/// The items of a list, which commas or white space separate.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|item| !item.is_empty())
}
