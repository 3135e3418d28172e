//! `OUT.bmap`: which blocks of an image a card needs, and what is in them, in the format of bmaptool (version 2.0).
//! Pure: it returns text.

use crate::base::source::Sha256Sum;
use crate::edit::block::BLOCK;
use crate::write::Mapped;

/// The block map of an image of `size` bytes of which `mapped`, in order, must be written.
pub fn render(size: u64, mapped: &[Mapped]) -> String {
    // The checksum covers the file with zeroes in the place of the checksum.
    let unsigned = with_checksum(size, mapped, &Sha256Sum([0; 32]));
    with_checksum(size, mapped, &Sha256Sum::of(unsigned.as_bytes()))
}

fn with_checksum(size: u64, mapped: &[Mapped], checksum: &Sha256Sum) -> String {
    let blocks: u64 = mapped
        .iter()
        .map(|mapped| (mapped.range.end - mapped.range.start).div_ceil(BLOCK))
        .sum();
    let mut text = format!(
        "<?xml version=\"1.0\" ?>
<bmap version=\"2.0\">
    <ImageSize> {size} </ImageSize>
    <BlockSize> {BLOCK} </BlockSize>
    <BlocksCount> {} </BlocksCount>
    <MappedBlocksCount> {blocks} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> {checksum} </BmapFileChecksum>
    <BlockMap>
",
        size.div_ceil(BLOCK)
    );
    for Mapped { range, sha256 } in mapped {
        let first = range.start / BLOCK;
        let last = range.end.div_ceil(BLOCK).saturating_sub(1);
        let place = if first == last {
            format!("{first}")
        } else {
            format!("{first}-{last}")
        };
        text.push_str(&format!("        <Range chksum=\"{sha256}\"> {place} </Range>\n"));
    }
    text.push_str("    </BlockMap>\n</bmap>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_blocks_first_to_last() {
        let mapped = |range| Mapped {
            range,
            sha256: Sha256Sum([7; 32]),
        };
        let text = render(20_000, &[mapped(0..4096), mapped(8192..20_000)]);
        let seven = "07".repeat(32);
        assert!(text.contains("<BlocksCount> 5 </BlocksCount>"), "{text}");
        assert!(
            text.contains("<MappedBlocksCount> 4 </MappedBlocksCount>"),
            "{text}"
        );
        assert!(
            text.contains(&format!("<Range chksum=\"{seven}\"> 0 </Range>")),
            "{text}"
        );
        assert!(
            text.contains(&format!("<Range chksum=\"{seven}\"> 2-4 </Range>")),
            "{text}"
        );
    }
}
