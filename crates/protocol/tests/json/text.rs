//! The crate's own JSON reader and writer against `serde_json`: on any text, well formed or not, they agree.

use serde_json::Value;
use serde_json::value::RawValue;
use syncline_protocol::json::{JsonError, Reader, Token, write_float};
use syncline_protocol::{Intent, Page, RowText, ServerMessage, canonical_json, write_canonical};

use crate::dice::{Dice, for_seeds};

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "d83d",
    "\\ud83d\\ude00",
    "\\udc00",
    "null",
    "true",
    "false",
    "nul",
    "0",
    "-0",
    "-",
    "1",
    "12",
    "00",
    ".",
    "e",
    "E+",
    "1e5",
    "1.5e-7",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "1e400",
    "2.2250738585072011e-308",
    " ",
    "\n",
    "\t",
    "\u{1}",
    "é",
    "\u{1f600}",
    "a",
    "\"a\"",
    "\"b\":",
    "\"\\n\"",
    "\u{feff}",
];

fn random_json(dice: &mut Dice, depth: usize) -> String {
    let space = dice.pick(&["", "", " ", "\n\t"]);
    let json = match dice.below(if depth == 0 { 4 } else { 6 }) {
        0 => dice.pick(&["null", "true", "false", "0", "-0", "-1", "18446744073709551615", "1E3", "0.1", "-9.5e-20"]).to_owned(),
        1 => f64::from_bits(dice.next()).to_string().replace("NaN", "1").replace("inf", "2"),
        2 => i64::from_ne_bytes(dice.next().to_ne_bytes()).to_string(),
        3 => random_text(dice),
        4 => {
            let items: Vec<String> = (0..dice.below(5)).map(|_| random_json(dice, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let members: Vec<String> =
                (0..dice.below(5)).map(|_| format!("{}:{}", random_text(dice), random_json(dice, depth - 1))).collect();
            format!("{{{}}}", members.join(","))
        }
    };
    format!("{space}{json}{space}")
}

fn random_text(dice: &mut Dice) -> String {
    let inner: String = (0..dice.below(5))
        .map(|_| {
            dice.pick(&["a", "bc", "\\n", "\\\"", "\\\\", "\\/", "\\u0041", "\\uD83D\\ude00", "é", "\u{1f600}", "\u{7f}", " "])
        })
        .collect();
    format!("\"{inner}\"")
}

/// Removes, doubles or exchanges something.
fn damage(dice: &mut Dice, text: &str) -> String {
    let mut characters: Vec<String> = text.chars().map(String::from).collect();
    let at = dice.below(characters.len() as u64 + 1);
    match dice.below(3) {
        0 => characters.truncate(at),
        1 => characters.insert(at, dice.pick(PIECES).to_owned()),
        _ if at < characters.len() => dice.pick(PIECES).clone_into(&mut characters[at]),
        _ => {}
    }
    characters.concat()
}

fn read(text: &str) -> Result<Value, JsonError> {
    let mut reader = Reader::new(text);
    let value = read_value(&mut reader);
    reader.finish().map(|()| value)
}

fn read_value(reader: &mut Reader<'_>) -> Value {
    match reader.token() {
        Token::Null => Value::Null,
        Token::Bool(value) => Value::from(value),
        Token::Int(value) => Value::from(value),
        Token::Large(value) => Value::from(value),
        Token::Float(value) => Value::from(value),
        Token::Text(text) => Value::from(text),
        Token::Array => {
            let (mut list, mut items) = (reader.array(), Vec::new());
            while reader.next_item(&mut list) {
                items.push(read_value(reader));
            }
            Value::Array(items)
        }
        Token::Object => {
            let (mut list, mut members) = (reader.object(), serde_json::Map::new());
            while let Some(name) = reader.next_name(&mut list) {
                members.insert(name.into_owned(), read_value(reader));
            }
            Value::Object(members)
        }
    }
}

fn skipped(text: &str) -> Result<&str, JsonError> {
    let mut reader = Reader::new(text);
    let raw = reader.raw();
    reader.finish().map(|()| raw)
}

fn agree(text: &str) {
    match (read(text), serde_json::from_str::<Value>(text)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours, theirs, "{text}");
            let mut out = Vec::new();
            write_canonical(&mut out, &mut Reader::new(text));
            let again: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(floats(again), floats(ours), "{text}");
            assert_eq!(String::from_utf8(out).unwrap(), canonical_json(&theirs), "{text}");
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{text:?}: {ours:?}, but {theirs:?}"),
    }
    match (skipped(text), serde_json::from_str::<&RawValue>(text)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs.get()),
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{text:?}: {ours:?}, but {theirs:?}"),
    }
}

/// JavaScript prints 1.0 as 1, and has no negative zero in JSON: compares what it counts.
fn floats(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap();
            if float == 0.0 { Value::from(0.0) } else { Value::from(float) }
        }
        Value::Number(number) => Value::from(number.as_f64().unwrap()),
        Value::Array(items) => items.into_iter().map(floats).collect(),
        Value::Object(members) => Value::Object(members.into_iter().map(|(name, member)| (name, floats(member))).collect()),
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

#[test]
fn any_text_means_what_it_means_to_serde_json() {
    for_seeds("any_text_means_what_it_means_to_serde_json", 20_000, |dice| {
        let text = random_json(dice, 4);
        agree(&text);
        agree(&damage(dice, &text));
        let pieces: String = (0..dice.below(8)).map(|_| dice.pick(PIECES)).collect();
        agree(&pieces);
    });
}

/// A row with few names, some of which UTF-8 and UTF-16 put in another order.
fn random_row(dice: &mut Dice) -> String {
    let names = ["a", "b", "\\u0062", "c d", "\\u20ac", "\u{1f600}", "\u{fb33}", "\\ufb33\\\""];
    let values = ["1", "1.0", "-0", "null", "\"\\u0041\"", "[1.50,{}]", "{\"b\":[],\"a\":1e3,\"b\":2}", "true"];
    let member = |dice: &mut Dice| format!("\"{}\" : {}", dice.pick(&names), dice.pick(&values));
    let members: Vec<String> = (0..dice.below(6)).map(|_| member(dice)).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn patches_replace_fields_and_leave_the_others() {
    for_seeds("patches_replace_fields_and_leave_the_others", 5_000, |dice| {
        let texts: Vec<String> = (0..=dice.below(4)).map(|_| random_row(dice)).collect();
        let rows: Vec<RowText> = texts.iter().map(|text| RowText::parse(text).unwrap()).collect();
        let mut expected = serde_json::Map::new();
        for row in &rows {
            expected.extend(serde_json::from_str::<serde_json::Map<String, Value>>(row.get()).unwrap());
        }
        assert_eq!(rows[0].get(), canonical_json(&serde_json::from_str(&texts[0]).unwrap()));
        let mut all = rows[0].patched(&mut rows[1..].iter());
        assert_eq!(all.get(), canonical_json(&Value::Object(expected.clone())), "{texts:?}");
        let Some(name) = expected.keys().next().cloned() else { return };
        let removed = expected.remove(&name).map(|value| canonical_json(&value));
        assert_eq!(all.remove(&name), removed);
        assert_eq!(all.get(), canonical_json(&Value::Object(expected)), "{texts:?}");
    });
}

#[test]
fn many_large_patches_are_put_in_order_on_the_way() {
    let patches: Vec<RowText> = (0..40)
        .map(|index| {
            RowText::parse(&format!(r#"{{"n{}":{index},"text":"{}"}}"#, index % 3, "x".repeat(200_000 + index))).unwrap()
        })
        .collect();
    let all = RowText::default().patched(&mut patches.iter());
    assert_eq!(all.get(), format!(r#"{{"n0":39,"n1":37,"n2":38,"text":"{}"}}"#, "x".repeat(200_039)));
}

#[test]
fn deep_nesting_is_refused_at_the_same_depth() {
    for depth in [1, 32, 127, 128, 100_000] {
        let text = "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(read(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{depth}");
        let text = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert_eq!(read(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{depth}");
    }
}

#[test]
fn floats_are_the_nearest_and_print_the_same_number() {
    for_seeds("floats_are_the_nearest_and_print_the_same_number", 100_000, |dice| {
        let float = f64::from_bits(dice.next());
        if !float.is_finite() {
            return;
        }
        let shift = dice.below(40);
        let spellings = [
            format!("{float:e}"),
            format!("{float:.17e}"),
            format!("{float:.14e}"),
            format!("{}.{}", dice.next() >> shift, dice.next()),
        ];
        for text in spellings {
            let read = read(&text).unwrap().as_f64().unwrap();
            assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
            let mut out = Vec::new();
            write_float(&mut out, read);
            let again: f64 = String::from_utf8(out).unwrap().parse().unwrap();
            assert!(again.to_bits() == read.to_bits() || read == 0.0, "{text}");
        }
    });
}

#[test]
fn halves_between_floats_round_to_even_however_long_they_are() {
    for_seeds("halves_between_floats_round_to_even_however_long_they_are", 20_000, |dice| {
        // 54 bits, the last one set: the middle between two floats.
        let middle = u128::from((dice.next() >> 10) | (1 << 53) | 1) << dice.below(70);
        for text in [format!("{middle}.0"), format!("{middle}.{}1", "0".repeat(60)), format!("{}.{}", middle - 1, "9".repeat(60))]
        {
            let scaled = format!("{text}e-{}", dice.below(40));
            for text in [text, scaled] {
                let expected: f64 = text.parse().unwrap();
                assert_eq!(read(&text).unwrap().as_f64().unwrap().to_bits(), expected.to_bits(), "{text}");
            }
        }
    });
    for text in [
        "9007199254740993.0",
        "9007199254740992.5e0",
        "9007199254740993.00000000000000000000000000000000000001",
        "4.9e-324",
        "2.4703282292062327208e-324",
        "2.4703282292062328e-324",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "0e999999999999",
        "0.0000000000000000000000000000000000000000000000001e49",
        "8.98846567431158e307",
        "5e-324",
        "1e-400",
        "123456789012345678901234567890e-10",
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "1e23",
        "8.5e22",
        "1e-99999999999999999999",
    ] {
        assert_eq!(read(text).unwrap().as_f64().unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
    }
    for text in ["1e309", "1.7976931348623159e308", "1e99999999999999999999", "-1e400"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn numbers_longer_than_any_middle_round_by_their_last_digit() {
    // The middle between the smallest float and zero, exactly: 751 significant digits.
    let smallest = format!("{:.1074}", 5e-324);
    let mut middle = String::new();
    let mut half = 0;
    for digit in smallest.bytes() {
        if digit == b'.' {
            middle.push('.');
            continue;
        }
        let value = half * 10 + u32::from(digit - b'0');
        middle.push(char::from_digit(value / 2, 10).unwrap());
        half = value % 2;
    }
    middle.push('5');
    for more in ["", "0", "1", &"0".repeat(100), &("0".repeat(100) + "1"), &("0".repeat(5_000) + "1")] {
        let text = format!("{middle}{more}");
        let expected: f64 = text.parse().unwrap();
        assert_eq!(expected > 0.0, more.ends_with('1'));
        assert_eq!(read(&text).unwrap().as_f64().unwrap().to_bits(), expected.to_bits(), "{more}");
    }
}

#[test]
fn damaged_messages_are_refused_and_break_nothing() {
    let texts = [
        r#"{"type":"frame","scope":"all","from":1,"to":2,"cursor":{"last_seq":2,"token":"x"},"has_more":false,"changes":[{"seq":2,"entity":"Todo","row_id":"r","kind":"update","data":{"a":[1.5,"\u00e9"]},"columns":["a"],"column_seqs":{"b":1},"base":{"seq":1}}],"transactions":[{"op_id":"00112233445566778899aabbccddeeff","issued_at":1,"committed_at":2,"first_seq":2,"last_seq":2}],"checksum":"1c24a35a20dd4a1b"}"#,
        r#"{"type":"outcomes","id":1,"results":[{"op_id":"00112233445566778899aabbccddeeff","status":"rejected","replayed":false,"error":{"code":"X","message":"y"}}]}"#,
        r#"{"op_id":"00112233445566778899aabbccddeeff","issued_at":5,"schema":1,"changes":[{"entity":"T","row_id":"r","kind":"insert","data":{"a":1}}]}"#,
    ];
    for_seeds("damaged_messages_are_refused_and_break_nothing", 20_000, |dice| {
        let whole = texts[dice.below(3)];
        let mut text = damage(dice, whole);
        if dice.below(2) == 0 {
            text = damage(dice, &text);
        }
        for good in [ServerMessage::parse(&text).is_ok(), Page::parse(&text).is_ok(), Intent::parse(&text).is_ok()] {
            assert!(!good || serde_json::from_str::<&RawValue>(&text).is_ok(), "{text}");
        }
    });
}

#[test]
fn members_that_are_repeated_or_missing_are_named() {
    let heartbeat = |text: &str| ServerMessage::parse(text).map(drop).map_err(|error| error.to_string());
    assert_eq!(heartbeat(r#"{"type":"heartbeat","more":{"type":1},"more":2}"#), Ok(()), "unknown ones may do as they like");
    let cases = [
        (r#"{"type":"heartbeat","type":"heartbeat"}"#, "duplicate field `type` at byte 27"),
        (r#"{"type":"heartbeat","t\u0079pe":"heartbeat"}"#, "duplicate field `type`"),
        (r#"{"kind":"heartbeat"}"#, "missing field `type`"),
        (r#"{"type":"error","error":{"code":"X","message":"y","hint":null,"hint":"z"}}"#, "duplicate field `hint`"),
        (r#"{"type":"error","error":{"message":"y"}}"#, "missing field `code`"),
        (r#"{"type":"error"}"#, "missing field `error`"),
    ];
    for (text, problem) in cases {
        let error = heartbeat(text).unwrap_err();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn the_first_error_is_the_one_that_is_told() {
    let mut reader = Reader::new(r#"{"a":[1,tru],"b":}"#);
    let mut list = reader.object();
    assert_eq!(reader.next_name(&mut list).as_deref(), Some("a"));
    reader.skip();
    // Everything after it is empty, and every loop ends.
    assert!(reader.has_failed());
    assert_eq!((reader.next_name(&mut list), reader.uint(), reader.text().as_ref(), reader.bool()), (None, 0, "", false));
    assert_eq!((reader.raw(), reader.token()), ("", Token::Null));
    reader.fail("something later");
    assert_eq!(reader.finish().unwrap_err().to_string(), "expected a value at byte 8");
}
