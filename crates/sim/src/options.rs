//! What one seed is like: how many devices, how long, and how often each fault happens.

use std::fmt;

use anyhow::{Context as _, bail};

use crate::random::Random;

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The options of one run. Rates are per thousand of whatever they may happen to.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Options {
            /// Everything random is drawn from it.
            pub seed: u64,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Options {
            /// The names of all options but the seed, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// An option by its name.
            pub fn named(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

options! {
    /// Events until the faults stop.
    steps,
    /// Devices, each with a disk.
    devices,
    /// Most tabs a device has open.
    tabs,
    /// Users that sign in.
    users,
    /// Changes in one page.
    page,
    /// Large rows that each organisation has at the beginning.
    bulk,
    /// Messages that vanish.
    drop,
    /// Messages that come twice.
    duplicate,
    /// Messages and answers that come late.
    delay,
    /// Messages that are cut or damaged.
    mangle,
    /// HTTP answers that are somebody else's: HTML, 5xx, 429.
    portal,
    /// Sockets that break.
    disconnect,
    /// A device that reaches nobody for a while.
    partition,
    /// Sockets that look open and are not.
    half_open,
    /// Tabs that end without a word.
    crash,
    /// Devices that lose power: relaxed transactions that were not written vanish.
    power,
    /// Databases that are emptied.
    wipe,
    /// Disks that are full for a while.
    full,
    /// Disks that fail for a while.
    broken,
    /// Opens that hang or fail.
    open,
    /// Tabs that are frozen, and throttled timers.
    freeze,
    /// Messages between tabs that vanish or come late.
    channel,
    /// Leads that are taken by force.
    steal,
    /// Tabs that are closed in good order.
    close,
    /// New versions of the application, while tabs of the old one are open.
    release,
    /// Clocks that are set to something else.
    clock,
    /// Server processes that are killed.
    kill,
    /// Servers that go back to a backup.
    restore,
    /// Logs that are cut.
    truncate,
    /// Servers that forget outcomes because time passes.
    forget,
    /// Servers that are busy.
    busy,
    /// Tokens that end.
    token,
    /// Sessions that become another tenant's, devices that become another user's, members that are expelled.
    identity,
    /// Pulls, resyncs, pauses of the application.
    ask,
    /// Writes that the server will refuse.
    bad,
    /// Messages of somebody who does not keep to the protocol.
    byzantine,
    /// Number of a planted bug, for a build with the feature `planted`.
    bug,
}

/// The options that are rates of faults: what shrinking sets to zero.
pub const FAULTS: &[&str] = &[
    "drop",
    "duplicate",
    "delay",
    "mangle",
    "portal",
    "disconnect",
    "partition",
    "half_open",
    "crash",
    "power",
    "wipe",
    "full",
    "broken",
    "open",
    "freeze",
    "channel",
    "steal",
    "close",
    "release",
    "clock",
    "kill",
    "restore",
    "truncate",
    "forget",
    "busy",
    "token",
    "identity",
    "ask",
    "bad",
    "byzantine",
];

impl Options {
    /// Draws the options of a seed: each rate is zero in some seeds, so that faults are met alone and together.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::stream(seed, "options");
        let mut options = Self {
            seed,
            steps: *random.pick(&[200, 400, 400, 800, 1_600]),
            devices: random.between(1, 3),
            tabs: *random.pick(&[1, 1, 2, 3, 4]),
            users: random.between(1, 2),
            page: *random.pick(&[1, 3, 8, 1_000]),
            bulk: *random.pick(&[0, 0, 0, 0, 12]),
            ..Self::default()
        };
        // One seed in ten has no faults at all, and in the others about half of them.
        let faulty = !random.permille(100);
        for (name, most) in [
            ("drop", 150),
            ("duplicate", 200),
            ("delay", 300),
            ("mangle", 40),
            ("portal", 200),
            ("disconnect", 60),
            ("partition", 60),
            ("half_open", 30),
            ("crash", 80),
            ("power", 60),
            ("wipe", 15),
            ("full", 30),
            ("broken", 20),
            ("open", 100),
            ("freeze", 120),
            ("channel", 150),
            ("steal", 60),
            ("close", 40),
            ("release", 20),
            ("clock", 40),
            ("kill", 40),
            ("restore", 20),
            ("truncate", 60),
            ("forget", 20),
            ("busy", 60),
            ("token", 60),
            ("identity", 50),
            ("ask", 80),
            ("bad", 300),
        ] {
            let drawn = if random.permille(500) { random.between(1, most) } else { 0 };
            if let (true, Some(rate)) = (faulty, options.named(name)) {
                *rate = drawn;
            }
        }
        // A write whose mark the disk refused goes out unmarked, and could be sent again blindly after 400 days: known.
        if options.forget > 0 && random.permille(500) {
            (options.full, options.broken) = (0, 0);
        } else if options.full + options.broken > 0 {
            options.forget = 0;
        }
        if faulty && random.permille(100) {
            options.byzantine = random.between(20, 200);
        }
        options
    }

    /// Sets options from `name=number` separated by commas.
    ///
    /// # Errors
    /// When a name is unknown or a value is no number.
    pub fn set(&mut self, text: &str) -> anyhow::Result<()> {
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').with_context(|| format!("{part} is not name=number"))?;
            let value = value.parse().with_context(|| format!("{value} is no number"))?;
            match self.named(name) {
                Some(option) => *option = value,
                None => bail!("there is no option {name}; there are {}", Self::NAMES.join(", ")),
            }
        }
        Ok(())
    }

    /// What differs from the options that the seed draws, in the form that [`Options::set`] reads.
    pub fn difference(&self) -> String {
        let (mut own, mut drawn) = (self.clone(), Self::draw(self.seed));
        let mut parts = Vec::new();
        for name in Self::NAMES {
            if let (Some(own), Some(drawn)) = (own.named(name), drawn.named(name))
                && own != drawn
            {
                parts.push(format!("{name}={own}"));
            }
        }
        parts.join(",")
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        let mut own = self.clone();
        for name in Self::NAMES {
            if let Some(value) = own.named(name).filter(|value| **value > 0) {
                write!(f, " {name}={value}")?;
            }
        }
        Ok(())
    }
}
