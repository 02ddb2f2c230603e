//! The one sorting routine.
//!
//! The standard library makes a copy of its algorithms for each type and each comparison, several kilobytes each time. Here
//! positions are sorted and the comparison is called through a pointer, so one copy serves everything a page downloads.

use alloc::vec::Vec;
use core::cmp::Ordering;

/// Sorts positions, keeping the order of those that are equal. It is quick where runs are in order already.
#[inline(never)]
pub fn sort_positions(positions: &mut Vec<u32>, compare: &mut dyn FnMut(u32, u32) -> Ordering) {
    let mut merged = Vec::with_capacity(positions.len());
    loop {
        let mut rest = positions.as_slice();
        let mut left = split_run(&mut rest, compare);
        if rest.is_empty() {
            return;
        }
        while !left.is_empty() {
            let right = split_run(&mut rest, compare);
            merge(&mut merged, left, right, compare);
            left = split_run(&mut rest, compare);
        }
        core::mem::swap(positions, &mut merged);
        merged.clear();
    }
}

/// Takes the positions that are in order off the front.
fn split_run<'a>(rest: &mut &'a [u32], compare: &mut dyn FnMut(u32, u32) -> Ordering) -> &'a [u32] {
    let mut length = 0;
    let mut last = None;
    for &position in *rest {
        if last.is_some_and(|last| compare(last, position).is_gt()) {
            break;
        }
        last = Some(position);
        length += 1;
    }
    let (run, after) = rest.split_at(length);
    *rest = after;
    run
}

/// Appends two runs as one.
fn merge(out: &mut Vec<u32>, mut left: &[u32], mut right: &[u32], compare: &mut dyn FnMut(u32, u32) -> Ordering) {
    while let ([first, later @ ..], [other, others @ ..]) = (left, right) {
        if compare(*first, *other).is_le() {
            out.push(*first);
            left = later;
        } else {
            out.push(*other);
            right = others;
        }
    }
    out.extend_from_slice(left);
    out.extend_from_slice(right);
}

/// The positions of so many things, as they lie.
pub fn positions(count: usize) -> Vec<u32> {
    (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_as_the_standard_library_does() {
        let mut state = 1_u32;
        for length in 0..300 {
            let keys: Vec<u32> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Few values, so that many are equal.
                    state >> 16 & 0x3f
                })
                .collect();
            let mut expected = positions(keys.len());
            expected.sort_by_key(|position| keys[*position as usize]);
            let mut sorted = positions(keys.len());
            sort_positions(&mut sorted, &mut |left, right| keys[left as usize].cmp(&keys[right as usize]));
            assert_eq!(sorted, expected);
        }
    }
}
