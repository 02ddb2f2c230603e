//! The bugs that stand in core and server behind the feature `planted`: each has to be found.

use crate::options::Options;
use crate::run::{self, Failure};

/// Numbers and names of the bugs.
pub const BUGS: &[(u64, &str)] = &[
    (1, "the cursor is stored without its rows"),
    (2, "a record leaves the disk when its write is sent"),
    (3, "a 410 is ignored"),
    (4, "an outcome takes a write out of the overlay before the stream has it"),
    (5, "an aborted commit is jumped over"),
    (6, "a write is sent again after its outcome was forgotten"),
    (7, "the queue is ordered by the device's clock"),
    (8, "a frame is taken that leaves a gap"),
    (9, "a snapshot that was given up goes on"),
    (10, "what a restored server lost is not sent again"),
    (11, "a record goes before what stands for it is on disk"),
    (12, "a write is called durable before the disk has it"),
    (13, "a rejected write stays in the view"),
    (14, "a merge of records forgets deletions that older ones need"),
    (15, "an identity flip is taken for a broken connection"),
    (16, "an outcome moves the place in the stream"),
    (20, "the server does not remember op_ids"),
    (21, "a page ends within a transaction"),
    (22, "the server believes the identity that a push states"),
    (23, "the server looks at a push with an old fence"),
    (24, "a revoked token keeps its socket"),
    (25, "an expired token keeps its socket"),
    (26, "the server applies what depends on a rejected write"),
    (27, "rows stay when the membership that showed them ends"),
    (28, "a deleted id is born again"),
    (29, "two rows share a unique value"),
    (30, "a restored server keeps its epoch"),
    (31, "a snapshot ends where the log is, not where it began"),
    (32, "the queue is stored relaxed"),
    (33, "a new leader goes on from its memory instead of the durable cursor"),
    (34, "a thawed leader sends what was discarded while it slept"),
    (35, "tabs of another tenant or user hear what is stored"),
    (37, "a write is discarded that is being sent"),
    (38, "a write takes the place of another one that another tab sent or exchanged"),
    (39, "lost messages of other tabs are not noticed"),
    (40, "a commit of the leader is taken over that does not fit"),
    (41, "a late word brings back what left the queue"),
    (42, "a write that was applied while a tab slept counts as discarded"),
    (43, "a tab that lost the lead stays connected and sends"),
    (44, "what is stored while a tab reads the disk is not taken over"),
];

/// How one bug was found.
#[derive(Debug)]
pub struct Found {
    /// How many seeds that took.
    pub seeds: u64,
    /// What noticed it.
    pub failure: Box<Failure>,
}

/// Runs seeds with a bug until one fails.
pub fn find(bug: u64, from: u64, seeds: u64) -> Option<Found> {
    for number in 0..seeds {
        let mut options = Options::draw(from + number);
        options.bug = bug;
        if let Err(failure) = run::once(&options, true, false) {
            return Some(Found { seeds: number + 1, failure });
        }
    }
    None
}
