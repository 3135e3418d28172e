//! URLs, as far as following redirects needs them: where one leads, and that none leads from https to http. Pure.

use crate::sha256::Sha256Sum;
use crate::text::shown_url;

use super::DownloadError;

/// The longest URL, in bytes; servers refuse longer ones.
const LONGEST: usize = 4096;

/// An `http` or `https` URL without user, password or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: &'static str,
    /// Host and port.
    authority: String,
    /// Path and query, `/` at least.
    path: String,
}

impl Url {
    /// Parse `text`.
    pub fn parse(text: &str) -> Result<Self, DownloadError> {
        let bad = |why| DownloadError::Url {
            url: shown(text),
            why,
        };
        if text.len() > LONGEST {
            return Err(bad("it is too long"));
        }
        if text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii())
        {
            return Err(bad("it contains a character that must be percent-encoded"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => "https",
            "http" => "http",
            _ => return Err(bad("only http and https are supported")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(bad("it contains a user name or password"));
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(bad("it has no host"));
        }
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            scheme,
            authority: authority.to_ascii_lowercase(),
            path,
        })
    }

    /// Where a redirect from here to `location` leads (RFC 3986, section 5.2, without dot segments, which servers
    /// resolve themselves).
    pub fn follow(&self, location: &str) -> Result<Self, DownloadError> {
        let location = location.trim();
        let (scheme, authority) = (self.scheme, &self.authority);
        let target = Self::parse(&if location.contains("://") {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else {
            let folder = self.path.split('?').next().unwrap_or_default();
            let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        })?;
        if self.scheme == "https" && target.scheme == "http" {
            return Err(DownloadError::Downgrade {
                from: self.to_string(),
                to: target.to_string(),
            });
        }
        Ok(target)
    }

    /// All of it, for a request. It may hold a token: messages show it as it is displayed.
    pub(super) fn as_requested(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path)
    }

    /// Whether nobody on the way can change the file.
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown_url(&self.as_requested()))
    }
}

/// The prefix of files that came from a URL.
pub(super) const CACHED: &str = "url-";

/// The name in the cache of the file behind a URL: a digest that tells URLs apart, and the file's own name for people.
pub fn cached_name(url: &Url) -> String {
    let digest = Sha256Sum::of(url.as_requested().as_bytes()).to_string();
    let (digest, _) = digest.split_at(16);
    let path = url.path.split('?').next().unwrap_or_default();
    let name: String = path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+'))
        .take(100)
        .collect();
    format!("{CACHED}{digest}-{}", name.trim_start_matches('.'))
}

/// A URL as it may be shown, and shortened.
fn shown(text: &str) -> String {
    shown_url(text)
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(from: &str, location: &str) -> Result<String, String> {
        let from = Url::parse(from).unwrap();
        from.follow(location)
            .map(|to| to.as_requested())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn redirects_lead_where_they_say_but_never_out_of_https() {
        let from = "https://a.example/x/y.img?q=1";
        assert_eq!(
            leads(from, "https://b.example/z"),
            Ok("https://b.example/z".into())
        );
        assert_eq!(leads(from, "/z"), Ok("https://a.example/z".into()));
        assert_eq!(leads(from, "z"), Ok("https://a.example/x/z".into()));
        assert_eq!(leads(from, "//c.example/z#f"), Ok("https://c.example/z".into()));
        assert!(leads(from, "http://a.example/z")
            .unwrap_err()
            .contains("leads to http"));
        assert!(leads(from, "ftp://a.example/z").is_err());
        assert_eq!(
            leads("http://a.example", "https://a.example"),
            Ok("https://a.example/".into())
        );
        assert_eq!(
            leads("http://a.example:8080/x", "z"),
            Ok("http://a.example:8080/z".into())
        );
    }

    #[test]
    fn bad_urls_are_refused_and_no_password_is_shown() {
        for bad in [
            "",
            "x",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://a b/",
            "https://ä.example/",
            "https://:80/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        let error = Url::parse("https://user:secret@a.example/x")
            .unwrap_err()
            .to_string();
        assert!(!error.contains("secret"), "{error}");
        for token in [
            "ftp://a.example/x?token=secret",
            "https://a.example/ä?token=secret",
        ] {
            let error = Url::parse(token).unwrap_err().to_string();
            assert!(
                error.contains("a.example/") && !error.contains("secret"),
                "{error}"
            );
        }
        let url = Url::parse("https://a.example/x?token=secret").unwrap();
        assert_eq!(url.to_string(), "https://a.example/x?…");
        assert!(Url::parse(&format!("https://a/{}", "x".repeat(5000))).is_err());
    }

    #[test]
    fn names_in_the_cache_stay_in_it() {
        for path in ["/../../etc/passwd", "/..", "/.hidden", "/a%2Fb", "/"] {
            let name = cached_name(&Url::parse(&format!("https://a.example{path}")).unwrap());
            assert!(
                name.starts_with("url-") && !name.contains('/') && !name.contains(".."),
                "{name}"
            );
        }
        let one = cached_name(&Url::parse("https://a.example/x.img.xz").unwrap());
        let two = cached_name(&Url::parse("https://b.example/x.img.xz").unwrap());
        assert!(one.ends_with("-x.img.xz") && one != two);
    }
}
