//! Fetching over HTTP what the socket does not carry: snapshots, and a log that went far ahead.

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use syncline_protocol::json::finish;
use syncline_protocol::{ClientMessage, ErrorBody, ErrorCode, Page, Resume, percent_encode};

use super::connection::{CatchUp, Phase};
use super::timer::Timer;
use super::{Client, Output, RequestId};
use crate::planted;

/// How long a pull may take, in milliseconds.
const PULL_MS_MAX: u64 = 30_000;
/// Pages that wait for the disk; above this no further one is fetched, in bytes.
const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Client {
    /// Fetches the next page when one is wanted and the disk keeps up.
    pub(super) fn pump_pull(&mut self) {
        if self.link.phase != Phase::Pulling(None) || self.storage.backlog_bytes() > BACKLOG_BYTES_MAX {
            return;
        }
        let request = self.request_id();
        self.link.phase = Phase::Pulling(Some(request));
        if self.link.catch_up == CatchUp::Wanted {
            self.link.catch_up = CatchUp::UnderWay;
        }
        self.timers.set(Timer::Pull, self.now.plus_ms(PULL_MS_MAX));
        let path_and_query = self.pull_path();
        self.outputs.push(Output::Pull { request, path_and_query });
    }

    /// The application asks for what is new: over HTTP, whatever the socket says. A pull under way goes on first, or an
    /// application that asks faster than the server answers would never get an answer.
    pub(super) fn pull_now(&mut self) {
        if self.command_leader("pull") {
            return;
        }
        self.wake();
        self.link.catch_up = CatchUp::Wanted;
        if self.link.phase == Phase::Live {
            self.link.phase = Phase::Pulling(None);
        }
    }

    fn pull_path(&self) -> String {
        let mut path = b"/api/sync/pull".to_vec();
        let identity = self.identity.as_ref();
        let parameters = [
            ("cursor", self.stream_token()),
            ("user_id", identity.and_then(|identity| identity.user_id.as_deref())),
            ("tenant_id", identity.and_then(|identity| identity.tenant_id.as_deref())),
        ];
        let mut separator = b'?';
        for (name, value) in parameters {
            let Some(value) = value else { continue };
            path.push(separator);
            path.extend_from_slice(name.as_bytes());
            path.push(b'=');
            percent_encode(&mut path, value, b"-._~");
            separator = b'&';
        }
        finish(path)
    }

    pub(super) fn pull_answered(&mut self, request: RequestId, status: u16, body: &str, retry_after_ms: Option<u64>) {
        if self.link.phase != Phase::Pulling(Some(request)) {
            return;
        }
        self.timers.clear(Timer::Pull);
        self.link.phase = Phase::Pulling(None);
        if status == 200 {
            return match Page::parse(body) {
                Ok(page) => self.page_pulled(page),
                Err(_) => self.http_failed(Some(200), None, None, "a pull"),
            };
        }
        let code = error_code(body);
        if status == 410 && code.as_deref() == Some(ErrorCode::ResyncRequired.code()) && self.stream_token().is_some() {
            self.last_heard_now();
            if planted::is(3) {
                return self.become_live();
            }
            self.restart_snapshot();
            return self.place_refused();
        }
        self.http_failed(Some(status), code.as_deref(), retry_after_ms, "a pull");
    }

    pub(super) fn pull_failed(&mut self, request: RequestId) {
        if self.link.phase == Phase::Pulling(Some(request)) {
            self.http_failed(None, None, None, "a pull");
        }
    }

    fn last_heard_now(&mut self) {
        self.link.last_heard_at = Some(self.now);
    }

    fn page_pulled(&mut self, page: Page) {
        self.last_heard_now();
        let has_more = page.has_more;
        let before = self.stream_token().map(str::to_owned);
        if !self.take_page(page) {
            return;
        }
        let unfinished = self.record.staging.as_ref().is_some_and(|staging| !staging.ended);
        if has_more || unfinished {
            if self.stream_token() == before.as_deref() {
                // A server that says there is more and gives the same place again would be asked for ever.
                self.problem(ErrorCode::InvalidFrame, "a page leads nowhere");
                self.lose_socket("a page leads nowhere");
            }
            return;
        }
        if let Some(cursor) = self.stream_token().map(str::to_owned) {
            self.send(&ClientMessage::Resume(Resume { cursor }));
            self.become_live();
        }
    }
}

/// Reads the code of an error body; `None` when it is something else, a page of HTML for example.
fn error_code(body: &str) -> Option<String> {
    ErrorBody::parse(body).ok().map(|parsed| parsed.error.code)
}
