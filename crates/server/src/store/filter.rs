//! The filter of a query: which rows, in which order, how many. `docs/protocol.md` has the grammar.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::store::ReadError;

/// A parsed filter.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    conditions: Vec<(String, Condition)>,
    order: Vec<(String, Direction)>,
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
}

#[derive(Debug)]
enum Condition {
    Equal(Value),
    Not(Value),
    Compare(Bound, Value),
    Like(String),
    In(Vec<Value>),
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Ascending,
    Descending,
}

impl Filter {
    /// Reads a filter; `has_field` says which fields there are.
    pub(crate) fn parse(filter: &Value, has_field: impl Fn(&str) -> bool) -> Result<Self, ReadError> {
        let members = object(filter, "a filter")?;
        let known = |field: &str| if has_field(field) { Ok(field.to_owned()) } else { Err(invalid(format!("no field {field}"))) };
        let mut parsed = Self::default();
        for (name, value) in members {
            match name.as_str() {
                "$order" => {
                    for (field, direction) in object(value, "$order")? {
                        parsed.order.push((known(field)?, self::direction(direction)?));
                    }
                }
                "$limit" => parsed.limit = Some(count(value, "$limit")?),
                "$offset" => parsed.offset = count(value, "$offset")?,
                name if name.starts_with('$') => return Err(invalid(format!("{name} is not known"))),
                field => parsed.add_conditions(&known(field)?, value)?,
            }
        }
        Ok(parsed)
    }

    /// All rows by id, from one place on.
    pub(crate) fn everything(limit: Option<usize>, offset: usize) -> Self {
        Self { limit, offset, ..Self::default() }
    }

    /// Whether a row matches. `field` gives a field's value; absent is null.
    pub(crate) fn matches<'a>(&self, field: impl Fn(&str) -> &'a Value) -> bool {
        self.conditions.iter().all(|(name, condition)| condition.holds(field(name)))
    }

    /// Compares two rows by the filter's order; equal when the ids decide.
    pub(crate) fn compare<'a>(&self, left: impl Fn(&str) -> &'a Value, right: impl Fn(&str) -> &'a Value) -> Ordering {
        for (name, direction) in &self.order {
            let order = compare_values(left(name), right(name));
            let order = match direction {
                Direction::Ascending => order,
                Direction::Descending => order.reverse(),
            };
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    }

    /// Whether rows come in another order than that of their ids.
    pub(crate) fn is_ordered(&self) -> bool {
        !self.order.is_empty()
    }

    /// The fields it reads.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        let conditions = self.conditions.iter().map(|(name, _)| name.as_str());
        conditions.chain(self.order.iter().map(|(name, _)| name.as_str()))
    }

    /// Fields that must equal a text, a number or a truth value: what an index can find.
    pub(crate) fn equalities(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.conditions.iter().filter_map(|(name, condition)| match condition {
            Condition::Equal(value) => Some((name.as_str(), value)),
            Condition::Not(_) | Condition::Compare(..) | Condition::Like(_) | Condition::In(_) => None,
        })
    }

    fn add_conditions(&mut self, field: &str, value: &Value) -> Result<(), ReadError> {
        let Value::Object(operators) = value else {
            self.conditions.push((field.to_owned(), Condition::Equal(value.clone())));
            return Ok(());
        };
        for (operator, operand) in operators {
            let condition = match operator.as_str() {
                "$not" => Condition::Not(operand.clone()),
                "$gt" => Condition::Compare(Bound::Greater, operand.clone()),
                "$gte" => Condition::Compare(Bound::GreaterOrEqual, operand.clone()),
                "$lt" => Condition::Compare(Bound::Less, operand.clone()),
                "$lte" => Condition::Compare(Bound::LessOrEqual, operand.clone()),
                "$like" => Condition::Like(like_pattern(operand)?),
                "$in" => Condition::In(operand.as_array().ok_or_else(|| invalid("$in wants a list".to_owned()))?.clone()),
                other => return Err(invalid(format!("{other} is no operator"))),
            };
            self.conditions.push((field.to_owned(), condition));
        }
        Ok(())
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        let equal = |other: &Value| compare_values(value, other).is_eq();
        match self {
            Self::Equal(other) => equal(other),
            Self::Not(other) => !equal(other),
            Self::In(others) => others.iter().any(equal),
            Self::Like(pattern) => value.as_str().is_some_and(|text| is_like(&text.to_ascii_lowercase(), pattern)),
            Self::Compare(bound, other) => {
                let order = compare_values(value, other);
                // Only values of one kind are more or less than each other; null is neither.
                rank(value) == rank(other)
                    && !value.is_null()
                    && match bound {
                        Bound::Greater => order.is_gt(),
                        Bound::GreaterOrEqual => order.is_ge(),
                        Bound::Less => order.is_lt(),
                        Bound::LessOrEqual => order.is_le(),
                    }
            }
        }
    }
}

/// Null, then truth values, numbers, text by UTF-8 bytes, and last lists and objects by their canonical text.
fn compare_values(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => {
            left.as_f64().unwrap_or_default().total_cmp(&right.as_f64().unwrap_or_default())
        }
        (Value::String(left), Value::String(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Array(_) | Value::Object(_), Value::Array(_) | Value::Object(_)) => {
            syncline_protocol::canonical_json(left).cmp(&syncline_protocol::canonical_json(right))
        }
        _ => rank(left).cmp(&rank(right)),
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    }
}

fn like_pattern(operand: &Value) -> Result<String, ReadError> {
    let text = operand.as_str().ok_or_else(|| invalid("$like wants a text".to_owned()))?;
    if text.len() > LIKE_BYTES_MAX {
        return Err(invalid(format!("$like takes at most {LIKE_BYTES_MAX} bytes")));
    }
    Ok(format!("%{}%", text.to_ascii_lowercase()))
}

const LIKE_BYTES_MAX: usize = 256;

/// SQL's LIKE: `%` is any text, `_` any character. Takes time in proportion to text times pattern, never more.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut part) = (0, 0);
    let mut retry = None;
    while let Some(character) = text.get(at) {
        match pattern.get(part) {
            Some('%') => {
                retry = Some((at, part));
                part += 1;
            }
            Some(wanted) if *wanted == '_' || wanted == character => {
                at += 1;
                part += 1;
            }
            _ => {
                let Some((from, percent)) = retry else { return false };
                retry = Some((from + 1, percent));
                at = from + 1;
                part = percent + 1;
            }
        }
    }
    pattern.iter().skip(part).all(|rest| *rest == '%')
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, ReadError> {
    value.as_object().ok_or_else(|| invalid(format!("{what} is a JSON object")))
}

fn direction(value: &Value) -> Result<Direction, ReadError> {
    match value.as_str() {
        Some("asc") => Ok(Direction::Ascending),
        Some("desc") => Ok(Direction::Descending),
        _ => Err(invalid("an order is \"asc\" or \"desc\"".to_owned())),
    }
}

fn count(value: &Value, what: &str) -> Result<usize, ReadError> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| invalid(format!("{what} is a whole number, 0 or more")))
}

const fn invalid(message: String) -> ReadError {
    ReadError::InvalidQuery(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(filter: &Value, row: &Value) -> bool {
        let filter = Filter::parse(filter, |_| true).unwrap();
        filter.matches(|name| row.get(name).unwrap_or(&Value::Null))
    }

    #[test]
    fn conditions_hold_as_documented() {
        let row = json!({"a": 5, "t": "Hello World", "n": null, "b": true});
        for (filter, expected) in [
            (json!({}), true),
            (json!({"a": 5}), true),
            (json!({"a": 5.0}), true),
            (json!({"a": "5"}), false),
            (json!({"b": 1}), false),
            (json!({"n": null, "missing": null}), true),
            (json!({"a": {"$gt": 4, "$lte": 5}}), true),
            (json!({"n": {"$lt": 5}}), false),
            (json!({"a": {"$not": 5}}), false),
            (json!({"n": {"$not": 5}}), true),
            (json!({"t": {"$like": "lo w"}}), true),
            (json!({"t": {"$like": "h_llo%d"}}), true),
            (json!({"t": {"$like": "hxllo"}}), false),
            (json!({"a": {"$in": []}}), false),
            (json!({"a": {"$in": [1, 5]}}), true),
        ] {
            assert_eq!(matches(&filter, &row), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let bad =
            [json!([]), json!({"$search": "x"}), json!({"a": {"$near": 1}}), json!({"$limit": -1}), json!({"$order": {"a": 1}})];
        for filter in bad {
            assert!(matches!(Filter::parse(&filter, |_| true), Err(ReadError::InvalidQuery(_))), "{filter}");
        }
        assert!(Filter::parse(&json!({"b": 1}), |field| field == "a").is_err());
    }
}
