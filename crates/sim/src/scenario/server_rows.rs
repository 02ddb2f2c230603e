//! What the real server gives somebody who asks for everything.

use syncline_server::store::{PageLimits, Reader};

use super::stage::Stage;
use crate::model::View;

impl Stage {
    /// The rows that a user may see in a tenant, as a new client gets them.
    pub(super) fn server_rows(&mut self, user: &str, tenant: &str) -> Result<View, String> {
        const LIMITS: PageLimits = PageLimits { changes: 5_000, bytes: 1 << 20 };
        let reader = Reader { user_id: Some(user.to_owned()), tenant_id: Some(tenant.to_owned()), roles: Vec::new() };
        let mut view = View::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self.world.service.server.store().pull(&reader, cursor.as_deref(), LIMITS);
            let page = page.map_err(|error| error.to_string())?;
            for change in &page.changes {
                let key = (change.entity.to_string(), change.row_id.to_string());
                match &change.data {
                    Some(data) => {
                        let row: syncline_protocol::Row = serde_json::from_str(data.get()).map_err(|error| error.to_string())?;
                        view.entry(key).or_default().extend(row);
                    }
                    None => drop(view.remove(&key)),
                }
            }
            if !page.has_more && page.snapshot.as_ref().is_none_or(|mark| mark.end) {
                return Ok(view);
            }
            cursor = Some(page.cursor.token.clone());
        }
    }
}
