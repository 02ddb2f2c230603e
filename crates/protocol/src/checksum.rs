//! The order-independent checksum of a set of rows: the sum of a hash of each row's name and seq.

use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh64::xxh64;

use crate::Change;
use crate::ids::hex;

/// Hash of one row at one seq: XXH64 of `entity`, a zero byte and the row id, seeded with the seq.
pub fn change_checksum(entity: &str, row_id: &str, seq: u64) -> u64 {
    let mut key = Vec::with_capacity(entity.len() + row_id.len() + 1);
    key.extend_from_slice(entity.as_bytes());
    key.push(0);
    key.extend_from_slice(row_id.as_bytes());
    xxh64(&key, seq)
}

/// Checksum of a frame's changes, in 16 hexadecimal digits: JSON integers end at 2^53.
pub fn frame_checksum(changes: &[Change]) -> String {
    let sum = changes
        .iter()
        .map(|change| change_checksum(change.entity.as_str(), change.row_id.as_str(), change.seq))
        .fold(0_u64, u64::wrapping_add);
    hex(&sum.to_be_bytes())
}
