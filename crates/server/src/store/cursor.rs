//! Cursor tokens: opaque to clients, so that what is inside may change.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh64::Xxh64;

use crate::store::Reader;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CursorToken {
    /// Of the database.
    pub(crate) epoch: u64,
    /// Where the reader stands; during a snapshot, where the log follows.
    pub(crate) seq: u64,
    /// Of the log record at `seq`.
    pub(crate) mark: u64,
    /// [`view_hash`] of the reader.
    pub(crate) view: u64,
    /// Last row sent, while a snapshot is under way.
    pub(crate) snapshot: Option<SnapshotPosition>,
}

/// How far a snapshot has come; the next page begins behind this row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SnapshotPosition {
    /// Its entity.
    pub(crate) entity: String,
    /// Its id.
    pub(crate) row_id: String,
}

const FORMAT: u8 = 1;

impl CursorToken {
    /// Encodes it.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![FORMAT];
        for number in [self.epoch, self.seq, self.mark, self.view] {
            bytes.extend(number.to_be_bytes());
        }
        if let Some(position) = &self.snapshot {
            // Names are at most 128 bytes, so one byte holds their length.
            bytes.push(u8::try_from(position.entity.len()).unwrap_or(u8::MAX));
            bytes.extend(position.entity.as_bytes());
            bytes.extend(position.row_id.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Decodes it; `None` for whatever this version did not write.
    pub(crate) fn decode(token: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (format, rest) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let (numbers, rest) = rest.split_at_checked(32)?;
        let mut numbers = numbers.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok()).map(u64::from_be_bytes);
        let mut number = || numbers.next();
        let (epoch, seq, mark, view) = (number()?, number()?, number()?, number()?);
        let snapshot = match rest.split_first() {
            None => None,
            Some((length, names)) => {
                let (entity, row_id) = names.split_at_checked(usize::from(*length))?;
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
                Some(SnapshotPosition { entity: text(entity)?, row_id: text(row_id)? })
            }
        };
        Some(Self { epoch, seq, mark, view, snapshot })
    }
}

/// Hash of everything that decides what a reader may see, besides the rows.
pub(crate) fn view_hash(fingerprint: &str, generation: u64, reader: &Reader) -> u64 {
    let mut hash = Xxh64::new(generation);
    let mut part = |text: Option<&str>| {
        // The length keeps ("ab", "c") and ("a", "bc") apart; the leading byte keeps none and empty apart.
        hash.update(&[u8::from(text.is_some())]);
        let text = text.unwrap_or_default();
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(Some(fingerprint));
    part(reader.user_id.as_deref());
    part(reader.tenant_id.as_deref());
    for role in &reader.roles {
        part(Some(role));
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_way_and_nothing_else_decodes() {
        let position = SnapshotPosition { entity: "messages".to_owned(), row_id: "r-1".to_owned() };
        for snapshot in [None, Some(position), Some(SnapshotPosition::default())] {
            let token = CursorToken { epoch: u64::MAX, seq: 7, mark: 1 << 63, view: 3, snapshot };
            assert_eq!(CursorToken::decode(&token.encode()), Some(token));
        }
        for bad in ["", "x", "AAAA", "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "ä"] {
            assert_eq!(CursorToken::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_view_differs_by_user_tenant_roles_and_policies() {
        let reader = |user: Option<&str>, tenant: Option<&str>| Reader {
            user_id: user.map(str::to_owned),
            tenant_id: tenant.map(str::to_owned),
            roles: Vec::new(),
        };
        let views = [
            view_hash("p", 1, &reader(None, None)),
            view_hash("p", 1, &reader(Some(""), None)),
            view_hash("p", 1, &reader(None, Some(""))),
            view_hash("p", 1, &reader(Some("a"), Some("bc"))),
            view_hash("p", 1, &reader(Some("ab"), Some("c"))),
            view_hash("p", 2, &reader(None, None)),
            view_hash("q", 1, &reader(None, None)),
        ];
        for (index, view) in views.iter().enumerate() {
            assert!(!views[..index].contains(view), "view {index} repeats");
        }
    }
}
