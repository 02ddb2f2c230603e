//! The stable codes of everything that can go wrong, for every language and every path.
//!
//! `docs/errors.md` explains each; a test keeps that page, this enum and the TypeScript union equal.

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use serde::Serialize;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $retryable:literal;)*) => {
        /// Says which error it is; the text beside it may change, this never does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The identifier on the wire and in JavaScript.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status a server answers with; 0 for codes that only a client gives.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same call may succeed later without being changed.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }
        }
    };
}

error_codes! {
    /// The body or message is not JSON, or not of the documented shape.
    InvalidJson = "INVALID_JSON", 400, false;
    /// A value has no place in a row: NaN, an infinity, a cycle, a function.
    InvalidValue = "INVALID_VALUE", 400, false;
    /// A field or key is named like a part of the language: `__proto__`, `constructor`, `prototype`.
    ReservedKey = "RESERVED_KEY", 400, false;
    /// A number does not fit the type: an int beyond 2^53 - 1, a datetime outside the years 0000 to 9999.
    ValueOutOfRange = "VALUE_OUT_OF_RANGE", 400, false;
    /// A value is nested deeper than 32 levels.
    ValueTooDeep = "VALUE_TOO_DEEP", 400, false;
    /// A text holds U+0000 or half of a surrogate pair.
    InvalidText = "INVALID_TEXT", 400, false;
    /// A row's encoding is larger than 1 MiB.
    RowTooLarge = "ROW_TOO_LARGE", 413, false;
    /// A row id is empty, too long or outside the alphabet.
    InvalidRowId = "INVALID_ROW_ID", 400, false;
    /// An entity or field name is empty, too long or outside the alphabet.
    InvalidName = "INVALID_NAME", 400, false;
    /// An op_id is not 32 lower-case hexadecimal digits.
    InvalidOpId = "INVALID_OP_ID", 400, false;
    /// A transaction holds no change, or more changes or bytes than the limit.
    TransactionTooLarge = "TRANSACTION_TOO_LARGE", 413, false;
    /// The manifest has no such entity.
    EntityNotFound = "ENTITY_NOT_FOUND", 400, false;
    /// The entity has no such field.
    UnknownField = "UNKNOWN_FIELD", 400, false;
    /// A field's value is not of the declared type.
    TypeMismatch = "TYPE_MISMATCH", 400, false;
    /// A field that is neither optional nor has a default is missing or null.
    MissingField = "MISSING_FIELD", 400, false;
    /// Another row already has this value in a unique field.
    UniqueViolation = "UNIQUE_VIOLATION", 409, false;
    /// The entity's policy does not allow this user to do this.
    PolicyDenied = "POLICY_DENIED", 403, false;
    /// An insert names an id that exists.
    RowExists = "ROW_EXISTS", 409, false;
    /// The row to read, update or delete does not exist, or this user may not see it.
    RowNotFound = "ROW_NOT_FOUND", 404, false;
    /// A change has a kind this version does not know; it is kept, not applied.
    UnknownKind = "UNKNOWN_KIND", 400, false;
    /// The same op_id came with another payload.
    OpIdReused = "OP_ID_REUSED", 409, false;
    /// A write was sent long ago and the server no longer knows its outcome.
    OutcomeUnknown = "OUTCOME_UNKNOWN", 409, false;
    /// A write this one depends on did not apply.
    DependencyFailed = "DEPENDENCY_FAILED", 409, false;
    /// The server could not take the write now.
    Busy = "BUSY", 503, true;
    /// The session is not the user or tenant the client believes in.
    IdentityChanged = "IDENTITY_CHANGED", 409, false;
    /// A call that needs the caller's identity did not state it.
    IdentityRequired = "IDENTITY_REQUIRED", 400, false;
    /// The cursor is older than the log's floor, or of another database: pull from the start.
    ResyncRequired = "RESYNC_REQUIRED", 410, true;
    /// The peer speaks another version of the protocol.
    ProtocolMismatch = "PROTOCOL_MISMATCH", 400, false;
    /// A frame is not of the documented shape, or out of order.
    InvalidFrame = "INVALID_FRAME", 400, true;
    /// A frame's or segment's checksum does not match its contents.
    ChecksumMismatch = "CHECKSUM_MISMATCH", 400, true;
    /// No token, or one the server does not know.
    Unauthenticated = "UNAUTHENTICATED", 401, false;
    /// The token was valid once.
    TokenExpired = "TOKEN_EXPIRED", 401, false;
    /// The token is longer than 4 KiB.
    TokenTooLong = "TOKEN_TOO_LONG", 400, false;
    /// This caller may not do this, whatever the row.
    Forbidden = "FORBIDDEN", 403, false;
    /// The page's origin is not in the server's list.
    OriginRefused = "ORIGIN_REFUSED", 403, false;
    /// The request's Host is not one this server answers to.
    HostRefused = "HOST_REFUSED", 403, false;
    /// The user is not a member of the organisation.
    NotAMember = "NOT_A_MEMBER", 403, false;
    /// A session was asked for without `user_id`.
    MissingUserId = "MISSING_USER_ID", 400, false;
    /// `select-org` was called without `orgId`.
    MissingOrgId = "MISSING_ORG_ID", 400, false;
    /// The body or message is larger than the limit.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, false;
    /// Too many calls in too short a time.
    RateLimited = "RATE_LIMITED", 429, true;
    /// The address holds too many sockets.
    TooManyConnections = "TOO_MANY_CONNECTIONS", 429, true;
    /// The socket did not read for too long; resume from the cursor.
    SlowConsumer = "SLOW_CONSUMER", 503, true;
    /// The application's backend refused this; the message begins with the backend's own code.
    BackendRefused = "BACKEND_REFUSED", 422, false;
    /// The application's backend did not answer in time, or not as documented.
    BackendFailed = "BACKEND_FAILED", 502, true;
    /// A filter, order, limit or offset is not understood.
    InvalidQuery = "INVALID_QUERY", 400, false;
    /// No such route.
    NotFound = "NOT_FOUND", 404, false;
    /// The route exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, false;
    /// Something broke inside; the server's log has the details.
    Internal = "INTERNAL", 500, true;
    /// The engine was used before `start()`, or after `stop()`.
    NotStarted = "NOT_STARTED", 0, false;
    /// An option is missing or not of its type.
    InvalidConfig = "INVALID_CONFIG", 0, false;
    /// A capability that this version does not have yet.
    NotSupported = "NOT_SUPPORTED", 0, false;
    /// The queue holds as many unsent writes as it may.
    QueueFull = "QUEUE_FULL", 0, true;
    /// The write was discarded by the application.
    Discarded = "DISCARDED", 0, false;
    /// IndexedDB is missing, refused or hangs; the engine runs in memory.
    StorageUnavailable = "STORAGE_UNAVAILABLE", 0, true;
    /// The browser's quota is used up.
    StorageFull = "STORAGE_FULL", 0, true;
    /// A stored record does not decode; it is set aside and pulled again.
    StorageCorrupt = "STORAGE_CORRUPT", 0, true;
    /// The database was written by a newer version of Syncline.
    StorageTooNew = "STORAGE_TOO_NEW", 0, false;
    /// Another tab runs a newer version of the application or of its database: this one has to be reloaded.
    ReloadRequired = "RELOAD_REQUIRED", 0, false;
    /// The server could not be reached.
    NetworkUnavailable = "NETWORK_UNAVAILABLE", 0, true;
    /// Something that is no Syncline server answered: a proxy, a captive portal, a page of HTML.
    UnexpectedResponse = "UNEXPECTED_RESPONSE", 0, true;
    /// The WebAssembly module could not be loaded.
    WasmLoadFailed = "WASM_LOAD_FAILED", 0, true;
}

impl ErrorCode {
    /// Finds the code a peer sent; `None` for one that a newer version added.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.code() == code)
    }
}

/// The body of every error answer: `{"error": {...}}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, as it stands in answers, close reasons and outcomes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ErrorDetail {
    /// One of [`ErrorCode::code`], or a newer one.
    pub code: String,
    /// For people: what happened and with which value.
    pub message: String,
    /// For people: what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// With `RESYNC_REQUIRED`: the oldest seq the log still holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_seq: Option<u64>,
    /// How long to wait before another try, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_secs: Option<u64>,
}

impl ErrorDetail {
    /// Makes a detail with a code and a message and nothing else.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.code().to_owned(), message: message.into(), hint: None, oldest_seq: None, retry_after_secs: None }
    }
}
