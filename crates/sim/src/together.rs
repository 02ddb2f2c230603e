//! The tabs of one device among themselves: who holds the lock of a replica, what they tell each other, and how all of them
//! leave a session.

use syncline_core::client::{Input, StorageFailure, StorageState, TabMessage};
use syncline_core::planted;
use syncline_protocol::Identity;

use crate::world::{Event, TabId, World};

impl World {
    /// A tab was given the lock that it stood in line for.
    pub(crate) fn granted(&mut self, id: TabId, identity: Identity) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until > self.now {
            return tab.deferred.push(Event::Granted(id, identity));
        }
        if !tab.is_closed {
            self.on_disk(id, Event::Lead(id, identity));
        }
    }

    /// Takes the lock by force, if somebody looks at the tab. Whoever had it goes on until it hears so.
    pub(crate) fn take_lead(&mut self, id: TabId) {
        let identity = self.identity_of(id);
        let Some(tab) = self.tabs.get(&id).filter(|tab| !tab.throttled && !tab.is_closed) else { return };
        let lock = self.devices[tab.device].lock(&identity);
        lock.line.retain(|other| *other != id);
        let former = lock.holder.replace(id).filter(|former| *former != id);
        lock.line.extend(former);
        if let Some(former) = former {
            // It may be at something long.
            let most = if self.disk.permille(200) { 2_000 } else { 5 };
            let delay = self.disk.between(0, most);
            self.after(delay, Event::Input(former, Input::LeadLost));
        }
        self.on_disk(id, Event::Lead(id, identity));
    }

    /// A tab that does not lead takes the lead without having asked anybody.
    pub(crate) fn steal(&mut self, id: TabId) {
        let identity = self.identity_of(id);
        let Some(tab) = self.tabs.get(&id).filter(|tab| tab.channel.is_some() && tab.frozen_until <= self.now) else { return };
        if self.devices[tab.device].lock(&identity).line.contains(&id) {
            self.take_lead(id);
        }
    }

    /// Lets the lock go and stands in line.
    pub(crate) fn resign(&mut self, id: TabId) {
        let identity = self.identity_of(id);
        let Some(device) = self.tabs.get(&id).map(|tab| tab.device) else { return };
        let lock = self.devices[device].lock(&identity);
        if lock.holder == Some(id) {
            lock.holder = None;
            lock.line.push_back(id);
            self.grant(device, &identity);
        }
    }

    fn grant(&mut self, device: usize, identity: &Identity) {
        let lock = self.devices[device].lock(identity);
        if let (None, Some(next)) = (lock.holder, lock.line.pop_front()) {
            lock.holder = Some(next);
            let delay = self.disk.between(0, 3);
            self.after(delay, Event::Granted(next, identity.clone()));
        }
    }

    /// A tab that ends holds nothing and waits for nothing.
    pub(crate) fn leave_locks(&mut self, id: TabId, device: usize) {
        let mut free = Vec::new();
        for ((user_id, tenant_id), lock) in &mut self.devices[device].locks {
            lock.line.retain(|other| *other != id);
            if lock.holder == Some(id) {
                lock.holder = None;
                free.push(Identity { user_id: user_id.clone(), tenant_id: tenant_id.clone() });
            }
        }
        for identity in free {
            self.grant(device, &identity);
        }
    }

    /// Tells the other tabs of the same replica. What one tab says arrives at another in the order in which it was said; a
    /// tab that stands still may never hear it.
    pub(crate) fn tell_tabs(&mut self, id: TabId, message: &TabMessage) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        tab.told += 1;
        let (number, device) = (tab.told, tab.device);
        let Some(channel) = tab.channel.clone() else { return };
        let is_other = |other: TabId, tab: &crate::tab::Tab| {
            let is_same = tab.channel.as_ref() == Some(&channel) || planted::is(35);
            other != id && tab.device == device && tab.channel.is_some() && is_same
        };
        let others: Vec<(TabId, bool)> = self
            .tabs
            .iter()
            .filter(|(other, tab)| is_other(**other, tab))
            .map(|(other, tab)| (*other, tab.frozen_until > self.now))
            .collect();
        if self.script.as_mut().is_some_and(|script| script.loses_word(id)) {
            return;
        }
        for (other, is_frozen) in others {
            if is_frozen && self.disk.permille(400) || self.strikes(self.options.channel) {
                continue;
            }
            let delay = if self.strikes(self.options.channel * 3) { self.net.between(3, 3_000) } else { self.net.between(1, 3) };
            let Some(tab) = self.tabs.get_mut(&other) else { continue };
            let arrives_at = tab.hears_at.entry(id).or_default();
            *arrives_at = (*arrives_at).max(self.now + delay);
            let at = *arrives_at;
            self.at(at, Event::Input(other, Input::TabHeard { tab: id.into(), number, message: message.clone() }));
        }
    }

    /// The token of a device became another identity's, or somebody else signs in: every tab leaves the session, as soon as it
    /// hears of it, and comes back with what the device has then.
    pub(crate) fn leave_session(&mut self, device: usize, token: &str) {
        let here = |tab: &crate::tab::Tab| tab.device == device && tab.token == token;
        let tabs: Vec<TabId> = self.tabs.iter().filter(|(_, tab)| here(tab)).map(|(id, _)| *id).collect();
        for id in tabs {
            let delay = self.app.between(1, 30);
            self.after(delay, Event::Leave(id));
        }
    }

    /// A tab begins anew.
    pub(crate) fn leave(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until > self.now {
            return tab.deferred.push(Event::Leave(id));
        }
        let device = tab.device;
        self.reload_tab(id);
        self.after(5, Event::NewTab(device));
    }

    /// A newer version of the application is out: tabs opened from now on are of it. It may bring another version of the
    /// database, which asks the older tabs to let go of theirs.
    pub(crate) fn release(&mut self, device: usize) {
        self.devices[device].version = 2;
        if self.fault.permille(500) {
            let is_old = |tab: &crate::tab::Tab| tab.device == device && tab.version < 2;
            let old: Vec<TabId> = self.tabs.iter().filter(|(_, tab)| is_old(tab)).map(|(id, _)| *id).collect();
            for id in old {
                self.after(1, Event::Outdated(id));
            }
        }
        self.after(10, Event::NewTab(device));
    }

    /// A newer version wants the database of a tab.
    pub(crate) fn outdated(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id) else { return };
        if tab.frozen_until > self.now {
            return tab.deferred.push(Event::Outdated(id));
        }
        if tab.client.status().storage == StorageState::Opening {
            // It finds the new database when it gets that far.
            return;
        }
        self.give(id, Input::OpenFailed(StorageFailure::Outdated));
        if let Some(tab) = self.tabs.get_mut(&id) {
            tab.is_leaving = true;
        }
        self.leave_when_quiet(id);
    }

    /// The application of a tab stops its engine in good order.
    pub(crate) fn close_tab(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get_mut(&id).filter(|tab| tab.frozen_until <= self.now) else { return };
        (tab.is_leaving, tab.is_stopped) = (true, true);
        self.give(id, Input::Stop);
        self.leave_when_quiet(id);
    }

    /// A person looks at a tab again.
    pub(crate) fn show(&mut self, id: TabId) {
        if let Some(tab) = self.tabs.get_mut(&id) {
            tab.throttled = false;
        }
        self.give(id, Input::Wake);
    }
}
