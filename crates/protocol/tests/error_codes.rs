//! The codes are API in three places: the Rust enum, the TypeScript package and the page for people. They are one list.

use syncline_protocol::ErrorCode;

const PAGE: &str = include_str!("../../../docs/errors.md");
const PACKAGE: &str = include_str!("../../../pkg/src/errors.ts");

#[test]
fn the_page_lists_every_code_in_order_with_status_and_retryable() {
    let listed: Vec<String> = PAGE.lines().filter_map(listed_code).collect();
    let known: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let status = if code.status() == 0 { "–".to_owned() } else { code.status().to_string() };
            let retryable = if code.is_retryable() { "yes" } else { "no" };
            format!("{} {status} {retryable}", code.code())
        })
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_page_tells_the_meaning_and_the_remedy_of_every_code() {
    for line in PAGE.lines().filter(|line| listed_code(line).is_some()) {
        let cells = cells(line);
        assert_eq!(cells.len(), 5, "{line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
    }
}

#[test]
fn the_package_has_every_code_with_retryable() {
    let table = between(PACKAGE, "const RETRYABLE", "};");
    let listed: Vec<&str> = table.lines().map(str::trim).filter(|line| line.ends_with(',')).collect();
    let known: Vec<String> = ErrorCode::ALL.iter().map(|code| format!("{}: {},", code.code(), code.is_retryable())).collect();
    assert_eq!(listed, known);
}

#[test]
fn the_packages_union_has_every_code() {
    let union = between(PACKAGE, "export type ErrorCode =", ";");
    let listed: Vec<&str> = union.split('|').map(str::trim).filter(|text| !text.is_empty()).collect();
    let known: Vec<String> = ErrorCode::ALL.iter().map(|code| format!("{:?}", code.code())).collect();
    assert_eq!(listed, known);
}

/// A row of one of the page's tables, without the prose: `CODE 400 no`.
fn listed_code(line: &str) -> Option<String> {
    let cells = cells(line);
    let code = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
    Some(format!("{code} {} {}", cells.get(1)?, cells.get(2)?))
}

fn cells(line: &str) -> Vec<&str> {
    let Some(row) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
        return Vec::new();
    };
    row.split(" | ").map(str::trim).collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{start:?} is not in the file"));
    rest.split_once(end).map_or(rest, |(found, _)| found)
}
