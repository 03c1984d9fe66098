//! Secrets never reach a terminal or a log.

use std::sync::LazyLock;

use regex::Regex;

use super::problem::Snippet;

pub(super) const MASK: &str = "***";

/// What gives a secret away in a line that was never read as settings, because it could not be.
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r#"://[^:/@\s"']*:(?<secret>[^\s"']+)@"#,
        r#"(?i)(?:passw|passphrase|secret|token|\bpem\b|key\.pem)[\w.-]*["']?\s*[:=]\s*(?<secret>"[^"]*"?|'[^']*'?|[^\s,}]+)"#,
    ]
    .into_iter()
    .filter_map(|pattern| Regex::new(pattern).ok())
    .collect()
});

/// Whether the value of this key is a secret, by its name.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["password", "passphrase", "secret", "token", "key.pem", "ssl_key", "sasl.jaas.config", "sasl.oauthbearer.config", "private.key.pem"]
        .iter()
        // `sasl.oauthbearer.token.endpoint.url` only names where tokens come from.
        .any(|word| key.contains(word) && !key.ends_with("endpoint.url"))
}

/// A database's address without its password.
pub(super) fn url(url: &str) -> String {
    let mut masked = url.to_owned();
    let authority = masked.find("://").map_or(0, |at| at + 3);
    // Up to the last `@`: a password that was not percent-encoded may hold one.
    if let Some(at) = masked.rfind('@')
        && let Some(colon) = masked.get(authority..at).and_then(|user| user.find(':'))
    {
        masked.replace_range(authority + colon + 1..at, MASK);
    }
    if let Some((before, query)) = masked.split_once('?') {
        let query: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) if is_secret(name) => format!("{name}={MASK}"),
                _ => pair.to_owned(),
            })
            .collect();
        return format!("{before}?{}", query.join("&"));
    }
    masked
}

/// A line with the hidden stretches (characters from 0) replaced, and the marks moved accordingly.
pub(super) fn snippet(line: &str, from: usize, to: usize, hidden: &[(usize, usize)]) -> Snippet {
    let characters: Vec<char> = line.trim_end().chars().collect();
    let mut secret = vec![false; characters.len()];
    let mut hide = |from: usize, to: usize| secret.iter_mut().take(to).skip(from).for_each(|secret| *secret = true);
    hidden.iter().for_each(|(from, to)| hide(*from, *to));
    for found in PATTERNS.iter().flat_map(|pattern| pattern.captures_iter(line)).filter_map(|captures| captures.name("secret")) {
        // A variable is no secret, its value is.
        if !found.as_str().trim_matches(['"', '\'']).starts_with("${") {
            let start = line.get(..found.start()).unwrap_or_default().chars().count();
            hide(start, start + found.as_str().chars().count());
        }
    }
    let mut snippet = Snippet { text: String::new(), indent: 0, width: 0 };
    let mut previous = false;
    for (position, (character, secret)) in characters.into_iter().zip(secret).enumerate() {
        let shown = match (secret, previous) {
            (true, true) => String::new(),
            (true, false) => MASK.to_owned(),
            (false, _) if character.is_control() => " ".to_owned(),
            (false, _) => character.to_string(),
        };
        previous = secret;
        let length = shown.chars().count();
        if position < from {
            snippet.indent += length;
        } else if position < to {
            snippet.width += length;
        }
        snippet.text += &shown;
    }
    snippet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_loses_its_password_only() {
        for (given, expected) in [
            ("postgres://app:geheim@db:5432/shop", "postgres://app:***@db:5432/shop"),
            ("postgres://app:ge:h@/eim@db/shop?sslmode=require", "postgres://app:***@db/shop?sslmode=require"),
            ("postgres://db/shop?user=app&password=geheim", "postgres://db/shop?user=app&password=***"),
            ("postgres://app@db/shop", "postgres://app@db/shop"),
            ("sqlite:orders.db", "sqlite:orders.db"),
        ] {
            assert_eq!(url(given), expected);
        }
    }

    #[test]
    fn the_marks_stay_under_what_they_mark() {
        let snippet = snippet("{ password: geheim, tabel: x }", 20, 25, &[]);
        assert_eq!(snippet, Snippet { text: "{ password: ***, tabel: x }".to_owned(), indent: 17, width: 5 });
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for key in ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "ssl.key.password"] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["ssl.ca.location", "sasl.username", "sasl.oauthbearer.token.endpoint.url"] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
