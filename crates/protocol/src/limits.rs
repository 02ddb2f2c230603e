//! Every bound of the system, with its unit and the reason for its size.

/// Largest row, in bytes of its canonical encoding. One IndexedDB record stays cheap to rewrite below this.
pub const ROW_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of a value; the row itself is depth zero. Keeps recursive decoders off the end of the stack.
pub const VALUE_DEPTH_MAX: usize = 32;
/// Longest row id, in bytes. Ids are keys in three stores and part of every frame.
pub const ROW_ID_BYTES_MAX: usize = 128;
/// Longest entity or field name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Most fields in one row.
pub const ROW_FIELDS_MAX: usize = 1_000;
/// Largest magnitude of an integer: the integers JavaScript can count without gaps, 2^53 - 1.
pub const INTEGER_MAX: i64 = 9_007_199_254_740_991;

/// Most changes in one transaction. Commit refuses above it, offline too, because the unit must fit in memory twice.
pub const TRANSACTION_CHANGES_MAX: usize = 10_000;
/// Most bytes in one transaction's canonical intent.
pub const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most op_ids an intent may name in `after`.
pub const AFTER_MAX: usize = 1_000;
/// Most unsent transactions a client keeps before it refuses new writes with `QUEUE_FULL`.
pub const QUEUE_TRANSACTIONS_MAX: usize = 100_000;

/// Most transactions in one push.
pub const PUSH_TRANSACTIONS_MAX: usize = 50;
/// Soft bound on the bytes of one push; a single larger transaction travels alone.
pub const PUSH_BYTES_SOFT: usize = 256 * 1024;
/// How long a client gathers writes before it sends a batch, in milliseconds.
pub const PUSH_WINDOW_MS: u64 = 100;

/// Most changes in one page of a pull or a frame; soft, because a page ends at the end of a transaction.
pub const PAGE_CHANGES_SOFT: usize = 5_000;
/// Soft bound on the bytes of row data in one page.
pub const PAGE_BYTES_SOFT: usize = 4 * 1024 * 1024;
/// A socket resumes by frames when it is at most this many log entries behind; else the client pulls over HTTP first.
pub const RESUME_CHANGES_MAX: u64 = 1_000;

/// Largest HTTP body the server reads, in bytes.
pub const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Largest WebSocket message the server reads, in bytes: one push of one largest transaction with its envelope.
pub const SOCKET_MESSAGE_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Read and write buffers of one socket, in bytes. The library's default of 128 KiB costs 134 KiB an idle socket.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024;
/// Messages one socket may send in one second, on average, before `RATE_LIMITED`.
pub const SOCKET_MESSAGES_PER_SECOND: u32 = 100;
/// Sockets one address may hold.
pub const SOCKETS_PER_ADDRESS: usize = 256;
/// How long the server waits for one frame to leave before the consumer counts as slow, in milliseconds.
pub const SOCKET_WRITE_MS_MAX: u64 = 10_000;
/// Silence after which either end sends a heartbeat, in milliseconds.
pub const HEARTBEAT_MS: u64 = 20_000;
/// Silence after which either end gives the socket up: two heartbeats missed, in milliseconds.
pub const SILENCE_MS_MAX: u64 = 40_000;
/// How long the server waits for `hello` after the handshake, in milliseconds.
pub const HELLO_MS_MAX: u64 = 10_000;

/// Longest bearer token, in bytes before encoding. Common proxies cap a header line at 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// First step of the reconnect delay, in milliseconds, unless the application says otherwise.
pub const BACKOFF_MS_BASE: u64 = 1_000;
/// Longest reconnect delay, in milliseconds.
pub const BACKOFF_MS_MAX: u64 = 30_000;
/// How long a connection must stand before the delay starts again from its first step, in milliseconds.
pub const STABLE_MS: u64 = 5_000;
/// Longest `Retry-After` a client obeys, in milliseconds.
pub const RETRY_AFTER_MS_MAX: u64 = 600_000;

/// How long the server keeps an outcome, in days. An older op_id is never replayed blindly.
pub const OUTCOME_DAYS: u64 = 400;

/// Largest segment compaction writes, in bytes; a strict write behind a larger transaction was seen to wait 130-600 ms.
pub const SEGMENT_BYTES_MAX: usize = 1024 * 1024;
/// How long an IndexedDB open or transaction may hang before it is given up, in milliseconds.
pub const STORAGE_MS_MAX: u64 = 5_000;
