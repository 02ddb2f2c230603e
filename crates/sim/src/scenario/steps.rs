//! What can stand in a scenario's file. Whatever is not listed here is an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::expectations::{ExpectDevice, ExpectDisk, ExpectServer, ExpectTab, ExpectWire};
use crate::script::Fortune;

/// One file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// What holds, in plain words.
    pub(super) promise: String,
    /// What goes wrong where it does not hold, or what found it.
    pub(super) otherwise: String,
    /// Devices by name.
    pub(super) devices: BTreeMap<String, Person>,
    /// Changes in one page of the server; 1,000 if absent.
    #[serde(default = "usual_page")]
    pub(super) page: u64,
    /// Planted bugs with any of which this scenario must fail.
    #[serde(default)]
    pub(super) planted: Vec<u64>,
    /// What happens, in order.
    pub(super) steps: Vec<Value>,
}

const fn usual_page() -> u64 {
    1_000
}

/// Who sits at a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    pub(super) user: String,
    pub(super) tenant: String,
    /// Whether the application gets a new token when it is asked for one; it does if this is absent.
    #[serde(default = "yes")]
    pub(super) renews: bool,
}

const fn yes() -> bool {
    true
}

const fn once() -> u64 {
    1
}

/// One thing that happens, or that is looked at. Times are texts like `"150 ms"`, `"2 s"`, `"3 min"`, `"5 h"`, `"400 d"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    /// A tab opens.
    Open { device: String, tab: String },
    /// The application of a tab inserts a row.
    Insert(OneRow),
    /// It updates one.
    Update(OneRow),
    /// It deletes one.
    Delete(OneRow),
    /// It changes several rows at once.
    Transaction { tab: String, changes: Vec<RowChange>, r#as: Option<String>, refused: Option<String> },
    /// It tries a write again.
    Retry { tab: String, write: String, r#as: Option<String>, refused: Option<String> },
    /// It changes a write.
    Edit { tab: String, write: String, changes: Vec<RowChange>, r#as: Option<String>, refused: Option<String> },
    /// It discards a write.
    Discard { tab: String, write: String, refused: Option<String> },
    /// It asks the engine for something.
    Ask { tab: String, r#for: Wish },
    /// A tab ends without a word.
    Crash {
        tab: String,
        /// Whether what it asked of the disk just now is not carried out.
        #[serde(default)]
        loses_requests: bool,
    },
    /// A tab is closed in good order.
    Close { tab: String },
    /// A tab stands still.
    Freeze {
        tab: String,
        /// Whether the browser said so first.
        #[serde(default)]
        warned: bool,
    },
    /// It goes on.
    Thaw { tab: String },
    /// A tab takes the lead by force.
    Steal { tab: String },
    /// The next words of a tab to the others are lost.
    WordsLost { tab: String, count: u64 },
    /// A device loses power; of the relaxed transactions that were not flushed the first so many stay.
    PowerCut {
        device: String,
        #[serde(default)]
        relaxed_kept: usize,
    },
    /// What is on the disk of a device is on the medium.
    Flush { device: String },
    /// The databases of a device vanish, with its tabs.
    Wipe { device: String },
    /// The next transactions find no room.
    DiskFull { device: String, times: u64 },
    /// The next transactions fail.
    DiskBroken { device: String, times: u64 },
    /// The disk does nothing for a while.
    DiskBusy { device: String, r#for: String },
    /// The next opens of a database fail.
    OpensFail { device: String, times: u64 },
    /// Nothing is wrong with a disk any more.
    DiskMended { device: String },
    /// The clock of a device is set to something else.
    Clock {
        device: String,
        #[serde(default)]
        ahead: Option<String>,
        #[serde(default)]
        behind: Option<String>,
    },
    /// A newer version of the application is out.
    Release {
        device: String,
        /// Whether it needs the database for itself.
        #[serde(default)]
        needs_database: bool,
    },
    /// A device reaches nobody.
    Offline {
        device: String,
        /// Whether its sockets look open all the same.
        #[serde(default)]
        unnoticed: bool,
    },
    /// It reaches the server again.
    Online { device: String },
    /// The socket of a tab breaks.
    BreakSocket { tab: String },
    /// The socket of a tab is dead, and nobody is told.
    DeadenSocket { tab: String },
    /// Something happens to messages of a type on the sockets of a tab.
    Message {
        tab: String,
        r#type: String,
        is: Fortune,
        /// By how much.
        #[serde(default)]
        by: Option<String>,
        #[serde(default)]
        skip: u64,
        #[serde(default = "once")]
        times: u64,
    },
    /// Somebody else answers a tab: its pulls, its question whose token it has, its attempts to open a socket.
    Answer {
        tab: String,
        to: String,
        /// Without one nobody is reached.
        status: Option<u16>,
        #[serde(default)]
        body: String,
        retry_after: Option<String>,
        #[serde(default = "once")]
        times: u64,
    },
    /// Somebody signs in on a device.
    SignIn { device: String, user: String, tenant: String },
    /// The session of a device selects a tenant.
    Select { device: String, tenant: String },
    /// The application of a device gets a new token for the same session.
    NewToken {
        device: String,
        /// After which it is over.
        #[serde(default)]
        lasts: Option<String>,
    },
    /// The token of a device is revoked.
    Revoke { device: String },
    /// A user is no member of a tenant any more.
    Expel { user: String, tenant: String },
    /// A user becomes a member again.
    Admit { user: String, tenant: String },
    /// Somebody writes at the server, past all devices; `{n}` counts.
    ServerWrite {
        tenant: String,
        user: String,
        changes: Vec<RowChange>,
        /// So many changes like the first, in as few transactions as possible.
        #[serde(default)]
        times: Option<u64>,
    },
    /// The server's process ends and starts again.
    Restart {
        /// Nobody reaches it so long.
        #[serde(default)]
        down: Option<String>,
        #[serde(default)]
        with_goodbye: bool,
    },
    /// The server's database is copied.
    BackUp,
    /// The server goes back to the copy.
    Restore,
    /// The log of a tenant is cut but for so many changes.
    Truncate { tenant: String, keep: u64 },
    /// The server has no time for the next pushes.
    Busy { pushes: u64 },
    /// Time passes at the server while nobody is there.
    ServerSleeps { r#for: String },
    /// Somebody speaks the protocol by hand; each message of the list gets all the messages that it is answered with.
    ByHand {
        user: String,
        tenant: String,
        /// Whether the greeting is left out.
        #[serde(default)]
        unannounced: bool,
        says: Vec<Value>,
        /// What must be among the answers, in this order; members that are not named do not matter.
        hears: Vec<Value>,
    },
    /// Time passes.
    Wait(String),
    /// What went over the wire so far does not count any more.
    ListenAnew,
    /// What a tab shows and knows.
    Expect(ExpectTab),
    /// What the server holds.
    ExpectServer(ExpectServer),
    /// What lies on a disk.
    ExpectDisk(ExpectDisk),
    /// What went over the wire.
    ExpectWire(ExpectWire),
    /// What a device's application did.
    ExpectDevice(ExpectDevice),
}

/// What an application asks an engine for.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wish {
    /// What is new.
    Pull,
    /// Everything anew.
    Resync,
    /// No network.
    Pause,
    /// The network again.
    Resume,
    /// Somebody looks at it.
    Wake,
    /// Nobody looks at it: its timers fire once a minute.
    Hide,
}

/// A write of one row. `"Todo/t1"` names a row, `"Todo"` lets the engine name it; `$name` in an id or a value is the row of the
/// write of that name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneRow {
    pub(super) tab: String,
    pub(super) row: String,
    pub(super) data: Option<Value>,
    /// The write's name from here on.
    pub(super) r#as: Option<String>,
    /// The code with which the engine refuses it at once.
    pub(super) refused: Option<String>,
    /// So often, with `{n}` counting.
    #[serde(default = "once")]
    pub(super) times: u64,
}

/// One change of a transaction.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowChange {
    pub(super) insert: Option<String>,
    pub(super) update: Option<String>,
    pub(super) delete: Option<String>,
    pub(super) data: Option<Value>,
}

/// Reads a time.
pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time: say \"150 ms\", \"2 s\", \"3 min\", \"5 h\" or \"400 d\"");
    let (number, unit) = text.split_once(' ').ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    Ok(number * unit)
}
