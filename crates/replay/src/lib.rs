//! What client cores were called with and what they answered, as text: recorded natively, played to the same core compiled to
//! WebAssembly.
//!
//! A tape is JSON lines, one for each call of a core. The calls are those of the core's interface; the answers are the text of
//! what the core gave, compared byte for byte, long ones by their beginning, length and hash.

mod call;
mod mirrors;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_core::client::Client;

pub use call::{Call, Settings};

/// One call of one core.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    core: u32,
    call: Call,
    #[serde(borrow)]
    answer: Cow<'a, str>,
}

/// A recording under way.
#[derive(Debug, Default)]
pub struct Tape {
    text: String,
    cores: u32,
}

impl Tape {
    /// Records the making of a core; gives its number.
    pub fn begin(&mut self, settings: Settings) -> u32 {
        self.cores += 1;
        self.note(self.cores, Call::New(settings), "");
        self.cores
    }

    /// Records one call of a core.
    pub fn note(&mut self, core: u32, call: Call, answer: &str) {
        let line = Line { core, call, answer: abridged(answer) };
        // Maps with text keys and numbers only: there is nothing that cannot be written.
        self.text.push_str(&serde_json::to_string(&line).unwrap_or_default());
        self.text.push('\n');
    }

    /// The recording.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Plays a recording; gives the number of calls.
///
/// # Errors
/// With the first line whose answer is another one, or that cannot be read.
pub fn play(text: &str) -> Result<usize, String> {
    let mut cores: BTreeMap<u32, Client> = BTreeMap::new();
    let mut calls = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let Line { core, call, answer } = serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        let what = call.name();
        if let Call::New(settings) = call {
            cores.insert(core, Client::new(settings.config()));
            continue;
        }
        let client = cores.get_mut(&core).ok_or_else(|| format!("line {number}: there is no core {core}"))?;
        let found = call.perform(client);
        let found = abridged(&found);
        if found != answer {
            return Err(format!(
                "line {number}, core {core}, {what}:\n  recorded {}\n  now      {}",
                short(&answer, &found),
                short(&found, &answer)
            ));
        }
        calls += 1;
    }
    Ok(calls)
}

/// Changes one byte of one answer, the longest there is: the proof that a difference is noticed.
///
/// `None` when nothing was answered.
pub fn spoil(text: &str) -> Option<String> {
    let lines = || text.lines().filter_map(|line| serde_json::from_str::<Line<'_>>(line).ok());
    let longest = lines().enumerate().max_by_key(|(_, line)| line.answer.len()).map(|(number, _)| number)?;
    let mut spoilt = Tape::default();
    for (number, Line { core, call, answer }) in lines().enumerate() {
        let mut answer = answer.into_owned();
        if number == longest {
            let last = answer.pop()?;
            answer.push(if last == '~' { '!' } else { '~' });
        }
        spoilt.note(core, call, &answer);
    }
    Some(spoilt.into_text())
}

/// A text, or what recognises a long one.
fn abridged(text: &str) -> Cow<'_, str> {
    const SHOWN: usize = 1_000;
    // What is abridged is shorter than this, so that it is not abridged again.
    if text.len() < 2 * SHOWN {
        return text.into();
    }
    let hash = xxhash_rust::xxh64::xxh64(text.as_bytes(), 0);
    let beginning = text.get(..text.floor_char_boundary(SHOWN)).unwrap_or_default();
    format!("{beginning}… {} bytes, {hash:016x}", text.len()).into()
}

/// What surrounds the first difference.
fn short(text: &str, other: &str) -> String {
    const AROUND: usize = 200;
    let same = text.bytes().zip(other.bytes()).take_while(|(one, two)| one == two).count();
    let from = text.floor_char_boundary(same.saturating_sub(AROUND));
    let to = text.floor_char_boundary(same + AROUND);
    format!("…{}… ({} bytes, differs at {same})", text.get(from..to).unwrap_or_default(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> String {
        let mut tape = Tape::default();
        let core = tape.begin(Settings { seed: [3; 32], schema: 1, ..Settings::default() });
        let mut client = Client::new(Settings { seed: [3; 32], schema: 1, ..Settings::default() }.config());
        for call in [
            Call::Input(5, syncline_core::client::Input::Start { identity: Some(syncline_protocol::Identity::default()) }),
            Call::Poll,
            Call::Poll,
            Call::Status,
            Call::Queue,
        ] {
            let again: Call = serde_json::from_str(&serde_json::to_string(&call).unwrap()).unwrap();
            let answer = again.perform(&mut client);
            tape.note(core, call, &answer);
        }
        tape.into_text()
    }

    #[test]
    fn a_tape_is_played_as_it_was_recorded() {
        assert_eq!(play(&recorded()), Ok(5));
    }

    #[test]
    fn one_byte_that_differs_is_noticed() {
        let spoilt = spoil(&recorded()).unwrap();
        assert!(play(&spoilt).unwrap_err().contains("differs at"));
        assert!(play("{}\n").unwrap_err().starts_with("line 1"));
    }
}
