//! What the facade decides about an engine: `RawOptions` of `pkg/src/raw.ts`, as JSON. The facade has checked the values.

use alloc::string::String;

use syncline_core::client::ClientConfig;
use syncline_protocol::json::{JsonError, Reader, Slot};

use crate::browser::random_seed;

/// What the driver needs of the options.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Where the server is, without a slash at the end.
    pub(crate) base_url: String,
    /// Where its socket is, when that is elsewhere.
    ws_url: Option<String>,
    /// Part of the names of the database and the lock.
    pub(crate) app_name: String,
    /// Whether anything is kept on disk.
    pub(crate) persist: bool,
}

impl Options {
    /// Reads them, and the core's settings.
    ///
    /// # Errors
    /// When it is not such an object.
    pub(crate) fn read(json: &str) -> Result<(Self, ClientConfig), JsonError> {
        let (mut options, mut config) = (Self::default(), ClientConfig::with_seed(seed()));
        let mut reader = Reader::new(json);
        reader.members(
            &mut [
                ("baseUrl", Slot::Text(&mut options.base_url)),
                ("appName", Slot::Text(&mut options.app_name)),
                ("persist", Slot::Bool(&mut options.persist)),
            ],
            &mut [
                ("wsUrl", Slot::OptionalText(&mut options.ws_url)),
                ("schema", Slot::Uint32(&mut config.schema)),
                ("reconnectMs", Slot::Uint(&mut config.reconnect_ms_base)),
                ("startPaused", Slot::Bool(&mut config.start_paused)),
                ("queueOnly", Slot::Bool(&mut config.queue_only)),
            ],
        );
        reader.finish()?;
        Ok((options, config))
    }

    /// Where the socket is. Without a path in `wsUrl`, `/api/sync/ws` is meant.
    pub(crate) fn socket_url(&self) -> String {
        let Some(given) = &self.ws_url else {
            // `http` becomes `ws`, `https` becomes `wss`.
            return ["ws", self.base_url.strip_prefix("http").unwrap_or(&self.base_url), SOCKET_PATH].concat();
        };
        let origin = given.trim_end_matches('/');
        let has_path = origin.split('/').nth(3).is_some();
        if has_path { given.clone() } else { [origin, SOCKET_PATH].concat() }
    }
}

/// Random bytes; too few of them cannot come, because the browser fills the array it is given.
fn seed() -> [u8; 32] {
    random_seed().try_into().unwrap_or_default()
}

const SOCKET_PATH: &str = "/api/sync/ws";
