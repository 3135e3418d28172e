//! What reaches a sink equals a naive model; what fails leaves nothing behind.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use xz2::stream::Check;

use super::*;
use crate::base::source::testing::{base, extents, image, unobserved, xz};
use crate::base::source::{BaseImage, Sha256Sum, SourceError, Verified};
use crate::edit::block::Extents;
use crate::edit::block::{Edits, Overlay, ReadAt, WriteAt};
use crate::edit::tree::Tree;
use crate::progress::{Cancel, Observer, Phase, Progress};

fn options(threads: usize) -> WriteOptions<'static> {
    WriteOptions {
        threads: NonZeroUsize::new(threads).unwrap(),
        free: FreeSpace::Written,
        digest: ImageDigest::Sha256,
    }
}

fn edits(image: &[u8], writes: &[(usize, Vec<u8>)]) -> (Edits, Vec<u8>) {
    let medium = image.to_vec();
    let mut edited = medium.clone();
    let overlay = Overlay::new(&medium);
    for (at, bytes) in writes {
        overlay.write_all_at(u64::try_from(*at).unwrap(), bytes).unwrap();
        edited[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    (overlay.take_edits().unwrap(), edited)
}

fn place(range: &Range<u64>) -> Range<usize> {
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}

/// Keeps what it is given, and holds callers to the contract.
struct Model<const APART: bool> {
    bytes: Vec<u8>,
    size: u64,
}

impl<const APART: bool> Model<APART> {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            size: 0,
        }
    }

    fn take(&mut self, offset: u64, bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).unwrap();
        assert_eq!(offset, u64::try_from(self.bytes.len()).unwrap());
        assert_eq!(offset % 4096, 0);
        assert!(len > 0 && len <= 1 << 20);
        assert!(len % 4096 == 0 || offset + len == self.size);
        self.bytes.extend_from_slice(bytes);
    }
}

impl<const APART: bool> Sink for Model<APART> {
    type Done = Vec<u8>;

    const ZEROES: Zeroes = if APART { Zeroes::Apart } else { Zeroes::AsBytes };

    fn begin(&mut self, size: u64) -> Result<(), SinkError> {
        self.size = size;
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        assert_eq!(bytes.as_ptr().align_offset(4096), 0);
        self.take(offset, bytes);
        Ok(())
    }

    fn gap(&mut self, offset: u64, len: u64, reason: Gap) -> Result<(), SinkError> {
        assert!(APART || reason == Gap::Free);
        self.take(offset, &vec![0; usize::try_from(len).unwrap()]);
        Ok(())
    }

    fn finish(self, _watch: Observer<'_>) -> Result<Vec<u8>, SinkError> {
        Ok(self.bytes)
    }
}

/// Write through `sink`, and compare with base, edits and map laid over each other byte by byte.
fn check_pass<S: Sink<Done = Vec<u8>>>(
    base: &Verified<BaseImage>,
    (edits, edited): &(Edits, Vec<u8>),
    free: FreeSpace<'_>,
    threads: usize,
    sink: S,
) {
    let options = WriteOptions {
        free,
        ..options(threads)
    };
    let mut expect = edited.clone();
    let size = u64::try_from(edited.len()).unwrap();
    let mut all = Extents::whole(size);
    if let FreeSpace::Mapped(needed) | FreeSpace::Skipped(needed) = free {
        all = needed.clone();
        for (offset, bytes) in edits.iter() {
            all.add(offset, offset + u64::try_from(bytes.len()).unwrap());
        }
        all = all.aligned(4096, size);
    }
    let mut skipped = 0;
    if let FreeSpace::Skipped(_) = free {
        skipped = size - all.total();
        for (start, end) in all.complement(size).iter() {
            expect[place(&(start..end))].fill(0);
        }
    }
    let written = unobserved(|observer| write_image(base, edits, sink, options, observer)).unwrap();
    assert!(written.done == expect);
    assert_eq!(written.sha256, Some(Sha256Sum::of(&expect)));
    assert_eq!(written.size, size);
    assert_eq!(written.skipped, skipped);
    let mapped = written
        .mapped
        .iter()
        .map(|mapped| (mapped.range.start, mapped.range.end));
    assert_eq!(extents(mapped), all);
    for mapped in &written.mapped {
        assert_eq!(mapped.sha256, Sha256Sum::of(&expect[place(&mapped.range)]));
        assert_eq!(mapped.range.start >> 20, (mapped.range.end - 1) >> 20);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_sink_gets_what_the_model_says(
        len in 1..4_000_000_usize,
        block in prop_oneof![Just(1_u64 << 20), 60_000..3_000_000_u64],
        threads in 1..5_usize,
        writes in prop::collection::vec((0..4_000_000_usize, 1..20_000_usize, any::<u8>()), 0..6),
        needed in prop::collection::vec((0..4_000_000_u64, 1..500_000_u64), 0..5),
    ) {
        let image = image(len, 3);
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path(), &xz(&image, block, Check::Crc64)).unwrap();
        let writes: Vec<_> = writes
            .into_iter()
            .map(|(at, many, byte)| (at % len, many, byte))
            .map(|(at, many, byte)| (at, vec![byte; many.min(len - at)]))
            .collect();
        let edits = edits(&image, &writes);
        let size = u64::try_from(len).unwrap();
        let needed = extents(needed.into_iter().map(|(at, len)| (at.min(size), (at + len).min(size))));
        for free in [FreeSpace::Written, FreeSpace::Mapped(&needed), FreeSpace::Skipped(&needed)] {
            check_pass(&base, &edits, free, threads, Model::<true>::new());
            check_pass(&base, &edits, free, threads, Model::<false>::new());
        }
    }
}

#[test]
fn each_card_of_a_fleet_gets_its_own_image() {
    let image = image(3 << 20, 5);
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path(), &xz(&image, 1 << 20, Check::Crc64)).unwrap();
    let cards = [
        edits(&image, &[]),
        edits(&image, &[(5000, vec![7; 600])]),
        edits(&image, &[(2 << 20, vec![8; 600])]),
        edits(&image, &[]),
    ];
    for count in 0..=cards.len() {
        let mut targets = Vec::new();
        for (edits, _) in cards.iter().take(count) {
            targets.push(WriteTarget {
                edits,
                free: FreeSpace::Written,
                sink: Model::<true>::new(),
            });
        }
        let written = unobserved(|observer| write_images(&base, targets, options(2), observer)).unwrap();
        assert_eq!(written.len(), count);
        for (written, (_, edited)) in written.iter().zip(&cards) {
            assert!(written.done == *edited);
            assert_eq!(written.sha256, Some(Sha256Sum::of(edited)));
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write(
    base: &Verified<BaseImage>,
    edits: &Edits,
    path: &Path,
    options: WriteOptions<'_>,
) -> Result<Written<std::path::PathBuf>, SinkError> {
    let output = Output {
        path,
        tree: &Tree::default(),
    };
    unobserved(|observer| write_output(base, edits, output, options, observer))
}

type Unpack = fn(&[u8]) -> Vec<u8>;

#[test]
fn outputs_are_the_image_whatever_their_packing_and_the_number_of_threads() {
    let image = image(5_000_001, 21);
    let (edits, edited) = edits(&image, &[(0, vec![7; 600]), (4_000_000, vec![8; 9000])]);
    let packed = tempfile::tempdir().unwrap();
    let base = base(packed.path(), &xz(&image, 1 << 20, Check::Crc64)).unwrap();
    let unpack: [(&str, Unpack); 3] = [
        ("palm.img", <[u8]>::to_vec),
        ("palm.img.xz", |bytes| {
            let mut image = Vec::new();
            std::io::Read::read_to_end(&mut xz2::read::XzDecoder::new(bytes), &mut image).unwrap();
            image
        }),
        ("palm.img.zst", |bytes| zstd::stream::decode_all(bytes).unwrap()),
    ];
    for (name, unpack) in unpack {
        let mut first = None;
        for threads in [1, 2, 5] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            std::fs::write(&path, "old").unwrap();
            let written = write(&base, &edits, &path, options(threads)).unwrap();
            assert_eq!(
                names(dir.path()),
                [
                    name.to_owned(),
                    format!("{name}.bmap"),
                    format!("{name}.manifest.json")
                ]
            );
            assert_eq!(written.sha256, Some(Sha256Sum::of(&edited)));
            let all: Vec<Vec<u8>> = names(dir.path())
                .iter()
                .map(|name| std::fs::read(dir.path().join(name)).unwrap())
                .collect();
            assert!(unpack(&all[0]) == edited, "{name}");
            assert!(
                *first.get_or_insert_with(|| all.clone()) == all,
                "{name} with {threads} threads"
            );
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        }
    }
}

#[test]
fn zeroes_become_holes() {
    let mut image = image(1 << 20, 23);
    image.resize(16 << 20, 0);
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path(), &xz(&image, 1 << 20, Check::Crc64)).unwrap();
    let path = dir.path().join("palm.img");
    write(&base, &Edits::new(16 << 20), &path, options(2)).unwrap();
    assert!(std::fs::read(&path).unwrap() == image);
    let blocks = std::fs::metadata(&path).unwrap().blocks();
    assert!(blocks <= (1 << 20) / 512 + 8, "{blocks} sectors on the disk");
}

#[test]
fn what_fails_leaves_the_old_output_alone() {
    let image = image(3 << 20, 25);
    let packed = tempfile::tempdir().unwrap();
    let mut file = xz(&image, 200_000, Check::Crc64);
    let half = file.len() / 2;
    file[half] ^= 1;
    let damaged = base(packed.path(), &file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["palm.img", "palm.img.xz", "palm.img.zst"] {
        let path = dir.path().join(name);
        std::fs::write(&path, "old").unwrap();
        let error = write(&damaged, &Edits::new(3 << 20), &path, options(2)).unwrap_err();
        assert!(
            matches!(error, SinkError::Source(SourceError::Xz { .. })),
            "{error:?}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    }
    assert_eq!(names(dir.path()), ["palm.img", "palm.img.xz", "palm.img.zst"]);
    let error = write(
        &damaged,
        &Edits::new(5),
        &dir.path().join("other.img"),
        options(1),
    )
    .unwrap_err();
    assert!(matches!(error, SinkError::OtherBase { edits: 5, .. }));
    let error = write(&damaged, &Edits::new(3 << 20), dir.path(), options(1)).unwrap_err();
    assert!(matches!(error, SinkError::UnknownPacking { .. }));
    let missing = dir.path().join("no/palm.img");
    let error = write(&damaged, &Edits::new(3 << 20), &missing, options(1)).unwrap_err();
    assert!(matches!(error, SinkError::Create { .. }));
}

/// Asks to stop when half is written.
struct StopHalfway<'a>(&'a Cancel);

impl Progress for StopHalfway<'_> {
    fn advance(&self, phase: Phase, done: u64, total: u64) {
        if phase == Phase::Write && done >= total / 2 {
            self.0.cancel();
        }
    }
}

#[test]
fn a_request_to_stop_leaves_nothing() {
    let image = image(6 << 20, 27);
    let packed = tempfile::tempdir().unwrap();
    let base = base(packed.path(), &xz(&image, 1 << 20, Check::Crc64)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &StopHalfway(&cancel),
        cancel: &cancel,
    };
    let output = Output {
        path: &dir.path().join("palm.img"),
        tree: &Tree::default(),
    };
    let error = write_output(&base, &Edits::new(6 << 20), output, options(2), observer).unwrap_err();
    assert!(error.is_cancelled());
    assert!(names(dir.path()).is_empty());
}

/// Changes the last bytes of the base when the first are written, and sets its times back.
struct ForgeTheEnd<'a>(&'a Path);

impl Progress for ForgeTheEnd<'_> {
    fn advance(&self, phase: Phase, done: u64, _total: u64) {
        if phase == Phase::Write && done <= 1 << 20 {
            let file = std::fs::File::options().write(true).open(self.0).unwrap();
            let metadata = file.metadata().unwrap();
            let times = std::fs::FileTimes::new().set_modified(metadata.modified().unwrap());
            std::os::unix::fs::FileExt::write_all_at(&file, b"forged", metadata.size() - 6).unwrap();
            file.set_times(times).unwrap();
        }
    }
}

#[test]
fn a_base_that_is_changed_while_it_is_written_reaches_no_output() {
    let size = 96 << 20;
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path(), &vec![7; size]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &ForgeTheEnd(&folder.path().join("base")),
        cancel: &cancel,
    };
    let output = Output {
        path: &dir.path().join("palm.img"),
        tree: &Tree::default(),
    };
    let edits = Edits::new(base.size());
    let error = write_output(&base, &edits, output, options(1), observer).unwrap_err();
    assert!(
        matches!(error, SinkError::Source(SourceError::Changed { .. })),
        "{error:?}"
    );
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_full_disk_is_named() {
    let image = image(3 << 20, 29);
    let packed = tempfile::tempdir().unwrap();
    let base = base(packed.path(), &image).unwrap();
    let full = SinkError::Write {
        target: "palm.img".into(),
        offset: 0,
        len: 4096,
        source: std::io::ErrorKind::StorageFull.into(),
    };
    assert_eq!(full.to_string(), "writing 4096 bytes at offset 0 of palm.img");
    assert!(full.hint().unwrap().starts_with("make room"));
    let device = Path::new("/dev/full");
    let error = unobserved(|observer| {
        FileSink::create(device)
            .and_then(|sink| write_image(&base, &Edits::new(3 << 20), sink, options(1), observer))
    })
    .unwrap_err();
    assert!(matches!(error, SinkError::Create { .. }));
    assert!(error.hint().unwrap().contains("palmfarm flash"));
}

#[test]
fn bmaptool_writes_what_the_map_says() {
    if Command::new("bmaptool").arg("--version").output().is_err() {
        // Past the capture of libtest, which counts it as passed.
        let _ = writeln!(
            std::io::stdout(),
            "skipped: bmaptool: it is not installed (Debian: bmap-tools)"
        );
        return;
    }
    let image = image(5_000_001, 31);
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path(), &xz(&image, 1 << 20, Check::Crc64)).unwrap();
    let (edits, edited) = edits(&image, &[(100_000, vec![7; 6000])]);
    let needed = extents([(0, 4096), (1_000_000, 3_000_000), (4_900_000, 5_000_001)]);
    let options = WriteOptions {
        free: FreeSpace::Skipped(&needed),
        ..options(2)
    };
    let path = dir.path().join("palm.img");
    let written = write(&base, &edits, &path, options).unwrap();
    let copy = dir.path().join("copy");
    let output = Command::new("bmaptool")
        .arg("copy")
        .args([&path, &copy])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let copy = std::fs::read(&copy).unwrap();
    assert_eq!(copy.len(), edited.len());
    for mapped in &written.mapped {
        assert!(
            copy[place(&mapped.range)] == edited[place(&mapped.range)],
            "{:?}",
            mapped.range
        );
    }
}
