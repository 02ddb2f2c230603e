//! Scenarios: what happens and what must hold, written down in a file each, played with the world of the simulation.
//!
//! Nothing is drawn: messages take 2 ms, a disk 1 ms, and nothing goes wrong but what the file says. The checkers of the
//! simulation look on. How to write one stands in `docs/simulation.md`.

mod by_hand;
mod expectations;
mod server_rows;
mod spoil;
mod stage;
mod steps;
mod writing;

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;
use syncline_replay::Tape;

use crate::run::caught;
use stage::Stage;
use steps::{File, Step};

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// The name of its file.
    pub name: String,
    file: File,
    steps: Vec<Step>,
}

/// What to do with a scenario besides playing it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    /// A planted bug, for a build with the feature `planted`.
    pub bug: u64,
    /// Whether to record the cores.
    pub records: bool,
    /// Whether to print all that happens.
    pub shown: bool,
}

/// Reads all scenarios, in order of their names.
///
/// # Errors
/// When one cannot be read, with its name and place.
pub fn load_all() -> Result<Vec<Scenario>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        Scenario::parse(&name, &text)
    };
    files.iter().map(read).collect()
}

impl Scenario {
    /// Reads one.
    ///
    /// # Errors
    /// When something in it is unknown, missing or misspelt.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        let read = |(number, step): (usize, &Value)| {
            serde_json::from_value(step.clone()).map_err(|error| format!("{name}, step {number}: {error}\n  {step}"))
        };
        let steps = (1..).zip(&file.steps).map(read).collect::<Result<Vec<Step>, String>>()?;
        Ok(Self { name: name.to_owned(), file, steps })
    }

    /// What holds, in plain words.
    pub fn promise(&self) -> &str {
        &self.file.promise
    }

    /// What goes wrong where it does not hold, or what found it.
    pub fn otherwise(&self) -> &str {
        &self.file.otherwise
    }

    /// The planted bugs with any of which it must fail.
    pub fn planted(&self) -> &[u64] {
        &self.file.planted
    }

    /// Plays it; gives the tape, if one was asked for.
    ///
    /// # Errors
    /// With the step that failed, what was expected and what was found.
    pub fn play(&self, plan: Plan) -> Result<String, String> {
        let tape = plan.records.then(|| Rc::new(RefCell::new(Tape::default())));
        let at = Cell::new(0);
        let played = caught(|| {
            let mut stage = Stage::new(&self.file, plan, tape.clone())?;
            for (number, step) in (1..).zip(&self.steps) {
                at.set(number);
                stage.perform(step)?;
            }
            at.set(self.steps.len() + 1);
            stage.end();
            Ok(())
        });
        match played.and_then(|result: Result<(), String>| result) {
            Ok(()) => Ok(tape.map(|tape| tape.take().into_text()).unwrap_or_default()),
            Err(message) => Err(self.failure(at.get(), &message)),
        }
    }

    fn failure(&self, number: usize, message: &str) -> String {
        let step = number.checked_sub(1).and_then(|index| self.file.steps.get(index));
        let place = step.map_or_else(|| "at the end".to_owned(), |step| format!("step {number}: {step}"));
        format!("{}, {place}\n  {message}", self.name)
    }

    /// Its last step as text.
    pub fn last_step(&self) -> String {
        self.file.steps.last().map(Value::to_string).unwrap_or_default()
    }

    /// The same scenario with one expectation made wrong, in every way there is; each with the number of its step.
    ///
    /// # Panics
    /// When a wrong expectation is none any more: a mistake in how they are made.
    pub fn spoilt(&self) -> Vec<(usize, Self)> {
        let mut all = Vec::new();
        for (index, step) in self.file.steps.iter().enumerate() {
            for wrong in spoil::variants(step) {
                let (mut file, mut steps) = (self.file.clone(), self.steps.clone());
                file.steps.truncate(index);
                steps.truncate(index);
                steps.push(serde_json::from_value(wrong.clone()).expect("what is wrong has the shape of what is right"));
                file.steps.push(wrong);
                all.push((index + 1, Self { name: self.name.clone(), file, steps }));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str =
        r#"{"promise": "p", "otherwise": "o", "devices": {"laptop": {"user": "alice", "tenant": "acme"}}, "steps": STEPS}"#;

    fn play(steps: &str) -> Result<String, String> {
        Scenario::parse("small", &SMALL.replace("STEPS", steps))?.play(Plan::default())
    }

    #[test]
    fn what_is_unknown_or_misspelt_is_an_error_with_its_place() {
        for (steps, told) in [
            (r#"[{"wait": "1 s"}, {"jump": {}}]"#, "step 2: unknown variant `jump`"),
            (r#"[{"open": {"device": "laptop", "tab": "a", "colour": 1}}]"#, "step 1: unknown field `colour`"),
            (r#"[{"open": {"device": "phone", "tab": "a"}}]"#, "there is no device phone"),
            (r#"[{"wait": "1 week"}]"#, "is no time"),
            (r#"[{"expect": {"tab": "a", "queue": []}}]"#, "no tab a is open"),
        ] {
            let error = play(steps).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_failed_expectation_says_what_was_expected_and_what_was_found() {
        let steps = r#"[{"open": {"device": "laptop", "tab": "a"}}, {"wait": "1 s"}, {"expect": {"tab": "a", "status": {"pending": 3}}}]"#;
        let error = play(steps).unwrap_err();
        assert!(error.contains("small, step 3") && error.contains("pending: expected 3, found 0"), "{error}");
    }

    #[test]
    fn what_a_checker_notices_is_told_with_the_step() {
        let tampered = r#"[{"open": {"device": "laptop", "tab": "a"}}, {"wait": "not even a number ms"}]"#;
        assert!(play(tampered).unwrap_err().starts_with("small, step 2"));
    }

    #[test]
    fn each_scenario_stands_in_the_table() {
        let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenarios.md")).unwrap();
        let missing: Vec<String> = load_all().unwrap().into_iter().map(|scenario| scenario.name).collect();
        let missing: Vec<&String> = missing.iter().filter(|name| !table.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "docs/scenarios.md does not name {missing:?}");
    }

    #[test]
    fn scenarios_hold_and_their_tapes_play() {
        // All of them are a suite of its own.
        for scenario in load_all().unwrap().into_iter().take(6) {
            let tape = scenario.play(Plan { records: true, ..Plan::default() }).unwrap_or_else(|error| panic!("{error}"));
            syncline_replay::play(&tape).unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        }
    }
}
