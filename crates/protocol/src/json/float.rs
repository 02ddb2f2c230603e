//! Reads a float: the nearest one to what is written, as IEEE 754 asks, ties to even.
//!
//! The standard library's parser is faster on long numbers and brings 10 KB of tables that no compression makes smaller.
//! Short numbers, which most are, need neither: see [`short`].

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// More digits than decide between two floats, wherever they lie; later ones only say "and a bit more".
const DIGITS_MAX: usize = 800;

/// The float nearest to the number, which is scanned already; `None` when that is infinite.
pub(super) fn parse(text: &str) -> Option<f64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (decimal, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let mut digits: Vec<u32> = Vec::new();
    let mut point = read_exponent(exponent);
    let mut is_fraction = false;
    for digit in decimal.bytes() {
        if digit == b'.' {
            is_fraction = true;
            continue;
        }
        point -= i32::from(is_fraction);
        let digit = u32::from(digit.wrapping_sub(b'0'));
        if digits.is_empty() && digit == 0 {
            continue;
        }
        if digits.len() < DIGITS_MAX {
            digits.push(digit);
            continue;
        }
        point += 1;
        if let (Some(last), true) = (digits.last_mut(), digit > 0)
            && *last == 0
        {
            // The middle between two floats has fewer digits, so it ends in zeros here, and only above it this matters.
            *last = 1;
        }
    }
    let float = short(&digits, point).or_else(|| long(&digits, point))?;
    Some(if negative { -float } else { float })
}

/// Reads an exponent; what is absurdly large stays absurdly large.
fn read_exponent(text: &str) -> i32 {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = digits.bytes().fold(0, |value: i32, digit| (value * 10 + i32::from(digit.wrapping_sub(b'0'))).min(100_000_000));
    if negative { -value } else { value }
}

/// A number whose digits and power of ten are both floats without error: one operation rounds correctly.
fn short(digits: &[u32], point: i32) -> Option<f64> {
    if digits.len() > 15 || !(-22..=22).contains(&point) {
        return None;
    }
    let number = digits.iter().fold(0.0, |number, digit| number * 10.0 + f64::from(*digit));
    let power = (0..point.abs()).fold(1.0, |power, _| power * 10.0);
    Some(if point < 0 { number / power } else { number * power })
}

/// Any number, by long division.
fn long(digits: &[u32], point: i32) -> Option<f64> {
    let magnitude = i32::try_from(digits.len()).ok()?.saturating_add(point);
    if digits.is_empty() || magnitude < -330 {
        return Some(0.0);
    }
    if magnitude > 310 {
        return None;
    }
    let (mut number, mut divisor) = (Big(Vec::new()), Big(vec![1]));
    for digit in digits {
        number.multiply_add(10, *digit);
    }
    // Ten is five times two, and powers of two are only counted.
    let scaled = if point < 0 { &mut divisor } else { &mut number };
    for _ in 0..point.abs() {
        scaled.multiply_add(5, 0);
    }
    let shift = number.bits() - divisor.bits();
    let shifted = if shift < 0 { &mut number } else { &mut divisor };
    shifted.shift_left(shift.unsigned_abs());
    // The quotient lies between a half and two: 56 bits hold the 53 of a float and the one that rounds.
    let mut quotient = 0_u64;
    for _ in 0..56 {
        quotient = quotient << 1 | u64::from(number.subtract(&divisor));
        number.multiply_add(2, 0);
    }
    let rest = u64::from(!number.0.is_empty());
    round(quotient << 1 | rest, point + shift - 56)
}

/// `number` times a power of two, as a float. The lowest bit of `number` says whether anything was left out below it.
fn round(number: u64, power: i32) -> Option<f64> {
    let top = 63 - i32::try_from(number.leading_zeros()).ok()?;
    // Below the smallest exponent a float has fewer bits.
    let lost = (top - 52).max(-1074 - power);
    if lost > 62 {
        return Some(0.0);
    }
    let kept = number >> lost;
    let (rest, half) = (number & ((1 << lost) - 1), 1 << (lost - 1));
    let kept = kept + u64::from(rest > half || (rest == half && kept & 1 == 1));
    let exponent = u64::try_from(power + lost + 1074).ok()?;
    // The bit above the 52 of the fraction counts as one exponent; so does a carry of the rounding.
    let float = f64::from_bits((exponent << 52).checked_add(kept).filter(|bits| *bits < 0x7ff << 52)?);
    Some(float)
}

/// A natural number: groups of 32 bits, the lowest first, none of zero at the end.
struct Big(Vec<u32>);

impl Big {
    fn bits(&self) -> i32 {
        let top = self.0.last().map_or(0, |group| 32 - group.leading_zeros());
        i32::try_from(self.0.len().saturating_sub(1) * 32).unwrap_or(i32::MAX) + i32::try_from(top).unwrap_or(0)
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for group in &mut self.0 {
            carry += u64::from(*group) * u64::from(factor);
            *group = low(carry);
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(low(carry));
        }
    }

    fn shift_left(&mut self, bits: u32) {
        self.multiply_add(1 << (bits % 32), 0);
        let mut groups = vec![0; bits as usize / 32];
        groups.append(&mut self.0);
        self.0 = groups;
    }

    /// Subtracts, unless that would be below zero; says whether it did.
    fn subtract(&mut self, other: &Self) -> bool {
        let order = self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()));
        if order == Ordering::Less {
            return false;
        }
        let mut borrowed = false;
        for (index, group) in self.0.iter_mut().enumerate() {
            let (less, first) = group.overflowing_sub(other.0.get(index).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u32::from(borrowed));
            *group = less;
            borrowed = first || second;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        true
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
const fn low(value: u64) -> u32 {
    value as u32
}
