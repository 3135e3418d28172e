//! Gives up root, so that images and farms are read as the user who started the program through sudo. It parses the
//! environment and /etc/group as text, and never gains a right.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::sys;

/// Who asked root to run the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoker {
    /// The user's number, never 0.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// The user's name, if it is known.
    pub name: Option<String>,
    /// Every group the user is in, their own included, each once, in order.
    pub groups: Vec<u32>,
    /// Their home directory, if /etc/passwd has it: sudo leaves root's in the environment.
    pub home: Option<PathBuf>,
}

/// What [`drop_privileges`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// From now on the program is this user.
    User(Invoker),
    /// The program was not root, or root itself started it.
    Unchanged,
}

/// Root could not be given up: the program must end before it reads anything that others made.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The variables of sudo, pkexec or doas are set, but do not name a user.
    #[error(
        "SUDO_UID and SUDO_GID, PKEXEC_UID or DOAS_USER do not name a user: user {uid:?}, group {gid:?}"
    )]
    BadVariables {
        /// The user's number.
        uid: String,
        /// Their group's number.
        gid: String,
    },
    /// The system refused.
    #[error("giving up root to become user {uid}, who started this program")]
    Refused {
        /// The user's number.
        uid: u32,
        #[source]
        source: io::Error,
    },
    /// The system agreed, but the program could become root again.
    #[error("giving up root for user {uid}: the program could become root again")]
    NotForGood {
        /// The user's number.
        uid: u32,
    },
}

/// If the program is root because of sudo, pkexec or doas, become the user who started it. Call it when the card is open
/// and before any image, farm or overlay is read. It changes every thread, and there is no way back.
pub fn drop_privileges() -> Result<Dropped, UserError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Dropped::Unchanged);
    }
    let Some(user) = asked_by()? else {
        return Ok(Dropped::Unchanged);
    };
    let uid = user.uid;
    sys::become_user(uid, user.gid, &user.groups).map_err(|source| UserError::Refused { uid, source })?;
    // This must fail now. Try it, since everything after this relies on it.
    if sys::become_user(0, 0, &[0]).is_ok() || rustix::process::geteuid().is_root() {
        return Err(UserError::NotForGood { uid });
    }
    Ok(Dropped::User(user))
}

/// The home directory of the user that the program runs as: what `~` means. sudo may leave root's in `HOME`.
pub fn home() -> Option<PathBuf> {
    let me = rustix::process::geteuid().as_raw();
    match asked_by() {
        Ok(Some(user)) if user.uid == me => user.home,
        _ => std::env::var_os("HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute()),
    }
}

/// The login name of the user that the program runs as, if /etc/passwd or the environment has it.
pub fn user_name() -> Option<String> {
    let me = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = account(&me, &passwd).filter(|(uid, _, _)| *uid == me);
    known
        .map(|(_, _, name)| name)
        .or_else(|| std::env::var("USER").ok())
}

/// Who asked root to run the program, if root itself did not.
fn asked_by() -> Result<Option<Invoker>, UserError> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (uid, gid, name) = match (variable("PKEXEC_UID"), variable("DOAS_USER")) {
        _ if variable("SUDO_UID").or(variable("SUDO_GID")).is_some() => {
            (variable("SUDO_UID"), variable("SUDO_GID"), variable("SUDO_USER"))
        }
        // pkexec(1) and doas(1) say who asked, and /etc/passwd says the rest.
        (None, None) => (None, None, None),
        (uid, name) => {
            let key = uid.or(name).unwrap_or_default();
            let (uid, gid, name) = account(&key, &passwd).unwrap_or((key, String::new(), String::new()));
            (Some(uid), Some(gid), Some(name))
        }
    };
    invoker(uid.as_deref(), gid.as_deref(), name, &groups, &passwd)
}

/// Who `SUDO_UID`, `SUDO_GID` and `SUDO_USER` name, with the groups that the text of /etc/group puts them in and the
/// home directory that /etc/passwd gives them; `None` if sudo was not used, or by root.
pub fn invoker(
    uid: Option<&str>,
    gid: Option<&str>,
    name: Option<String>,
    group_file: &str,
    passwd_file: &str,
) -> Result<Option<Invoker>, UserError> {
    let (uid_text, gid_text) = match (uid, gid) {
        (None, None) => return Ok(None),
        // One of the two alone does not name a user, and staying root would be the worst guess.
        (uid, gid) => (uid.unwrap_or_default(), gid.unwrap_or_default()),
    };
    let bad = || UserError::BadVariables {
        uid: uid_text.to_owned(),
        gid: gid_text.to_owned(),
    };
    let uid = id(uid_text).ok_or_else(bad)?;
    let gid = id(gid_text).ok_or_else(bad)?;
    if uid == 0 {
        return Ok(None);
    }
    let mut groups = vec![gid];
    if let Some(name) = name.as_deref() {
        groups.extend(group_file.lines().filter_map(|line| member_of(line, name)));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(Some(Invoker {
        uid,
        gid,
        name,
        groups,
        home: passwd_file.lines().find_map(|line| home_of(line, uid)),
    }))
}

/// Number, group and name of the user whose name or number is `key`, as the text of /etc/passwd has them.
fn account(key: &str, passwd_file: &str) -> Option<(String, String, String)> {
    passwd_file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (name == key || uid == key).then(|| (uid.into(), gid.into(), name.into()))
    })
}

/// The group of a line `NAME:PASSWORD:GID:MEMBER,MEMBER` (group(5)), if `user` is a member.
fn member_of(line: &str, user: &str) -> Option<u32> {
    let mut fields = line.split(':').skip(2);
    // Root's own group is never worth joining.
    let gid = id(fields.next()?).filter(|gid| *gid != 0)?;
    let members = fields.next()?;
    members.split(',').any(|member| member == user).then_some(gid)
}

/// The home directory of a line `NAME:PASSWORD:UID:GID:COMMENT:HOME:SHELL` (passwd(5)), if it is the user's.
fn home_of(line: &str, user: u32) -> Option<PathBuf> {
    let mut fields = line.split(':').skip(2);
    (id(fields.next()?)? == user).then_some(())?;
    let home = fields.nth(2).filter(|home| home.starts_with('/'))?;
    Some(PathBuf::from(home))
}

/// A user's or group's number; the highest is not one: it means "leave as it is" to the kernel.
fn id(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| plain && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str =
        "root:x:0:craig\ndisk:x:6:bob\nsudo:x:27:bob,craig\ncraig:x:1000:\nlxd:x:110:craig\nbad\n";

    fn check(uid: Option<&str>, gid: Option<&str>, name: &str, expect: Option<(u32, u32, &[u32])>) {
        let found = invoker(uid, gid, Some(name.to_owned()), GROUPS, "").unwrap();
        let found = found
            .as_ref()
            .map(|user| (user.uid, user.gid, user.groups.as_slice()));
        assert_eq!(found, expect);
    }

    #[test]
    fn sudo_says_who_asked() {
        check(
            Some("1000"),
            Some("1000"),
            "craig",
            Some((1000, 1000, &[27, 110, 1000])),
        );
        check(Some("1001"), Some("100"), "eve", Some((1001, 100, &[100])));
        check(Some("0"), Some("0"), "root", None);
        check(None, None, "craig", None);
    }

    #[test]
    fn pkexec_and_doas_say_a_number_or_a_name() {
        const PASSWD: &str =
            "root:x:0:0:root:/root:/bin/bash\ncraig:x:1000:100:Craig,,,:/home/craig:/bin/bash\n";
        let found = Some(("1000".into(), "100".into(), "craig".into()));
        assert_eq!(account("1000", PASSWD), found);
        assert_eq!(account("craig", PASSWD), found);
        assert_eq!(account("eve", PASSWD), None);
    }

    #[test]
    fn half_an_answer_is_not_a_reason_to_stay_root() {
        for (uid, gid) in [(Some("1000"), None), (None, Some("1000"))] {
            assert!(matches!(
                invoker(uid, gid, None, GROUPS, ""),
                Err(UserError::BadVariables { .. })
            ));
        }
    }

    #[test]
    fn the_home_is_that_of_the_user_and_not_of_root() {
        const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ncraig:x:1000:1000:Craig,,,:/home/craig:/bin/bash\nodd:x:1001:1:o:relative:\nshort:x:1002\n";
        let home = |uid: &str| {
            let found = invoker(Some(uid), Some("100"), None, GROUPS, PASSWD).unwrap();
            found.unwrap().home
        };
        assert_eq!(home("1000"), Some(PathBuf::from("/home/craig")));
        assert_eq!(home("1001"), None);
        assert_eq!(home("1002"), None);
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for (uid, gid) in [
            ("", "1000"),
            ("1000", "x"),
            ("-1", "0"),
            ("+5", "5"),
            ("4294967295", "5"),
        ] {
            assert!(matches!(
                invoker(Some(uid), Some(gid), None, GROUPS, ""),
                Err(UserError::BadVariables { .. })
            ));
        }
    }
}
