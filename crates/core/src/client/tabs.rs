//! Several tabs, one replica: who leads, and how each tab's memory follows what any of them did to the database.
//!
//! Every storage transaction that committed is told to the other tabs as it was, so a tab's memory is a mirror of the disk;
//! what does not fit the mirror, and every silence that messages may have been lost in, makes the tab read the disk again.
//! Specified in `docs/storage.md`, "Tabs".

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use syncline_protocol::json::{JsonError, Object, Reader, Slot, finish};
use syncline_protocol::{ErrorCode, ErrorDetail, Timestamp};

use super::connection::{CatchUp, Phase};
use super::mirror::Mirror;
use super::storage_flow::explain;
use super::timer::Timer;
use super::{Client, Connection, Event, Output, StorageFailure, StorageKind};
use crate::planted;

/// How long a tab that needs the leader waits for a sign of it, in milliseconds.
const LEADER_MS_MAX: u64 = 3_000;
/// How long after a sign of the leader a tab with unsent writes asks again, in milliseconds: with the wait for an answer less than
/// the 10 s in which another tab is to lead.
const ASK_AGAIN_MS: u64 = 5_000;
/// A question that the leader has heard.
const HEARD: u64 = 1;
/// What another tab did or said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TabMessage {
    /// It carried out a storage request, which gave these keys.
    Stored(StorageKind, Vec<u64>),
    /// The text of its [`Output::TellTabs`].
    Said(String),
}

/// What a leader says about the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LeaderReport {
    pub(crate) connection: Connection,
    pub(crate) syncing: bool,
    pub(crate) last_heard_at: Option<Timestamp>,
    pub(crate) server_head: Option<u64>,
    pub(crate) last_error: Option<ErrorDetail>,
}

/// State of the side that faces the other tabs.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Tabs {
    /// Whether this tab talks to the server and writes rows.
    pub(crate) leads: bool,
    /// Whether there was a sign of another tab.
    has_others: bool,
    /// The last message of each sender.
    numbers: Vec<(u64, u64)>,
    pub(crate) mirror: Mirror,
    pub(crate) report: LeaderReport,
    /// What the other tabs were told last.
    told: String,
    /// The leader had everything at this seq, which is not here yet.
    synced_at: Option<u64>,
    /// When this tab last asked for what is new, until the leader has heard it: what it had before is no answer. Then
    /// [`HEARD`], until everything is here, and 0.
    question: u64,
    /// The server has met a newer leader of this replica than this one, and no connection has stood since.
    is_fenced: bool,
    /// The highest fence that was seen.
    last_fence: u64,
    /// The fence of the leader that knows of this tab.
    known_to: u64,
    /// Whether the leader was asked for a sign and has given none.
    is_asking: bool,
    is_outdated: bool,
    /// A newer version has the database.
    pub(crate) refuses_writes: bool,
}

impl Tabs {
    pub(crate) const fn new() -> Self {
        let connection = Connection::Connecting;
        Self {
            leads: true,
            has_others: false,
            numbers: Vec::new(),
            mirror: Mirror::new(),
            report: LeaderReport { connection, syncing: false, last_heard_at: None, server_head: None, last_error: None },
            told: String::new(),
            synced_at: None,
            question: 0,
            is_fenced: false,
            last_fence: 0,
            known_to: 0,
            is_asking: false,
            is_outdated: false,
            refuses_writes: false,
        }
    }

    /// Whether messages of this sender were lost before this one.
    fn counts(&mut self, tab: u64, number: u64) -> bool {
        if let Some((_, last)) = self.numbers.iter_mut().find(|(other, _)| *other == tab) {
            return core::mem::replace(last, number) + 1 == number || planted::is(39);
        }
        // What a tab said before this one listened is on the disk, and perhaps was not yet when that was read.
        self.numbers.push((tab, number));
        number == 1
    }

    /// The server accepted this leader.
    pub(crate) const fn is_accepted(&mut self) {
        self.is_fenced = false;
    }
}

impl Client {
    /// Another tab leads, or is to lead. What the disk holds counts from here on.
    pub(super) fn follow(&mut self) {
        if !self.tabs.leads || !self.storage.is_on_disk() || self.link.is_over() {
            return;
        }
        self.tabs.leads = false;
        if !planted::is(43) {
            self.leave_network();
            self.forget_push();
        }
        self.storage.stop_leading();
        self.held.clear();
        self.queue.reopen_applied();
        self.outputs.push(Output::Resign);
        // Whatever is being read does not count: it may be older than what this tab wrote.
        self.tabs.mirror.doubt();
        self.read_storage();
        self.ask_anew();
        self.advance();
    }

    /// What this tab had asked the server, or was about to ask, it asks the leader.
    pub(super) fn ask_anew(&mut self) {
        if core::mem::replace(&mut self.link.catch_up, CatchUp::Told) != CatchUp::Told {
            self.command("pull");
        }
    }

    /// The disk is of no use to a tab that does not lead: it goes on as a replica of its own, which talks to the server itself.
    pub(super) fn lead_alone(&mut self) {
        if !core::mem::replace(&mut self.tabs.leads, true) {
            self.storage.leave_disk();
            // Its rows were left on the disk.
            self.record.staging = None;
            self.record.client_id = self.rng.client_id();
            if self.link.phase == Phase::Following {
                self.advance();
            }
        }
    }

    /// The server knows a newer leader. If the disk does not, this is a copy of the replica that the newer one has: it goes
    /// on under a name of its own.
    pub(super) fn fenced_by_server(&mut self) {
        if core::mem::replace(&mut self.tabs.is_fenced, true) {
            self.record.client_id = self.rng.client_id();
            return self.lose_socket("another copy of this replica is connected");
        }
        self.follow();
    }

    /// The database goes to a newer version of the application: what was written still gets there, and nothing is taken that
    /// would be lost with this page.
    pub(super) fn become_outdated(&mut self) {
        self.flush_writes();
        self.tabs.refuses_writes = true;
        let (code, message) = explain(&StorageFailure::Outdated);
        self.become_incompatible(code, &message);
    }

    /// Says something to the other tabs.
    fn say(&mut self, what: &str, more: &mut dyn FnMut(&mut Object<'_>)) {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.text("say", what);
        object.uint("schema", u64::from(self.config.schema));
        more(&mut object);
        object.end();
        self.outputs.push(Output::TellTabs(finish(out)));
    }

    /// Asks for a sign of the leader; if none comes, this tab leads.
    pub(super) fn need_leader(&mut self) {
        if self.link.phase == Phase::Following && !core::mem::replace(&mut self.tabs.is_asking, true) {
            self.timers.set(Timer::Lead, self.now.plus_ms(LEADER_MS_MAX));
            self.ask();
        }
    }

    pub(super) fn ask(&mut self) {
        self.say("ask", &mut |_| ());
    }

    /// Asks the leader to do something; gives whether there is one to ask.
    pub(super) fn command_leader(&mut self, command: &str) -> bool {
        if !self.tabs.leads {
            self.need_leader();
            self.command(command);
        }
        !self.tabs.leads
    }

    fn command(&mut self, command: &str) {
        let now = self.now.0;
        if command != "wake" {
            self.tabs.question = now;
            self.tabs.synced_at = None;
        }
        self.say("command", &mut |object| {
            object.text("command", command);
            object.uint("seq", now);
        });
    }

    /// Tells every tab, this one included, to talk to the server or not.
    pub(super) fn tell_paused(&mut self, command: &str) {
        if self.tabs.has_others {
            self.say("command", &mut |object| object.text("command", command));
        }
    }

    /// This tab leads from here on.
    pub(super) fn lead(&mut self) {
        self.tabs.leads = true;
        self.tabs.is_asking = false;
        // It asks the server itself from here on: what a former leader had is no answer to that.
        self.tabs.question = 0;
        self.tabs.synced_at = None;
        self.timers.clear(Timer::Lead);
        // Somebody may have been waiting for it.
        self.say_here();
    }

    /// Tells the others how the leader stands, if that is news.
    pub(super) fn tell_tabs(&mut self) {
        if self.tabs.leads && self.tabs.has_others {
            self.say_here();
        }
    }

    fn say_here(&mut self) {
        let status = self.status();
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        status.connection.write(object.name("connection"));
        object.bool("syncing", status.syncing);
        object.uint_or_null("head", status.server_head);
        if let Some(error) = &status.last_error {
            error.write(object.name("error"));
        }
        object.end();
        let text = finish(out);
        if self.tabs.told != text {
            let (fence, heard_at) = (self.storage.fence, status.last_heard_at.map(|at| at.0));
            self.say("here", &mut |object| {
                object.uint("fence", fence);
                object.uint_or_null("heard_at", heard_at);
                object.raw("report", &text);
            });
            self.tabs.told = text;
        }
    }

    /// Says what counts only of the leader: neither of one that was robbed nor of a tab that lost its disk.
    fn say_as_leader(&mut self, what: &str, seq: u64) {
        let fence = self.storage.fence;
        self.say(what, &mut |object| {
            object.uint("seq", seq);
            object.uint("fence", fence);
        });
    }

    pub(super) fn tell_tabs_synced(&mut self, seq: u64) {
        if self.tabs.has_others {
            self.say_as_leader("synced", seq);
        }
    }

    /// Another tab did or said something.
    pub(super) fn tab_heard(&mut self, tab: u64, number: u64, message: TabMessage) {
        self.tabs.has_others = true;
        let is_next = self.tabs.counts(tab, number);
        if !self.storage.is_on_disk() {
            return;
        }
        if !is_next {
            self.misses_something();
        }
        match message {
            TabMessage::Said(text) => {
                if let Ok(said) = Said::read(&text) {
                    self.tab_said(said);
                }
            }
            TabMessage::Stored(kind, keys) => self.stored_elsewhere(kind, keys),
        }
    }

    fn tab_said(&mut self, said: Said) {
        if said.schema > u64::from(self.config.schema) && !core::mem::replace(&mut self.tabs.is_outdated, true) {
            let message = "another tab runs a newer version of this application; reload this one";
            self.notify(Event::Problem { code: ErrorCode::ReloadRequired, message: message.to_owned() });
        }
        let is_of_leader = said.fence >= self.tabs.last_fence;
        match (said.say.as_str(), self.tabs.leads) {
            ("ask", true) => self.tabs.told.clear(),
            ("command", leads) => self.commanded(&said.command, said.seq, leads),
            ("asked", _) if is_of_leader && said.seq == self.tabs.question => self.tabs.question = said.seq.min(HEARD),
            ("here", true) if said.fence > self.storage.fence => self.follow(),
            ("here", false) => self.leader_is_here(said),
            ("synced", false) if is_of_leader && self.tabs.question <= HEARD => {
                self.tabs.question = 0;
                self.tabs.synced_at = Some(said.seq);
                self.tell_followed();
            }
            _ => {}
        }
    }

    fn commanded(&mut self, command: &str, question: u64, leads: bool) {
        match command {
            "pause" => self.pause(),
            "resume" => self.resume(),
            _ if !leads => {}
            "wake" => self.wake(),
            "pull" => self.pull_now(),
            "resync" => self.resync(),
            _ => {}
        }
        if leads {
            self.say_as_leader("asked", question);
        }
        self.tabs.told.clear();
    }

    fn leader_is_here(&mut self, said: Said) {
        if said.fence < self.tabs.last_fence {
            // It has not heard yet that it leads no longer.
            return;
        }
        self.tabs.last_fence = said.fence;
        self.ask_later();
        if let Some(report) = said.report {
            self.tabs.report = LeaderReport { last_heard_at: said.heard_at.map(Timestamp), ..report };
        }
        let former = core::mem::replace(&mut self.tabs.known_to, said.fence);
        if former != said.fence {
            if self.tabs.question > 0 {
                // Whoever was asked leads no longer, or did not lead yet. What this one had before it hears of the question is no
                // answer either.
                self.command("pull");
            }
            // Now that it knows of this tab it tells what it does; what it did before, it may not have told.
            self.say("ask", &mut |_| ());
            self.read_storage();
        }
    }

    /// A tab that waits for an answer of the server looks now and then whether anybody is getting it.
    fn ask_later(&mut self) {
        self.tabs.is_asking = false;
        self.timers.clear(Timer::Lead);
        if self.queue.open() > 0 {
            self.timers.set(Timer::Lead, self.now.plus_ms(ASK_AGAIN_MS));
        }
    }

    /// Nobody answered for the leader, or it is time to ask.
    pub(super) fn leader_is_silent(&mut self) {
        let asked = core::mem::take(&mut self.tabs.is_asking);
        if self.link.phase != Phase::Following {
            return;
        }
        if asked {
            self.outputs.push(Output::TakeLead);
            self.ask_later();
        } else {
            self.need_leader();
        }
    }

    /// The database holds this fence.
    pub(super) fn fence_seen(&mut self, fence: u64) {
        self.tabs.last_fence = self.tabs.last_fence.max(fence);
    }

    /// Whether this tab led until a newer leader wrote.
    pub(super) fn is_deposed_by(&mut self, fence: u64) -> bool {
        self.fence_seen(fence);
        if fence < self.tabs.mirror.read_fence {
            // A former leader's last word. Whoever led after it has written its fence, and this tab has read the disk since.
            return true;
        }
        if self.tabs.leads {
            if fence > self.storage.fence {
                self.follow();
            }
            // An older leader's last word: this one has read what it did.
            return true;
        }
        false
    }

    /// Says that everything the server had is here, once it is.
    pub(super) fn tell_followed(&mut self) {
        if let Some(seq) = self.tabs.synced_at.take_if(|seq| *seq <= self.record.shown.seq) {
            self.notify(Event::Synced { seq });
        }
    }
}

/// What a tab said.
#[derive(Default)]
struct Said {
    say: String,
    schema: u64,
    command: String,
    fence: u64,
    seq: u64,
    heard_at: Option<u64>,
    report: Option<LeaderReport>,
}

impl Said {
    fn read(text: &str) -> Result<Self, JsonError> {
        let mut said = Self::default();
        let mut reader = Reader::new(text);
        reader.members(
            &mut [("say", Slot::Text(&mut said.say)), ("schema", Slot::Uint(&mut said.schema))],
            &mut [
                ("command", Slot::Text(&mut said.command)),
                ("fence", Slot::Uint(&mut said.fence)),
                ("seq", Slot::Uint(&mut said.seq)),
                ("heard_at", Slot::OptionalUint(&mut said.heard_at)),
                ("report", Slot::OptionalNested(&mut |reader| said.report = Some(LeaderReport::read(reader)))),
            ],
        );
        reader.finish().map(|()| said)
    }
}

impl LeaderReport {
    fn read(reader: &mut Reader<'_>) -> Self {
        let (mut connection, mut syncing, mut server_head, mut last_error) = (Connection::Connecting, false, None, None);
        reader.members(
            &mut [("syncing", Slot::Bool(&mut syncing))],
            &mut [
                ("connection", Slot::OptionalNested(&mut |reader| connection = Connection::read(reader))),
                ("head", Slot::OptionalUint(&mut server_head)),
                ("error", Slot::OptionalNested(&mut |reader| last_error = Some(ErrorDetail::read(reader)))),
            ],
        );
        Self { connection, syncing, last_heard_at: None, server_head, last_error }
    }
}
