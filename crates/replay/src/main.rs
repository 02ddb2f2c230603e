//! `syncline-replay FOLDER`: plays every tape of a folder, natively or compiled to WebAssembly.
//!
//! Each tape is played twice: as it was recorded, which must go through, and with one byte of one answer changed, which must
//! not.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        say("syncline-replay FOLDER");
        return ExitCode::from(2);
    };
    match play_all(Path::new(&folder)) {
        Ok((tapes, calls)) => {
            say(&format!("{tapes} tapes played, {calls} calls answered as recorded; one byte changed was noticed in each"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn play_all(folder: &Path) -> Result<(usize, usize), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut all_calls = 0;
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
        all_calls += syncline_replay::play(&text).map_err(|error| format!("{name}: {error}"))?;
        let spoilt = syncline_replay::spoil(&text).ok_or_else(|| format!("{name}: the tape holds no answers"))?;
        if syncline_replay::play(&spoilt).is_ok() {
            return Err(format!("{name}: one byte of an answer was changed and nobody noticed"));
        }
    }
    if files.is_empty() {
        return Err(format!("{} holds no tapes", folder.display()));
    }
    Ok((files.len(), all_calls))
}

#[expect(clippy::print_stdout, reason = "the verdict is the answer of this program")]
fn say(text: &str) {
    println!("{text}");
}
