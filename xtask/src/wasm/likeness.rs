//! An order in which like texts stand near each other, for a compressor that remembers what came last.

use std::cmp::Reverse;
use std::collections::VecDeque;

/// What texts have in common: pieces of five bytes, longer than what is alike by chance and shorter than most repetitions.
pub(super) struct Likeness {
    texts: Vec<Text>,
    pieces: Vec<Piece>,
}

struct Text {
    bytes: usize,
    /// Places in the list of pieces.
    pieces: Vec<usize>,
}

struct Piece {
    /// Places of the texts that have it.
    texts: Vec<usize>,
    /// The fewer texts have it, the more it says about them.
    weight: u128,
}

/// Weight of a piece that one text alone has.
const WEIGHT: u128 = 1 << 20;
const PIECE_BYTES: usize = 5;

#[expect(clippy::indexing_slicing, reason = "every place comes from a list that is as long")]
impl Likeness {
    /// Compares texts with each other.
    pub(super) fn of(texts: &[&[u8]]) -> Self {
        let mut found: Vec<(&[u8], usize)> = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            found.extend(text.windows(PIECE_BYTES).map(|piece| (piece, place)));
        }
        found.sort_unstable();
        found.dedup();
        let mut pieces = Vec::new();
        let mut texts: Vec<_> = texts.iter().map(|text| Text { bytes: text.len(), pieces: Vec::new() }).collect();
        for same in found.chunk_by(|(one, _), (other, _)| one == other).filter(|same| same.len() > 1) {
            let places: Vec<usize> = same.iter().map(|(_, place)| *place).collect();
            for place in &places {
                texts[*place].pieces.push(pieces.len());
            }
            pieces.push(Piece { weight: WEIGHT / places.len() as u128, texts: places });
        }
        Self { texts, pieces }
    }

    /// The texts in an order in which each has much in common with the `window` bytes before it. Begins with the longest.
    pub(super) fn order(&self, window: usize) -> Vec<usize> {
        let mut row = Row {
            likeness: self,
            recent: VecDeque::new(),
            recent_bytes: 0,
            uses: vec![0; self.pieces.len()],
            scores: vec![0; self.texts.len()],
            stands: vec![false; self.texts.len()],
        };
        let mut order = Vec::new();
        let mut next = (0..self.texts.len()).min_by_key(|place| Reverse(self.texts[*place].bytes));
        while let Some(place) = next {
            order.push(place);
            row.add(place);
            row.forget_beyond(window);
            next = row.likest();
        }
        order
    }
}

/// Texts that are put in a row, one after another.
struct Row<'a> {
    likeness: &'a Likeness,
    /// Those that the next can still refer to.
    recent: VecDeque<usize>,
    recent_bytes: usize,
    /// How many of them have each piece.
    uses: Vec<usize>,
    /// What each text has in common with them.
    scores: Vec<u128>,
    stands: Vec<bool>,
}

#[expect(clippy::indexing_slicing, reason = "every place comes from a list that is as long")]
impl Row<'_> {
    fn add(&mut self, place: usize) {
        self.stands[place] = true;
        self.recent.push_back(place);
        self.recent_bytes += self.likeness.texts[place].bytes;
        for piece in &self.likeness.texts[place].pieces {
            self.uses[*piece] += 1;
            if self.uses[*piece] == 1 {
                let Piece { texts, weight } = &self.likeness.pieces[*piece];
                for text in texts {
                    self.scores[*text] += weight;
                }
            }
        }
    }

    /// The last text is remembered, however long it is.
    fn forget_beyond(&mut self, window: usize) {
        while self.recent_bytes > window && self.recent.len() > 1 {
            let Some(place) = self.recent.pop_front() else { return };
            self.recent_bytes -= self.likeness.texts[place].bytes;
            for piece in &self.likeness.texts[place].pieces {
                self.uses[*piece] -= 1;
                if self.uses[*piece] == 0 {
                    let Piece { texts, weight } = &self.likeness.pieces[*piece];
                    for text in texts {
                        self.scores[*text] -= weight;
                    }
                }
            }
        }
    }

    /// By the square of what is in common for each byte: short texts have little to give, long ones would always be first.
    fn likest(&self) -> Option<usize> {
        let per_byte =
            |place: &usize| self.scores[*place] * self.scores[*place] / self.likeness.texts[*place].bytes.max(1) as u128;
        (0..self.scores.len()).filter(|place| !self.stands[*place]).min_by_key(|place| Reverse(per_byte(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(texts: &[&str], window: usize) -> Vec<usize> {
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        Likeness::of(&texts).order(window)
    }

    #[test]
    fn like_stands_by_like() {
        let texts = ["the longest text begins it", "quite another", "begins the longest text", "quite another one"];
        assert_eq!(order(&texts, 1_000), [0, 2, 1, 3]);
    }

    #[test]
    fn what_many_have_says_less_than_what_two_have() {
        let texts = ["common...... rarely seen", "common......1", "common......2", "rarely seen"];
        assert_eq!(order(&texts, 1_000), [0, 3, 1, 2]);
    }

    #[test]
    fn what_is_too_far_back_does_not_count() {
        let texts = ["abcdefgh and ijklmnop", "zzzzz", "ijklmnop", "abcdefgh"];
        assert_eq!(order(&texts, 1_000), [0, 2, 3, 1]);
        // Nothing is like the third, and the first is forgotten.
        assert_eq!(order(&texts, 1), [0, 2, 1, 3]);
    }

    #[test]
    fn every_text_is_there_once() {
        let mut places = order(&["", "abcde", "", "abcde", "x"], 4);
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3, 4]);
        assert_eq!(order(&[], 4), [0; 0]);
    }
}
