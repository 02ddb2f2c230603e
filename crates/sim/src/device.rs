//! A device: its databases, its clock, who sits at it.

use std::collections::{BTreeMap, VecDeque};

use syncline_protocol::Identity;

use crate::disk::Disk;
use crate::world::TabId;

/// The Web Lock of one replica.
#[derive(Debug, Default)]
pub(crate) struct Lock {
    pub(crate) holder: Option<TabId>,
    pub(crate) line: VecDeque<TabId>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    /// Who is signed in.
    pub(crate) user: String,
    /// What they have selected.
    pub(crate) tenant: String,
    /// What their application holds.
    pub(crate) token: String,
    /// Whose tokens the device has seen accepted.
    pub(crate) known: BTreeMap<String, Identity>,
    /// Databases by identity.
    pub(crate) disks: BTreeMap<(Option<String>, Option<String>), Disk>,
    /// Who leads each replica, and who stands in line for that.
    pub(crate) locks: BTreeMap<(Option<String>, Option<String>), Lock>,
    /// When the disk has done what it was asked.
    pub(crate) disk_free_at: u64,
    /// By how much its clock is ahead of the world's.
    pub(crate) clock_ahead: i64,
    /// Nobody is reached before this time.
    pub(crate) partitioned_until: u64,
    /// Opens fail so many times.
    pub(crate) failing_opens: u64,
    /// Its applications were told that what was settled may come back.
    pub(crate) remembers: bool,
    /// Which version of the application its pages get.
    pub(crate) version: u32,
    /// Whether a token is on its way.
    pub(crate) awaits_token: bool,
    /// Whether its application gets a token when it asks for one.
    pub(crate) renews: bool,
    /// How often its applications were asked for a token.
    pub(crate) tokens_asked: u64,
    /// How long its next token is good, when that is not drawn.
    pub(crate) token_ms: Option<u64>,
    /// Names of tabs that are being reloaded, the next to open first.
    pub(crate) returning: VecDeque<String>,
    /// How many records of the queue its disk was given to write.
    pub(crate) queue_records: u64,
}

impl Device {
    /// A new device.
    pub(crate) fn new(user: &str, tenant: &str) -> Self {
        Self {
            user: user.to_owned(),
            tenant: tenant.to_owned(),
            token: String::new(),
            known: BTreeMap::new(),
            disks: BTreeMap::new(),
            locks: BTreeMap::new(),
            disk_free_at: 0,
            clock_ahead: 0,
            partitioned_until: 0,
            failing_opens: 0,
            remembers: false,
            version: 1,
            awaits_token: false,
            renews: true,
            tokens_asked: 0,
            token_ms: None,
            returning: VecDeque::new(),
            queue_records: 0,
        }
    }

    /// The lock of an identity's database.
    pub(crate) fn lock(&mut self, identity: &Identity) -> &mut Lock {
        self.locks.entry((identity.user_id.clone(), identity.tenant_id.clone())).or_default()
    }

    /// The database of an identity.
    pub(crate) fn disk(&mut self, identity: &Identity) -> &mut Disk {
        self.disks.entry((identity.user_id.clone(), identity.tenant_id.clone())).or_default()
    }

    /// Nothing is wrong with it any more.
    pub(crate) fn heal(&mut self, now: u64) {
        self.partitioned_until = now;
        self.failing_opens = 0;
        for disk in self.disks.values_mut() {
            disk.failing = None;
        }
    }

    /// What its clock says.
    pub(crate) const fn clock(&self, now: u64) -> u64 {
        now.strict_add_signed(self.clock_ahead)
    }
}
