//! The language-neutral vectors of `tests/conformance/`, read by the code that is shipped.
//!
//! Their expected values come from another implementation (`tests/conformance/reference.mjs`); a difference here means that
//! two ends would store, hash or refuse different bytes.

#![expect(clippy::unwrap_used, reason = "a vector that is not there fails its test")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use syncline_protocol::{
    Change, ChangeKind, ClientMessage, EntityName, ErrorBody, IdError, Intent, MessageError, OpId, Page, PushAnswer, RowId,
    ServerMessage, Timestamp, bearer_subprotocol, canonical_json, canonical_row, frame_checksum, parse_row, row_id_v7,
    token_from_subprotocol,
};

#[test]
fn canonical_json_is_as_everybody_writes_it() {
    let vectors = load("canonical.json");
    for case in cases(&vectors, "values") {
        let value: Value = serde_json::from_str(text(case, "text")).unwrap();
        assert_eq!(canonical_json(&value), text(case, "canonical"), "{}", text(case, "name"));
    }
    for case in cases(&vectors, "numbers") {
        let bits = u64::from_str_radix(text(case, "bits"), 16).unwrap();
        let number = serde_json::Number::from_f64(f64::from_bits(bits)).unwrap();
        assert_eq!(canonical_json(&Value::Number(number)), text(case, "canonical"), "{case}");
    }
}

#[test]
fn intents_have_the_same_bytes_and_hash() {
    let vectors = load("intents.json");
    for case in cases(&vectors, "intents") {
        let canonical = Intent::parse(text(case, "text")).unwrap().canonical();
        assert_eq!(canonical, text(case, "canonical"), "{}", text(case, "name"));
        assert_eq!(Intent::parse(&canonical).unwrap().canonical(), canonical, "{}, again", text(case, "name"));
        let hash = Sha256::digest(canonical.as_bytes());
        assert_eq!(hex(&hash[..16]), text(case, "hash"), "{}", text(case, "name"));
    }
    for case in cases(&vectors, "refused") {
        let error = Intent::parse(text(case, "text")).unwrap_err();
        assert_eq!(error.code().code(), text(case, "code"), "{}: {error}", text(case, "name"));
    }
}

#[test]
fn tokens_travel_as_subprotocols() {
    let vectors = load("subprotocol.json");
    for case in cases(&vectors, "tokens") {
        let (token, subprotocol) = (text(case, "token"), text(case, "subprotocol"));
        assert_eq!(bearer_subprotocol(token).unwrap(), subprotocol);
        assert_eq!(token_from_subprotocol(subprotocol).as_deref(), Some(token));
    }
    for case in cases(&vectors, "decoded") {
        let token = token_from_subprotocol(text(case, "subprotocol"));
        assert_eq!(token.as_deref(), Some(text(case, "token")), "{}", text(case, "name"));
    }
    for offered in cases(&vectors, "refused") {
        assert_eq!(token_from_subprotocol(offered.as_str().unwrap()), None, "{offered}");
    }
    for bytes in cases(&vectors, "too_long") {
        let token = "x".repeat(usize::try_from(bytes.as_u64().unwrap()).unwrap());
        assert_eq!(bearer_subprotocol(&token).unwrap_err().code(), "TOKEN_TOO_LONG");
    }
}

#[test]
fn rows_are_stored_or_refused_with_their_code() {
    for case in cases(&load("values.json"), "rows") {
        let row = parse_row(&row_text(case));
        let code = row.as_ref().err().map(|error| error.code().code());
        assert_eq!(code, case["code"].as_str(), "{}", text(case, "name"));
        if let Ok(row) = row {
            let again = parse_row(&canonical_row(&row));
            assert_eq!(again.as_ref().map(canonical_row), Ok(canonical_row(&row)), "{}, again", text(case, "name"));
        }
    }
}

#[test]
fn checksums_are_the_same_sums() {
    for case in cases(&load("checksum.json"), "checksums") {
        let changes: Vec<Change> = match case["count"].as_u64() {
            Some(count) => (0..count).map(|index| change("Row", &format!("row-{index}"), index + 1)).collect(),
            None => cases(case, "changes")
                .iter()
                .map(|named| change(text(named, "entity"), text(named, "row_id"), named["seq"].as_u64().unwrap()))
                .collect(),
        };
        assert_eq!(frame_checksum(&changes), text(case, "checksum"), "{}", text(case, "name"));
    }
}

#[test]
fn ids_and_names_are_checked_alike() {
    let vectors = load("row_ids.json");
    let check = |key: &str, parse: &dyn Fn(&str) -> Result<(), IdError>| {
        for case in cases(&vectors, key) {
            let code = parse(text(case, "id")).err().map(|error| error.code().code());
            assert_eq!(code, case["code"].as_str(), "{key}: {case}");
        }
    };
    check("row_ids", &|id| RowId::parse(id).map(drop));
    check("names", &|id| EntityName::parse(id).map(drop));
    check("op_ids", &|id| OpId::parse(id).map(drop));
    for case in cases(&vectors, "minted") {
        let random: Vec<u8> = text(case, "random")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let id = row_id_v7(Timestamp(case["ms"].as_u64().unwrap()), random.try_into().unwrap());
        assert_eq!(id.as_str(), text(case, "row_id"));
    }
}

#[test]
fn messages_are_read_and_written_alike() {
    let vectors = load("messages.json");
    round_trip(&vectors, "client", |text| ClientMessage::parse(text).unwrap().encode());
    round_trip(&vectors, "server", |text| ServerMessage::parse(text).unwrap().encode());
    round_trip(&vectors, "pages", |text| {
        let page = Page::parse(text).unwrap();
        assert!(page.checksum_matches(), "{text}");
        serde_json::to_string(&page).unwrap()
    });
    round_trip(&vectors, "answers", |text| serde_json::to_string(&PushAnswer::parse(text).unwrap()).unwrap());
    round_trip(&vectors, "errors", |text| serde_json::to_string(&ErrorBody::parse(text).unwrap()).unwrap());
    for case in cases(&vectors, "wrong_checksums") {
        let page = Page::parse(text(case, "text")).unwrap();
        assert!(!page.checksum_matches(), "{}", text(case, "name"));
    }
}

#[test]
fn what_is_no_message_is_refused() {
    for case in cases(&load("messages.json"), "refused") {
        let error = match text(case, "from") {
            "client" => ClientMessage::parse(text(case, "text")).unwrap_err(),
            _ => ServerMessage::parse(text(case, "text")).unwrap_err(),
        };
        let why = if matches!(error, MessageError::UnknownType(_)) { "unknown_type" } else { "shape" };
        assert_eq!(why, text(case, "why"), "{}: {error}", text(case, "name"));
    }
}

fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The cases of one section; an empty or misspelt one would pass for nothing.
fn cases<'a>(vectors: &'a Value, section: &str) -> &'a [Value] {
    vectors[section].as_array().unwrap_or_else(|| panic!("no section {section}"))
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no text {key} in {case}"))
}

/// The text of a row: as it stands, or built, so that the file stays small.
fn row_text(case: &Value) -> String {
    if let Some(fields) = case["fields"].as_u64() {
        let row: serde_json::Map<String, Value> = (0..fields).map(|index| (format!("f{index}"), Value::from(index))).collect();
        return Value::Object(row).to_string();
    }
    let repeat = &case["repeat"];
    if repeat.is_null() {
        return text(case, "text").to_owned();
    }
    let count = usize::try_from(repeat["count"].as_u64().unwrap()).unwrap();
    format!("{}{}{}", text(repeat, "before"), text(repeat, "unit").repeat(count), text(repeat, "after"))
}

fn change(entity: &str, row_id: &str, seq: u64) -> Change {
    Change {
        seq,
        entity: EntityName::parse(entity).unwrap(),
        row_id: RowId::parse(row_id).unwrap(),
        kind: ChangeKind::Delete,
        data: None,
        columns: None,
        column_seqs: None,
        base: None,
    }
}

/// Reads each text of a section and writes it again: nothing may be lost but what `read_as` leaves out.
fn round_trip(vectors: &Value, section: &str, again: impl Fn(&str) -> String) {
    for case in cases(vectors, section) {
        let expected: Value = serde_json::from_str(case["read_as"].as_str().unwrap_or(text(case, "text"))).unwrap();
        let written: Value = serde_json::from_str(&again(text(case, "text"))).unwrap();
        assert_eq!(written, expected, "{section}: {}", text(case, "name"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| char::from_digit(u32::from(nibble), 16).unwrap()).collect()
}
