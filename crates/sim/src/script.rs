//! What a script wants of the way between tabs and server, and what it wants to know of it afterwards.

use syncline_core::client::{Event as ClientEvent, Input};
use syncline_server::local_server::Said;

use crate::engine::SharedTape;
use crate::wire::Ask;
use crate::world::{Event, LinkId, TabId, World};

/// The state of a script.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// What the cores do is recorded here.
    pub(crate) tape: Option<SharedTape>,
    /// What happens to messages to come.
    pub(crate) messages: Vec<MessageRule>,
    /// What is answered in the server's place.
    pub(crate) answers: Vec<AnswerRule>,
    /// How many of the next words of a tab to the others are lost.
    pub(crate) lost_words: Vec<(TabId, u64)>,
    /// All that passed, or was to pass.
    pub(crate) wire: Vec<Passed>,
}

/// One message of a socket, one question over HTTP, or one attempt to open a socket.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Which tab's.
    pub(crate) tab: String,
    /// With whose token.
    pub(crate) user: Option<String>,
    /// The message's type; `pull`, `whose` or `socket` for what is asked otherwise.
    pub(crate) kind: String,
    /// All of it.
    pub(crate) text: String,
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fortune {
    /// It is lost with all that follows on this socket, and nobody is told.
    Lost,
    /// It is lost, and the socket breaks for both ends.
    Broken,
    /// It alone is lost.
    Swallowed,
    /// It arrives twice.
    Twice,
    /// Half of it arrives.
    Cut,
    /// It arrives late.
    Late,
}

/// How a message that arrives does so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    pub(crate) twice: bool,
    pub(crate) cut: bool,
    pub(crate) late_ms: u64,
}

/// What happens to some messages.
#[derive(Debug)]
pub(crate) struct MessageRule {
    pub(crate) tab: String,
    pub(crate) kind: String,
    /// So many pass first.
    pub(crate) skip: u64,
    pub(crate) times: u64,
    pub(crate) fortune: Fortune,
    pub(crate) late_ms: u64,
}

/// What is answered in the server's place.
#[derive(Debug)]
pub(crate) struct AnswerRule {
    pub(crate) tab: String,
    /// `pull`, `whose` or `socket`.
    pub(crate) to: String,
    pub(crate) times: u64,
    /// Without a status nobody is reached.
    pub(crate) status: Option<u16>,
    pub(crate) body: String,
    pub(crate) retry_after_ms: Option<u64>,
}

impl Script {
    /// Whether what a tab says now to the others is lost.
    pub(crate) fn loses_word(&mut self, tab: TabId) -> bool {
        let left = self.lost_words.iter_mut().find(|(other, left)| *other == tab && *left > 0);
        left.map(|(_, left)| *left -= 1).is_some()
    }

    fn rule(&mut self, tab: &str, kind: &str) -> Option<(Fortune, u64)> {
        let rule = self.messages.iter_mut().find(|rule| rule.tab == tab && rule.kind == kind && rule.times > 0)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some((rule.fortune, rule.late_ms))
    }

    fn answer(&mut self, tab: &str, to: &str) -> Option<&AnswerRule> {
        let rule = self.answers.iter_mut().find(|rule| rule.tab == tab && rule.to == to && rule.times > 0)?;
        rule.times -= 1;
        Some(rule)
    }
}

fn kind_of(text: &str) -> String {
    let message: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    message["type"].as_str().unwrap_or_default().to_owned()
}

impl World {
    fn note_passing(&mut self, id: TabId, link: Option<LinkId>, kind: &str, text: &str) {
        let user = match link {
            Some(link) => self.link_identity(link).and_then(|(identity, _)| identity.user_id.clone()),
            None => self.tabs.get(&id).map(|tab| tab.owner.clone()),
        };
        let Some(tab) = self.tabs.get(&id).map(|tab| tab.name.clone()) else { return };
        if let Some(script) = &mut self.script {
            script.wire.push(Passed { tab, user, kind: kind.to_owned(), text: text.to_owned() });
        }
    }

    /// How a message gets to the other end of a tab's socket; `None` when it does not.
    pub(crate) fn scripted_way(&mut self, id: TabId, link: LinkId, text: &str) -> Option<Way> {
        if self.script.is_none() {
            return Some(Way::default());
        }
        let kind = kind_of(text);
        self.note_passing(id, Some(link), &kind, text);
        let tab = self.tabs.get(&id).map(|tab| tab.name.clone()).unwrap_or_default();
        let rule = self.script.as_mut().and_then(|script| script.rule(&tab, &kind));
        let Some((fortune, late_ms)) = rule else { return Some(Way::default()) };
        match fortune {
            Fortune::Swallowed => {}
            Fortune::Lost => self.lose(link),
            Fortune::Broken => self.lose_and_break(link),
            Fortune::Twice => return Some(Way { twice: true, ..Way::default() }),
            Fortune::Cut => return Some(Way { cut: true, ..Way::default() }),
            Fortune::Late => return Some(Way { late_ms, ..Way::default() }),
        }
        None
    }

    /// The same for what the server says.
    pub(crate) fn scripted_way_down(&mut self, link: LinkId, said: &Said) -> Option<Way> {
        let Said::Text(text) = said else { return Some(Way::default()) };
        let Some(tab) = self.links.get(&link).map(|link| link.tab) else { return Some(Way::default()) };
        self.scripted_way(tab, link, text)
    }

    /// Answers a question in the server's place, if the script says so.
    pub(crate) fn scripted_answer(&mut self, id: TabId, ask: &Ask) -> bool {
        if self.script.is_none() {
            return false;
        }
        let (to, path) = match ask {
            Ask::Pull(_, path) => ("pull", path.clone()),
            Ask::Identity => ("whose", String::new()),
        };
        self.note_passing(id, None, to, &path);
        let Some(tab) = self.tabs.get(&id).map(|tab| tab.name.clone()) else { return false };
        let Some(rule) = self.script.as_mut().and_then(|script| script.answer(&tab, to)) else { return false };
        let input = match rule.status {
            None => crate::wire::refused(ask),
            Some(status) => crate::wire::answered(ask, status, rule.body.clone(), rule.retry_after_ms),
        };
        self.after(2, Event::Input(id, input));
        true
    }

    /// Whether the script lets nobody through to a socket.
    pub(crate) fn scripted_refusal(&mut self, link: LinkId) -> bool {
        let Some(id) = self.links.get(&link).map(|link| link.tab).filter(|_| self.script.is_some()) else { return false };
        self.note_passing(id, None, "socket", "");
        let Some(tab) = self.tabs.get(&id).map(|tab| tab.name.clone()) else { return false };
        self.script.as_mut().is_some_and(|script| script.answer(&tab, "socket").is_some())
    }

    /// Keeps what a tab is told, for a script.
    pub(crate) fn note_told(&mut self, id: TabId, event: &ClientEvent) {
        if self.script.is_none() {
            return;
        }
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        let (op_id, what) = match event {
            ClientEvent::Problem { code, .. } => return tab.problems.push(code.code()),
            ClientEvent::MutationDurable { op_id } => (op_id, "durable".to_owned()),
            ClientEvent::MutationSent { op_id } => (op_id, "sent".to_owned()),
            ClientEvent::MutationConfirmed { op_id, seq: 0 } => (op_id, "undone".to_owned()),
            ClientEvent::MutationConfirmed { op_id, .. } => (op_id, "confirmed".to_owned()),
            ClientEvent::MutationFailed { op_id, error } => (op_id, format!("failed:{}", error.code)),
            ClientEvent::MutationRemoved { op_id } => (op_id, "removed".to_owned()),
            ClientEvent::MutationQueued { op_id } => (op_id, "queued".to_owned()),
            ClientEvent::MutationHeld { op_id, .. } => (op_id, "held".to_owned()),
            ClientEvent::MutationReplaced { op_id, .. } => (op_id, "replaced".to_owned()),
            ClientEvent::MutationLost { op_id, error } => (op_id, format!("lost:{}", error.code)),
            _ => return,
        };
        tab.told_of_writes.push((op_id.to_string(), what));
    }

    /// Gives a tab of a script an input that a person causes.
    pub(crate) fn asks_for(&mut self, id: TabId, input: Input) {
        if matches!(input, Input::Pull | Input::Resync) {
            let identity = self.tabs.get(&id).and_then(|tab| tab.client.status().identity);
            let head = identity.map(|identity| self.service.life().head(identity.tenant_id.as_deref().unwrap_or_default()));
            if let Some(tab) = self.tabs.get_mut(&id) {
                tab.asked_at = head;
            }
        }
        self.give(id, input);
    }
}
