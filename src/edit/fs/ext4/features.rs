//! Which ext4 filesystems are edited: the features by the kernel's names, and every reason to refuse one.
//!
//! Decided from the raw superblock, before a filesystem is opened for writing: the library that writes opens more
//! than it keeps whole. Bits are those of the kernel's `Documentation/filesystems/ext4/super.rst`.

use std::fmt;

use super::superblock::Superblock;

/// `s_state`: cleanly unmounted; errors detected.
const STATE_VALID: u16 = 0x1;
const STATE_ERROR: u16 = 0x2;

pub(super) const COMPAT_HAS_JOURNAL: u32 = 0x4;
/// Backups of the superblock lie in the two groups of `s_backup_bgs`.
pub(super) const COMPAT_SPARSE_SUPER2: u32 = 0x200;

/// Directories may have indexes.
const COMPAT_DIR_INDEX: u32 = 0x20;

/// `EXT2_FLAGS_SIGNED_HASH` and `EXT2_FLAGS_UNSIGNED_HASH` of `s_flags`: how names are hashed in these indexes.
const FLAGS_HASH_SIGN: u32 = 0x3;

const INCOMPAT_FILETYPE: u32 = 0x2;
/// The filesystem was not unmounted, and its journal must be replayed.
pub(super) const INCOMPAT_RECOVER: u32 = 0x4;
pub(super) const INCOMPAT_EXTENTS: u32 = 0x40;
/// Numbers of blocks have upper halves.
pub(super) const INCOMPAT_64BIT: u32 = 0x80;
pub(super) const INCOMPAT_FLEX_BG: u32 = 0x200;
/// The seed of checksums is in the superblock.
pub(super) const INCOMPAT_CSUM_SEED: u32 = 0x2000;

/// Features that change nothing about where free blocks are: `filetype`, `extent`, `64bit`, `mmp`, `flex_bg`,
/// `ea_inode`, `dirdata`, `metadata_csum_seed`, `large_dir`, `inline_data`, `encrypt`, `casefold`. Not among them are
/// `meta_bg`, which moves group descriptors, and a journal that must be replayed, which may allocate more than the
/// bitmaps say.
pub(super) const INCOMPAT_FREE_SPACE_KNOWN: u32 = 0x3_F7C2;

/// Backups of the superblock lie only in groups 0, 1 and powers of 3, 5 and 7.
pub(super) const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
/// Group descriptors have a CRC-16.
pub(super) const RO_COMPAT_GDT_CSUM: u32 = 0x10;
/// A bit of the block bitmap is a cluster, not a block.
pub(super) const RO_COMPAT_BIGALLOC: u32 = 0x200;
/// All metadata has a CRC-32C.
pub(super) const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
const RO_COMPAT_ORPHAN_PRESENT: u32 = 0x1_0000;

/// A reason not to edit a filesystem. One variant per reason, because each has its own remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ext4Refusal {
    #[error("the root filesystem was not cleanly unmounted, its journal must be replayed (needs_recovery)")]
    NeedsRecovery,
    #[error("the root filesystem has deleted files that are not gone yet (orphan_present)")]
    Orphans,
    #[error("the root filesystem is not marked clean (state {0:#x})")]
    NotClean(u16),
    #[error("the root filesystem is marked as having errors ({0} recorded)")]
    Errors(u32),
    #[error("the root filesystem has features that palmfarm does not edit: {0}")]
    Features(FeatureNames),
    #[error("the root filesystem lacks the ext4 features {0}")]
    NoExt4(FeatureNames),
    #[error("the root filesystem has indexed directories, and does not say whether their hashes are signed (dir_index)")]
    HashSign,
    #[error("the root filesystem has blocks of {block_size} bytes{}, which palmfarm does not write", if *.checksummed { " and metadata_csum" } else { "" })]
    BlockSize { block_size: u32, checksummed: bool },
    #[error("the root filesystem has inodes of {inode_size} bytes{}, which palmfarm does not write", if *.checksummed { " and metadata_csum" } else { "" })]
    InodeSize { inode_size: u16, checksummed: bool },
    #[error("the root filesystem has {filesystem} bytes, its partition only {partition}")]
    LargerThanPartition { filesystem: u128, partition: u64 },
}

impl Ext4Refusal {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NeedsRecovery | Self::Orphans | Self::NotClean(_) => {
                "boot it once and shut it down cleanly, run `e2fsck -f` on the partition, or start from a fresh download"
            }
            Self::HashSign => "run `e2fsck -f` on the partition, which notes it",
            Self::Errors(_) => "run `e2fsck -f` on the partition, or start from a fresh download",
            Self::Features(features) if features.can_be_removed() => {
                "run `tune2fs -O ^FEATURE PARTITION` for each of them, then `e2fsck -f PARTITION`"
            }
            Self::Features(_) | Self::NoExt4(_) => {
                "use an image as Ubuntu publishes it, or copy the files into a filesystem that `mkfs.ext4 -L writable` makes"
            }
            Self::BlockSize { .. } | Self::InodeSize { .. } => {
                "use an image as Ubuntu publishes it, or copy the files into a filesystem that \
                 `mkfs.ext4 -L writable -b 4096 -I 256` makes"
            }
            Self::LargerThanPartition { .. } => "the image is damaged or was cut: get it again and compare its SHA-256",
        }
    }
}

/// Bits that may be set. Others are refused: the kernel adds features faster than anyone tests them.
///
/// Each was written to by random edits and checked with e2fsck and the kernel. `has_journal` and `ext_attr` are safe
/// because the editor bypasses the journal and never touches attributes.
const COMPAT: &[(u32, &str)] = &[
    (COMPAT_HAS_JOURNAL, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (COMPAT_DIR_INDEX, "dir_index"),
    (COMPAT_SPARSE_SUPER2, "sparse_super2"),
    (0x1000, "orphan_file"),
];
const INCOMPAT: &[(u32, &str)] = &[
    (INCOMPAT_FILETYPE, "filetype"),
    (INCOMPAT_EXTENTS, "extent"),
    (INCOMPAT_64BIT, "64bit"),
    (INCOMPAT_FLEX_BG, "flex_bg"),
    (INCOMPAT_CSUM_SEED, "metadata_csum_seed"),
];
const RO_COMPAT: &[(u32, &str)] = &[
    (RO_COMPAT_SPARSE_SUPER, "sparse_super"),
    (0x2, "large_file"),
    (0x8, "huge_file"),
    (RO_COMPAT_GDT_CSUM, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (RO_COMPAT_METADATA_CSUM, "metadata_csum"),
];

/// The names of bits that are refused.
const OTHER_COMPAT: &[(u32, &str)] = &[
    (0x1, "dir_prealloc"),
    (0x2, "imagic_inodes"),
    (0x400, "fast_commit"),
    (0x800, "stable_inodes"),
];
const OTHER_INCOMPAT: &[(u32, &str)] = &[
    (0x1, "compression"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x100, "mmp"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];
const OTHER_RO_COMPAT: &[(u32, &str)] = &[
    (0x100, "quota"),
    (RO_COMPAT_BIGALLOC, "bigalloc"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
];

/// Those that `tune2fs -O ^FEATURE` takes away.
const REMOVABLE: [&str; 6] = ["casefold", "fast_commit", "mmp", "project", "quota", "read-only"];

/// Features that do not keep the second reader from reading: encrypted files alone are beyond it.
const INCOMPAT_READ: u32 = INCOMPAT_FILETYPE
    | INCOMPAT_RECOVER
    | INCOMPAT_EXTENTS
    | INCOMPAT_64BIT
    | INCOMPAT_FLEX_BG
    | INCOMPAT_CSUM_SEED
    | 0x1_0000;

/// Features by the names that e2fsprogs has for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureNames(Vec<String>);

impl FeatureNames {
    fn can_be_removed(&self) -> bool {
        self.0.iter().all(|name| REMOVABLE.contains(&name.as_str()))
    }
}

impl fmt::Display for FeatureNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

impl Superblock {
    /// Refuse a filesystem that may not be edited.
    pub(super) fn check(&self, partition: u64) -> Result<(), Ext4Refusal> {
        self.check_size(partition)?;
        self.check_state()?;
        self.check_features()?;
        self.check_ext4()?;
        // The kernel then goes by its own `char`, which is signed on x86 and unsigned on ARM.
        if self.has_compat(COMPAT_DIR_INDEX) && self.flags & FLAGS_HASH_SIGN == 0 {
            return Err(Ext4Refusal::HashSign);
        }
        self.check_sizes()
    }

    /// Refuse a filesystem without the features that make it an ext4.
    fn check_ext4(&self) -> Result<(), Ext4Refusal> {
        let needed = INCOMPAT_EXTENTS | INCOMPAT_FILETYPE;
        let lacking = names(!self.incompat & needed, &[], INCOMPAT, 'I');
        if lacking.is_empty() {
            Ok(())
        } else {
            Err(Ext4Refusal::NoExt4(FeatureNames(lacking)))
        }
    }

    /// Refuse a filesystem with a feature that is not known to be edited rightly.
    fn check_features(&self) -> Result<(), Ext4Refusal> {
        let mut unknown = names(self.compat, COMPAT, OTHER_COMPAT, 'C');
        unknown.extend(names(self.incompat, INCOMPAT, OTHER_INCOMPAT, 'I'));
        unknown.extend(names(self.ro_compat, RO_COMPAT, OTHER_RO_COMPAT, 'R'));
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(Ext4Refusal::Features(FeatureNames(unknown)))
        }
    }

    /// Refuse a filesystem that the second reader cannot read, by all the names for which it would not be edited.
    pub(super) fn check_readable(&self) -> Result<(), Ext4Refusal> {
        if self.incompat & !INCOMPAT_READ != 0 {
            let needs_recovery = self.incompat & INCOMPAT_RECOVER;
            Self {
                incompat: self.incompat & !needs_recovery,
                ..self.clone()
            }
            .check_features()?;
        }
        if !self.has_incompat(INCOMPAT_FILETYPE) {
            self.check_ext4()?;
        }
        if self.inode_size == 128 && self.has_ro_compat(RO_COMPAT_METADATA_CSUM) {
            self.check_sizes()?;
        }
        Ok(())
    }

    /// Refuse a filesystem that is larger than its partition of `partition` bytes.
    pub(super) fn check_size(&self, partition: u64) -> Result<(), Ext4Refusal> {
        let filesystem = self.size();
        if filesystem > u128::from(partition) {
            return Err(Ext4Refusal::LargerThanPartition {
                filesystem,
                partition,
            });
        }
        Ok(())
    }

    /// Refuse a filesystem with a journal to replay, with errors, or with files that are yet to be deleted.
    pub(super) fn check_state(&self) -> Result<(), Ext4Refusal> {
        if self.has_incompat(INCOMPAT_RECOVER) {
            return Err(Ext4Refusal::NeedsRecovery);
        }
        if self.has_ro_compat(RO_COMPAT_ORPHAN_PRESENT) || self.last_orphan != 0 {
            return Err(Ext4Refusal::Orphans);
        }
        if self.state & STATE_ERROR != 0 || self.error_count != 0 {
            return Err(Ext4Refusal::Errors(self.error_count));
        }
        if self.state != STATE_VALID {
            return Err(Ext4Refusal::NotClean(self.state));
        }
        Ok(())
    }

    /// With checksums, the library writes a wrong one into the second level of an extent tree of 2 KiB blocks, and the
    /// second reader cannot read inodes of 128 bytes.
    fn check_sizes(&self) -> Result<(), Ext4Refusal> {
        let checksummed = self.has_ro_compat(RO_COMPAT_METADATA_CSUM);
        let block_size = self.block_size;
        match (block_size, checksummed) {
            (1024 | 4096, _) | (2048, false) => {}
            _ => {
                return Err(Ext4Refusal::BlockSize {
                    block_size,
                    checksummed,
                })
            }
        }
        let inode_size = self.inode_size;
        match (inode_size, checksummed) {
            (256, _) | (128, false) => Ok(()),
            _ => Err(Ext4Refusal::InodeSize {
                inode_size,
                checksummed,
            }),
        }
    }
}

/// The names of those bits of `set` that are not in `known`. e2fsprogs calls a bit that it does not know by its number.
fn names(set: u32, known: &[(u32, &str)], other: &[(u32, &str)], letter: char) -> Vec<String> {
    let known = known.iter().fold(0, |all, (bit, _)| all | bit);
    (0..32)
        .map(|shift| (shift, 1_u32 << shift))
        .filter(|(_, bit)| set & !known & bit != 0)
        .map(
            |(shift, bit)| match other.iter().find(|(other, _)| *other == bit) {
                Some((_, name)) => (*name).to_owned(),
                None => format!("FEATURE_{letter}{shift}"),
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::fs::ext4::superblock::tests::minimal;

    /// The superblock of Ubuntu 22.04 with one change, and what `check` says of it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a case reads better without the ampersand"
    )]
    fn check(change: impl FnOnce(&mut Superblock), expect: Result<(), Ext4Refusal>) {
        let mut superblock = Superblock::parse(&minimal()).unwrap();
        superblock.block_size = 4096;
        superblock.blocks = 1000;
        superblock.inode_size = 256;
        superblock.state = STATE_VALID;
        superblock.compat = 0x3C;
        superblock.flags = 1;
        superblock.incompat = 0x2C2;
        superblock.ro_compat = 0x7B;
        change(&mut superblock);
        assert_eq!(superblock.check(4_096_000), expect);
    }

    fn features(names: &[&str]) -> FeatureNames {
        FeatureNames(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_reason_not_to_edit_has_its_own_refusal() {
        check(|_| {}, Ok(()));
        check(|fs| fs.ro_compat = 0x46B, Ok(()));
        check(
            |fs| fs.blocks = 1001,
            Err(Ext4Refusal::LargerThanPartition {
                filesystem: 4_100_096,
                partition: 4_096_000,
            }),
        );
        check(
            |fs| fs.blocks = u64::MAX,
            Err(Ext4Refusal::LargerThanPartition {
                filesystem: u128::from(u64::MAX) * 4096,
                partition: 4_096_000,
            }),
        );
        check(
            |fs| fs.incompat |= INCOMPAT_RECOVER,
            Err(Ext4Refusal::NeedsRecovery),
        );
        check(
            |fs| fs.ro_compat |= RO_COMPAT_ORPHAN_PRESENT,
            Err(Ext4Refusal::Orphans),
        );
        check(|fs| fs.last_orphan = 12, Err(Ext4Refusal::Orphans));
        check(|fs| fs.state = 0, Err(Ext4Refusal::NotClean(0)));
        check(|fs| fs.state = 4, Err(Ext4Refusal::NotClean(4)));
        check(|fs| fs.state = 3, Err(Ext4Refusal::Errors(0)));
        check(|fs| fs.error_count = 2, Err(Ext4Refusal::Errors(2)));
        check(|fs| fs.flags = 2, Ok(()));
        check(|fs| fs.flags = 4, Err(Ext4Refusal::HashSign));
        check(|fs| (fs.flags, fs.compat) = (0, 0x1C), Ok(()));
        check(
            |fs| fs.incompat |= 0x8000,
            Err(Ext4Refusal::Features(features(&["inline_data"]))),
        );
        check(
            |fs| fs.ro_compat |= 0x300,
            Err(Ext4Refusal::Features(features(&["quota", "bigalloc"]))),
        );
        check(
            |fs| fs.compat |= 1 << 31,
            Err(Ext4Refusal::Features(features(&["FEATURE_C31"]))),
        );
        check(
            |fs| fs.incompat &= !INCOMPAT_EXTENTS,
            Err(Ext4Refusal::NoExt4(features(&["extent"]))),
        );
    }

    #[test]
    fn sizes_go_with_checksums() {
        let refused = |block_size, checksummed| {
            Err(Ext4Refusal::BlockSize {
                block_size,
                checksummed,
            })
        };
        check(|fs| fs.block_size = 1024, Ok(()));
        check(|fs| fs.block_size = 2048, Ok(()));
        check(
            |fs| (fs.block_size, fs.ro_compat) = (2048, RO_COMPAT_METADATA_CSUM),
            refused(2048, true),
        );
        check(
            |fs| (fs.block_size, fs.blocks) = (8192, 500),
            refused(8192, false),
        );
        check(|fs| fs.inode_size = 128, Ok(()));
        let refused = |inode_size, checksummed| {
            Err(Ext4Refusal::InodeSize {
                inode_size,
                checksummed,
            })
        };
        check(
            |fs| (fs.inode_size, fs.ro_compat) = (128, RO_COMPAT_METADATA_CSUM),
            refused(128, true),
        );
        check(|fs| fs.inode_size = 512, refused(512, false));
    }
}
