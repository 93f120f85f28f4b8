//! Compressed DATA, inflated behind caps: what was built to inflate to gigabytes costs no more than these.
//!
//! XZ is not inflated. Only systemd before 2014 wrote it, and no reader for it is at hand that stays within a cap of
//! memory: the entry is given without the field, and that is said.

use std::io::Read as _;

use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::FrameDecoderError;

use super::Problem;

const XZ: u8 = 1;
const LZ4: u8 = 2;
const ZSTD: u8 = 4;

/// The most bytes of one value that are read; a record cannot hold more.
pub(super) const VALUE_CAP: usize = 1 << 20;

/// The most that a compressed value may take in the file.
pub(super) const PACKED_CAP: u64 = 4 << 20;

/// The most that one value may inflate to where it must be inflated whole (LZ4), and the window of ZSTD.
const INFLATED_CAP: u64 = 4 << 20;

/// Inflates into `out` (cleared first), as much as [`VALUE_CAP`]. Gives how many bytes more there are at least.
pub(super) fn inflate(flags: u8, packed: &[u8], out: &mut Vec<u8>) -> Result<u64, Problem> {
    out.clear();
    match flags {
        ZSTD => zstd(packed, out),
        LZ4 => lz4(packed, out),
        XZ => Err(Problem::Unread("compressed with XZ")),
        _ => Err(Problem::Damaged("a field is compressed in an impossible way")),
    }
}

fn zstd(packed: &[u8], out: &mut Vec<u8>) -> Result<u64, Problem> {
    let broken = Problem::Damaged("a compressed field is damaged");
    let mut decoder = match StreamingDecoder::new_with_max_window_size(packed, INFLATED_CAP) {
        Ok(decoder) => decoder,
        Err(FrameDecoderError::WindowSizeTooBig { .. }) => return Err(Problem::Unread("inflates to too much")),
        Err(_) => return Err(broken),
    };
    // One byte more shows that there is more.
    match decoder.by_ref().take(VALUE_CAP as u64 + 1).read_to_end(out) {
        Ok(read) if read > VALUE_CAP => {
            out.truncate(VALUE_CAP);
            Ok(decoder.into_frame_decoder().content_size().saturating_sub(VALUE_CAP as u64).max(1))
        }
        Ok(_) => Ok(0),
        Err(_) => Err(broken),
    }
}

fn lz4(packed: &[u8], out: &mut Vec<u8>) -> Result<u64, Problem> {
    let broken = Problem::Damaged("a compressed field is damaged");
    let Some((size, block)) = packed.split_first_chunk::<8>() else { return Err(broken) };
    let size = u64::from_le_bytes(*size);
    if size > INFLATED_CAP {
        return Err(Problem::Unread("inflates to too much"));
    }
    out.resize(usize::try_from(size).unwrap_or(0), 0);
    match lz4_flex::block::decompress_into(block, out) {
        Ok(read) if read as u64 == size => {}
        _ => return Err(broken),
    }
    let more = out.len().saturating_sub(VALUE_CAP);
    out.truncate(VALUE_CAP);
    Ok(more as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(flags: u8, packed: &[u8]) -> Result<(Vec<u8>, u64), Problem> {
        let mut out = b"of before".to_vec();
        inflate(flags, packed, &mut out).map(|more| (out, more))
    }

    fn as_lz4(plain: &[u8]) -> Vec<u8> {
        [&(plain.len() as u64).to_le_bytes()[..], &lz4_flex::block::compress(plain)].concat()
    }

    fn as_zstd(plain: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn what_was_compressed_comes_back_and_a_bomb_is_cut_or_refused() {
        let plain = b"MESSAGE=".iter().chain([b'x'; 9000].iter()).copied().collect::<Vec<_>>();
        assert_eq!(inflated(LZ4, &as_lz4(&plain)).unwrap(), (plain.clone(), 0));
        assert_eq!(inflated(ZSTD, &as_zstd(&plain)).unwrap(), (plain, 0));
        let three = vec![b'y'; 3 << 20];
        let (out, more) = inflated(LZ4, &as_lz4(&three)).unwrap();
        assert_eq!((out.len(), more), (VALUE_CAP, 2 << 20));
        let (out, more) = inflated(ZSTD, &as_zstd(&three)).unwrap();
        assert!(out.len() == VALUE_CAP && more > 0);
        assert!(matches!(inflated(LZ4, &as_lz4(&vec![0; 9 << 20])), Err(Problem::Unread(_))));
        assert!(matches!(inflated(LZ4, &u64::MAX.to_le_bytes()), Err(Problem::Unread(_))));
        assert!(matches!(inflated(XZ, b"\xfd7zXZ\0"), Err(Problem::Unread(_))));
        assert!(matches!(inflated(LZ4 | ZSTD, b""), Err(Problem::Damaged(_))));
    }

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_not_given_one() {
        // Magic, a descriptor without a single segment, a window of 2^41 bytes.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
        assert!(inflated(ZSTD, &frame).is_err());
    }

    #[test]
    fn whatever_is_cut_or_changed_ends_in_an_answer() {
        for (flags, packed) in [(LZ4, as_lz4(&[b'a'; 3000])), (ZSTD, as_zstd(&[b'a'; 3000]))] {
            for at in 0..packed.len() {
                let _ = inflated(flags, &packed[..at]);
                for bit in 0..8 {
                    let mut changed = packed.clone();
                    changed[at] ^= 1 << bit;
                    let _ = inflated(flags, &changed);
                }
            }
        }
    }
}
