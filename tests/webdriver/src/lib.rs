//! What the demo's stories need where the browser is driven by `WebDriver`: a server, drivers, and what a person does on the page.

mod browser;
mod chat_page;
mod process;

pub use browser::{Browser, Session};
pub use chat_page::ChatPage;
pub use process::{ChatServer, Running};
