//! Policy expressions: who may do what with which row.
//!
//! Parsed once, when a manifest is read. Evaluation is pure: the row's fields, the user and the user's memberships are
//! arguments. A field that is missing or null is equal to nothing, so an anonymous caller never owns a row without owner.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde_json::Value;
use syncline_protocol::Row;

use crate::server::Memberships;

/// Who may do something with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Everybody, with or without a session.
    Public,
    /// Everybody with a session.
    SignedIn,
    /// Nobody; what an operation without a policy gets.
    Nobody,
    /// The user whose id this field holds.
    Owner {
        /// The field; `id` is the row's id.
        field: String,
    },
    /// The users whom another entity's rows make members.
    Member {
        /// The field of this row; `id` is the row's id.
        field: String,
        /// Where the memberships are.
        spec: MembershipSpec,
    },
    /// Those whom each of these allows.
    All(Vec<Self>),
    /// Those whom one of these allows.
    Any(Vec<Self>),
}

/// Which rows make a user a member of a value: those of `entity` whose `user_field` is the user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MembershipSpec {
    /// The entity whose rows are memberships.
    pub entity: String,
    /// Its field that names what one is a member of.
    pub value_field: String,
    /// Its field that names the member.
    pub user_field: String,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A word that may not stand where it stands.
    #[error("expected {expected}, found {found:?}")]
    Unexpected {
        /// What could have stood there.
        expected: &'static str,
        /// What did.
        found: String,
    },
    /// A parenthesis without its partner.
    #[error("a parenthesis is not closed")]
    Unclosed,
    /// A quote without its partner.
    #[error("a quote is not closed")]
    UnclosedQuote,
    /// Nested deeper than any person writes.
    #[error("nested deeper than {DEPTH_MAX} parentheses")]
    TooDeep,
}

impl Policy {
    /// Parses an expression; `docs/server.md` has the grammar.
    ///
    /// # Errors
    /// When the text is no expression.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut parser = Parser { words: words(text)?, next: 0 };
        let policy = parser.any(0)?;
        match parser.take() {
            None => Ok(policy),
            found => Err(unexpected("and, or, or the end", found)),
        }
    }

    /// Whether `user` may do it with this row.
    pub fn allows(&self, row_id: &str, row: &Row, user: Option<&str>, memberships: &impl Memberships) -> bool {
        match self {
            Self::Public => true,
            Self::SignedIn => user.is_some(),
            Self::Nobody => false,
            Self::Owner { field } => user.is_some_and(|user| text_is(row_id, row, field, user)),
            Self::Member { field, spec } => user.is_some_and(|user| {
                field_value(row_id, row, field).is_some_and(|value| memberships.contains(spec, user, &value))
            }),
            Self::All(parts) => parts.iter().all(|part| part.allows(row_id, row, user, memberships)),
            Self::Any(parts) => parts.iter().any(|part| part.allows(row_id, row, user, memberships)),
        }
    }

    /// Whether some row could pass for `user`; when not, no row has to be looked at.
    pub fn may_allow(&self, user: Option<&str>) -> bool {
        match self {
            Self::Public => true,
            Self::Nobody => false,
            Self::SignedIn | Self::Owner { .. } | Self::Member { .. } => user.is_some(),
            Self::All(parts) => parts.iter().all(|part| part.may_allow(user)),
            Self::Any(parts) => parts.iter().any(|part| part.may_allow(user)),
        }
    }

    /// Calls `visit` with every field the expression reads, and the membership it is looked up in, if any.
    pub fn visit_fields<'a>(&'a self, visit: &mut impl FnMut(&'a str, Option<&'a MembershipSpec>)) {
        match self {
            Self::Public | Self::SignedIn | Self::Nobody => {}
            Self::Owner { field } => visit(field, None),
            Self::Member { field, spec } => visit(field, Some(spec)),
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.visit_fields(visit);
                }
            }
        }
    }
}

impl MembershipSpec {
    /// What a row of the membership entity makes `user` a member of: a [`crate::server::value_key`], if anything.
    pub fn value_for(&self, row_id: &str, row: &Row, user: &str) -> Option<String> {
        if !text_is(row_id, row, &self.user_field, user) {
            return None;
        }
        field_value(row_id, row, &self.value_field)
    }
}

fn text_is(row_id: &str, row: &Row, field: &str, text: &str) -> bool {
    if field == "id" {
        return row_id == text;
    }
    row.get(field).and_then(Value::as_str) == Some(text)
}

fn field_value(row_id: &str, row: &Row, field: &str) -> Option<String> {
    if field == "id" {
        return crate::server::value_key(&Value::from(row_id));
    }
    row.get(field).and_then(crate::server::value_key)
}

const DEPTH_MAX: usize = 16;

struct Parser {
    words: Vec<Word>,
    next: usize,
}

/// A piece of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// A keyword, a sign, or a name that needs no quotes.
    Plain(String),
    /// A name in quotes: never a keyword.
    Quoted(String),
}

impl Parser {
    /// The next word if it is a plain one; empty at the end and for a name in quotes.
    fn peek(&self) -> &str {
        match self.words.get(self.next) {
            Some(Word::Plain(word)) => word,
            Some(Word::Quoted(_)) | None => "",
        }
    }

    fn take(&mut self) -> Option<Word> {
        let word = self.words.get(self.next).cloned();
        self.next += 1;
        word
    }

    fn expect(&mut self, expected: &'static str) -> Result<(), PolicyError> {
        match self.take() {
            Some(Word::Plain(found)) if found == expected => Ok(()),
            found => Err(unexpected(expected, found)),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Policy, PolicyError> {
        let mut parts = vec![self.all(depth)?];
        while self.peek() == "or" {
            self.next += 1;
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Policy::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Policy, PolicyError> {
        let mut parts = vec![self.one(depth)?];
        while self.peek() == "and" {
            self.next += 1;
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Policy::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Policy, PolicyError> {
        if depth > DEPTH_MAX {
            return Err(PolicyError::TooDeep);
        }
        match self.peek() {
            "(" => {
                self.next += 1;
                let inner = self.any(depth + 1)?;
                if self.take() == Some(Word::Plain(")".to_owned())) { Ok(inner) } else { Err(PolicyError::Unclosed) }
            }
            "public" => Ok(self.word(Policy::Public)),
            "signed-in" => Ok(self.word(Policy::SignedIn)),
            "nobody" => Ok(self.word(Policy::Nobody)),
            _ => self.comparison(),
        }
    }

    const fn word(&mut self, policy: Policy) -> Policy {
        self.next += 1;
        policy
    }

    fn comparison(&mut self) -> Result<Policy, PolicyError> {
        let field = self.name("a field")?;
        match self.take() {
            Some(Word::Plain(sign)) if sign == "=" => {
                self.expect("user")?;
                Ok(Policy::Owner { field })
            }
            Some(Word::Plain(word)) if word == "in" => {
                let source = self.name("an entity")?;
                let (entity, value_field) = match source.split_once('.') {
                    None => (source, field.clone()),
                    Some((entity, "")) => (entity.to_owned(), self.name("a field")?),
                    Some((entity, value_field)) => (entity.to_owned(), value_field.to_owned()),
                };
                self.expect("where")?;
                let user_field = self.name("a field")?;
                self.expect("=")?;
                self.expect("user")?;
                Ok(Policy::Member { field, spec: MembershipSpec { entity, value_field, user_field } })
            }
            found => Err(unexpected("= or in", found)),
        }
    }

    fn name(&mut self, expected: &'static str) -> Result<String, PolicyError> {
        match self.take() {
            Some(Word::Quoted(name)) => Ok(name),
            Some(Word::Plain(word)) if !KEYWORDS.contains(&word.as_str()) => Ok(word),
            found => Err(unexpected(expected, found)),
        }
    }
}

const KEYWORDS: [&str; 8] = ["(", ")", "=", "and", "or", "in", "where", "user"];

fn unexpected(expected: &'static str, found: Option<Word>) -> PolicyError {
    let found = match found {
        Some(Word::Plain(word) | Word::Quoted(word)) => word,
        None => String::new(),
    };
    PolicyError::Unexpected { expected, found }
}

/// Splits at blanks, parentheses, equals signs and quotes. Between quotes everything is a name; `\"` and `\\` stand for
/// themselves.
fn words(text: &str) -> Result<Vec<Word>, PolicyError> {
    let mut words = Vec::new();
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter.is_whitespace() || "()=\"".contains(letter) {
            if !plain.is_empty() {
                words.push(Word::Plain(core::mem::take(&mut plain)));
            }
            match letter {
                '"' => words.push(Word::Quoted(quoted(&mut letters)?)),
                '(' | ')' | '=' => words.push(Word::Plain(String::from(letter))),
                _ => {}
            }
        } else {
            plain.push(letter);
        }
    }
    if !plain.is_empty() {
        words.push(Word::Plain(plain));
    }
    Ok(words)
}

fn quoted(letters: &mut impl Iterator<Item = char>) -> Result<String, PolicyError> {
    let mut name = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Ok(name),
            '\\' => name.push(letters.next().ok_or(PolicyError::UnclosedQuote)?),
            letter => name.push(letter),
        }
    }
    Err(PolicyError::UnclosedQuote)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::membership::MembershipCounts;

    fn row(value: Value) -> Row {
        let Value::Object(row) = value else { panic!("{value} is no row") };
        row
    }

    #[test]
    fn expressions_bind_like_everywhere_else() {
        let policy = Policy::parse("public or a = user and (b=user or nobody)").unwrap();
        let owner = |field: &str| Policy::Owner { field: field.to_owned() };
        assert_eq!(
            policy,
            Policy::Any(vec![Policy::Public, Policy::All(vec![owner("a"), Policy::Any(vec![owner("b"), Policy::Nobody])])])
        );
        let member = Policy::parse("id in channel_members.channel_id where member_id = user").unwrap();
        let spec = MembershipSpec {
            entity: "channel_members".to_owned(),
            value_field: "channel_id".to_owned(),
            user_field: "member_id".to_owned(),
        };
        assert_eq!(member, Policy::Member { field: "id".to_owned(), spec });
    }

    #[test]
    fn names_with_blanks_and_keywords_stand_in_quotes() {
        let owner = |field: &str| Policy::Owner { field: field.to_owned() };
        assert_eq!(Policy::parse(r#""written by"=user"#).unwrap(), owner("written by"));
        assert_eq!(Policy::parse(r#"("user" = user)"#).unwrap(), owner("user"));
        assert_eq!(Policy::parse(r#""a \"b\\" = user"#).unwrap(), owner("a \"b\\"));
        let spec = MembershipSpec {
            entity: "members".to_owned(),
            value_field: "channel. id".to_owned(),
            user_field: "the member".to_owned(),
        };
        let member = Policy::parse(r#""channel" in members."channel. id" where "the member" = user"#).unwrap();
        assert_eq!(member, Policy::Member { field: "channel".to_owned(), spec });
    }

    #[test]
    fn what_is_no_policy_says_where() {
        let deep = "(".repeat(40);
        for (text, part) in [
            ("", "a field"),
            ("a = bob", "user"),
            ("a in b", "where"),
            ("public public", "the end"),
            ("(public", "not closed"),
            ("a is user", "= or in"),
            ("\"a = user", "a quote is not closed"),
            ("\"a\\", "a quote is not closed"),
            ("public \"a\"", "the end"),
            ("a in members. where b = user", "a field, found \"where\""),
            (deep.as_str(), "deeper"),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn nobody_equals_a_missing_field() {
        let memberships = MembershipCounts::default();
        let owner = Policy::parse("owner = user").unwrap();
        for data in [json!({}), json!({"owner": null}), json!({"owner": 7})] {
            assert!(!owner.allows("r", &row(data.clone()), None, &memberships));
            assert!(!owner.allows("r", &row(data), Some("alice"), &memberships));
        }
        assert!(owner.allows("r", &row(json!({"owner": "alice"})), Some("alice"), &memberships));
    }

    #[test]
    fn members_see_what_they_are_members_of() {
        let policy = Policy::parse("channel in members where user_id = user").unwrap();
        let Policy::Member { spec, .. } = &policy else { panic!("a membership") };
        let mut memberships = MembershipCounts::new("alice");
        memberships.add(spec, &value_key(&json!("c1")).unwrap());
        assert!(policy.allows("r", &row(json!({"channel": "c1"})), Some("alice"), &memberships));
        assert!(!policy.allows("r", &row(json!({"channel": "c2"})), Some("alice"), &memberships));
        assert!(!policy.allows("r", &row(json!({"channel": null})), Some("alice"), &memberships));
        assert!(!policy.allows("r", &row(json!({"channel": "c1"})), Some("bob"), &memberships));
        assert!(!policy.allows("r", &row(json!({"channel": "c1"})), None, &memberships));
        let value = |data| spec.value_for("m", &row(data), "alice");
        assert_eq!(value(json!({"user_id": "alice", "channel": "c1"})).as_deref(), Some("\"c1\""));
        assert_eq!(value(json!({"user_id": "alice"})), None);
        assert_eq!(value(json!({"user_id": "bob", "channel": "c1"})), None);
    }

    use crate::server::value_key;
}
