//! What the facade decides about an engine. The TypeScript interface and its mirror stand side by side.

use syncline_core::client::ClientConfig;
use syncline_protocol::{ErrorCode, limits};
use wasm_bindgen::prelude::*;

use crate::error::raw_error;
use crate::global::{random_seed, to_u64};

#[wasm_bindgen(typescript_custom_section)]
const TS_RAW_OPTIONS: &str = r"
export interface RawOptions {
  /** Where the server is: scheme, host, and a path under which `/api` lies, if any. */
  readonly baseUrl: string;
  /** Where its socket is, when that is elsewhere. Without a path, `/api/sync/ws` is meant. */
  readonly wsUrl?: string | undefined;
  /** Part of the names of the database and the lock. */
  readonly appName: string;
  /** Whether anything is kept on disk. */
  readonly persist: boolean;
  /** Version of the application's schema. */
  readonly schema?: number | undefined;
  /** First step of the reconnect delay. */
  readonly reconnectMs?: number | undefined;
  /** Whether to stay away from the network until `resume()`. */
  readonly startPaused?: boolean | undefined;
}
";

#[wasm_bindgen]
extern "C" {
    /// Mirrors the `RawOptions` interface above.
    #[wasm_bindgen(typescript_type = "RawOptions")]
    #[derive(Debug)]
    pub type RawOptions;

    // `Option`: a JavaScript caller can omit what the interface requires.
    #[wasm_bindgen(method, getter, js_name = baseUrl)]
    fn base_url(this: &RawOptions) -> Option<String>;
    #[wasm_bindgen(method, getter, js_name = wsUrl)]
    fn ws_url(this: &RawOptions) -> Option<String>;
    #[wasm_bindgen(method, getter, js_name = appName)]
    fn app_name(this: &RawOptions) -> Option<String>;
    #[wasm_bindgen(method, getter)]
    fn persist(this: &RawOptions) -> Option<bool>;
    #[wasm_bindgen(method, getter)]
    fn schema(this: &RawOptions) -> Option<u32>;
    #[wasm_bindgen(method, getter, js_name = reconnectMs)]
    fn reconnect_ms(this: &RawOptions) -> Option<f64>;
    #[wasm_bindgen(method, getter, js_name = startPaused)]
    fn start_paused(this: &RawOptions) -> Option<bool>;
}

/// The options, checked.
#[derive(Debug)]
pub(crate) struct Options {
    /// Without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) socket_url: String,
    pub(crate) app_name: String,
    pub(crate) persist: bool,
}

impl Options {
    /// Reads and checks what the facade gave; also makes the core's settings of it.
    ///
    /// # Errors
    /// `INVALID_CONFIG` naming the option.
    pub(crate) fn read(raw: &RawOptions) -> Result<(Self, ClientConfig), JsValue> {
        let base_url = raw.base_url().unwrap_or_default().trim_end_matches('/').to_owned();
        if !base_url.starts_with("http://") && !base_url.starts_with("https://") {
            return Err(raw_error(ErrorCode::InvalidConfig, "baseUrl must begin with http:// or https://"));
        }
        let app_name = raw.app_name().unwrap_or_default();
        if app_name.is_empty() {
            return Err(raw_error(ErrorCode::InvalidConfig, "appName must not be empty"));
        }
        let socket_url = socket_url(&base_url, raw.ws_url().as_deref())?;
        let config = ClientConfig {
            schema: raw.schema().unwrap_or_default(),
            reconnect_ms_base: raw.reconnect_ms().map_or(limits::BACKOFF_MS_BASE, to_u64),
            start_paused: raw.start_paused().unwrap_or_default(),
            ..ClientConfig::with_seed(random_seed()?)
        };
        Ok((Self { base_url, socket_url, app_name, persist: raw.persist().unwrap_or(true) }, config))
    }
}

fn socket_url(base_url: &str, given: Option<&str>) -> Result<String, JsValue> {
    let Some(given) = given else {
        // `http` becomes `ws`, `https` becomes `wss`.
        return Ok(["ws", base_url.strip_prefix("http").unwrap_or(base_url), SOCKET_PATH].concat());
    };
    let Some(rest) = given.strip_prefix("wss://").or_else(|| given.strip_prefix("ws://")) else {
        return Err(raw_error(ErrorCode::InvalidConfig, "wsUrl must begin with ws:// or wss://"));
    };
    let has_path = rest.trim_end_matches('/').contains('/');
    Ok(if has_path { given.to_owned() } else { [given.trim_end_matches('/'), SOCKET_PATH].concat() })
}

const SOCKET_PATH: &str = "/api/sync/ws";
