//! An image of the catalogue from a mirror: list, signature, image. The keys are made here by `GnuPG`, so that what
//! palmfarm verifies is what another program signed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use palmfarm::base::download::catalogue::Known;
use palmfarm::base::download::{fetch, remembered, signed_sums, DownloadError, SignatureError, TrustedKey};
use palmfarm::base::source::Sha256Sum;
use palmfarm::progress::{Cancel, Observer, Silent};

use crate::common::skipped;
use crate::server::{Served, Server};
use crate::{client, names, noise};

/// A keyring with one key.
struct Signer {
    home: tempfile::TempDir,
}

impl Signer {
    /// `None` if `GnuPG` is not installed; the calling test says that it is skipped then.
    fn new(kind: &str) -> Option<Self> {
        if Command::new("gpg")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            skipped("there is no gpg here");
            return None;
        }
        let signer = Self {
            home: tempfile::Builder::new().prefix("pf").tempdir_in("/tmp").unwrap(),
        };
        signer.gpg(
            &[
                "--passphrase",
                "",
                "--quick-generate-key",
                "list@example.net",
                kind,
                "sign",
                "never",
            ],
            b"",
        );
        Some(signer)
    }

    fn gpg(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gpg")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--batch", "--yes", "--pinentry-mode", "loopback", "--quiet"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), input).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(
            out.status.success(),
            "gpg {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        out.stdout
    }

    fn fingerprint(&self) -> String {
        let listed = String::from_utf8(self.gpg(&["--with-colons", "--list-keys"], b"")).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    fn key(&self) -> Result<TrustedKey, SignatureError> {
        let armoured = String::from_utf8(self.gpg(&["--armor", "--export"], b"")).unwrap();
        TrustedKey::pinned(&armoured, &self.fingerprint())
    }

    fn sign(&self, content: &[u8], more: &[&str]) -> Vec<u8> {
        let args = [&["--passphrase", "", "--armor", "--detach-sign"], more].concat();
        self.gpg(&args, content)
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        drop(
            Command::new("gpgconf")
                .arg("--homedir")
                .arg(self.home.path())
                .args(["--kill", "all"])
                .status(),
        );
    }
}

const IMAGE: Known = Known {
    name: "test-armhf",
    file: "test+raspi.img.xz",
    folder: "1.0/release",
    sha256: None,
    note: "",
};

fn get(server: &Server, known: &Known, keys: &[TrustedKey], dir: &Path) -> Result<Sha256Sum, DownloadError> {
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &Silent,
        cancel: &cancel,
    };
    fetch(&client(), known, &server.url("/releases"), keys, dir, observer)
}

fn serve(server: &Server, list: &[u8], signature: &[u8], image: &[u8]) {
    server.serve("/releases/1.0/release/SHA256SUMS", Served::new(list));
    server.serve("/releases/1.0/release/SHA256SUMS.gpg", Served::new(signature));
    server.serve("/releases/1.0/release/test%2Braspi.img.xz", Served::new(image));
}

#[test]
fn an_image_is_what_the_signed_list_says_or_is_not_there() {
    let Some(signer) = Signer::new("rsa2048") else {
        return;
    };
    let Some(stranger) = Signer::new("rsa2048") else {
        return;
    };
    let keys = [signer.key().unwrap()];
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let (image, sum) = (noise(100_000, 20), Sha256Sum::of(&noise(100_000, 20)));
    let list = format!("{sum} *test+raspi.img.xz\n{} *other\n", Sha256Sum::of(b"other")).into_bytes();
    let signature = signer.sign(&list, &["--digest-algo", "SHA512"]);

    // Signed by somebody else; changed after it was signed; not signed at all.
    serve(&server, &list, &stranger.sign(&list, &[]), &image);
    let error = get(&server, &IMAGE, &keys, dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            DownloadError::Signature {
                source: SignatureError::Bad { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_refusal());
    serve(&server, &[&list[..], b"\n"].concat(), &signature, &image);
    let error = get(&server, &IMAGE, &keys, dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            DownloadError::Signature {
                source: SignatureError::Bad { .. },
                ..
            }
        ),
        "{error}"
    );
    serve(&server, &list, b"<html>log in first</html>", &image);
    let error = get(&server, &IMAGE, &keys, dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            DownloadError::Signature {
                source: SignatureError::NoArmour(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));

    // A good list, and another image.
    serve(&server, &list, &signature, b"another");
    let error = get(&server, &IMAGE, &keys, dir.path()).unwrap_err();
    assert!(
        matches!(error, DownloadError::Sha256 { expected, .. } if expected == sum),
        "{error}"
    );
    assert!(!dir.path().join(IMAGE.file).exists());

    // A good list that names no such image, or another digest than the one that is known.
    let without = Known {
        file: "gone.img.xz",
        ..IMAGE
    };
    serve(&server, &list, &signature, &image);
    let error = get(&server, &without, &keys, dir.path()).unwrap_err();
    assert!(matches!(error, DownloadError::NotListed { .. }), "{error}");
    let pinned = Known {
        sha256: Some("1984c349d5d6b74279402325b6985587d1d32c01695f2946819ce25b638baa0e"),
        ..IMAGE
    };
    let error = get(&server, &pinned, &keys, dir.path()).unwrap_err();
    assert!(
        matches!(error, DownloadError::Disagree { listed, .. } if listed == sum),
        "{error}"
    );

    // All good; and a second time the image is not downloaded again.
    assert_eq!(get(&server, &IMAGE, &keys, dir.path()).unwrap(), sum);
    assert_eq!(fs::read(dir.path().join(IMAGE.file)).unwrap(), image);
    let images = || {
        server
            .requests()
            .iter()
            .filter(|request| request.target.ends_with(".img.xz"))
            .count()
    };
    let before = images();
    assert_eq!(get(&server, &IMAGE, &keys, dir.path()).unwrap(), sum);
    assert_eq!(images(), before);

    // What was downloaded is known without the network, and only under the signature.
    assert_eq!(remembered(&IMAGE, &keys, dir.path()), Some(sum));
    assert_eq!(remembered(&IMAGE, &[stranger.key().unwrap()], dir.path()), None);
    fs::write(dir.path().join(format!("{}.SHA256SUMS", IMAGE.file)), b"changed").unwrap();
    assert_eq!(remembered(&IMAGE, &keys, dir.path()), None);
}

#[test]
fn signatures_of_gnupg_are_read_whatever_their_form() {
    let Some(signer) = Signer::new("rsa3072") else {
        return;
    };
    let keys = [signer.key().unwrap()];
    let list = noise(10_000, 21);
    for more in [
        &["--digest-algo", "SHA256"][..],
        &["--digest-algo", "SHA512"],
        &["--comment", "a: header", "--emit-version"],
        &["--set-notation", "note@example.net=text"],
    ] {
        assert!(
            signed_sums(&list, &signer.sign(&list, more), &keys).is_ok(),
            "{more:?}"
        );
    }
    // A notation that must be understood, a weak hash, a text signature: refused with a reason.
    for (more, expect) in [
        (
            &["--set-notation", "!note@example.net=text"][..],
            "critical subpacket 20",
        ),
        (&["--digest-algo", "SHA1"], "hash algorithm 2"),
        (&["--textmode"], "type 1"),
    ] {
        let error = signed_sums(&list, &signer.sign(&list, more), &keys).unwrap_err();
        assert!(error.to_string().contains(expect), "{more:?}: {error}");
    }
    let elliptic = Signer::new("ed25519").unwrap();
    let error = elliptic.key().unwrap_err();
    assert!(matches!(error, SignatureError::Unsupported(_)), "{error}");
    let error = signed_sums(&list, &elliptic.sign(&list, &[]), &keys).unwrap_err();
    assert!(matches!(error, SignatureError::Unsupported(_)), "{error}");
}
