//! Host keys of sshd that are made on the workstation: which file is that of a card, and what makes it one. A private key
//! is in no error. It reads no file.

use ssh_key::{Algorithm, PrivateKey};

/// Where sshd looks for the private half on the card.
pub const ON_THE_CARD: &str = "/etc/ssh/ssh_host_ed25519_key";

/// The largest file of a key, in bytes: `ssh-keygen` writes some 400.
pub(crate) const LARGEST: u64 = 64 << 10;

/// The command that makes the key of the card called `host`, in `file`.
pub(crate) fn command(host: &str, file: &str) -> String {
    format!("ssh-keygen -q -t ed25519 -N '' -C {host} -f {file}")
}

/// The public half of the private key in `bytes`, which is the key of `host`: `ssh-ed25519 AAAA… HOST`.
///
/// # Errors
/// Why sshd could not use it.
pub(crate) fn public_half(bytes: &[u8], host: &str) -> Result<String, &'static str> {
    let key = PrivateKey::from_openssh(bytes).map_err(|_| "it is not a private key of OpenSSH")?;
    if key.is_encrypted() {
        return Err("it has a passphrase, and nobody types that when sshd starts");
    }
    if key.algorithm() != Algorithm::Ed25519 {
        return Err("it is not an ed25519 key");
    }
    let mut public = key.public_key().clone();
    public.set_comment(host);
    public
        .to_openssh()
        .map_err(|_| "its public half cannot be written")
}

/// The line of `known_hosts` for a card with the key `public`, under its name and `addresses`.
pub(crate) fn known_hosts(host: &str, addresses: &[std::net::IpAddr], public: &str) -> String {
    let mut names = vec![host.to_owned(), format!("{host}.local")];
    names.extend(addresses.iter().map(ToString::to_string));
    let key: Vec<&str> = public.split(' ').take(2).collect();
    format!("{} {}", names.join(","), key.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -t ed25519` for this test.
    const KEY: &str = include_str!("testdata/host_key");

    #[test]
    fn the_public_half_follows_from_the_private_one() {
        let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINN4cMlZ2s6Qvt7AnD0JtIbYe92nRtth8+ngY5s60f76";
        assert_eq!(
            public_half(KEY.as_bytes(), "palm2").unwrap(),
            format!("{public} palm2")
        );
        assert_eq!(
            known_hosts(
                "palm2",
                &["192.0.2.10".parse().unwrap()],
                &format!("{public} palm2")
            ),
            format!("palm2,palm2.local,192.0.2.10 {public}")
        );
        let cut = KEY.replace("AAAAM", "");
        for bad in ["", public, &cut, "-----BEGIN PRIVATE KEY-----\n"] {
            let why = public_half(bad.as_bytes(), "palm").unwrap_err();
            assert_eq!(why, "it is not a private key of OpenSSH", "{bad}");
        }
    }
}
