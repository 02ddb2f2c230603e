//! What must hold of all that leaves the server.

use syncline_protocol::{Identity, Page, ServerMessage, limits};
use syncline_server::local_server::Said;

use crate::workload::tag;
use crate::world::{LinkId, TENANTS, USERS, World};

/// I13: more than this is not said at once. A page ends behind the transaction that fills it.
const SAID_BYTES_MAX: usize = limits::SOCKET_MESSAGE_BYTES_MAX;

impl World {
    /// I8 and I18 for what leaves the server.
    pub(crate) fn check_said(&mut self, link: LinkId, said: &Said) {
        let (Said::Text(text), true) = (said, self.checking) else { return };
        let Some((identity, token)) = self.link_identity(link) else { return };
        assert!(text.len() <= SAID_BYTES_MAX, "I13: {} bytes at once: {text:.200}", text.len());
        let is_data = text.contains("\"type\":\"frame\"") || text.contains("\"type\":\"outcomes\"");
        assert!(!is_data || !self.service.is_long_over(token, self.now), "I18: data for a token that is over: {text}");
        check_text(identity, text);
        if is_data {
            match ServerMessage::parse(text) {
                Ok(ServerMessage::Frame(page)) => check_sum(&page),
                Ok(ServerMessage::Outcomes(answer)) => answer.frame.iter().for_each(check_sum),
                Ok(_) => {}
                Err(error) => panic!("the server says what is no message: {error}: {text}"),
            }
        }
    }

    /// I8 for a page.
    pub(crate) fn check_page(&self, token: &str, page: &Page) {
        if !self.checking {
            return;
        }
        check_sum(page);
        let clock = self.service.clock(self.now);
        if let Ok(identity) = self.service.server.identity(token, clock) {
            for data in page.changes.iter().filter_map(|change| change.data.as_ref()) {
                check_text(&identity, data.get());
            }
        }
    }
}

/// I15: the sum that the protocol describes.
fn check_sum(page: &Page) {
    let mut sum = 0_u64;
    for change in &page.changes {
        let row = [change.entity.as_str().as_bytes(), b"\0", change.row_id.as_str().as_bytes()].concat();
        sum = sum.wrapping_add(xxhash_rust::xxh64::xxh64(&row, change.seq));
    }
    assert_eq!(page.checksum, format!("{sum:016x}"), "I15: the checksum of a page from {} to {}", page.from, page.to);
}

/// I8: no value of another organisation, and no secret of another user.
pub(crate) fn check_text(identity: &Identity, text: &str) {
    let own_tenant = identity.tenant_id.as_deref().unwrap_or_default();
    for tenant in TENANTS.iter().chain([&""]).filter(|tenant| **tenant != own_tenant) {
        assert!(!text.contains(&tag(tenant, "")), "I8: {identity:?} gets what is in {tenant:?}: {text}");
    }
    for user in USERS.iter().filter(|user| identity.user_id.as_deref() != Some(**user)) {
        assert!(!text.contains(&format!("<secret of {user}>")), "I8: {identity:?} gets a secret of {user}: {text}");
    }
}
