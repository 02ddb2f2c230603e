//! Reads JSON text piece by piece, in the order in which it stands.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::float;

/// Deepest nesting, so that hostile text cannot exhaust the stack; what may be stored is far below.
const DEPTH_MAX: u8 = 127;

/// Why a text is not what was expected, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct JsonError {
    problem: Cow<'static, str>,
    at: usize,
}

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

/// A place in a JSON text.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
}

impl<'a> Reader<'a> {
    /// Stands before a text.
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub fn finish(mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("unexpected text after the end")),
        }
    }

    /// An error at this place.
    pub fn wrong(&self, problem: impl Into<Cow<'static, str>>) -> JsonError {
        JsonError { problem: problem.into(), at: self.at }
    }

    /// Reads an object; `member` reads the value of each name.
    ///
    /// # Errors
    /// When it is none, or `member` says so.
    pub fn object(&mut self, member: &mut dyn FnMut(&str, &mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.members(&mut |name, escaped, reader| member(&reader.unescaped(name, escaped)?, reader))
    }

    /// Reads an object whose names are still escaped.
    fn members(&mut self, member: &mut dyn FnMut(&'a str, bool, &mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.enter(b'{', "expected an object")?;
        if !self.take(b'}') {
            loop {
                let (name, escaped) = self.scan_text()?;
                if !self.take(b':') {
                    return Err(self.wrong("expected a colon"));
                }
                member(name, escaped, self)?;
                if self.ends(b'}')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads the named members of an object and passes over others. A repeated one is an error.
    ///
    /// # Errors
    /// As [`Reader::object`], and when a required one is missing.
    pub fn fields(
        &mut self,
        required: &[&str],
        optional: &[&str],
        field: &mut dyn FnMut(&str, &mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        let mut seen = 0_u32;
        self.object(&mut |name, reader| {
            let Some(place) = required.iter().chain(optional).position(|known| *known == name) else { return reader.skip() };
            let bit = 1 << place;
            if seen & bit != 0 {
                return Err(reader.wrong(["duplicate field `", name, "`"].concat()));
            }
            seen |= bit;
            field(name, reader)
        })?;
        match required.get(seen.trailing_ones() as usize) {
            Some(missing) => Err(self.wrong(["missing field `", missing, "`"].concat())),
            None => Ok(()),
        }
    }

    /// Reads an array; `item` reads each item.
    ///
    /// # Errors
    /// When it is none, or `item` says so.
    pub fn array(&mut self, item: &mut dyn FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.enter(b'[', "expected an array")?;
        if !self.take(b']') {
            loop {
                item(self)?;
                if self.ends(b']')? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a scalar, or learns that an array or object begins here.
    ///
    /// # Errors
    /// When the text is no JSON.
    pub fn token(&mut self) -> Result<Token<'a>, JsonError> {
        Ok(match self.peek() {
            Some(b'{') => Token::Object,
            Some(b'[') => Token::Array,
            Some(b'"') => Token::Text(self.text()?),
            Some(b'n') => self.literal("null", Token::Null)?,
            Some(b't') => self.literal("true", Token::Bool(true))?,
            Some(b'f') => self.literal("false", Token::Bool(false))?,
            Some(_) | None => return self.number(),
        })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// When it is none, or holds half of a surrogate pair.
    pub fn text(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let (text, escaped) = self.scan_text()?;
        self.unescaped(text, escaped)
    }

    fn unescaped(&self, text: &'a str, escaped: bool) -> Result<Cow<'a, str>, JsonError> {
        if !escaped {
            return Ok(Cow::Borrowed(text));
        }
        unescape(text).map(Cow::Owned).ok_or_else(|| self.wrong("half of a surrogate pair in a hex escape"))
    }

    /// Reads a whole number from zero on.
    ///
    /// # Errors
    /// When it is none.
    pub fn uint(&mut self) -> Result<u64, JsonError> {
        let number = match self.token()? {
            Token::Int(value) => u64::try_from(value).ok(),
            Token::Large(value) => Some(value),
            Token::Null | Token::Bool(_) | Token::Float(_) | Token::Text(_) | Token::Array | Token::Object => None,
        };
        number.ok_or_else(|| self.wrong("expected a whole number"))
    }

    /// Reads a whole number that fits 32 bits.
    ///
    /// # Errors
    /// When it is none.
    pub fn uint32(&mut self) -> Result<u32, JsonError> {
        u32::try_from(self.uint()?).map_err(|_| self.wrong("the number is too large"))
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn bool(&mut self) -> Result<bool, JsonError> {
        match self.token()? {
            Token::Bool(value) => Ok(value),
            Token::Null | Token::Int(_) | Token::Large(_) | Token::Float(_) | Token::Text(_) | Token::Array | Token::Object => {
                Err(self.wrong("expected true or false"))
            }
        }
    }

    /// Reads something, or `null`.
    ///
    /// # Errors
    /// As `read`.
    pub fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, JsonError>) -> Result<Option<T>, JsonError> {
        if self.peek() == Some(b'n') {
            return self.literal("null", None);
        }
        read(self).map(Some)
    }

    /// Reads a text, or `null`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn optional_text(&mut self) -> Result<Option<String>, JsonError> {
        self.optional(|reader| reader.text().map(Cow::into_owned))
    }

    /// Reads a whole number from zero on, or `null`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn optional_uint(&mut self) -> Result<Option<u64>, JsonError> {
        self.optional(Self::uint)
    }

    /// Reads anything.
    ///
    /// # Errors
    /// When the text is no JSON, or holds half of a surrogate pair, a number too large for a float, or too deep a nesting.
    pub fn value(&mut self) -> Result<Value, JsonError> {
        Ok(match self.token()? {
            Token::Null => Value::Null,
            Token::Bool(value) => Value::Bool(value),
            Token::Int(value) => Value::Number(value.into()),
            Token::Large(value) => Value::Number(value.into()),
            Token::Float(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
            Token::Text(text) => Value::String(text.into_owned()),
            Token::Array => {
                let mut items = Vec::new();
                self.array(&mut |reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            Token::Object => Value::Object(self.map()?),
        })
    }

    /// Reads any object.
    ///
    /// # Errors
    /// As [`Reader::value`].
    pub fn map(&mut self) -> Result<Map<String, Value>, JsonError> {
        let mut members = Map::new();
        self.object(&mut |name, reader| {
            members.insert(name.to_owned(), reader.value()?);
            Ok(())
        })?;
        Ok(members)
    }

    /// Passes over anything and gives it as it stands.
    ///
    /// # Errors
    /// When the text is no JSON.
    pub fn raw(&mut self) -> Result<&'a str, JsonError> {
        self.peek();
        let from = self.at;
        self.skip()?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Passes over anything.
    ///
    /// # Errors
    /// When the text is no JSON.
    pub fn skip(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => self.members(&mut |_, _, reader| reader.skip()),
            Some(b'[') => self.array(&mut Self::skip),
            Some(b'"') => self.scan_text().map(drop),
            Some(b'n' | b't' | b'f') => self.token().map(drop),
            Some(_) | None => self.scan_number().map(drop),
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

    fn enter(&mut self, byte: u8, problem: &'static str) -> Result<(), JsonError> {
        if !self.take(byte) {
            return Err(self.wrong(problem));
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("nested too deeply"));
        }
        Ok(())
    }

    /// After a member or item: whether it was the last.
    fn ends(&mut self, end: u8) -> Result<bool, JsonError> {
        if self.take(end) {
            return Ok(true);
        }
        if self.take(b',') { Ok(false) } else { Err(self.wrong("expected a comma or the end of the list")) }
    }

    fn literal<T>(&mut self, literal: &str, value: T) -> Result<T, JsonError> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(literal)) {
            return Err(self.wrong("expected a value"));
        }
        self.at += literal.len();
        Ok(value)
    }

    /// Passes over a text; gives what stands between the quotes and whether that holds escapes.
    fn scan_text(&mut self) -> Result<(&'a str, bool), JsonError> {
        if !self.take(b'"') {
            return Err(self.wrong("expected a text"));
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
                        Some(_) | None => return Err(self.wrong("unknown escape")),
                    };
                }
                Some(_) | None => return Err(self.wrong("unfinished text, or a control character in it")),
            }
        }
        let text = self.text.get(from..self.at).unwrap_or_default();
        self.at += 1;
        Ok((text, escaped))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        while self.byte(self.at).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == from { Err(self.wrong("expected a value")) } else { Ok(()) }
    }

    /// Passes over a number; gives its text and whether that has no fraction and no exponent.
    fn scan_number(&mut self) -> Result<(&'a str, bool), JsonError> {
        let from = self.at;
        self.at += usize::from(self.byte(self.at) == Some(b'-'));
        if self.byte(self.at) == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let whole_to = self.at;
        if self.byte(self.at) == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok((self.text.get(from..self.at).unwrap_or_default(), self.at == whole_to))
    }

    fn number(&mut self) -> Result<Token<'a>, JsonError> {
        let (text, whole) = self.scan_number()?;
        // `-0` is a float: no integer can say it.
        if whole && text != "-0" {
            if let Ok(value) = text.parse::<i64>() {
                return Ok(Token::Int(value));
            }
            if let Ok(value) = text.parse::<u64>() {
                return Ok(Token::Large(value));
            }
        }
        float::parse(text).map(Token::Float).ok_or_else(|| self.wrong("number out of range"))
    }
}

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
