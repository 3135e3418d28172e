//! What happens to the file of a base while it is used, and who uses it at the same time.

use std::io::Write;

use xz2::stream::Check;

use super::testing::{base, gzip, image, nines, open, streamed, whole, xz};
use super::*;
use crate::host::atomic_file::{AtomicFile, Readers};
use crate::progress::Cancel;

#[test]
fn a_base_that_changes_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path(), &[1; 5000]).unwrap();
    base.unchanged().unwrap();
    std::fs::write(dir.path().join("base"), [2; 5000]).unwrap();
    assert!(matches!(base.unchanged(), Err(SourceError::Changed { .. })));
}

#[test]
fn a_base_that_is_only_called_otherwise_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("base"), dir.path().join("other"));
    let image = image(1_000_000, 3);
    let base = base(dir.path(), &image).unwrap();
    let as_it_was = |what: &str| {
        base.unchanged().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(streamed(&base, 2, None).unwrap() == image, "{what}");
    };
    std::fs::hard_link(&path, &other).unwrap();
    as_it_was("linked");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    as_it_was("another mode");
    std::fs::rename(&path, dir.path().join("renamed")).unwrap();
    as_it_was("renamed");
    std::fs::remove_file(&other).unwrap();
    std::fs::remove_file(dir.path().join("renamed")).unwrap();
    as_it_was("removed");
}

/// Write `bytes` at `at` of the file at `path`, and set its times back.
fn forge(path: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    let times = std::fs::FileTimes::new().set_modified(file.metadata().unwrap().modified().unwrap());
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
    file.set_times(times).unwrap();
}

#[test]
fn no_byte_is_read_that_was_not_hashed() {
    let image = image(3_000_000, 21);
    let dir = tempfile::tempdir().unwrap();
    let cache = CacheDir::new(dir.path().join("cache"));
    let path = dir.path().join("base");
    let packings = [
        ("raw", image.clone()),
        ("xz", xz(&image, 1 << 20, Check::Crc64)),
        ("gz", gzip(&image)),
    ];
    for (name, packed) in packings {
        std::fs::write(&path, &packed).unwrap();
        let base = open(&path, &cache).unwrap();
        let file = if name == "gz" {
            dir.path()
                .join(format!("cache/bases/{}.img", Sha256Sum::of(&packed)))
        } else {
            path.clone()
        };
        let middle = packed.len().min(image.len()) / 2;
        let byte = std::fs::read(&file).unwrap()[middle];
        let at = u64::try_from(middle).unwrap();
        forge(&file, at, &[!byte]);
        // Not even its times show it.
        base.unchanged().unwrap();
        assert!(
            matches!(streamed(&base, 2, None), Err(SourceError::Changed { .. })),
            "{name}"
        );
        let said = whole(&base).unwrap_err().to_string() + &format!("{:?}", whole(&base));
        assert!(
            said.contains("was changed after") || said.contains("ChangedBytes"),
            "{name}: {said}"
        );
        // As it was: no harm is done.
        forge(&file, at, &[byte]);
        assert!(streamed(&base, 2, None).unwrap() == image, "{name}");
        // Cut off: what is still in memory is right, and nothing else is read.
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(at)
            .unwrap();
        match streamed(&base, 2, None) {
            Err(SourceError::Changed { .. }) => {}
            other => assert!(name == "xz" && other.unwrap() == image, "{name}"),
        }
    }
}

#[test]
fn bytes_that_change_through_a_mapping_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    let image = image(1_000_000, 23);
    std::fs::write(&path, &image).unwrap();
    // The page is dirty before the file is hashed: later writes to it change no time of the file.
    let script =
        "import mmap, sys\nf = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0)\nm[500000] ^= 1\n\
                  print(flush=True); input(); m[500001] ^= 1; print(flush=True); sys.stdin.read()";
    let child = std::process::Command::new("python3")
        .args(["-c", script, path.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: there is no python3");
        return;
    };
    let (mut told, mut hears) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut line = [0];
    io::Read::read_exact(&mut hears, &mut line).unwrap();
    let base = open(&path, &CacheDir::new(dir.path().join("cache"))).unwrap();
    assert!(streamed(&base, 2, None).is_ok());
    told.write_all(b"\n").unwrap();
    io::Read::read_exact(&mut hears, &mut line).unwrap();
    assert!(matches!(
        streamed(&base, 2, None),
        Err(SourceError::Changed { .. })
    ));
    drop(told);
    child.wait().unwrap();
}

#[test]
fn what_was_remembered_of_other_bytes_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    let cache = CacheDir::new(dir.path().join("cache"));
    std::fs::write(&path, [1; 5000]).unwrap();
    let file = FileAt::new(File::open(&path).unwrap()).unwrap();
    if !file.keeps_times() {
        return;
    }
    let identity = file.identity("file").unwrap();
    let line = format!("{} {}\n", digest::fingerprint(&identity), Sha256Sum([9; 32]));
    let note = [line.as_bytes(), nines(&[2; 5000]).pieces.stored()].concat();
    let remembered = cache.hash_of(&identity).unwrap();
    AtomicFile::write_cached(&remembered, Readers::Owner, &note).unwrap();
    assert!(matches!(open(&path, &cache), Err(SourceError::Changed { .. })));
    assert!(!remembered.exists());
    assert_eq!(
        open(&path, &cache).unwrap().provenance().sha256,
        Sha256Sum::of(&[1; 5000])
    );
}

/// The threads that have unpacked something.
#[derive(Default)]
struct Unpacked(std::sync::Mutex<std::collections::HashSet<std::thread::ThreadId>>);

impl crate::progress::Progress for Unpacked {
    fn advance(&self, phase: Phase, done: u64, _total: u64) {
        if phase == Phase::Unpack && done > 0 {
            self.0.lock().unwrap().insert(std::thread::current().id());
        }
    }
}

#[test]
fn one_process_unpacks_and_the_others_wait_for_it() {
    let image = image(2_000_000, 25);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.img.gz");
    std::fs::write(&path, gzip(&image)).unwrap();
    let cache = CacheDir::new(dir.path().join("cache"));
    let unpacked = Unpacked::default();
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &unpacked,
        cancel: &cancel,
    };
    let open = || BaseImage::open(&path, Expect::Anything, &cache, observer);
    // The holder of the lock is killed: whoever waits goes on.
    let bases = dir.path().join("cache/bases");
    std::fs::create_dir_all(&bases).unwrap();
    let sum = Sha256Sum::of(&gzip(&image));
    let lock = bases.join(format!("{sum}.lock"));
    let script = "import fcntl, sys\nf = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX)\nprint(flush=True); input()";
    let holder = std::process::Command::new("python3")
        .args(["-c", script, lock.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut holder) = holder else {
        eprintln!("skipped: there is no python3");
        return;
    };
    io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(open)).collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(threads.iter().all(|thread| !thread.is_finished()));
        assert!(!bases.join(format!("{sum}.img")).exists());
        holder.kill().unwrap();
        holder.wait().unwrap();
        for thread in threads {
            assert!(whole(&thread.join().unwrap().unwrap()).unwrap() == image);
        }
    });
    assert_eq!(unpacked.0.lock().unwrap().len(), 1);
    assert!(!lock.exists());
    // Who waits can be told to stop.
    std::fs::remove_file(bases.join(format!("{sum}.img"))).unwrap();
    let held = crate::host::files::open_or_create(&lock).unwrap();
    assert!(crate::host::locks::try_lock(&held).unwrap());
    cancel.cancel();
    let observer = Observer {
        progress: &crate::progress::Silent,
        cancel: &cancel,
    };
    let stopped = BaseImage::open(&path, Expect::Anything, &cache, observer);
    assert!(matches!(stopped, Err(SourceError::Cancelled)));
}
