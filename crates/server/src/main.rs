//! The `syncline` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    syncline_server::cli::run()
}
