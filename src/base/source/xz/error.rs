//! Everything that can be wrong with an .xz file.

/// What is wrong with an .xz file, with offsets in bytes: `at` in the file, `image` in what it unpacks to.
#[derive(Debug, thiserror::Error)]
pub enum XzError {
    /// Reading the file itself failed.
    #[error("reading {len} bytes at offset {at} of the .xz file")]
    Read {
        /// Where.
        at: u64,
        /// How many.
        len: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file ends before its index.
    #[error("the .xz file stops short: its {size} bytes do not end in a stream footer")]
    Truncated {
        /// The file's size.
        size: u64,
    },
    /// Something follows the last stream.
    #[error("{len} bytes that belong to no .xz stream follow the stream that ends at {at}")]
    TrailingGarbage {
        /// Where the stream ends.
        at: u64,
        /// How much follows.
        len: u64,
    },
    /// Stream padding must be a multiple of four bytes (section 2.2).
    #[error("{len} zero bytes follow the last .xz stream, which is no multiple of four")]
    Padding {
        /// How many.
        len: u64,
    },
    /// A stream header or footer whose CRC32 does not match it.
    #[error("the .xz stream {part} at {at} does not match its CRC32")]
    FlagsCrc {
        /// `header` or `footer`.
        part: &'static str,
        /// Where it starts.
        at: u64,
    },
    /// The bytes before the blocks are no stream header.
    #[error("there is no .xz stream header at {at}, where the index says that the stream starts")]
    NoHeader {
        /// Where it should be.
        at: u64,
    },
    /// Header and footer disagree, or use bits that the format reserves.
    #[error("the flags of the .xz stream that ends at {at} are {footer:02x?} at its end and {header:02x?} at its start")]
    Flags {
        /// Where the stream ends.
        at: u64,
        /// Flags of the footer.
        footer: [u8; 2],
        /// Flags of the header.
        header: [u8; 2],
    },
    /// A check that nobody but a later version of the format knows.
    #[error("the blocks of the .xz file carry check number {0}, which is not supported")]
    CheckKind(u8),
    /// The index is damaged.
    #[error("the .xz index at {at} is damaged: {what}")]
    Index {
        /// Where it starts.
        at: u64,
        /// In which way.
        what: &'static str,
    },
    /// More blocks than are kept in memory.
    #[error("the .xz file has over {limit} blocks")]
    TooManyBlocks {
        /// How many there may be.
        limit: usize,
    },
    /// More streams, one after the other, than are kept in memory.
    #[error("the .xz file is made of over {limit} streams")]
    TooManyStreams {
        /// How many there may be.
        limit: usize,
    },
    /// More bytes than any card has.
    #[error("the .xz file unpacks to over {limit} bytes")]
    TooLarge {
        /// How many there may be.
        limit: u64,
    },
    /// liblzma could not decode a block.
    #[error("decoding the .xz block at {at} for byte {image} of the image: {why}")]
    Block {
        /// Where the block starts.
        at: u64,
        /// The first byte of the image that it holds.
        image: u64,
        /// liblzma's word for it.
        why: &'static str,
    },
    /// A block that is longer or shorter than the index says.
    #[error("the .xz block at {at} for byte {image} of the image is not as long as the index says")]
    BlockLength {
        /// Where the block starts.
        at: u64,
        /// The first byte of the image that it holds.
        image: u64,
    },
    /// A block that decodes, to bytes whose check does not match.
    #[error("the .xz block at {at} for byte {image} of the image does not match its {check}")]
    BlockCheck {
        /// Where the block starts.
        at: u64,
        /// The first byte of the image that it holds.
        image: u64,
        /// `CRC32`, `CRC64` or `SHA-256`.
        check: &'static str,
    },
    /// A block whose dictionary is larger than one decoder may take.
    #[error("the .xz block at {at} needs over {limit} bytes of memory to decode")]
    Memory {
        /// Where the block starts.
        at: u64,
        /// What a decoder may take.
        limit: u64,
    },
}

impl XzError {
    /// What the person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the disk that the file is on",
            Self::Truncated { .. } => "the download was probably cut off; fetch the file again",
            Self::TrailingGarbage { .. } | Self::Padding { .. } => {
                "something was appended to the file; fetch it again"
            }
            Self::CheckKind(_)
            | Self::Memory { .. }
            | Self::TooManyBlocks { .. }
            | Self::TooManyStreams { .. }
            | Self::TooLarge { .. } => "unpack it with `xz -dk` and name the .img that comes out",
            _ => "the file is damaged; compare its SHA-256 with the publisher's and fetch it again",
        }
    }
}

impl From<XzError> for std::io::Error {
    fn from(error: XzError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}
