//! `palmfarm base`: which images there are, downloading one, comparing one with what Ubuntu published, which one suits a
//! board, and making room again.

use std::path::{Path, PathBuf};

use crate::base::locate::{self, BaseRef};
use anyhow::{anyhow, Context};
use serde_json::json;

use super::args::{Base, Clean, Fetch, Suggest, Verify};
use super::progress::{Audience, Shown};
use super::say::{answer, complaint_line, event, note_line};
use super::{from_farm, surroundings, written, Ended, Failure, OrFail, Outcome, Voice};
use crate::base::download::boards::{self, Suggestion};
use crate::base::download::catalogue::{self, Known, KNOWN, RELEASES};
use crate::base::download::{
    self, cached_name, DownloadError, Sums, TrustedKey, Url, MOST_SIGNATURE, MOST_SUMS,
};
use crate::base::source::{file_digest, Sha256Sum};
use crate::host::bounded_read;
use crate::progress::Watch;
use crate::text::{printable, size_text};

/// Run one of the commands.
///
/// # Errors
/// Refused, where something is not what it should be; failed, where it cannot be had.
pub fn run(args: &Base, voice: Voice, audience: Audience) -> Ended {
    surroundings::as_invoker()?;
    match args {
        Base::List => list(voice),
        Base::Fetch(args) => fetch(args, voice, audience),
        Base::Verify(args) => verify(args, voice, audience),
        Base::Suggest(args) => suggest(args, voice),
        Base::Clean(args) => clean(args, voice),
    }
}

fn clean(args: &Clean, voice: Voice) -> Ended {
    let what = if args.all {
        download::CleanScope::All
    } else {
        download::CleanScope::Unpacked
    };
    let cleaned = download::clean(&surroundings::as_invoker()?, what)
        .context("making room in the cache")
        .or_fail(Outcome::Failed)?;
    let total: u64 = cleaned.iter().map(|one| one.size).sum();
    match voice {
        Voice::People => note_line!("took away {} files with {}", cleaned.len(), size_text(total)),
        Voice::Json => {
            let files: Vec<_> = cleaned.iter().map(|one| &one.path).collect();
            event(&json!({"event": "cleaned", "files": files, "size": total}));
        }
    }
    Ok(())
}

fn keys() -> Result<Vec<TrustedKey>, Failure> {
    download::ubuntu_keys()
        .context("reading Ubuntu's key")
        .or_fail(Outcome::Failed)
}

fn list(voice: Voice) -> Ended {
    let keys = keys()?;
    let bases = locate::bases(&surroundings::as_invoker()?).ok();
    let mut out = match voice {
        Voice::People => "NAME                HERE  DIGEST  FOR\nmini                yes   own     trying palmfarm; it boots nowhere\n".to_owned(),
        Voice::Json => format!(
            "{}\n",
            json!({"event": "base", "name": "mini", "file": null, "url": null, "sha256": null, "here": true})
        ),
    };
    for known in KNOWN {
        let here = bases
            .as_ref()
            .is_some_and(|bases| bases.join(known.file).is_file());
        let listed = || download::remembered(known, &keys, bases.as_deref()?).map(|sum| sum.to_string());
        let digest = known.sha256.map(str::to_owned).or_else(listed);
        match voice {
            Voice::People => out.push_str(&format!(
                "{:<19} {:<5} {:<7} {}\n",
                known.name,
                if here { "yes" } else { "no" },
                if digest.is_some() { "known" } else { "signed" },
                known.note
            )),
            Voice::Json => out.push_str(&format!(
                "{}\n",
                json!({
                    "event": "base", "name": known.name, "file": known.file, "url": known.url(RELEASES),
                    "sha256": digest, "here": here,
                })
            )),
        }
    }
    if voice == Voice::People {
        out.push_str("signed: the list of digests comes with the image, under Ubuntu's signature\n");
    }
    written(out.as_bytes())
}

fn fetch(args: &Fetch, voice: Voice, audience: Audience) -> Ended {
    let shown = Shown::new(audience);
    let cancel = surroundings::interruptible();
    let watch = Watch {
        progress: &shown,
        cancel: &cancel,
    };
    let done = match BaseRef::new(&args.base) {
        BaseRef::Name(name) => fetch_known(name, args, watch),
        BaseRef::Url(url) => fetch_url(url, args, watch),
        BaseRef::Path(path) => Err(Failure::new(
            Outcome::Usage,
            anyhow!("{path:?} is a path, so there is nothing to download"),
        )),
    };
    shown.clear();
    let (path, digest) = done?;
    match voice {
        Voice::People => note_line!("{}\nsha256 {digest}", path.display()),
        Voice::Json => event(&json!({"event": "fetched", "file": path, "sha256": digest.to_string()})),
    }
    Ok(())
}

fn fetch_known(name: &str, args: &Fetch, watch: Watch<'_>) -> Result<(PathBuf, Sha256Sum), Failure> {
    if name == "mini" {
        return Err(Failure::new(
            Outcome::Usage,
            anyhow!("mini is built in, so there is nothing to download"),
        ));
    }
    let known = catalogue::find(name).ok_or_else(|| {
        Failure::new(Outcome::Refused, anyhow!("there is no base called {name:?}"))
            .hint("`palmfarm base list` lists them; anything else is fetched by its URL")
    })?;
    if args.sha256.is_some() {
        return Err(Failure::new(
            Outcome::Usage,
            anyhow!("--sha256 is for URLs; for a name the digest is known"),
        ));
    }
    let bases = locate::bases(&surroundings::as_invoker()?).map_err(|error| broken(error, watch))?;
    let keys = keys()?;
    let client = surroundings::client()?;
    let mirror = args.mirror.as_deref().unwrap_or(RELEASES);
    let path = bases.join(known.file);
    let digest = download::fetch(&client, known, mirror, &keys, &bases, watch)
        .map_err(|error| broken(error, watch))?;
    Ok((path, digest))
}

fn fetch_url(url: &str, args: &Fetch, watch: Watch<'_>) -> Result<(PathBuf, Sha256Sum), Failure> {
    if args.mirror.is_some() {
        return Err(Failure::new(
            Outcome::Usage,
            anyhow!("--mirror is for names; a URL says where it leads"),
        ));
    }
    let url = Url::parse(url).map_err(|error| broken(error, watch))?;
    if !url.is_https() && args.sha256.is_none() {
        let error = anyhow!("whoever is on the way can change what comes over http");
        return Err(
            Failure::new(Outcome::Refused, error).hint("give its digest with --sha256, or an https:// URL")
        );
    }
    let bases = locate::bases(&surroundings::as_invoker()?).map_err(|error| broken(error, watch))?;
    let path = bases.join(cached_name(&url));
    // Without a digest nothing tells whether the server has another one by now.
    if let Some(digest) = args.sha256 {
        if download::is_there(&path, &digest, watch).map_err(|error| broken(error, watch))? {
            return Ok((path, digest));
        }
    }
    let digest = surroundings::client()?
        .download(&url, &path, args.sha256, watch)
        .map_err(|error| broken(error, watch))?;
    Ok((path, digest))
}

/// A download that did not come about.
fn broken(error: DownloadError, watch: Watch<'_>) -> Failure {
    if watch.cancel.is_cancelled() || matches!(error, DownloadError::Cancelled) {
        complaint_line!(
            "interrupted; the same command goes on where this one stopped, unless the server knows no way to"
        );
        return Failure::printed(Outcome::Interrupted);
    }
    let outcome = if error.is_refusal() {
        Outcome::Refused
    } else {
        Outcome::Failed
    };
    let hint = error.hint();
    Failure::new(outcome, error).maybe_hint(hint)
}

fn verify(args: &Verify, voice: Voice, audience: Audience) -> Ended {
    let given = args
        .sums
        .as_deref()
        .map(|sums| given_sums(sums, args.signature.as_deref()))
        .transpose()?;
    let shown = Shown::new(audience);
    let cancel = surroundings::interruptible();
    let watch = Watch {
        progress: &shown,
        cancel: &cancel,
    };
    let found = file_digest(&args.file, watch).map_err(|error| {
        let hint = error.hint();
        from_farm::not_opened(error, hint, watch)
    })?;
    shown.clear();
    let name = args
        .file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is = match &given {
        Some(sums) => of_list(sums, name, &found, &args.file)?,
        None => of_catalogue(name, &found, &args.file)?,
    };
    match voice {
        Voice::People => answer(format_args!("ok: {} is {}", args.file.display(), printable(&is))),
        Voice::Json => event(
            &json!({"event": "verified", "file": args.file, "is": is, "sha256": found.to_string(),
                   "signed": given.is_none() || args.signature.is_some()}),
        ),
    }
    Ok(())
}

fn given_sums(sums: &Path, signature: Option<&Path>) -> Result<Sums, Failure> {
    let read = |path: &Path, most| {
        bounded_read::read(path, most)
            .with_context(|| format!("reading {}", path.display()))
            .or_fail(Outcome::Refused)
    };
    let list = read(sums, MOST_SUMS)?;
    let Some(signature) = signature else {
        return Ok(Sums::parse(&String::from_utf8_lossy(&list)));
    };
    download::signed_sums(&list, &read(signature, MOST_SIGNATURE)?, &keys()?)
        .with_context(|| format!("checking the signature {}", signature.display()))
        .or_fail(Outcome::Refused)
        .map_err(|failure| failure.hint("the list is not what Ubuntu published"))
}

/// What the file is by a list: it must be named there, and have that digest.
fn of_list(sums: &Sums, name: &str, found: &Sha256Sum, file: &Path) -> Result<String, Failure> {
    match sums.find(name) {
        Some(listed) if listed == *found => Ok(name.into()),
        Some(listed) => Err(differs(file, found, &listed)),
        None => sums.name_of(found).map(str::to_owned).ok_or_else(|| {
            Failure::new(
                Outcome::Refused,
                anyhow!("the list names neither {name:?} nor any file with SHA-256 {found}"),
            )
            .hint("a list is for the files that lie beside it on the server")
        }),
    }
}

/// What the file is by the catalogue.
fn of_catalogue(name: &str, found: &Sha256Sum, file: &Path) -> Result<String, Failure> {
    let keys = keys()?;
    let bases = locate::bases(&surroundings::as_invoker()?).ok();
    let digest = |known: &Known| {
        let pinned = known.sha256.and_then(|sum| sum.parse::<Sha256Sum>().ok());
        pinned.or_else(|| download::remembered(known, &keys, bases.as_deref()?))
    };
    if let Some(known) = KNOWN.iter().find(|known| digest(known) == Some(*found)) {
        return Ok(format!("{} ({})", known.name, known.file));
    }
    let Some(known) = KNOWN.iter().find(|known| known.file == name) else {
        let error = anyhow!(
            "{} has SHA-256 {found}, which is no image of the catalogue",
            file.display()
        );
        return Err(Failure::new(Outcome::Refused, error)
            .hint("compare it with the publisher's list: --sums SHA256SUMS"));
    };
    Err(match digest(known) {
        Some(listed) => differs(file, found, &listed),
        None => Failure::new(
            Outcome::Refused,
            anyhow!("nothing says yet what {} must be", known.file),
        )
        .hint(format!(
            "`palmfarm base fetch {}` brings the signed list",
            known.name
        )),
    })
}

fn differs(file: &Path, found: &Sha256Sum, listed: &Sha256Sum) -> Failure {
    let error = anyhow!("{} has SHA-256 {found}, expected {listed}", file.display());
    Failure::new(Outcome::Refused, error).hint("it is damaged or not what it says: fetch it again")
}

fn suggest(args: &Suggest, voice: Voice) -> Ended {
    let asked = args.board.join(" ");
    let found = if asked.is_empty() {
        boards::BOARDS.iter().collect()
    } else {
        match boards::suggest(&asked) {
            Suggestion::Boards(found) => found,
            Suggestion::Unsupported => {
                let error = anyhow!("Ubuntu has no image for {asked:?}: its processor is too old");
                return Err(
                    Failure::new(Outcome::Refused, error).hint("a Pi 2 is the oldest one that it runs on")
                );
            }
            Suggestion::Unknown => {
                let error = anyhow!("{asked:?} is no board that palmfarm knows");
                let hint = "2, 3, 4, 5 and zero2w are, and what /proc/device-tree/model says on the Pi";
                return Err(Failure::new(Outcome::Refused, error).hint(hint));
            }
        }
    };
    let mut out = String::new();
    for board in found {
        match voice {
            Voice::People => out.push_str(&format!(
                "{}: {}\n    {}\n",
                board.name,
                board.bases.join(", else "),
                board.why
            )),
            Voice::Json => out.push_str(&format!(
                "{}\n",
                json!({"event": "board", "name": board.name, "bases": board.bases, "why": board.why})
            )),
        }
    }
    written(out.as_bytes())
}
