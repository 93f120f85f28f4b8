//! The frame of an archive's one gzip member: its header, stored blocks, running checksum and end.
//!
//! Everything here has one possible form, so that a verifier can render what it expects and compare bytes. Compressed
//! content is `chunk`'s; what the plain bytes mean is `tar`'s.

/// RFC 1952 §2.3: magic, deflate, no flags, no time, no extra flags, unknown system. Never anything else.
pub(crate) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A final empty stored block: ends a deflate stream that stands at a byte boundary between two blocks.
pub(crate) const FINAL_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// The most bytes of a stored block (RFC 1951 §3.2.4).
pub(crate) const MAX_STORED: usize = 65_535;

/// Bytes before the content of a stored block that begins at a byte boundary.
pub(crate) const STORED_HEADER: usize = 5;

/// CRC-32 and length of the plain bytes.
pub(crate) const TRAILER: usize = 8;

/// Two blocks of zeros end a tar file.
pub(crate) const END_OF_TAR: usize = 1024;

/// The length of [`end`].
pub(crate) const END: usize = STORED_HEADER + END_OF_TAR + FINAL_BLOCK.len() + TRAILER;

/// Appends `plain` as stored blocks, none of them final; the stream must stand at a byte boundary.
pub(crate) fn put_stored(plain: &[u8], out: &mut Vec<u8>) {
    for piece in plain.chunks(MAX_STORED) {
        // `chunks` gives at most 65,535 bytes, so the conversion cannot fail.
        let len = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(piece);
    }
}

/// `plain` as stored blocks.
pub(crate) fn stored(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stored_len(plain.len()));
    put_stored(plain, &mut out);
    out
}

/// How long `plain_len` bytes are as stored blocks.
pub(crate) fn stored_len(plain_len: usize) -> usize {
    plain_len + STORED_HEADER * plain_len.div_ceil(MAX_STORED)
}

/// What every archive ends with: the end of the tar file, the last block and the trailer over everything before.
pub(crate) fn end(mut sum: Sum) -> Vec<u8> {
    let zeros = [0u8; END_OF_TAR];
    let mut out = stored(&zeros);
    sum.add(&zeros);
    out.extend_from_slice(&FINAL_BLOCK);
    out.extend_from_slice(&sum.trailer());
    out
}

/// CRC-32 and length of the plain bytes so far. Content that was summed elsewhere is combined, not read.
#[derive(Clone, Default)]
pub(crate) struct Sum(crc32fast::Hasher);

impl Sum {
    pub(crate) fn add(&mut self, plain: &[u8]) {
        self.0.update(plain);
    }

    pub(crate) fn add_known(&mut self, plain_crc32: u32, plain_len: u32) {
        self.0.combine(&crc32fast::Hasher::new_with_initial_len(plain_crc32, u64::from(plain_len)));
    }

    /// CRC-32 and the length modulo 2³², little endian (RFC 1952 §2.3.1).
    pub(crate) fn trailer(&self) -> [u8; TRAILER] {
        let mut out = [0u8; TRAILER];
        out[..4].copy_from_slice(&self.0.clone().finalize().to_le_bytes());
        out[4..].copy_from_slice(&self.0.total_len().to_le_bytes()[..4]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_combined_sum_is_the_sum_of_all_bytes(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..9)) {
            let (mut read, mut combined) = (Sum::default(), Sum::default());
            for part in &parts {
                read.add(part);
                combined.add_known(crc32fast::hash(part), u32::try_from(part.len()).unwrap());
            }
            prop_assert_eq!(read.trailer(), combined.trailer());
        }
    }

    #[test]
    fn stored_blocks_are_as_long_as_was_said() {
        for len in [0, 1, 512, MAX_STORED, MAX_STORED + 1, 3 * MAX_STORED] {
            assert_eq!(stored(&vec![1u8; len]).len(), stored_len(len));
        }
        assert_eq!(end(Sum::default()).len(), END);
    }
}
