//! The key pairs of a cluster: how the file that `cluster: {keys: …}` names is read, and how pairs are made. A private key
//! leaves this file only as [`PrivateKey`], which shows nothing, and no error repeats what is in the file. It writes
//! nothing.
//!
//! The file is YAML: `cluster` has the pair of the cluster, `cards` one for each card by name, and a pair is a `certificate`
//! and a `key`, both as PEM. It is made once, so the same farm gives the same cards.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, ECDSA_P256_SHA256_ASN1_SIGNING};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde::Deserialize;
use webpki::ring::ECDSA_P256_SHA256;
use webpki::EndEntityCert;

use crate::host::bounded_read;
use crate::host::files::others_may_read;
use crate::text_file;

/// The name of the cluster's own pair, which no card may have.
pub const CLUSTER: &str = "cluster";

/// Under which names of the DNS the certificates are: `internal` is reserved for private use, so that no public authority
/// vouches for one.
const DOMAIN: &str = "palmfarm.internal";

/// A Pi has no clock, so its certificates hold from before any Pi's first boot on (years).
const VALID: (i32, i32) = (2020, 2120);

/// The largest file, in bytes: a pair has less than 2 KiB.
const LARGEST: u64 = 1 << 20;

/// All pairs of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterKeys {
    /// The cluster's own: what every member shows to clients.
    pub cluster: Pair,
    /// Those of the cards, by name.
    pub cards: BTreeMap<String, Pair>,
    /// What its owner has written beside the keys.
    comments: Comments,
}

/// Lines that somebody wrote into the file. They are not shown, since one may hold an old key.
#[derive(Clone, Default)]
struct Comments(Vec<String>);

impl fmt::Debug for Comments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Comments(not shown)")
    }
}

/// A certificate and its private key.
#[derive(Clone, Debug)]
pub struct Pair {
    certificate: Vec<u8>,
    /// The private half.
    pub key: PrivateKey,
}

/// A private key of the elliptic curve P-256.
#[derive(Clone)]
pub struct PrivateKey(Vec<u8>);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(not shown)")
    }
}

impl PrivateKey {
    /// As PEM of PKCS#8. Whoever prints it shows a secret.
    pub fn pem(&self) -> String {
        pem("PRIVATE KEY", &self.0)
    }
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("reading the keys of the cluster")]
    Read(#[from] io::Error),
    #[error("other users of this computer can read the keys of the cluster")]
    OthersMayRead,
    /// It is not such a file.
    #[error("{}", .line.map_or_else(|| "it is not text".into(), |line| format!("line {line} is not as `palmfarm keys new` writes it")))]
    Malformed {
        /// Counted from 1, if it is known.
        line: Option<usize>,
    },
    /// A pair that cannot be used.
    #[error("in the pair of {whose} {why}")]
    Pair {
        /// The card, or [`CLUSTER`].
        whose: String,
        /// What is wrong with it.
        why: String,
    },
    /// Cards without a pair.
    #[error("there is no pair for {}", .0.join(", "))]
    NoPair(Vec<String>),
}

impl KeysError {
    /// What the person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read(error) if error.kind() == io::ErrorKind::NotFound => {
                Some("`palmfarm keys new` writes the file")
            }
            Self::Read(_) => None,
            Self::OthersMayRead => Some("take the right from them: chmod 600 FILE"),
            Self::Malformed { .. } => {
                Some("take it back from where you keep a copy; `palmfarm keys new` writes a new file, for a new cluster")
            }
            Self::Pair { .. } => {
                Some("remove the pair, and `palmfarm keys new` makes another; then every card needs its certificate")
            }
            Self::NoPair(_) => Some("`palmfarm keys new` adds it"),
        }
    }
}

/// How the file begins.
const HEADER: &str = "\
    # palmfarm: the keys of a cluster, made by `palmfarm keys new`. Who has this file controls every member: keep it\n\
    # as secret as a private SSH key, and keep a copy. Cards that are made from other keys are not of this cluster.\n";

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    cluster: StoredPair,
    #[serde(default)]
    cards: BTreeMap<String, StoredPair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPair {
    certificate: String,
    key: String,
}

impl ClusterKeys {
    /// Read the file at `path`, which only its owner may read, and judge every pair in it.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or a pair in it is not one.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let file = bounded_read::open(path)?;
        if others_may_read(&file.metadata()?) {
            return Err(KeysError::OthersMayRead);
        }
        let bytes = bounded_read::read_rest(file, LARGEST)?;
        let text = text_file::decode(&bytes).map_err(|_| KeysError::Malformed { line: None })?;
        // Not the error itself: it may repeat a key.
        let stored: Stored = serde_yaml::from_str(&text).map_err(|error| KeysError::Malformed {
            line: error.location().map(|at| at.line()),
        })?;
        let cards = stored.cards.into_iter();
        Ok(Self {
            comments: Comments::of(&text),
            cluster: Pair::judge(CLUSTER, &stored.cluster)?,
            cards: cards
                .map(|(name, pair)| Pair::judge(&name, &pair).map(|pair| (name, pair)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Pairs for a new cluster without cards.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, rcgen::Error> {
        Ok(Self {
            cluster: Pair::new(CLUSTER)?,
            cards: BTreeMap::new(),
            comments: Comments::default(),
        })
    }

    /// Make a pair for every one of `cards` that has none, and return their names.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn add<'c>(&mut self, cards: impl Iterator<Item = &'c String>) -> Result<Vec<String>, rcgen::Error> {
        let mut added = Vec::new();
        for card in cards {
            if !self.cards.contains_key(card) {
                self.cards.insert(card.clone(), Pair::new(card)?);
                added.push(card.clone());
            }
        }
        Ok(added)
    }

    /// Whether there is a pair for every one of `cards`.
    ///
    /// # Errors
    /// Those for which there is none.
    pub fn has_all<'c>(&self, cards: impl Iterator<Item = &'c String>) -> Result<(), KeysError> {
        let missing = cards.filter(|card| !self.cards.contains_key(*card));
        let missing: Vec<String> = missing.cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(KeysError::NoPair(missing))
    }

    /// The file that [`read`](Self::read) takes. It holds the private keys.
    pub fn text(&self) -> String {
        let mut text = String::from(HEADER);
        for comment in &self.comments.0 {
            text.push_str(&format!("{comment}\n"));
        }
        text.push_str("cluster:\n");
        self.cluster.write("  ", &mut text);
        text.push_str("cards:\n");
        for (name, pair) in &self.cards {
            // In quotes: YAML takes some names for numbers or for yes and no.
            text.push_str(&format!("  \"{name}\":\n"));
            pair.write("    ", &mut text);
        }
        text
    }
}

impl Pair {
    fn new(name: &str) -> Result<Self, rcgen::Error> {
        use rcgen::{
            date_time_ymd, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
            KeyPair, KeyUsagePurpose,
        };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let names = [dns_name(name), "::1".into(), "127.0.0.1".into()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(VALID.0, 1, 1);
        params.not_after = date_time_ymd(VALID.1, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(Self {
            certificate: params.self_signed(&key)?.der().to_vec(),
            key: PrivateKey(key.serialize_der()),
        })
    }

    /// The certificate as PEM.
    pub fn certificate(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The certificate as DER.
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// The pair of `whose`, if the two halves are one pair and the certificate has that name.
    fn judge(whose: &str, stored: &StoredPair) -> Result<Self, KeysError> {
        let wrong = |why: &str| KeysError::Pair {
            whose: whose.into(),
            why: why.into(),
        };
        let certificate = CertificateDer::from_pem_slice(stored.certificate.as_bytes())
            .map_err(|_| wrong("the certificate is not PEM"))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(stored.key.as_bytes())
            .map_err(|_| wrong("the key is not PEM of PKCS#8"))?;
        let parsed =
            EndEntityCert::try_from(&certificate).map_err(|_| wrong("the certificate is damaged"))?;
        let name = dns_name(whose);
        let is_named = ServerName::try_from(name.as_str())
            .is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok());
        if !is_named {
            return Err(wrong(&format!("the certificate is not for {name}")));
        }
        let random = SystemRandom::new();
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_pkcs8_der(), &random)
                .map_err(|_| wrong("the key is not one of the curve P-256"))?;
        let fits = signer.sign(&random, name.as_bytes()).is_ok_and(|signature| {
            let verified = parsed.verify_signature(ECDSA_P256_SHA256, name.as_bytes(), signature.as_ref());
            verified.is_ok()
        });
        if !fits {
            return Err(wrong("key and certificate do not belong together"));
        }
        Ok(Self {
            certificate: certificate.to_vec(),
            key: PrivateKey(key.secret_pkcs8_der().to_vec()),
        })
    }

    fn write(&self, indent: &str, text: &mut String) {
        for (key, pem) in [("certificate", self.certificate()), ("key", self.key.pem())] {
            text.push_str(&format!("{indent}{key}: |\n"));
            for line in pem.lines() {
                text.push_str(&format!("{indent}  {line}\n"));
            }
        }
    }
}

impl Comments {
    /// The lines of a keys file that its owner has added: they go to its beginning when it is written again.
    fn of(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with('#'));
        let added = lines.filter(|line| !HEADER.lines().any(|own| own == *line));
        Self(added.map(str::to_owned).collect())
    }
}

fn dns_name(name: &str) -> String {
    format!("{name}.{DOMAIN}")
}

/// `der` as PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(&format!("{line}\n"));
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// What reading `text` from a private file gives.
    fn read(text: &str) -> Result<ClusterKeys, KeysError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("farm.keys");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        ClusterKeys::read(&path)
    }

    fn made(cards: &[&str]) -> ClusterKeys {
        let cards: Vec<String> = cards.iter().map(|card| (*card).to_owned()).collect();
        let mut keys = ClusterKeys::new().unwrap();
        assert_eq!(keys.add(cards.iter()).unwrap(), cards);
        keys
    }

    #[test]
    fn what_is_written_is_read() {
        // The longest name, and names that YAML might take for something else.
        let long = "a".repeat(63);
        let cards = ["1e3", "no", "palm1", &long];
        let keys = made(&cards);
        let again = read(&keys.text()).unwrap();
        assert_eq!(again.text(), keys.text());
        assert!(again.has_all(cards.map(Into::into).iter()).is_ok());
        let error = again
            .has_all(["palm2".into(), "palm3".into()].iter())
            .unwrap_err();
        assert_eq!(error.to_string(), "there is no pair for palm2, palm3");
        let shown = format!("{keys:?}");
        let key = keys.cluster.key.pem();
        assert!(shown.contains("not shown"));
        assert!(!shown.contains(key.lines().nth(1).unwrap()), "{shown}");
    }

    #[test]
    fn a_pair_that_is_there_is_kept() {
        let mut keys = made(&["palm1"]);
        let before = keys.cards["palm1"].key.pem();
        let added = keys.add(["palm1".into(), "palm2".into()].iter()).unwrap();
        assert_eq!(added, ["palm2"]);
        assert_eq!(keys.cards["palm1"].key.pem(), before);
    }

    #[test]
    fn comments_of_the_owner_stay() {
        let keys = made(&["palm1"]);
        let text = keys.text().replace(
            "cards:\n",
            "# in the safe, too\ncards:\n  # palm1 is in the attic\n",
        );
        let again = read(&text).unwrap().text();
        let expect = format!("{HEADER}# in the safe, too\n# palm1 is in the attic\ncluster:\n");
        assert!(again.starts_with(&expect), "the beginning is another");
        assert_eq!(read(&again).unwrap().text(), again);
    }

    #[test]
    fn pairs_that_are_none_are_refused() {
        let keys = made(&["palm1", "palm2"]);
        let check = |from: &str, to: &str, expect: &str| {
            let text = keys.text().replace(from, to);
            assert_ne!(text, keys.text());
            let error = read(&text).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        let pair = |name: &str| {
            let mut text = String::new();
            keys.cards[name].write("    ", &mut text);
            text
        };
        let (one, two) = (pair("palm1"), pair("palm2"));
        let one_key = one.split_once("    key:").unwrap().1;
        let two_key = two.split_once("    key:").unwrap().1;
        check(
            one_key,
            two_key,
            "in the pair of palm1 key and certificate do not belong together",
        );
        check(
            &one,
            &two,
            "in the pair of palm1 the certificate is not for palm1.palmfarm.internal",
        );
        check(
            one_key,
            " hunter2\n",
            "in the pair of palm1 the key is not PEM of PKCS#8",
        );
        let text = keys.text();
        let line = text.lines().position(|line| line == "cards:").unwrap() + 1;
        check(
            "cards:",
            "hunter2:",
            &format!("line {line} is not as `palmfarm keys new` writes it"),
        );
    }

    #[test]
    fn openssl_reads_the_pairs() {
        let keys = made(&["palm1"]);
        let dir = tempfile::tempdir().unwrap();
        let openssl = |args: &[&str], text: &str| {
            let path = dir.path().join("pem");
            fs::write(&path, text).unwrap();
            let run = Command::new("openssl").args(args).arg("-in").arg(&path).output();
            run.ok()
                .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
        };
        let pair = &keys.cards["palm1"];
        let shown = openssl(&["x509", "-noout", "-text"], &pair.certificate());
        let Some(shown) = shown else {
            eprintln!("skipped: no openssl here");
            return;
        };
        for expect in [
            "Subject: CN = palm1",
            "Not Before: Jan  1 00:00:00 2020 GMT",
            "Not After : Jan  1 00:00:00 2120 GMT",
            "ASN1 OID: prime256v1",
            "CA:FALSE",
            "TLS Web Server Authentication",
            "DNS:palm1.palmfarm.internal, IP Address:0:0:0:0:0:0:0:1, IP Address:127.0.0.1",
        ] {
            assert!(shown.contains(expect), "{expect}: {shown}");
        }
        let public = openssl(&["x509", "-noout", "-pubkey"], &pair.certificate());
        assert_eq!(openssl(&["pkey", "-pubout"], &pair.key.pem()), public);
    }
}
