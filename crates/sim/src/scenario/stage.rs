//! Plays the steps of a scenario that are not about writes.

use std::collections::BTreeMap;

use syncline_core::client::{Input, StorageFailure};

use super::Plan;
use super::steps::{File, Step, Wish, milliseconds};
use crate::device::Device;
use crate::engine::SharedTape;
use crate::options::Options;
use crate::random::Random;
use crate::script::{AnswerRule, MessageRule, Script};
use crate::world::{Event, LinkId, TabId, World};

/// Who there is in a scenario. The last one does not keep to the protocol.
const USERS: [&str; 3] = ["alice", "bob", "mallory"];
const TENANTS: [&str; 2] = ["acme", "globex"];
/// Longer than any scenario.
const FOR_EVER_MS: u64 = 4_000 * 86_400_000;

/// A world and what the scenario calls the things in it.
pub(super) struct Stage {
    pub(super) world: World,
    devices: BTreeMap<String, usize>,
    /// The op_ids of writes by name.
    pub(super) writes: BTreeMap<String, String>,
    /// The rows of writes by name.
    pub(super) rows: BTreeMap<String, String>,
}

impl Stage {
    pub(super) fn new(file: &File, plan: Plan, tape: Option<SharedTape>) -> Result<Self, String> {
        let options = Options { tabs: 8, page: file.page, bug: plan.bug, ..Options::default() };
        let mut world = World::empty(options, [&USERS, &TENANTS], true, plan.shown);
        for stream in [&mut world.net, &mut world.app, &mut world.fault, &mut world.disk] {
            *stream = Random::steady();
        }
        world.script = Some(Box::new(Script { tape, ..Script::default() }));
        let mut devices = BTreeMap::new();
        for (name, person) in &file.devices {
            known("user", &USERS, &person.user)?;
            known("tenant", &TENANTS, &person.tenant)?;
            let mut device = Device::new(&person.user, &person.tenant);
            device.renews = person.renews;
            device.token = world.new_token(&device);
            devices.insert(name.clone(), world.devices.len());
            world.devices.push(device);
        }
        Ok(Self { world, devices, writes: BTreeMap::new(), rows: BTreeMap::new() })
    }

    /// Nothing goes wrong any more: everybody has to arrive.
    pub(super) fn end(&mut self) {
        if let Some(script) = &mut self.world.script {
            script.messages.clear();
            script.answers.clear();
            script.lost_words.clear();
        }
        for device in &mut self.world.devices {
            device.renews = true;
            device.awaits_token = false;
        }
        self.world.heal();
        self.world.check_arrival();
    }

    pub(super) fn device(&self, name: &str) -> Result<usize, String> {
        self.devices.get(name).copied().ok_or_else(|| format!("there is no device {name}"))
    }

    pub(super) fn tab(&self, name: &str) -> Result<TabId, String> {
        let found = self.world.tabs.iter().find(|(_, tab)| tab.name == name);
        found.map(|(id, _)| *id).ok_or_else(|| format!("no tab {name} is open"))
    }

    /// Lets time pass.
    fn wait(&mut self, ms: u64) {
        let until = self.world.now + ms;
        while self.world.step(until) {}
        self.world.now = until;
    }

    fn script(&mut self) -> &mut Script {
        self.world.script.get_or_insert_default()
    }

    pub(super) fn perform(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Insert(_)
            | Step::Update(_)
            | Step::Delete(_)
            | Step::Transaction { .. }
            | Step::Retry { .. }
            | Step::Edit { .. }
            | Step::Discard { .. } => self.write(step),
            Step::Expect(expected) => expected.check(self),
            Step::ExpectServer(expected) => expected.check(self),
            Step::ExpectDisk(expected) => expected.check(self),
            Step::ExpectWire(expected) => expected.check(self),
            Step::ExpectDevice(expected) => expected.check(self),
            Step::Wait(time) => {
                self.wait(milliseconds(time)?);
                Ok(())
            }
            Step::ListenAnew => {
                self.script().wire.clear();
                Ok(())
            }
            Step::ByHand { user, tenant, unannounced, says, hears } => {
                known("user", &USERS, user)?;
                known("tenant", &TENANTS, tenant)?;
                self.speak_by_hand(user, tenant, !unannounced, says, hears)
            }
            step => {
                if self.tab_step(step)? || self.device_step(step)? {
                    return Ok(());
                }
                self.server_step(step)
            }
        }
    }

    /// What happens to one tab.
    fn tab_step(&mut self, step: &Step) -> Result<bool, String> {
        match step {
            Step::Open { device, tab } => {
                let number = self.device(device)?;
                if self.tab(tab).is_ok() {
                    return Err(format!("the tab {tab} is open already"));
                }
                self.world.devices[number].returning.push_front(tab.clone());
                self.world.open_tab(number);
            }
            Step::Ask { tab, r#for } => self.ask(tab, *r#for)?,
            Step::Crash { tab, loses_requests } => {
                let id = self.tab(tab)?;
                self.world.crash_tab(id);
                if *loses_requests {
                    self.world.too_late.insert(id);
                }
            }
            Step::Close { tab } => {
                let id = self.tab(tab)?;
                self.world.close_tab(id);
            }
            Step::Freeze { tab, warned } => {
                let id = self.tab(tab)?;
                if *warned {
                    self.world.give(id, Input::LeadLost);
                }
                self.world.freeze(id, FOR_EVER_MS);
            }
            Step::Thaw { tab } => {
                let id = self.tab(tab)?;
                if let Some(tab) = self.world.tabs.get_mut(&id) {
                    tab.frozen_until = self.world.now;
                }
                self.world.thaw(id);
            }
            Step::Steal { tab } => {
                let id = self.tab(tab)?;
                if self.world.tabs.get(&id).is_some_and(|tab| tab.client.status().leads) {
                    return Err(format!("{tab} leads already"));
                }
                self.world.steal(id);
            }
            Step::WordsLost { tab, count } => {
                let id = self.tab(tab)?;
                // What is lost on the way somebody has to look at.
                self.world.options.channel = 1;
                self.script().lost_words.push((id, *count));
            }
            Step::BreakSocket { tab } | Step::DeadenSocket { tab } => {
                let id = self.tab(tab)?;
                let link = self.world.tabs.get(&id).and_then(|tab| tab.link).ok_or_else(|| format!("{tab} has no socket"))?;
                if matches!(step, Step::BreakSocket { .. }) {
                    self.world.break_link(link);
                } else {
                    self.world.lose(link);
                }
            }
            Step::Message { tab, r#type, is, by, skip, times } => {
                let late_ms = by.as_deref().map_or(Ok(0), milliseconds)?;
                let (tab, kind) = (tab.clone(), r#type.clone());
                self.script().messages.push(MessageRule { tab, kind, skip: *skip, times: *times, fortune: *is, late_ms });
            }
            Step::Answer { tab, to, status, body, retry_after, times } => {
                known("question", &["pull", "whose", "socket"], to)?;
                let retry_after_ms = retry_after.as_deref().map(milliseconds).transpose()?;
                let (tab, to, body) = (tab.clone(), to.clone(), body.clone());
                self.script().answers.push(AnswerRule { tab, to, times: *times, status: *status, body, retry_after_ms });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn ask(&mut self, tab: &str, wish: Wish) -> Result<(), String> {
        let id = self.tab(tab)?;
        match wish {
            Wish::Pull => self.world.asks_for(id, Input::Pull),
            Wish::Resync => self.world.asks_for(id, Input::Resync),
            Wish::Pause => self.world.asks_for(id, Input::Pause),
            Wish::Resume => self.world.asks_for(id, Input::Resume),
            Wish::Wake => self.world.show(id),
            Wish::Hide => {
                if let Some(tab) = self.world.tabs.get_mut(&id) {
                    tab.throttled = true;
                }
            }
        }
        Ok(())
    }

    /// What happens to a device, its disk or its session.
    fn device_step(&mut self, step: &Step) -> Result<bool, String> {
        let world = &mut self.world;
        let number = |name: &String| self.devices.get(name).copied().ok_or_else(|| format!("there is no device {name}"));
        match step {
            Step::PowerCut { device, relaxed_kept } => {
                let number = number(device)?;
                world.tabs_end(number);
                world.devices[number].disks.values_mut().for_each(|disk| disk.cut_power(*relaxed_kept));
                world.check_all_disks();
            }
            Step::Flush { device } => world.devices[number(device)?].disks.values_mut().for_each(crate::disk::Disk::flush),
            Step::Wipe { device } => world.empty_disk(number(device)?),
            Step::DiskFull { device, times } => {
                world.options.full = 1;
                let fails = |disk: &mut crate::disk::Disk| disk.failing = Some((*times, StorageFailure::Full));
                world.devices[number(device)?].disks.values_mut().for_each(fails);
            }
            Step::DiskBroken { device, times } => {
                world.options.broken = 1;
                let failure = StorageFailure::Unavailable("the connection was lost".to_owned());
                let fails = |disk: &mut crate::disk::Disk| disk.failing = Some((*times, failure.clone()));
                world.devices[number(device)?].disks.values_mut().for_each(fails);
            }
            Step::DiskBusy { device, r#for } => world.devices[number(device)?].disk_free_at = world.now + milliseconds(r#for)?,
            Step::OpensFail { device, times } => world.devices[number(device)?].failing_opens = *times,
            Step::DiskMended { device } => {
                let device = &mut world.devices[number(device)?];
                device.failing_opens = 0;
                device.disks.values_mut().for_each(|disk| disk.failing = None);
            }
            Step::Clock { device, ahead, behind } => {
                let ms = |time: &Option<String>| time.as_deref().map_or(Ok(0), milliseconds).map(u64::cast_signed);
                world.devices[number(device)?].clock_ahead = ms(ahead)? - ms(behind)?;
            }
            Step::Release { device, needs_database } => {
                let number = number(device)?;
                world.devices[number].version = 2;
                if *needs_database {
                    let tabs = world.tabs.iter().filter(|(_, tab)| tab.device == number).map(|(id, _)| *id);
                    for id in tabs.collect::<Vec<TabId>>() {
                        world.after(1, Event::Outdated(id));
                    }
                }
            }
            Step::Offline { device, unnoticed } => {
                let number = number(device)?;
                world.devices[number].partitioned_until = u64::MAX;
                let links = world.tabs.values().filter(|tab| tab.device == number && !unnoticed).filter_map(|tab| tab.link);
                for link in links.collect::<Vec<LinkId>>() {
                    world.break_link(link);
                }
            }
            Step::Online { device } => {
                let number = number(device)?;
                world.devices[number].partitioned_until = world.now;
                // The browser says so to every page.
                let tabs = world.tabs.iter().filter(|(_, tab)| tab.device == number).map(|(id, _)| *id);
                for id in tabs.collect::<Vec<TabId>>() {
                    world.give(id, Input::Wake);
                }
            }
            step => return self.session_step(step),
        }
        Ok(true)
    }

    /// What happens to the session of a device.
    fn session_step(&mut self, step: &Step) -> Result<bool, String> {
        let now = self.world.now;
        match step {
            Step::SignIn { device, user, tenant } => {
                let number = self.device(device)?;
                known("user", &USERS, user)?;
                known("tenant", &TENANTS, tenant)?;
                self.world.sign_in_on(number, user.clone(), tenant);
            }
            Step::Select { device, tenant } => {
                let number = self.device(device)?;
                known("tenant", &TENANTS, tenant)?;
                self.world.devices[number].tenant.clone_from(tenant);
                let token = self.world.devices[number].token.clone();
                self.world.service.select(&token, tenant, now);
                self.world.wake_all_sockets();
            }
            Step::NewToken { device, lasts } => {
                let number = self.device(device)?;
                self.world.devices[number].token_ms = lasts.as_deref().map(milliseconds).transpose()?;
                self.world.change_token(number);
                self.world.devices[number].token_ms = None;
            }
            Step::Revoke { device } => {
                let token = self.world.devices[self.device(device)?].token.clone();
                self.world.service.revoke(&token, now);
                self.world.wake_all_sockets();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What happens at the server.
    fn server_step(&mut self, step: &Step) -> Result<(), String> {
        let now = self.world.now;
        match step {
            Step::Expel { user, tenant } => {
                self.world.service.expel(user, tenant, now);
                self.world.wake_all_sockets();
            }
            Step::Admit { user, tenant } => {
                self.world.service.admit(user, tenant, now);
                self.world.wake_all_sockets();
            }
            Step::ServerWrite { tenant, user, changes, times } => {
                known("tenant", &TENANTS, tenant)?;
                known("user", &USERS, user)?;
                self.write_at_server(tenant, user, changes, *times)?;
            }
            Step::Restart { down, with_goodbye } => {
                self.world.drop_sockets(*with_goodbye);
                self.world.service.server.restart();
                self.world.service.down_until = now + down.as_deref().map_or(Ok(0), milliseconds)?;
            }
            Step::BackUp => self.world.service.back_up(),
            Step::Restore => {
                if !self.world.service.restore(now) {
                    return Err("there is no backup".to_owned());
                }
                self.world.drop_sockets(false);
                self.world.tabs.values_mut().for_each(|tab| tab.asked_at = None);
                self.world.check_all_disks();
            }
            Step::Truncate { tenant, keep } => self.world.service.truncate_but(tenant, *keep, now),
            Step::Busy { pushes } => self.world.service.busy = *pushes,
            Step::ServerSleeps { r#for } => {
                let ms = milliseconds(r#for)?;
                self.world.options.forget = 1;
                self.world.drop_sockets(false);
                self.world.service.jump(ms, now);
            }
            step => return Err(format!("nobody plays {step:?}")),
        }
        Ok(())
    }
}

fn known(kind: &str, all: &[&str], name: &str) -> Result<(), String> {
    if all.contains(&name) { Ok(()) } else { Err(format!("there is no {kind} {name}; there are {}", all.join(", "))) }
}
