//! How much of the log is kept, and the work of dropping the rest a piece at a time.

use std::num::{NonZeroU32, NonZeroU64};

use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use syncline_protocol::{Timestamp, limits};

use crate::store::log::{LogBounds, unsigned};
use crate::store::{Store, StoreError, log};

/// How much of the log is kept; without a bound all of it is. What either bound excludes is dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogRetention {
    /// Changes older than this many days are dropped.
    pub keep_days: Option<NonZeroU32>,
    /// So many changes of each tenant are kept at most, the newest.
    pub keep_changes: Option<NonZeroU64>,
}

impl LogRetention {
    /// Whether nothing is ever dropped.
    pub const fn keeps_everything(self) -> bool {
        self.keep_days.is_none() && self.keep_changes.is_none()
    }

    /// The first seq of a tenant's log to keep.
    fn keep_from(self, connection: &Connection, tenant: &str, bounds: LogBounds, now: Timestamp) -> Result<u64, StoreError> {
        let by_count = self.keep_changes.map_or(0, |keep| bounds.head.saturating_sub(keep.get()) + 1);
        let by_age = match self.keep_days {
            None => 0,
            Some(days) => {
                let oldest = now.0.saturating_sub(u64::from(days.get()) * DAY_MS);
                first_since(connection, tenant, bounds, oldest)?
            }
        };
        Ok(by_count.max(by_age))
    }
}

impl Store {
    /// Drops what `retention` does not keep of every tenant's log; returns how many changes that were. Replicas that stand
    /// below the new floor begin with a snapshot.
    ///
    /// Writers are never held up for longer than one step takes.
    ///
    /// # Errors
    /// When the database fails; what was dropped before stays dropped.
    pub async fn trim_log(&self, retention: LogRetention, now: Timestamp) -> Result<u64, StoreError> {
        if retention.keeps_everything() {
            return Ok(0);
        }
        let goals = self.shared.reads.run(move |connection| trim_goals(connection, retention, now)).await?;
        let mut dropped = 0;
        for TrimGoal { tenant, mut floor, keep_from } in goals {
            while floor + 1 < keep_from {
                let step = (floor + 1 + TRIM_STEP).min(keep_from);
                let tenant = tenant.clone();
                let writer = &self.shared.writer;
                let reached = writer.run(move |connection, _| log::truncate(connection, &tenant, step)).await?;
                if reached == floor {
                    // The transaction that contains `keep_from` begins here.
                    break;
                }
                dropped += reached - floor;
                floor = reached;
            }
        }
        Ok(dropped)
    }
}

const DAY_MS: u64 = 86_400_000;
/// Changes one step drops; more than any transaction holds, because a transaction is dropped whole.
const TRIM_STEP: u64 = limits::TRANSACTION_CHANGES_MAX as u64 + 1;

struct TrimGoal {
    tenant: String,
    floor: u64,
    keep_from: u64,
}

fn trim_goals(connection: &Connection, retention: LogRetention, now: Timestamp) -> Result<Vec<TrimGoal>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT tenant FROM tenants")?;
    let tenants = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut goals = Vec::new();
    for tenant in tenants {
        let tenant = tenant?;
        let bounds = LogBounds::load(connection, &tenant)?;
        let keep_from = retention.keep_from(connection, &tenant, bounds, now)?;
        goals.push(TrimGoal { tenant, floor: bounds.floor, keep_from });
    }
    Ok(goals)
}

/// The first seq committed at `oldest` or later, found by halving: the log has no index of times. Where the clock was set
/// back, times do not grow with seqs, and one of several such places is found.
fn first_since(connection: &Connection, tenant: &str, bounds: LogBounds, oldest: u64) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT committed_at FROM log WHERE tenant = ?1 AND seq = ?2")?;
    let (mut low, mut high) = (bounds.floor + 1, bounds.head + 1);
    while low < high {
        let middle = low.midpoint(high);
        let found = statement.query_row(params![tenant, middle.cast_signed()], |row| unsigned(row, 0)).optional()?;
        let committed_at = found.ok_or(StoreError::Corrupt { what: "log" })?;
        if committed_at < oldest {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
