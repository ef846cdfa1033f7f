//! The page itself, and the policy that keeps a browser from running anything else.

use std::sync::Arc;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

/// One file without external parts.
const HTML: &str = include_str!("page.html");

/// The page, and its Content-Security-Policy.
pub struct Html {
    pub text: Arc<str>,
    pub policy: Arc<str>,
}

impl Html {
    pub fn new() -> Html {
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hash(inside("script")),
            hash(inside("style"))
        );
        Html {
            text: HTML.into(),
            policy: policy.into(),
        }
    }
}

/// What is inside the page's element of that name, which has no attributes.
fn inside(element: &str) -> &'static str {
    let start = format!("<{element}>");
    let inside = HTML.split_once(&start).and_then(|(_, rest)| rest.split_once("</"));
    inside.map_or("", |(inside, _)| inside)
}

/// The hash of a script or style sheet, as a policy names it.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_has_no_external_part() {
        assert!(HTML.len() < 40_000, "{} bytes", HTML.len());
        for part in ["src=", "@import", "url(", "<link rel=\"stylesheet"] {
            assert!(!HTML.contains(part), "{part}");
        }
        let links: Vec<&str> = HTML
            .split("href=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let is_own = |link: &&str| link.starts_with("data:") || link.starts_with('/');
        assert!(links.iter().all(is_own), "{links:?}");
    }

    #[test]
    fn the_page_has_one_script_and_one_style_and_no_inline_handlers() {
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(inside(element).len() > 1000, "{element}");
        }
        let markup = HTML.replace(inside("script"), "").replace(inside("style"), "");
        let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!markup.split_whitespace().any(is_handler), "an inline handler");
        assert!(!markup.contains("style="), "an inline style");
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
        ] {
            assert!(!HTML.contains(sink), "{sink}");
        }
    }

    #[test]
    fn the_policy_allows_the_pages_own_script_and_style_alone() {
        let policy = Html::new().policy;
        assert!(
            policy.starts_with("default-src 'none'; script-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
