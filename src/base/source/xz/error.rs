//! Everything that can be wrong with an .xz file.

/// What is wrong with an .xz file. Offsets are in bytes: `at` in the file, `image` in what it unpacks to.
#[derive(Debug, thiserror::Error)]
pub enum XzError {
    #[error("reading {len} bytes at offset {at} of the .xz file")]
    Read {
        at: u64,
        len: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("the .xz file stops short: its {size} bytes do not end in a stream footer")]
    Truncated { size: u64 },
    #[error("{len} bytes that are not part of an .xz stream follow the stream that ends at {at}")]
    TrailingGarbage { at: u64, len: u64 },
    /// Stream padding must be a multiple of four bytes (section 2.2).
    #[error("{len} zero bytes follow the last .xz stream, which is not a multiple of four")]
    Padding { len: u64 },
    #[error("the .xz stream {part} at {at} does not match its CRC32")]
    FlagsCrc { part: &'static str, at: u64 },
    #[error("there is no .xz stream header at {at}, where the index says that the stream starts")]
    NoHeader { at: u64 },
    #[error("the flags of the .xz stream that ends at {at} are {footer:02x?} at its end and {header:02x?} at its start")]
    Flags {
        at: u64,
        footer: [u8; 2],
        header: [u8; 2],
    },
    #[error("the blocks of the .xz file carry check number {0}, which is not supported")]
    CheckKind(u8),
    #[error("the .xz index at {at} is damaged: {what}")]
    Index { at: u64, what: &'static str },
    #[error("the .xz file has over {limit} blocks")]
    TooManyBlocks { limit: usize },
    #[error("the .xz file is made of over {limit} streams")]
    TooManyStreams { limit: usize },
    #[error("the .xz file unpacks to over {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("decoding the .xz block at {at} for byte {image} of the image: {why}")]
    Block { at: u64, image: u64, why: &'static str },
    #[error("the .xz block at {at} for byte {image} of the image is not as long as the index says")]
    BlockLength { at: u64, image: u64 },
    #[error("the .xz block at {at} for byte {image} of the image does not match its {check}")]
    BlockCheck {
        at: u64,
        image: u64,
        check: &'static str,
    },
    #[error("the .xz block at {at} needs over {limit} bytes of memory to decode")]
    Memory { at: u64, limit: u64 },
}

impl XzError {
    /// What the user can do about it.
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
