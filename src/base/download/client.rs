//! HTTP: downloads one file at a time, with redirects that never leave https, and resumes where a download broke off.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::tls::{parse_pem, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::answer::{number, resumed, text, validator, whole};
use super::partial::{Origin, Partial};
use super::url::Url;
use super::DownloadError;
use crate::base::source::Sha256Sum;
use crate::edit::block::length;
use crate::progress::{Cancel, Observer, Phase, Wait};

/// The largest file that is downloaded, in bytes: Ubuntu's images have 1.5 GB, and no card is larger than this.
pub const MOST_BYTES: u64 = 64 << 30;

/// The most redirects that are followed.
const MOST_REDIRECTS: u32 = 10;

/// How often a download that broke off is resumed without having received a byte in between.
const RETRIES: u32 = 4;

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a connection may take.
    pub connect: Duration,
    /// How long the server may be silent.
    pub silence: Duration,
    /// How long a list or a signature may take in all.
    pub small: Duration,
    /// How long to wait before the first retry; each further one takes twice as long.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            // Ubuntu's lists have a few KiB: a modem gets a hundred times as much in this time.
            small: Duration::from_secs(120),
            pause: Duration::from_secs(1),
        }
    }
}

/// Downloads files.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    limits: Limits,
}

impl Client {
    /// A client that takes its proxy from the first of `proxy::VARIABLES` that is set, unless `NO_PROXY` names the host.
    /// `certificates` is PEM text of those to trust in place of the ones that are built in.
    pub fn new(limits: Limits, certificates: Option<&[u8]>) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("palmfarm/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(limits.connect))
            .timeout_recv_response(Some(limits.silence))
            .timeout_per_read(Some(limits.silence));
        if let Some(pem) = certificates {
            let roots: Vec<_> = parse_pem(pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            let roots = RootCerts::Specific(Arc::new(roots));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Self {
            agent: config.build().into(),
            limits,
        }
    }

    /// The file behind `url`, which has at most `most` bytes: for lists and signatures.
    pub fn small(&self, url: &Url, most: u64, cancel: &Cancel) -> Result<Vec<u8>, DownloadError> {
        let started = Instant::now();
        let (response, _) = self.ask(url, None)?;
        self.small_body(url, response, started, most, cancel)
    }

    /// The same for a file that is nowhere else: a redirect is an error.
    pub fn small_unmoved(&self, url: &Url, most: u64, cancel: &Cancel) -> Result<Vec<u8>, DownloadError> {
        let started = Instant::now();
        let response = self.request(url, None)?;
        if let Some(to) = redirect(url, &response)? {
            return Err(DownloadError::Moved {
                from: url.to_string(),
                to: to.to_string(),
            });
        }
        self.small_body(url, response, started, most, cancel)
    }

    fn small_body(
        &self,
        url: &Url,
        mut response: Response<Body>,
        started: Instant,
        most: u64,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, DownloadError> {
        whole(url, response.status().as_u16())?;
        let mut bytes = Vec::new();
        let done = receive(url, &mut response, 0, most, cancel, |piece, done| {
            bytes.extend_from_slice(piece);
            if started.elapsed() > self.limits.small {
                return Err(DownloadError::Slow {
                    url: url.to_string(),
                    done,
                    most: self.limits.small,
                });
            }
            Ok(())
        })?;
        complete(url, done, number(response.headers(), "content-length"))?;
        Ok(bytes)
    }

    /// Download `url` to `target`, or resume what an earlier run left of it, and return its digest. The file gets its
    /// name only if it has the digest in `expect`. After an error `target` is as it was.
    pub fn download(
        &self,
        url: &Url,
        target: &Path,
        expect: Option<Sha256Sum>,
        observer: Observer<'_>,
    ) -> Result<Sha256Sum, DownloadError> {
        let mut partial = Partial::open(target, &url.as_requested(), observer)?;
        let found = match self.all(url, &mut partial, expect, observer) {
            Ok(found) => found,
            Err(error) => {
                // Do not leave behind what cannot be resumed, least of all on a full disk.
                if partial.len == 0 || partial.from.validator.is_empty() {
                    partial.discard();
                }
                return Err(error);
            }
        };
        match expect {
            Some(expected) if expected != found => {
                partial.discard();
                Err(DownloadError::Sha256 {
                    url: url.to_string(),
                    expected,
                    found,
                })
            }
            _ => partial.commit().map(|()| found),
        }
    }

    /// All of `url` into `partial`; its digest.
    fn all(
        &self,
        url: &Url,
        partial: &mut Partial,
        expect: Option<Sha256Sum>,
        observer: Observer<'_>,
    ) -> Result<Sha256Sum, DownloadError> {
        self.fill(url, partial, observer)?;
        if expect.is_some_and(|expect| expect != partial.digest()) && partial.kept > 0 {
            // What an earlier run left may be what is wrong.
            partial.restart()?;
            self.fill(url, partial, observer)?;
        }
        Ok(partial.digest())
    }

    /// Retry until all of it is there.
    fn fill(&self, url: &Url, partial: &mut Partial, observer: Observer<'_>) -> Result<(), DownloadError> {
        let (mut before, mut tries) = (partial.len, 0);
        let mut came = false;
        loop {
            let error = match self.resume(url, partial, observer) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Only more bytes than ever before count: a server may send the same part again and again.
            if partial.len > before {
                (before, tries, came) = (partial.len, 0, true);
            }
            tries += 1;
            // A server that never answered will not answer in a second; one that did may.
            let again = error.is_passing() || came && matches!(error, DownloadError::Ask { .. });
            if !again || tries > RETRIES {
                return Err(error);
            }
            observer.progress.wait(
                Phase::Download,
                Wait::Connection {
                    next: tries + 1,
                    of: RETRIES + 1,
                },
            );
            self.pause(tries, observer)?;
        }
    }

    /// Wait before another try, unless asked to stop.
    fn pause(&self, tries: u32, observer: Observer<'_>) -> Result<(), DownloadError> {
        let mut left = self
            .limits
            .pause
            .saturating_mul(1 << tries.saturating_sub(1).min(6));
        while !left.is_zero() {
            if observer.cancel.is_cancelled() {
                return Err(DownloadError::Cancelled);
            }
            let step = left.min(Duration::from_millis(100));
            std::thread::sleep(step);
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    /// Request what is missing, and write it until it ends.
    fn resume(&self, url: &Url, partial: &mut Partial, observer: Observer<'_>) -> Result<(), DownloadError> {
        let from = partial.from.clone();
        if from.total > 0 && partial.len == from.total {
            return Ok(());
        }
        let resume =
            (partial.len > 0 && !from.validator.is_empty()).then_some((partial.len, &*from.validator));
        if partial.len > 0 && resume.is_none() {
            partial.restart()?;
        }
        let broken = |what: &str| DownloadError::Broken {
            url: url.to_string(),
            done: 0,
            source: std::io::Error::other(what),
        };
        let (mut response, last) = self.ask(url, resume)?;
        let total = match response.status().as_u16() {
            206 => {
                let Some(total) = resumed(response.headers(), partial.len, from.total) else {
                    // The next try then requests the whole file.
                    partial.restart()?;
                    return Err(broken("the server sent another part than the requested one"));
                };
                total
            }
            416 if resume.is_some() => {
                partial.restart()?;
                return Err(broken("the file on the server has become shorter"));
            }
            status => {
                whole(&last, status)?;
                // The server does not support ranges, or the file has changed.
                partial.restart()?;
                let headers = response.headers();
                let total = number(headers, "content-length").unwrap_or(0);
                partial.begin(Origin {
                    url: url.as_requested(),
                    validator: validator(headers),
                    total,
                })?;
                total
            }
        };
        if total > MOST_BYTES {
            return Err(DownloadError::TooLarge {
                url: url.to_string(),
                most: MOST_BYTES,
            });
        }
        partial.check_space(url, total)?;
        let most = if total > 0 { total } else { MOST_BYTES };
        let done = receive(
            url,
            &mut response,
            partial.len,
            most,
            observer.cancel,
            |piece, done| {
                partial.write(piece)?;
                observer.progress.advance(Phase::Download, done, total);
                Ok(())
            },
        )?;
        complete(url, done, Some(total).filter(|total| *total > 0))
    }

    /// Send a request and follow redirects. Returns the answer and the URL that it came from.
    fn ask(&self, url: &Url, resume: Option<(u64, &str)>) -> Result<(Response<Body>, Url), DownloadError> {
        let mut at = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = self.request(&at, resume)?;
            match redirect(&at, &response)? {
                None => return Ok((response, at)),
                Some(to) => at = to,
            }
        }
        Err(DownloadError::Redirects {
            url: url.to_string(),
            most: MOST_REDIRECTS,
        })
    }

    /// Send one request.
    fn request(&self, url: &Url, resume: Option<(u64, &str)>) -> Result<Response<Body>, DownloadError> {
        let mut request = self.agent.get(url.as_requested());
        if let Some((start, validator)) = resume {
            request = request
                .header("range", format!("bytes={start}-"))
                .header("if-range", validator);
        }
        request.call().map_err(|source| DownloadError::Ask {
            url: url.to_string(),
            source: Box::new(source),
        })
    }
}

/// Where the answer for `url` leads, if it leads elsewhere.
fn redirect(url: &Url, response: &Response<Body>) -> Result<Option<Url>, DownloadError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = text(response.headers(), "location").ok_or_else(|| DownloadError::Answer {
        url: url.to_string(),
        what: "it redirects without a location".into(),
    })?;
    url.follow(location).map(Some)
}

/// Hand the body of `response` to `take`, piece by piece and each with the number of bytes up to its end; `done` bytes
/// of the file came before. Returns the number at the end, which is at most `most`.
fn receive(
    url: &Url,
    response: &mut Response<Body>,
    mut done: u64,
    most: u64,
    cancel: &Cancel,
    mut take: impl FnMut(&[u8], u64) -> Result<(), DownloadError>,
) -> Result<u64, DownloadError> {
    if let Some(coding) = text(response.headers(), "content-encoding").filter(|coding| *coding != "identity")
    {
        return Err(DownloadError::Answer {
            url: url.to_string(),
            what: format!("it is encoded as {coding:?}, which was not asked for"),
        });
    }
    let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 256 << 10];
    loop {
        if cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        let read = reader.read(&mut buffer).map_err(|source| DownloadError::Broken {
            url: url.to_string(),
            done,
            source,
        })?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            return Ok(done);
        };
        done = done.saturating_add(length(piece));
        if done > most {
            return Err(DownloadError::TooLarge {
                url: url.to_string(),
                most,
            });
        }
        take(piece, done)?;
    }
}

/// See that all of the `total` bytes came that the server promised, if it promised a number.
fn complete(url: &Url, done: u64, total: Option<u64>) -> Result<(), DownloadError> {
    match total {
        Some(total) if done != total => Err(DownloadError::Short {
            url: url.to_string(),
            done,
            total,
        }),
        _ => Ok(()),
    }
}
