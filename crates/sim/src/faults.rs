//! What goes wrong, as often as the options say.

use syncline_core::client::{Input, StorageFailure};

use crate::world::{Event, TENANTS, TabId, USERS, World};

const DAY_MS: i64 = 86_400_000;

impl World {
    /// Something goes wrong, or several things, or nothing; later again.
    pub(crate) fn something_goes_wrong(&mut self) {
        if self.healing {
            return;
        }
        let pause = self.fault.between(20, 1_500);
        self.after(pause, Event::Fault);
        let number = self.fault.below(self.devices.len());
        self.server_faults();
        self.device_faults(number);
        let tabs: Vec<TabId> = self.tabs.iter().filter(|(_, tab)| tab.device == number).map(|(id, _)| *id).collect();
        if tabs.is_empty() {
            return;
        }
        let tab = *self.fault.pick(&tabs);
        self.tab_faults(tab, number);
        if self.fault.permille(100) {
            self.reload_if_useless(tab);
        }
    }

    fn server_faults(&mut self) {
        let options = self.options.clone();
        if self.fault.permille(options.kill) {
            let with_goodbye = self.fault.permille(300);
            self.trace.note(self.now, "fault", "the server ends");
            self.drop_sockets(with_goodbye);
            self.service.server.restart();
            self.service.down_until = self.now + self.fault.between(0, 15_000);
        }
        if self.fault.permille(options.restore) && self.service.back_up_or_restore(self.now) {
            self.trace.note(self.now, "fault", "the server goes back to a backup");
            self.drop_sockets(false);
            for tab in self.tabs.values_mut() {
                tab.asked_at = None;
            }
            self.check_all_disks();
        }
        if self.fault.permille(options.truncate) {
            let tenant = *self.fault.pick(&TENANTS);
            self.trace.note(self.now, "fault", "the log is cut");
            self.service.truncate(tenant, self.now);
        }
        if self.fault.permille(options.forget) {
            // Outcomes are forgotten by age; the server's clock goes on while nobody is there.
            self.trace.note(self.now, "fault", "years pass at the server");
            if self.fault.permille(700) {
                self.drop_sockets(false);
            }
            self.service.jump(500 * DAY_MS.unsigned_abs(), self.now);
            self.wake_all_sockets();
        }
        if self.fault.permille(options.busy) {
            self.service.busy = self.fault.between(1, 3);
        }
    }

    fn device_faults(&mut self, number: usize) {
        let options = self.options.clone();
        let random = &mut self.fault;
        let device = &mut self.devices[number];
        if random.permille(options.partition) {
            let most = *random.pick(&[1_000, 10_000, 60_000, 600_000]);
            device.partitioned_until = self.now + random.between(1, most);
        }
        if random.permille(options.clock) {
            let steps = [0, 5_000, -5_000, 600_000, -600_000, DAY_MS, -DAY_MS];
            device.clock_ahead = *random.pick(&steps);
        }
        if random.permille(options.full) {
            let (times, failure) = (random.between(1, 3), StorageFailure::Full);
            device.disks.values_mut().for_each(|disk| disk.failing = Some((times, failure.clone())));
        }
        if random.permille(options.broken) {
            let (times, failure) = (random.between(1, 2), StorageFailure::Unavailable("the connection was lost".to_owned()));
            device.disks.values_mut().for_each(|disk| disk.failing = Some((times, failure.clone())));
        }
        if random.permille(300) {
            device.disks.values_mut().for_each(crate::disk::Disk::flush);
        }
        if random.permille(options.power) {
            self.cut_power(number);
        } else if self.fault.permille(options.wipe) {
            self.wipe(number);
        }
        if self.fault.permille(options.identity) {
            self.change_identity(number);
        }
        if self.fault.permille(options.token) {
            let token = self.devices[number].token.clone();
            self.trace.note(self.now, "fault", "a token is revoked");
            self.service.revoke(&token, self.now);
            self.wake_all_sockets();
        }
    }

    /// All tabs of a device end, and what they asked of its disk is not carried out.
    pub(crate) fn tabs_end(&mut self, number: usize) {
        let tabs: Vec<TabId> = self.tabs.iter().filter(|(_, tab)| tab.device == number).map(|(id, _)| *id).collect();
        for id in tabs {
            self.crash_tab(id);
            // Nothing that it asked of the disk is carried out afterwards.
            self.too_late.insert(id);
        }
    }

    fn cut_power(&mut self, number: usize) {
        self.trace.note(self.now, "fault", &format!("device {number} loses power"));
        self.tabs_end(number);
        let random = &mut self.fault;
        for disk in self.devices[number].disks.values_mut() {
            let kept = random.below(disk.at_risk() + 1);
            disk.cut_power(kept);
        }
        self.check_all_disks();
        let pause = self.fault.between(10, 5_000);
        self.after(pause, Event::NewTab(number));
    }

    fn wipe(&mut self, number: usize) {
        self.empty_disk(number);
        self.after(10, Event::NewTab(number));
    }

    /// The databases of a device are emptied while no tab is open.
    pub(crate) fn empty_disk(&mut self, number: usize) {
        self.trace.note(self.now, "fault", &format!("device {number} is wiped"));
        self.tabs_end(number);
        self.devices[number].disks.values_mut().for_each(crate::disk::Disk::wipe);
        for write in self.writes.values_mut().filter(|write| write.device == number) {
            // The application is told that its storage is lost; what was not sent is lost with it.
            write.settled = true;
        }
    }

    /// Another user, another tenant, or no member any more.
    fn change_identity(&mut self, number: usize) {
        let tenant = *self.fault.pick(&TENANTS);
        let users = usize::try_from(self.options.users).unwrap_or(1).min(2);
        let user = self.fault.pick(&USERS[..users]).to_string();
        match self.fault.below(4) {
            0 => {
                self.trace.note(self.now, "fault", &format!("device {number}: {user} signs in, in {tenant}"));
                self.sign_in_on(number, user, tenant);
                self.after(10, Event::NewTab(number));
            }
            1 | 2 => {
                self.trace.note(self.now, "fault", &format!("device {number}: selects {tenant}"));
                let token = self.devices[number].token.clone();
                tenant.clone_into(&mut self.devices[number].tenant);
                self.service.select(&token, tenant, self.now);
                self.wake_all_sockets();
            }
            _ => {
                self.trace.note(self.now, "fault", &format!("{user} is expelled from {tenant}"));
                self.service.expel(&user, tenant, self.now);
                self.wake_all_sockets();
                if self.fault.permille(700) {
                    self.service.admit(&user, tenant, self.now);
                }
            }
        }
    }

    /// Somebody signs in on a device; its tabs hear of it one after another.
    pub(crate) fn sign_in_on(&mut self, number: usize, user: String, tenant: &str) {
        let former = self.devices[number].token.clone();
        self.leave_session(number, &former);
        self.devices[number].user = user;
        tenant.clone_into(&mut self.devices[number].tenant);
        let device = std::mem::replace(&mut self.devices[number], crate::device::Device::new("", ""));
        let token = self.new_token(&device);
        self.devices[number] = device;
        self.devices[number].token = token;
    }

    fn tab_faults(&mut self, tab: TabId, number: usize) {
        let options = self.options.clone();
        if self.fault.permille(options.crash) {
            self.crash_tab(tab);
            let pause = self.fault.between(5, 3_000);
            return self.after(pause, Event::NewTab(number));
        }
        let link = self.tabs.get(&tab).and_then(|tab| tab.link);
        if let Some(link) = link {
            if self.fault.permille(options.disconnect) {
                self.break_link(link);
            } else if self.fault.permille(options.half_open)
                && let Some(here) = self.links.get_mut(&link)
            {
                here.dead = true;
            }
        }
        if self.fault.permille(options.steal) {
            self.steal(tab);
        }
        if self.fault.permille(options.release) && self.devices[number].version == 1 {
            self.trace.note(self.now, "fault", &format!("device {number} gets a new version"));
            self.release(number);
        }
        if self.fault.permille(options.close) {
            return self.close_tab(tab);
        }
        if self.fault.permille(options.freeze)
            && let Some(here) = self.tabs.get_mut(&tab)
        {
            let is_hidden = self.fault.permille(500);
            if std::mem::replace(&mut here.throttled, is_hidden) && !is_hidden {
                self.show(tab);
            }
            if self.fault.permille(500) {
                let most = *self.fault.pick(&[1_000, 4_000, 60_000, 1_800_000]);
                let pause = self.fault.between(1, most);
                if self.fault.permille(500) {
                    // The browser says so first.
                    self.give(tab, Input::LeadLost);
                }
                self.freeze(tab, pause);
            }
        }
    }

    /// A person reloads a page that says it is of no use.
    fn reload_if_useless(&mut self, id: TabId) {
        let Some(tab) = self.tabs.get(&id) else { return };
        let (status, device) = (tab.client.status(), tab.device);
        let stuck = matches!(
            status.connection,
            syncline_core::client::Connection::Paused | syncline_core::client::Connection::Incompatible
        );
        if stuck || matches!(status.storage, syncline_core::client::StorageState::Memory { .. }) {
            self.crash_tab(id);
            self.after(10, Event::NewTab(device));
        }
    }
}
