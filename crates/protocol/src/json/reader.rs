//! Reads JSON text piece by piece, in the order in which it stands.
//!
//! The first error sticks: whatever is read after it is empty, every loop ends, and [`Reader::finish`] tells what it was.
//! So what reads a message is a plain list of its members, without a branch behind each that every page would download.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

use super::float;
use super::writer::decimal;

/// Deepest nesting, so that hostile text cannot exhaust the stack; what may be stored is far below.
const DEPTH_MAX: u8 = 127;

/// Why a text is not what was expected, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    problem: Cow<'static, str>,
    at: usize,
}

impl JsonError {
    /// What it says.
    pub fn text(&self) -> String {
        [&*self.problem, " at byte ", &decimal(self.at)].concat()
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for JsonError {}

/// One piece of JSON. Arrays and objects are only announced: [`Reader::array`] and [`Reader::object`] read them.
#[derive(Debug, Clone, PartialEq)]
pub enum Token<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction and exponent.
    Int(i64),
    /// The same, above `i64::MAX`.
    Large(u64),
    /// Any other number; finite.
    Float(f64),
    /// A text; borrowed when it holds no escape.
    Text(Cow<'a, str>),
    /// An array begins.
    Array,
    /// An object begins.
    Object,
}

/// An array or object under way.
#[derive(Debug)]
pub struct List {
    end: u8,
    begun: bool,
}

/// A place in a JSON text, and the first error before it.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
    problem: Option<JsonError>,
}

impl<'a> Reader<'a> {
    /// Stands before a text.
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, problem: None }
    }

    /// Checks that nothing was wrong and nothing follows.
    ///
    /// # Errors
    /// When something was or does.
    pub fn finish(mut self) -> Result<(), JsonError> {
        if self.peek().is_some() {
            self.fail("unexpected text after the end");
        }
        self.problem.map_or(Ok(()), Err)
    }

    /// Notes an error at this place, unless there was one before.
    #[cold]
    pub fn fail(&mut self, problem: impl Into<Cow<'static, str>>) {
        if self.problem.is_none() {
            self.problem = Some(JsonError { problem: problem.into(), at: self.at });
            self.at = self.text.len();
        }
    }

    /// Whether something was wrong so far.
    pub const fn has_failed(&self) -> bool {
        self.problem.is_some()
    }

    /// Begins to read an array; go on with [`Reader::next_item`].
    pub fn array(&mut self) -> List {
        self.enter(b'[', b']', "expected an array")
    }

    /// Begins to read an object; go on with [`Reader::next_name`].
    pub fn object(&mut self) -> List {
        self.enter(b'{', b'}', "expected an object")
    }

    /// Whether an item follows, to be read before the next call.
    pub fn next_item(&mut self, list: &mut List) -> bool {
        if self.has_failed() {
            return false;
        }
        if self.take(list.end) {
            self.depth -= 1;
            return false;
        }
        if list.begun && !self.take(b',') {
            self.fail("expected a comma or the end of the list");
            return false;
        }
        list.begun = true;
        true
    }

    /// The name of the member that follows; its value is to be read before the next call.
    pub fn next_name(&mut self, list: &mut List) -> Option<Cow<'a, str>> {
        let (name, escaped) = self.next_member(list)?;
        let name = self.unescaped(name, escaped);
        (!self.has_failed()).then_some(name)
    }

    /// The name of the member that follows, still escaped, and whether it is.
    fn next_member(&mut self, list: &mut List) -> Option<(&'a str, bool)> {
        if !self.next_item(list) {
            return None;
        }
        let name = self.scan_text();
        if !self.take(b':') {
            self.fail("expected a colon");
            return None;
        }
        Some(name)
    }

    /// Reads a scalar, or learns that an array or object begins here.
    pub fn token(&mut self) -> Token<'a> {
        match self.peek() {
            Some(b'{') => Token::Object,
            Some(b'[') => Token::Array,
            Some(b'"') => Token::Text(self.text()),
            Some(b'n') => self.literal("null", Token::Null),
            Some(b't') => self.literal("true", Token::Bool(true)),
            Some(b'f') => self.literal("false", Token::Bool(false)),
            Some(_) | None => self.number(),
        }
    }

    /// Reads a text without half a surrogate pair.
    pub fn text(&mut self) -> Cow<'a, str> {
        let (text, escaped) = self.scan_text();
        self.unescaped(text, escaped)
    }

    fn unescaped(&mut self, text: &'a str, escaped: bool) -> Cow<'a, str> {
        if !escaped {
            return Cow::Borrowed(text);
        }
        let plain = unescape(text);
        if plain.is_none() {
            self.fail("half of a surrogate pair in a hex escape");
        }
        Cow::Owned(plain.unwrap_or_default())
    }

    /// Reads a whole number from zero on.
    pub fn uint(&mut self) -> u64 {
        let number = match self.token() {
            Token::Int(value) => u64::try_from(value).ok(),
            Token::Large(value) => Some(value),
            Token::Null | Token::Bool(_) | Token::Float(_) | Token::Text(_) | Token::Array | Token::Object => None,
        };
        if number.is_none() {
            self.fail("expected a whole number");
        }
        number.unwrap_or(0)
    }

    /// Reads `true` or `false`.
    pub fn bool(&mut self) -> bool {
        if let Token::Bool(value) = self.token() {
            return value;
        }
        self.fail("expected true or false");
        false
    }

    /// Passes over `null`; says whether it stood here.
    pub fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && matches!(self.token(), Token::Null)
    }

    /// Passes over anything and gives it as it stands.
    pub fn raw(&mut self) -> &'a str {
        self.peek();
        let from = self.at;
        self.skip();
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Passes over anything.
    pub fn skip(&mut self) {
        match self.peek() {
            Some(b'{') => {
                let mut list = self.object();
                while self.next_member(&mut list).is_some() {
                    self.skip();
                }
            }
            Some(b'[') => {
                let mut list = self.array();
                while self.next_item(&mut list) {
                    self.skip();
                }
            }
            Some(b'"') => _ = self.scan_text(),
            Some(b'n' | b't' | b'f') => _ = self.token(),
            Some(_) | None => _ = self.scan_number(),
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn enter(&mut self, begin: u8, end: u8, problem: &'static str) -> List {
        if !self.take(begin) {
            self.fail(problem);
        } else if self.depth == DEPTH_MAX {
            self.fail("nested too deeply");
        } else {
            self.depth += 1;
        }
        List { end, begun: false }
    }

    fn literal(&mut self, literal: &str, token: Token<'a>) -> Token<'a> {
        if !self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(literal.as_bytes())) {
            self.fail("expected a value");
            return Token::Null;
        }
        self.at += literal.len();
        token
    }

    /// Passes over a text; gives what stands between the quotes and whether that holds escapes.
    fn scan_text(&mut self) -> (&'a str, bool) {
        if !self.take(b'"') {
            self.fail("expected a text");
        }
        let from = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            self.at += rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..b' ')).count();
            match self.byte(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += match self.byte(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u')
                            if (2..6).all(|digit| self.byte(self.at + digit).is_some_and(|byte| byte.is_ascii_hexdigit())) =>
                        {
                            6
                        }
                        Some(_) | None => {
                            self.fail("unknown escape");
                            0
                        }
                    };
                }
                Some(_) | None => {
                    self.fail("unfinished text, or a control character in it");
                    return ("", false);
                }
            }
        }
        let text = self.text.get(from..self.at).unwrap_or_default();
        self.at += 1;
        (text, escaped)
    }

    fn digits(&mut self) {
        let from = self.at;
        while self.byte(self.at).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == from {
            self.fail("expected a value");
        }
    }

    /// Passes over a number; gives its text and whether that has no fraction and no exponent.
    fn scan_number(&mut self) -> (&'a str, bool) {
        let from = self.at;
        self.at += usize::from(self.byte(self.at) == Some(b'-'));
        if self.byte(self.at) == Some(b'0') {
            self.at += 1;
        } else {
            self.digits();
        }
        let whole_to = self.at;
        if self.byte(self.at) == Some(b'.') {
            self.at += 1;
            self.digits();
        }
        if matches!(self.byte(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(self.at), Some(b'+' | b'-')));
            self.digits();
        }
        (self.text.get(from..self.at).unwrap_or_default(), self.at == whole_to)
    }

    fn number(&mut self) -> Token<'a> {
        let (text, whole) = self.scan_number();
        if self.has_failed() {
            return Token::Null;
        }
        if whole && let Some(token) = whole_number(text) {
            return token;
        }
        let number = float::parse(text);
        if number.is_none() {
            self.fail("number out of range");
        }
        number.map_or(Token::Null, Token::Float)
    }
}

/// Reads digits that were scanned before, unless no integer of 64 bits can say them. `-0` is one of those.
fn whole_number(text: &str) -> Option<Token<'static>> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    // Digits without a zero in front are in the order of their numbers when they are equally many.
    if digits.len() > LARGEST.len() || (digits.len() == LARGEST.len() && digits > LARGEST) {
        return None;
    }
    let number = digits.bytes().fold(0_u64, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')));
    match (negative, i64::try_from(number)) {
        (false, Ok(number)) => Some(Token::Int(number)),
        (false, Err(_)) => Some(Token::Large(number)),
        (true, Ok(0)) => None,
        (true, _) => 0_i64.checked_sub_unsigned(number).map(Token::Int),
    }
}

/// `u64::MAX`.
const LARGEST: &str = "18446744073709551615";

/// Decodes escapes that were scanned before; `None` for half of a surrogate pair.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut length = 1;
        out.push(match escape.as_bytes().first()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                length = 5;
                let mut code = hex(escape.get(1..5)?)?;
                if (0xd800..0xdc00).contains(&code) {
                    length = 11;
                    let low = hex(escape.get(5..11)?.strip_prefix("\\u")?)?;
                    code = 0x10000 + ((code - 0xd800) << 10) + low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                }
                char::from_u32(code)?
            }
            other => char::from(*other),
        });
        rest = escape.get(length..)?;
    }
    out.push_str(rest);
    Some(out)
}

fn hex(digits: &str) -> Option<u32> {
    digits.chars().try_fold(0, |code, digit| Some(code << 4 | digit.to_digit(16)?))
}
