//! Which proxy the environment names, and whether downloads can go through it. A proxy that cannot be used must not
//! become a direct connection: whoever names one may have to, or may not want to be seen.

use std::ffi::OsStr;

use ureq::{Proxy, ProxyProtocol};

/// The variables that name a proxy, in the order in which they are looked at; the first that is set counts.
pub const VARIABLES: [&str; 6] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// A proxy that cannot be used. Its URL may hold a password, so it is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} names a proxy that palmfarm cannot use: {why}")]
pub struct BadProxy {
    pub variable: String,
    pub why: &'static str,
}

impl BadProxy {
    /// What the user can do.
    pub fn hint(&self) -> String {
        format!(
            "set {0} to http://HOST:PORT, or unset {0} to connect directly",
            self.variable
        )
    }
}

/// Whether downloads can go through the proxy that `variable` names.
///
/// # Errors
/// [`BadProxy`].
pub fn usable(variable: &str, value: &OsStr) -> Result<(), BadProxy> {
    let bad = |why| BadProxy {
        variable: variable.into(),
        why,
    };
    let value = value.to_str().ok_or_else(|| bad("its URL is not UTF-8"))?;
    let proxy = Proxy::new(value).map_err(|_| bad("it is not the URL of a proxy"))?;
    let Some(place) = proxy.uri().authority() else {
        return Err(bad("it has no host"));
    };
    let after_host = place.as_str().rsplit(['@', ']']).next().unwrap_or_default();
    if place.host().is_empty() || (after_host.contains(':') && place.port_u16().is_none()) {
        return Err(bad("it has no host, or what follows the host is not a port"));
    }
    match proxy.protocol() {
        ProxyProtocol::Http | ProxyProtocol::Https => Ok(()),
        _ => Err(bad("it is a SOCKS proxy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_used_or_refused() {
        let check = |value: &str| usable("HTTPS_PROXY", OsStr::new(value)).map_err(|bad| bad.to_string());
        for good in [
            "http://proxy:3128",
            "https://me:pass@proxy",
            "http://[::1]:3128",
            "proxy:8080",
            "proxy.example.net",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "socks5://me:pass@proxy:1080",
            "ftp://me:pass@proxy",
            "http://me:pass@",
            "http://me:pass@proxy:x",
        ] {
            let error = check(bad).unwrap_err();
            assert!(
                error.starts_with("HTTPS_PROXY names a proxy") && !error.contains("pass"),
                "{error}"
            );
        }
    }
}
