//! Masking (RFC 6455 §5.3): the same operation masks and unmasks.

/// Applies the masking key to a payload in place. The key starts at the first byte; for a later
/// part of a payload, pass the key rotated by the number of bytes before it.
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= mask;
    }
}

/// The key for the bytes after the first `done` bytes of a payload.
pub(super) fn turned(mut key: [u8; 4], done: usize) -> [u8; 4] {
    key.rotate_left(done % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_example_unmasks_to_hello() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn unmasking_matches_definition_for_any_split() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let plain: Vec<u8> = (0..67).map(|n| n * 3).collect();
        for len in 0..plain.len() {
            let wanted: Vec<u8> = plain[..len]
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ key[i % 4])
                .collect();
            for cut in 0..=len {
                let mut payload = plain[..len].to_vec();
                let (front, back) = payload.split_at_mut(cut);
                unmask(front, key);
                unmask(back, turned(key, cut));
                assert_eq!(payload, wanted, "length {len}, cut at {cut}");
            }
        }
    }
}
