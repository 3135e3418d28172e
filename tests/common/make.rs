//! Images in the layouts of Ubuntu's releases, small, made by mkfs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::run;

/// How an image is made.
#[derive(Clone, Copy)]
pub struct Recipe {
    pub name: &'static str,
    /// First sector of the FAT, and how many.
    pub boot: (u64, u64),
    pub mkfs_fat: &'static [&'static str],
    /// Bytes of the ext4.
    pub root_size: u64,
    pub mkfs_ext4: &'static [&'static str],
    pub label: &'static str,
    /// Bytes after the last partition.
    pub tail: u64,
}

const FAT32: &[&str] = &["-s", "1", "-S", "512", "-F", "32"];
const MIB: u64 = 1 << 20;

/// 18.04 for the Pi 2: FAT16 at sector 8192, no reserved blocks.
pub const BIONIC: Recipe = Recipe {
    name: "bionic",
    boot: (8192, 40_000),
    mkfs_fat: &[],
    root_size: 64 * MIB,
    mkfs_ext4: &["-b", "4096", "-i", "8192", "-m", "0", "-E", "resize=536870912"],
    label: "cloudimg-rootfs",
    tail: 0,
};

/// 20.04 and 22.04: no `metadata_csum` but `uninit_bg`, a size that is not a multiple of 4 KiB, a tail for a backup GPT.
pub const JAMMY: Recipe = Recipe {
    name: "jammy",
    boot: (2048, 80_000),
    mkfs_fat: FAT32,
    root_size: 64 * MIB + 2048,
    mkfs_ext4: &["-O", "-metadata_csum", "-T", "default", "-O", "uninit_bg"],
    label: "writable",
    tail: 17 * 1024,
};

/// 24.04: mkfs.ext4's defaults of 2023.
pub const NOBLE: Recipe = Recipe {
    name: "noble",
    root_size: 64 * MIB,
    mkfs_ext4: &["-T", "default", "-O", "64bit,metadata_csum"],
    tail: 512,
    ..JAMMY
};

/// 26.04: the checksum seed in the superblock, and an orphan file.
pub const RESOLUTE: Recipe = Recipe {
    name: "resolute",
    mkfs_ext4: &[
        "-T",
        "default",
        "-O",
        "64bit,metadata_csum,metadata_csum_seed,orphan_file",
    ],
    ..NOBLE
};

/// Blocks of 1 KiB, with and without checksums.
pub const SMALL_BLOCKS: Recipe = Recipe {
    name: "1k",
    mkfs_ext4: &["-b", "1024", "-O", "metadata_csum"],
    ..NOBLE
};
pub const SMALL_BLOCKS_PLAIN: Recipe = Recipe {
    name: "1k-plain",
    mkfs_ext4: &["-b", "1024", "-O", "-metadata_csum,uninit_bg"],
    ..NOBLE
};

/// Blocks of 2 KiB, which are edited only without checksums.
pub const MIDDLE_BLOCKS: Recipe = Recipe {
    name: "2k",
    mkfs_ext4: &["-b", "2048", "-O", "-metadata_csum"],
    ..NOBLE
};

/// Inodes of 128 bytes, which are edited only without checksums; no journal.
pub const SMALL_INODES: Recipe = Recipe {
    name: "128-byte-inodes",
    mkfs_ext4: &["-I", "128", "-O", "-metadata_csum,^has_journal,^extra_isize"],
    ..NOBLE
};

/// Many groups, most of them never initialised.
pub const LARGE: Recipe = Recipe {
    name: "2-gib",
    root_size: 2200 * MIB,
    ..JAMMY
};

/// Every recipe that is edited.
pub const ALL: [Recipe; 8] = [
    BIONIC,
    JAMMY,
    NOBLE,
    RESOLUTE,
    SMALL_BLOCKS,
    SMALL_BLOCKS_PLAIN,
    MIDDLE_BLOCKS,
    SMALL_INODES,
];

/// A finished image in a directory that goes away with it.
pub struct Image {
    pub path: PathBuf,
    pub boot: (u64, u64),
    pub root: (u64, u64),
    pub dir: tempfile::TempDir,
}

impl Recipe {
    /// Make the image, its root filled by `fill`.
    pub fn make_with(&self, fill: impl FnOnce(&Path)) -> Image {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let tree = at("tree");
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        let root = at("root.ext4");
        File::create(&root).unwrap().set_len(self.root_size).unwrap();
        let mut args = vec![
            "-q",
            "-F",
            "-L",
            self.label,
            "-U",
            "70616c6d-0000-4000-8000-000000000001",
        ];
        args.extend(self.mkfs_ext4);
        let tree_name = tree.to_str().unwrap().to_owned();
        args.extend(["-d", &tree_name, root.to_str().unwrap()]);
        run("mke2fs", &[&["-t", "ext4"], args.as_slice()].concat());
        // Indexed directories, as a kernel makes them.
        super::attempt("e2fsck", &["-fyD", root.to_str().unwrap()]);
        let boot = at("boot.fat");
        self.made_boot(&boot);
        let start = self.boot.0 * 512;
        let boot_size = self.boot.1 * 512;
        let root_start = (start + boot_size).next_multiple_of(MIB);
        let path = at("image.img");
        let mut image = File::create(&path).unwrap();
        image.set_len(root_start + self.root_size + self.tail).unwrap();
        let sector = mbr(&[(0x0C, start, boot_size), (0x83, root_start, self.root_size)]);
        image.write_all(&sector).unwrap();
        copy_sparse(&boot, &mut image, start);
        copy_sparse(&root, &mut image, root_start);
        fs::remove_file(boot).unwrap();
        fs::remove_file(root).unwrap();
        fs::remove_dir_all(tree).unwrap();
        Image {
            path,
            boot: (start, boot_size),
            root: (root_start, self.root_size),
            dir,
        }
    }

    /// Make the image with a root that has something of everything.
    pub fn make(&self) -> Image {
        self.make_with(something_of_everything)
    }

    /// As [`Recipe::make_boot`], from what an earlier test of this process made.
    fn made_boot(&self, boot: &Path) {
        /// By size in sectors and options of mkfs.
        type Made = BTreeMap<(u64, &'static [&'static str]), Vec<u8>>;
        static MADE: Mutex<Made> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = made.entry((self.boot.1, self.mkfs_fat)).or_insert_with(|| {
            self.make_boot(boot);
            fs::read(boot).unwrap()
        });
        fs::write(boot, bytes).unwrap();
    }

    fn make_boot(&self, boot: &Path) {
        File::create(boot).unwrap().set_len(self.boot.1 * 512).unwrap();
        let name = boot.to_str().unwrap();
        let args = [self.mkfs_fat, &["-n", "system-boot", "-i", "70616c6d", name]].concat();
        run("mkfs.vfat", &args);
        let tree = boot.with_extension("tree");
        fs::create_dir_all(tree.join("overlays")).unwrap();
        for (path, text) in [
            (
                "cmdline.txt",
                "console=serial0,115200 root=LABEL=writable rootwait\n",
            ),
            ("config.txt", "[all]\nkernel=vmlinuz\n"),
            ("user-data", "#cloud-config\npassword: ubuntu\n"),
            ("meta-data", "instance_id: cloud-image\n"),
            ("network-config", "version: 2\n"),
            ("a very long name that takes four entries.txt", "long\n"),
        ] {
            fs::write(tree.join(path), text).unwrap();
        }
        fs::write(tree.join("vmlinuz"), vec![b'k'; 300_000]).unwrap();
        for nth in 0..40 {
            let overlay = tree.join(format!("overlays/overlay-number-{nth}.dtbo"));
            fs::write(overlay, format!("{nth}").repeat(100)).unwrap();
        }
        let mut entries: Vec<String> = fs::read_dir(&tree)
            .unwrap()
            .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
            .collect();
        entries.sort();
        let mut args = vec!["-s", "-Q", "-i", name];
        args.extend(entries.iter().map(String::as_str));
        args.push("::/");
        run("mcopy", &args);
        fs::remove_dir_all(tree).unwrap();
    }
}

impl Image {
    /// Another file with the same bytes, in a directory of its own.
    pub fn copy(&self) -> Image {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy.img");
        run(
            "cp",
            &[
                "--sparse=always",
                self.path.to_str().unwrap(),
                path.to_str().unwrap(),
            ],
        );
        Image {
            path,
            boot: self.boot,
            root: self.root,
            dir,
        }
    }

    /// Overwrite bytes at `offset`.
    pub fn patch(&self, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// `len` bytes at `offset`.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        File::open(&self.path)
            .unwrap()
            .read_exact_at(&mut bytes, offset)
            .unwrap();
        bytes
    }

    /// Write edits into the file.
    pub fn apply(&self, edits: &palmfarm::edit::block::Edits) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        for (offset, bytes) in edits.iter() {
            file.write_all_at(bytes, offset).unwrap();
        }
    }

    /// Let `work` change a part of the image that lies in a file of its own meanwhile.
    pub fn change(&self, (start, size): (u64, u64), work: impl FnOnce(&str)) {
        let part = super::oracle::extract(self, (start, size));
        work(part.path().to_str().unwrap());
        let bytes = fs::read(part.path()).unwrap();
        // Some programs cut a file to whole blocks.
        assert!(u64::try_from(bytes.len()).unwrap() <= size, "the part has grown");
        self.patch(start, &bytes);
    }

    /// Let debugfs change the root filesystem.
    pub fn debugfs(&self, request: &str) {
        let name = format!("{}?offset={}", self.path.display(), self.root.0);
        run("debugfs", &["-w", "-R", request, &name]);
    }
}

/// An image file as a base.
pub struct FileBase {
    file: File,
    size: u64,
}

impl FileBase {
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        Self { file, size }
    }
}

impl palmfarm::edit::block::ReadAt for FileBase {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

/// A DOS partition table: kind, start and size in bytes.
fn mbr(partitions: &[(u8, u64, u64)]) -> [u8; 512] {
    let mut sector = [0; 512];
    for (nth, (kind, start, size)) in partitions.iter().enumerate() {
        let at = 446 + 16 * nth;
        sector[at + 4] = *kind;
        let sectors = |bytes: u64| u32::try_from(bytes / 512).unwrap().to_le_bytes();
        sector[at + 8..at + 12].copy_from_slice(&sectors(*start));
        sector[at + 12..at + 16].copy_from_slice(&sectors(*size));
    }
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

fn copy_sparse(from: &Path, to: &mut File, offset: u64) {
    let bytes = fs::read(from).unwrap();
    let mut at = offset;
    for piece in bytes.chunks(65_536) {
        if piece.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(at)).unwrap();
            to.write_all(piece).unwrap();
        }
        at += u64::try_from(piece.len()).unwrap();
    }
}

/// A root filesystem with what writers get wrong: merged directories, hard links, large and indexed directories,
/// long symlinks, empty and fragmented files, odd modes.
pub fn something_of_everything(root: &Path) {
    for dir in [
        "etc/netplan",
        "usr/lib/systemd/system",
        "usr/bin",
        "usr/sbin",
        "var/log",
        "home/me",
        "many",
    ] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (link, target) in [
        ("lib", "usr/lib"),
        ("bin", "usr/bin"),
        ("etc/absolute", "/usr/lib"),
        ("etc/up", "../../../usr"),
        ("etc/circle", "circle"),
        ("etc/nowhere", "/not/there"),
        ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    for length in [58, 59, 60, 61, 250, 1000] {
        symlink("x".repeat(length), root.join(format!("etc/link-{length}"))).unwrap();
    }
    let put = |path: &str, bytes: &[u8], mode: u32| {
        fs::write(root.join(path), bytes).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    put("etc/hostname", b"ubuntu\n", 0o644);
    put("etc/shadow", b"root:*:1::::::\n", 0o640);
    put("etc/empty", b"", 0o600);
    put("etc/netplan/50-cloud-init.yaml", b"network: {}\n", 0o600);
    put("usr/bin/sudo", &vec![7; 200_000], 0o4755);
    put("usr/lib/os-release", b"VERSION_ID=\"22.04\"\n", 0o644);
    put("home/me/one", b"linked\n", 0o644);
    fs::hard_link(root.join("home/me/one"), root.join("home/me/two")).unwrap();
    put("var/log/big", &noise(3_000_000), 0o644);
    for nth in 0..1500 {
        put(
            &format!("many/file-with-a-rather-long-name-{nth:06}"),
            format!("{nth}\n").as_bytes(),
            0o644,
        );
    }
}

/// Bytes that look random and are always the same.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}
