//! A decoder after a block that it could not decode.

use xz2::stream::Check as Kind;

use super::*;
use crate::base::source::testing::{image, xz};
use crate::base::source::xz::Index;

#[test]
fn what_is_left_of_a_broken_block_spoils_no_other() {
    let image = image(400_000, 21);
    let mut packed = xz(&image, 100_000, Kind::Crc64);
    let index = Index::read(&packed).unwrap();
    let blocks: Vec<Block> = (0..4).filter_map(|number| index.get(number)).collect();
    // In the second block what is decoded, in the third the check behind it.
    let place = |at: u64| usize::try_from(at).unwrap();
    packed[place(blocks[1].at + blocks[1].packed / 2)] ^= 0xFF;
    packed[place(blocks[2].at + blocks[2].padded() - 1)] ^= 0xFF;
    let zeroes = ZeroBlocks::default();
    let mut decoder = BlockDecoder::new(&packed, &zeroes);
    let mut decode = |block: &Block| -> Result<Vec<u8>, XzError> {
        let mut bytes = vec![0; place(block.unpacked)];
        decoder.begin(block)?;
        decoder.fill(&mut bytes)?;
        decoder.end()?;
        Ok(bytes)
    };
    for (broken, good) in [(1, 0), (1, 3), (2, 0), (2, 3)] {
        let refused = decode(&blocks[broken]);
        assert!(refused.is_err(), "block {broken}");
        let range = blocks[good].image();
        let bytes = decode(&blocks[good]).unwrap();
        assert!(
            bytes == image[place(range.start)..place(range.end)],
            "block {good}"
        );
    }
}
