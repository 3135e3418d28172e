//! `palmfarm base`: lists the images, downloads one, compares one with what Ubuntu published, suggests one for a board, and
//! cleans the cache.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, Context};
use serde_json::json;

use super::args::{Base, Clean, Fetch, Suggest, Verify};
use super::env::{client, drop_privileges};
use super::session::Session;
use super::ui::Ui;
use super::{CliResult, Failure, Outcome, OutcomeExt};
use crate::base::download::boards::{self, Suggestion};
use crate::base::download::catalogue::{self, Known, KNOWN, RELEASES};
use crate::base::download::{
    self, cached_name, DownloadError, Sums, TrustedKey, Url, MOST_SIGNATURE, MOST_SUMS,
};
use crate::base::locate::{self, BaseRef};
use crate::base::source::{file_digest, CacheDir, Sha256Sum};
use crate::host::bounded_read;
use crate::text::{printable, size_text};
use crate::text_file;

pub(super) fn run(args: &Base, ui: Ui) -> CliResult {
    let cache = drop_privileges()?;
    match args {
        Base::List => list(ui, &cache),
        Base::Fetch(args) => fetch(args, &Session::start(ui), &cache),
        Base::Verify(args) => verify(args, &Session::start(ui), &cache),
        Base::Suggest(args) => suggest(args, ui),
        Base::Clean(args) => clean(args, ui, &cache),
    }
}

fn clean(args: &Clean, ui: Ui, cache: &CacheDir) -> CliResult {
    let what = if args.all {
        download::CleanScope::All
    } else {
        download::CleanScope::Unpacked
    };
    let cleaned = download::clean(cache, what)
        .context("cleaning the cache")
        .or_fail(Outcome::Failed)?;
    let files: Vec<_> = cleaned.iter().map(|one| &one.path).collect();
    let total: u64 = cleaned.iter().map(|one| one.size).sum();
    ui.report(
        &json!({"event": "cleaned", "files": files, "size": total}),
        format_args!("removed {} files, {} in all", files.len(), size_text(total)),
    );
    Ok(())
}

fn ubuntu_keys() -> Result<Vec<TrustedKey>, Failure> {
    download::ubuntu_keys()
        .context("reading Ubuntu's key")
        .or_fail(Outcome::Failed)
}

/// The digest of an image of the catalogue: built in, or from a list that was downloaded with it.
fn known_digest(known: &Known, keys: &[TrustedKey], bases: Option<&Path>) -> Option<Sha256Sum> {
    let built_in = known.pinned();
    built_in.or_else(|| download::remembered(known, keys, bases?))
}

fn list(ui: Ui, cache: &CacheDir) -> CliResult {
    let keys = ubuntu_keys()?;
    let bases = locate::bases(cache).ok();
    let mut out = if ui.json {
        let mini =
            json!({"event": "base", "name": "mini", "file": null, "url": null, "sha256": null, "here": true});
        format!("{mini}\n")
    } else {
        "NAME                HERE  DIGEST  FOR\nmini                yes   own     trying palmfarm out; no Pi boots it\n".to_owned()
    };
    for known in KNOWN {
        let here = bases
            .as_ref()
            .is_some_and(|bases| bases.join(known.file).is_file());
        let digest = known_digest(known, &keys, bases.as_deref()).map(|sum| sum.to_string());
        if ui.json {
            let line = json!({
                "event": "base", "name": known.name, "file": known.file, "url": known.url(RELEASES),
                "sha256": digest, "here": here,
            });
            out.push_str(&format!("{line}\n"));
        } else {
            out.push_str(&format!(
                "{:<19} {:<5} {:<7} {}\n",
                known.name,
                if here { "yes" } else { "no" },
                if digest.is_some() { "known" } else { "signed" },
                known.note
            ));
        }
    }
    if !ui.json {
        out.push_str("signed: the digest is downloaded with the image, in a list that Ubuntu signed\n");
    }
    ui.output(out.as_bytes())
}

fn fetch(args: &Fetch, session: &Session, cache: &CacheDir) -> CliResult {
    let (path, digest) = match BaseRef::new(&args.base) {
        BaseRef::Name(name) => fetch_known(name, args, session, cache),
        BaseRef::Url(url) => fetch_url(url, args, session, cache),
        BaseRef::Path(path) => {
            return Err(Failure::usage(format_args!(
                "{path:?} is a path, so there is nothing to download"
            )))
        }
    }?;
    session.progress.clear();
    session.ui.report(
        &json!({"event": "fetched", "file": path, "sha256": digest.to_string()}),
        format_args!("{}\nsha256 {digest}", path.display()),
    );
    Ok(())
}

fn fetch_known(
    name: &str,
    args: &Fetch,
    session: &Session,
    cache: &CacheDir,
) -> Result<(PathBuf, Sha256Sum), Failure> {
    if name == "mini" {
        return Err(Failure::usage(
            "mini is built in, so there is nothing to download",
        ));
    }
    let known = catalogue::find(name).ok_or_else(|| {
        Failure::refused(
            anyhow!("there is no base called {name:?}"),
            "`palmfarm base list` lists them; to download another image, give its URL",
        )
    })?;
    if args.sha256.is_some() {
        return Err(Failure::usage(
            "--sha256 is for URLs; for a name the digest is known",
        ));
    }
    let failed = |error| not_downloaded(error, session);
    let bases = locate::bases(cache).map_err(failed)?;
    let keys = ubuntu_keys()?;
    let mirror = args.mirror.as_deref().unwrap_or(RELEASES);
    let digest =
        download::fetch(&client()?, known, mirror, &keys, &bases, session.observer()).map_err(failed)?;
    Ok((bases.join(known.file), digest))
}

fn fetch_url(
    url: &str,
    args: &Fetch,
    session: &Session,
    cache: &CacheDir,
) -> Result<(PathBuf, Sha256Sum), Failure> {
    if args.mirror.is_some() {
        return Err(Failure::usage(
            "--mirror is for names; a URL names its server itself",
        ));
    }
    let failed = |error| not_downloaded(error, session);
    let url = Url::parse(url).map_err(failed)?;
    if !url.is_https() && args.sha256.is_none() {
        let error = anyhow!("http downloads are not authenticated");
        return Err(
            Failure::new(Outcome::Refused, error).hint("give its digest with --sha256, or an https:// URL")
        );
    }
    let bases = locate::bases(cache).map_err(failed)?;
    let path = bases.join(cached_name(&url));
    // Without a digest, nothing shows whether the server has a newer file.
    if let Some(digest) = args.sha256 {
        if download::is_there(&path, &digest, session.observer()).map_err(failed)? {
            return Ok((path, digest));
        }
    }
    let digest = client()?
        .download(&url, &path, args.sha256, session.observer())
        .map_err(failed)?;
    Ok((path, digest))
}

pub(super) fn not_downloaded(error: DownloadError, session: &Session) -> Failure {
    if session.is_cancelled() || matches!(error, DownloadError::Cancelled) {
        return session.interrupted(
            "interrupted; the same command resumes the download, unless the server cannot send a part of a file",
        );
    }
    let outcome = if error.is_refusal() {
        Outcome::Refused
    } else {
        Outcome::Failed
    };
    Failure::with_hint(outcome, error, DownloadError::hint)
}

fn verify(args: &Verify, session: &Session, cache: &CacheDir) -> CliResult {
    let given = args
        .sums
        .as_deref()
        .map(|sums| given_sums(sums, args.signature.as_deref()))
        .transpose()?;
    let found = file_digest(&args.file, session.observer()).map_err(|error| session.not_read(error))?;
    session.progress.clear();
    let name = args
        .file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is = match &given {
        Some(sums) => name_in_list(sums, name, &found, &args.file)?,
        None => name_in_catalogue(name, &found, &args.file, cache)?,
    };
    if session.ui.json {
        session.ui.event(
            &json!({"event": "verified", "file": args.file, "is": is, "sha256": found.to_string(),
                   "signed": given.is_none() || args.signature.is_some()}),
        );
    } else {
        session
            .ui
            .result_line(format_args!("ok: {} is {}", args.file.display(), printable(&is)));
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
        return match text_file::decode(&list) {
            Ok(text) => Ok(Sums::parse(&text)),
            Err(why) => Err(Failure::refused(
                anyhow!("{} {why}, and a list of digests is text", sums.display()),
                why.hint(),
            )),
        };
    };
    download::signed_sums(&list, &read(signature, MOST_SIGNATURE)?, &ubuntu_keys()?)
        .with_context(|| format!("checking the signature {}", signature.display()))
        .or_fail(Outcome::Refused)
        .map_err(|failure| failure.hint("this list is not the one that Ubuntu published"))
}

/// The name of the file in a list, which must have its digest.
fn name_in_list(sums: &Sums, name: &str, found: &Sha256Sum, file: &Path) -> Result<String, Failure> {
    match sums.find(name) {
        Some(listed) if listed == *found => Ok(name.into()),
        Some(listed) => Err(differs(file, found, &listed)),
        None if sums.contradicts_itself(name) => Err(Failure::refused(
            anyhow!("the list has two different digests for {name:?}"),
            "take the list from the folder that the file was downloaded from",
        )),
        None => sums.name_of(found).map(str::to_owned).ok_or_else(|| {
            Failure::refused(
                anyhow!("the list names neither {name:?} nor any file with SHA-256 {found}"),
                "take the list from the folder that the file was downloaded from",
            )
        }),
    }
}

/// The name of the file in the catalogue.
fn name_in_catalogue(
    name: &str,
    found: &Sha256Sum,
    file: &Path,
    cache: &CacheDir,
) -> Result<String, Failure> {
    let keys = ubuntu_keys()?;
    let bases = locate::bases(cache).ok();
    let digest = |known: &Known| known_digest(known, &keys, bases.as_deref());
    if let Some(known) = KNOWN.iter().find(|known| digest(known) == Some(*found)) {
        return Ok(format!("{} ({})", known.name, known.file));
    }
    let Some(known) = KNOWN.iter().find(|known| known.file == name) else {
        let error = anyhow!(
            "{} has SHA-256 {found}, which is not the digest of any image in the catalogue",
            file.display()
        );
        let hint = "compare it with the publisher's list: --sums SHA256SUMS";
        return Err(Failure::refused(error, hint));
    };
    Err(match digest(known) {
        Some(listed) => differs(file, found, &listed),
        None => Failure::refused(
            anyhow!("the digest of {} is not known yet", known.file),
            format!("`palmfarm base fetch {}` downloads the signed list", known.name),
        ),
    })
}

fn differs(file: &Path, found: &Sha256Sum, listed: &Sha256Sum) -> Failure {
    let error = anyhow!("{} has SHA-256 {found}, expected {listed}", file.display());
    Failure::refused(error, "the file is damaged or a different one: download it again")
}

fn suggest(args: &Suggest, ui: Ui) -> CliResult {
    let asked = args.board.join(" ");
    let found = if asked.is_empty() {
        boards::BOARDS.iter().collect()
    } else {
        match boards::suggest(&asked) {
            Suggestion::Boards(found) => found,
            Suggestion::Unsupported => {
                let error = anyhow!("Ubuntu has no image for {asked:?}: its processor is too old");
                let hint = "the Pi 2 is the oldest board that Ubuntu supports";
                return Err(Failure::refused(error, hint));
            }
            Suggestion::Unknown => {
                let error = anyhow!("palmfarm does not know a board called {asked:?}");
                let hint = "give 2, 3, 4, 5 or zero2w, or what /proc/device-tree/model says on the Pi";
                return Err(Failure::refused(error, hint));
            }
        }
    };
    let line = |board: &boards::Board| {
        if ui.json {
            let board = json!({"event": "board", "name": board.name, "bases": board.bases, "why": board.why});
            return format!("{board}\n");
        }
        format!(
            "{}: {}\n    {}\n",
            board.name,
            board.bases.join(", else "),
            board.why
        )
    };
    let out: String = found.into_iter().map(line).collect();
    ui.output(out.as_bytes())
}
