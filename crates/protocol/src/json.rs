//! JSON as the client reads and writes it: a small codec, because every page downloads it.
//!
//! Derived code for each message is an order of magnitude larger. Nothing here is generic over the message: what differs
//! between two messages is a list of names and places.

mod float;
mod reader;
mod slots;
mod writer;

pub use reader::{JsonError, List, Reader, Token};
pub use slots::{Member, Slot};
pub(crate) use writer::hex_digit;
pub use writer::{Array, Object, decimal, finish, write_float, write_int, write_text, write_uint};
