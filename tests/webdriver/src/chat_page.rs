//! What a person does and sees in the chat.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fantoccini::elements::Element;
use fantoccini::{Client, Locator};
use serde_json::Value;

/// The chat in one browser.
#[derive(Clone, Debug)]
pub struct ChatPage {
    client: Client,
}

impl ChatPage {
    /// Opens the address as it is printed and signs in by typing a name.
    ///
    /// # Errors
    ///
    /// When the chat is not live in time.
    pub async fn sign_in(client: &Client, url: &str, user: &str) -> anyhow::Result<Self> {
        let page = Self { client: client.clone() };
        page.client.goto(url).await?;
        page.find("#user").await?.send_keys(user).await?;
        page.press(".sign-in-form button").await?;
        page.connection("live").await?;
        Ok(page)
    }

    /// Creates a channel with one more member and opens it.
    ///
    /// # Errors
    ///
    /// When the channel does not open in time.
    pub async fn create_channel(&self, name: &str, member: &str) -> anyhow::Result<()> {
        self.press(".section-head button").await?;
        self.find("#channel-name").await?.send_keys(name).await?;
        self.find("#channel-members").await?.send_keys(member).await?;
        self.press("dialog button[type=submit]").await?;
        self.find(".open-channel .composer").await?;
        self.until("the channel is open", IS_CHANNEL_OPEN, &format!("# {name}")).await
    }

    /// Opens the channel when it has arrived.
    ///
    /// # Errors
    ///
    /// When it does not arrive in time.
    pub async fn open_channel(&self, name: &str) -> anyhow::Result<()> {
        self.press(".channels a").await?;
        self.until("the channel is open", IS_CHANNEL_OPEN, &format!("# {name}")).await
    }

    /// Writes a message.
    ///
    /// # Errors
    ///
    /// When there is no place to write it.
    pub async fn send(&self, text: &str) -> anyhow::Result<()> {
        self.find("#message").await?.send_keys(text).await?;
        self.press(".composer button").await
    }

    /// Turns the offline switch, which must stand the other way.
    ///
    /// # Errors
    ///
    /// When the indicator does not follow in time.
    pub async fn set_offline(&self, offline: bool) -> anyhow::Result<()> {
        self.press("#offline").await?;
        self.connection(if offline { "paused" } else { "live" }).await
    }

    /// Loads the page again.
    ///
    /// # Errors
    ///
    /// When the browser does not.
    pub async fn reload(&self) -> anyhow::Result<()> {
        Ok(self.client.refresh().await?)
    }

    /// Waits until the indicator says so.
    ///
    /// # Errors
    ///
    /// When it says something else for too long.
    pub async fn connection(&self, state: &str) -> anyhow::Result<()> {
        self.until("the connection", "return document.querySelector('.status')?.dataset.connection", state).await
    }

    /// Waits until the open channel shows exactly these texts, top to bottom.
    ///
    /// # Errors
    ///
    /// When it shows others for too long.
    pub async fn shows(&self, texts: &[&str]) -> anyhow::Result<()> {
        self.until(
            "the messages",
            "return [...document.querySelectorAll('.body')].map((p) => p.textContent).join('\\n')",
            &texts.join("\n"),
        )
        .await
    }

    /// Waits until the own messages have come so far: `local`, `sent` or `confirmed`, top to bottom.
    ///
    /// # Errors
    ///
    /// When they stand elsewhere for too long.
    pub async fn delivered(&self, states: &[&str]) -> anyhow::Result<()> {
        self.until(
            "the deliveries",
            "return [...document.querySelectorAll('.mine')].map((li) => li.dataset.delivery).join()",
            &states.join(","),
        )
        .await
    }

    /// Keeps a picture of the page among the artefacts.
    ///
    /// # Errors
    ///
    /// When the picture cannot be taken or written.
    pub async fn screenshot(&self, name: &str) -> anyhow::Result<()> {
        let folder = std::env::var_os("SYNCLINE_ARTEFACTS").map_or_else(std::env::temp_dir, PathBuf::from).join("e2e");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}.png")), self.client.screenshot().await?)?;
        Ok(())
    }

    async fn find(&self, selector: &str) -> anyhow::Result<Element> {
        let wait = self.client.wait().at_most(LIMIT).every(PERIOD);
        wait.for_element(Locator::Css(selector)).await.with_context(|| format!("waiting for {selector}"))
    }

    async fn press(&self, selector: &str) -> anyhow::Result<()> {
        self.find(selector).await?.click().await.with_context(|| format!("pressing {selector}"))
    }

    /// Asks the page again and again until a script's result is the text.
    async fn until(&self, what: &str, script: &str, wanted: &str) -> anyhow::Result<()> {
        let mut seen = Value::Null;
        let attempts = tokio::time::timeout(LIMIT, async {
            let mut rhythm = tokio::time::interval(PERIOD);
            loop {
                rhythm.tick().await;
                seen = self.client.execute(script, Vec::new()).await?;
                if seen.as_str() == Some(wanted) {
                    return anyhow::Ok(());
                }
            }
        });
        match attempts.await {
            Ok(done) => done,
            Err(_) => bail!("{what}: wanted {wanted:?}, saw {seen} for {} s", LIMIT.as_secs()),
        }
    }
}

const IS_CHANNEL_OPEN: &str = "return document.querySelector('.channel-head h1')?.textContent";
const LIMIT: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(50);
