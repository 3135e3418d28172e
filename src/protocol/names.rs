//! Which texts are names of hosts, containers, interfaces, users, packages and locales. Each rule says in its error why a
//! text is not one, as the end of the sentence "… is not …: ".

/// A rule: `Ok`, or why not.
pub type Rule = fn(&str) -> Result<(), String>;

/// A host name of one label: letters, digits and inner hyphens, at most 63 (RFC 1123, section 2.1).
///
/// # Errors
/// Why not.
pub fn hostname(text: &str) -> Result<(), String> {
    label(text)?;
    if text.eq_ignore_ascii_case("localhost") {
        return Err("every host uses it for itself".into());
    }
    Ok(())
}

/// A domain name: labels with dots, at most 253 bytes, a dot at the end allowed (RFC 1035, section 2.3.4).
///
/// # Errors
/// Why not.
pub fn domain(text: &str) -> Result<(), String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.len() > 253 {
        return Err(format!("it has {} bytes, and 253 is the most", text.len()));
    }
    text.split('.')
        .try_for_each(|part| label(part).map_err(|why| format!("in its part {part:?}, {why}")))
}

/// A container's name: what LXD and Incus take, 1 to 63 letters, digits and hyphens, no digit or hyphen in front, no hyphen at
/// the end (LXD's documentation, "Instance properties").
///
/// # Errors
/// Why not.
pub fn container(text: &str) -> Result<(), String> {
    hostname(text)?;
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("it starts with a digit".into());
    }
    Ok(())
}

/// An interface's name: 1 to 15 bytes (`IFNAMSIZ` is 16 with the NUL; `dev_valid_name` in Linux net/core/dev.c).
/// The kernel takes more characters than unit files and ifupdown do; here are those that all three take.
///
/// # Errors
/// Why not.
pub fn interface(text: &str) -> Result<(), String> {
    length(text, 15)?;
    characters(text, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
    })?;
    if matches!(text, "." | ".." | "all" | "default" | "lo") {
        return Err("the kernel keeps that name for itself".into());
    }
    if text.starts_with('-') {
        return Err("it starts with a hyphen, which programs take for an option".into());
    }
    Ok(())
}

/// A login name: what `useradd` takes on Debian and Ubuntu without being forced, 1 to 32 lower-case letters, digits, `_` and
/// `-`, a letter or `_` in front (useradd(8), "CAVEATS").
///
/// # Errors
/// Why not.
pub fn user(text: &str) -> Result<(), String> {
    length(text, 32)?;
    characters(text, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')
    })?;
    if !text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_') {
        return Err("it starts with neither a lower-case letter nor an underscore".into());
    }
    Ok(())
}

/// A login shell: an absolute path that passwd(5) can hold.
///
/// # Errors
/// Why not.
pub fn shell(text: &str) -> Result<(), String> {
    absolute_path(text)?;
    characters(text, |c| c.is_ascii_graphic() && c != ':')
}

/// The comment of an account: one field of passwd(5).
///
/// # Errors
/// Why not.
pub fn gecos(text: &str) -> Result<(), String> {
    if text.contains(':') {
        return Err("it holds a colon, which ends the field in /etc/passwd".into());
    }
    length(text, 200)
}

/// Name, architecture and version of `NAME[:ARCHITECTURE][=VERSION]`, as apt-get(8) takes them.
pub fn package_parts(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, version) = text
        .split_once('=')
        .map_or((text, None), |(rest, version)| (rest, Some(version)));
    let (name, architecture) = rest
        .split_once(':')
        .map_or((rest, None), |(name, architecture)| (name, Some(architecture)));
    (name, architecture, version)
}

/// A Debian package, perhaps with an architecture or a version: `nginx`, `libc6:armhf`, `nginx=1.18.0-0ubuntu1`
/// (Debian Policy, section 5.6.1). apt-get reads a hyphen at the end as "remove".
///
/// # Errors
/// Why not.
pub fn package(text: &str) -> Result<(), String> {
    let (name, architecture, version) = package_parts(text);
    if name.len() < 2 {
        return Err("a package's name has two characters or more".into());
    }
    length(name, 200)?;
    characters(name, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.')
    })?;
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err("it does not start with a letter or digit".into());
    }
    if name.ends_with('-') {
        return Err("apt-get takes a hyphen at the end as an order to remove the package".into());
    }
    if let Some(architecture) = architecture {
        length(architecture, 32)?;
        characters(architecture, |c| c.is_ascii_alphanumeric() || c == '-')?;
        if matches!(architecture, "any" | "native" | "all") {
            return Err(format!(
                "{architecture} is not an architecture such as armhf or arm64"
            ));
        }
    }
    if let Some(version) = version {
        length(version, 200)?;
        characters(version, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '~' | ':')
        })?;
    }
    Ok(())
}

/// A snap's name: 1 to 40 lower-case letters, digits and inner hyphens, a letter among them (snapd's `snap/naming`).
///
/// # Errors
/// Why not.
pub fn snap(text: &str) -> Result<(), String> {
    length(text, 40)?;
    characters(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?;
    if text.starts_with('-') || text.ends_with('-') {
        return Err("it starts or ends with a hyphen".into());
    }
    if !text.contains(|c: char| c.is_ascii_lowercase()) {
        return Err("it has no letter".into());
    }
    Ok(())
}

/// A channel of a snap, with its track: `5.21/stable` (snapd's documentation, "Channels and tracks").
///
/// # Errors
/// Why not.
pub fn channel(text: &str) -> Result<(), String> {
    let Some((track, risk)) = text.split_once('/') else {
        return Err("it has no slash between track and risk, as in 5.21/stable".into());
    };
    length(track, 64)?;
    characters(track, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
    })?;
    if ["stable", "candidate", "beta", "edge"].contains(&risk) {
        Ok(())
    } else {
        Err("after the slash comes stable, candidate, beta or edge".into())
    }
}

/// A locale: `en_GB.UTF-8`, `sr_RS.UTF-8@latin`, `C.UTF-8`, `POSIX` (locale(7): language, territory, codeset, modifier).
///
/// # Errors
/// Why not.
pub fn locale(text: &str) -> Result<(), String> {
    let (rest, modifier) = text
        .split_once('@')
        .map_or((text, None), |(rest, m)| (rest, Some(m)));
    let (place, codeset) = rest
        .split_once('.')
        .map_or((rest, None), |(place, c)| (place, Some(c)));
    let (language, territory) = place.split_once('_').map_or((place, None), |(l, t)| (l, Some(t)));
    let lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    if !(matches!(place, "C" | "POSIX") || matches!(language.len(), 2 | 3) && lower(language)) {
        return Err("it does not start with a language of two or three lower-case letters".into());
    }
    if territory.is_some_and(|place| place.len() != 2 || !place.bytes().all(|b| b.is_ascii_uppercase())) {
        return Err("after the underscore there are not two upper-case letters for a territory".into());
    }
    if let Some(codeset) = codeset {
        length(codeset, 20)?;
        characters(codeset, |c| c.is_ascii_alphanumeric() || c == '-')?;
    }
    if let Some(modifier) = modifier {
        length(modifier, 20)?;
        characters(modifier, |c| c.is_ascii_alphanumeric())?;
    }
    Ok(())
}

/// The name of a profile, a storage pool, an image alias or a remote: what LXD and Incus take and what needs no quotes
/// anywhere, 1 to 63 letters, digits, `.`, `_` and `-`, no `.` or `-` in front.
///
/// # Errors
/// Why not.
pub fn object(text: &str) -> Result<(), String> {
    length(text, 63)?;
    characters(text, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
    })?;
    if text.starts_with(['.', '-']) {
        return Err("it starts with a dot or a hyphen".into());
    }
    Ok(())
}

/// A path on the card or in a container: absolute and normal, each part at most 255 bytes (`NAME_MAX`), the whole
/// at most 4095 (`PATH_MAX` without the NUL).
///
/// # Errors
/// Why not.
pub fn absolute_path(text: &str) -> Result<(), String> {
    let Some(relative) = text.strip_prefix('/') else {
        return Err("it does not start at `/`".into());
    };
    length(text, 4095)?;
    if text.chars().any(char::is_control) {
        return Err("it holds a control character".into());
    }
    for part in relative.split('/') {
        match part {
            "" => return Err("a part of it is empty".into()),
            "." | ".." => return Err("`.` and `..` are not resolved".into()),
            part if part.len() > 255 => return Err("a part of it is longer than 255 bytes".into()),
            _ => {}
        }
    }
    Ok(())
}

/// A label of a domain name.
fn label(text: &str) -> Result<(), String> {
    length(text, 63)?;
    characters(text, |c| c.is_ascii_alphanumeric() || c == '-')?;
    if text.starts_with('-') || text.ends_with('-') {
        return Err("it starts or ends with a hyphen".into());
    }
    Ok(())
}

fn length(text: &str, most: usize) -> Result<(), String> {
    match text.len() {
        0 => Err("it is empty".into()),
        len if len > most => Err(format!("it has {len} bytes, and {most} is the most")),
        _ => Ok(()),
    }
}

fn characters(text: &str, fine: impl Fn(char) -> bool) -> Result<(), String> {
    match text.chars().find(|c| !fine(*c)) {
        Some(' ') => Err("it holds a space".into()),
        Some(c) => Err(format!("it holds {c:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: Rule, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Ok(()), "{text:?}");
        }
        for text in bad {
            assert!(rule(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn channels() {
        check(
            channel,
            &["5.21/stable", "latest/edge", "6/candidate", "5.0-edge/beta"],
            &[
                "",
                "5.21",
                "stable",
                "/stable",
                "5.21/",
                "5.21/Stable",
                "5.21/stable/hotfix",
                "5 21/stable",
                "--x/stable=y",
            ],
        );
    }

    #[test]
    fn host_names() {
        let long = "x".repeat(64);
        check(
            hostname,
            &["palm", "p", "7", "3com", "palm-1", "Palm", &long[1..]],
            &[
                "",
                "-palm",
                "palm-",
                "pa_lm",
                "palm.example.net",
                "pälm",
                "a b",
                "localhost",
                &long,
            ],
        );
        check(
            domain,
            &["example.net", "example.net.", "net"],
            &["", ".", "a..b", "-a.net", "a b.net"],
        );
        assert!(domain(&["abcdefgh"; 29].join(".")).is_err());
    }

    #[test]
    fn container_names() {
        check(
            container,
            &["web", "w2", "a-b", "W"],
            &["", "2w", "-w", "w-", "w_1", "w.1", "wé"],
        );
    }

    #[test]
    fn interface_names() {
        check(
            interface,
            &["eth0", "br0", "enxb827eb6c0288", "eth0.42", "end0"],
            &[
                "",
                "abcdefghijklmnop",
                "a/b",
                "a b",
                ".",
                "..",
                "lo",
                "all",
                "a:1",
                "a%b",
                "-i",
            ],
        );
    }

    #[test]
    fn user_names() {
        check(
            user,
            &["craig", "_apt", "a1-b_c"],
            &[
                "",
                "Craig",
                "1craig",
                "-craig",
                "cra.ig",
                "craig$",
                "root:",
                &"x".repeat(33),
            ],
        );
    }

    #[test]
    fn packages_and_locales() {
        check(
            package,
            &[
                "nginx",
                "g++",
                "btrfs-progs",
                "libc6:armhf",
                "nginx=1.18.0-0ubuntu1~22.04",
            ],
            &[
                "", "x", "nginx-", "-o=x", "Nginx", "a b", "nginx=", "nginx:", "../x.deb",
            ],
        );
        check(
            locale,
            &[
                "en_GB.UTF-8",
                "C.UTF-8",
                "C",
                "POSIX",
                "de_AT",
                "sr_RS.UTF-8@latin",
                "eo",
                "en_GB.utf8",
            ],
            &[
                "",
                "english",
                "en-GB",
                "EN_gb",
                "en_GB.",
                "en_GB.UTF 8",
                "en_GB@",
                "en_G",
            ],
        );
    }

    #[test]
    fn paths() {
        check(
            absolute_path,
            &["/etc/motd", "/x", "/a b/ü"],
            &["", "/", "etc/motd", "/etc/", "//x", "/a/../b", "/./x", "/a\nb"],
        );
        check(
            object,
            &["default", "web_image", "small.1"],
            &["", ".x", "-x", "a b", "a/b", "a:b"],
        );
    }
}
