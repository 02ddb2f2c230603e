//! Bugs that stand in core and server for the simulation to find: the proof that its checkers can see.
//!
//! Without the feature `planted` none is ever there, and the compiler leaves out all that asks.

// The shipped core does without it; what has bugs planted runs where it is.
#[cfg(feature = "planted")]
extern crate std;

#[cfg(feature = "planted")]
std::thread_local! {
    static PLANTED: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}

/// Plants one bug in this thread; 0 is none.
#[cfg(feature = "planted")]
pub fn plant(bug: u32) {
    PLANTED.set(bug);
}

/// Whether this bug is there.
#[cfg(feature = "planted")]
pub fn is(bug: u32) -> bool {
    PLANTED.get() == bug
}

/// Whether this bug is there.
#[cfg(not(feature = "planted"))]
pub const fn is(_bug: u32) -> bool {
    false
}
