// One browser of one person, with a profile on disk, and what a person can do and see in the chat.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { CHROMIUM_ARGUMENTS } from "../chromium_arguments.mjs";

const artefacts = join(
  process.env.SYNCLINE_ARTEFACTS ?? fileURLToPath(new URL("../../artefacts", import.meta.url)),
  "e2e",
);
const WAIT_MS = 30_000;
/** What a browser prints by itself when the server a test has stopped does not answer. */
const NETWORK_TROUBLE = /net::ERR_|WebSocket connection to|Failed to load resource/;

export class ChatWindow {
  #user;
  #profile;
  #options;
  #context = null;
  #console = [];
  page = null;

  /**
   * @param {string} user Who uses it.
   * @param {string} profile The folder in which the browser keeps its data over a restart.
   * @param {object} [options] Of the browser context: viewport, colorScheme.
   */
  constructor(user, profile, options = {}) {
    this.#user = user;
    this.#profile = profile;
    this.#options = options;
  }

  /** Starts the browser and opens an address; without a path that of this user's window. */
  async open(origin, path = `/?user=${this.#user}`) {
    this.#context = await chromium.launchPersistentContext(this.#profile, {
      executablePath: process.env.CHROME ?? "/usr/bin/chromium",
      headless: true,
      args: CHROMIUM_ARGUMENTS,
      viewport: { width: 1200, height: 760 },
      locale: "en-GB",
      ...this.#options,
    });
    this.#context.setDefaultTimeout(WAIT_MS);
    this.page = this.#context.pages()[0] ?? (await this.#context.newPage());
    this.#listen();
    await this.page.goto(origin + path);
  }

  /** Opens the printed address and signs in by typing the name. */
  async signIn(origin) {
    await this.open(origin, "/");
    await this.page.getByLabel("Your name").fill(this.#user);
    await this.page.getByRole("button", { name: "Sign in" }).click();
    await this.connection("live");
    await this.#servedOffline();
  }

  /** Closes the browser as a whole. */
  async close() {
    await this.#context?.close();
    this.#context = null;
  }

  async createChannel(name, members) {
    await this.page.getByRole("button", { name: "New channel" }).click();
    await this.page.getByLabel("Name", { exact: true }).fill(name);
    await this.page.getByLabel("Members beside you").fill(members.join(", "));
    await this.page.getByRole("button", { name: "Create" }).click();
    await this.page.getByRole("heading", { name: `# ${name}` }).waitFor();
  }

  channelLink(name) {
    return this.page.getByRole("navigation", { name: "Channels" }).getByRole("link", { name });
  }

  async openChannel(name) {
    await this.channelLink(name).click();
    await this.page.getByRole("heading", { name: `# ${name}` }).waitFor();
  }

  async send(text) {
    await this.page.getByRole("textbox", { name: "Message" }).fill(text);
    await this.page.getByRole("textbox", { name: "Message" }).press("Enter");
  }

  async setOffline(offline) {
    await this.page.getByRole("switch", { name: "Work offline" }).setChecked(offline);
    await this.connection(offline ? "paused" : "live");
  }

  async invite(member) {
    await this.page.getByLabel("Invite somebody").fill(member);
    await this.page.getByRole("button", { name: "Invite", exact: true }).click();
  }

  async removeMember(member) {
    const item = this.page
      .getByRole("complementary", { name: "Members" })
      .getByRole("listitem")
      .filter({ hasText: member });
    await item.getByRole("button", { name: "Remove" }).click();
    await item.getByRole("button", { name: "Really remove?" }).click();
  }

  /** Waits until the indicator says so. */
  async connection(state) {
    await this.page.locator(`.status[data-connection="${state}"]`).waitFor();
  }

  /** Waits until the indicator counts so many unconfirmed changes. */
  async pending(count) {
    await this.page.locator(`.status[data-pending="${count}"]`).waitFor();
  }

  /** The texts of the open channel from top to bottom. */
  async messages() {
    return await this.page.locator(".messages .body").allTextContents();
  }

  /** Waits until the open channel shows exactly these texts in this order. */
  async shows(expected) {
    await this.#until(
      async () => JSON.stringify(await this.messages()) === JSON.stringify(expected),
      async () => {
        assert.deepEqual(await this.messages(), expected, `what ${this.#user} sees`);
      },
    );
  }

  /** Waits until the open channel shows so many texts. */
  async showsCount(count) {
    await this.#until(
      async () => (await this.messages()).length >= count,
      async () => {
        assert.equal((await this.messages()).length, count, `messages that ${this.#user} sees`);
      },
    );
    assert.equal((await this.messages()).length, count);
  }

  /** How far each of the own messages has come, from top to bottom. */
  async deliveries() {
    return await this.page
      .locator(".message.mine")
      .evaluateAll((items) => items.map((item) => item.dataset.delivery));
  }

  /** Waits until the own messages stand so. */
  async delivered(expected) {
    await this.#until(
      async () => JSON.stringify(await this.deliveries()) === JSON.stringify(expected),
      async () => {
        assert.deepEqual(await this.deliveries(), expected, `deliveries of ${this.#user}`);
      },
    );
  }

  /** Whether a text stands anywhere in this browser's databases. */
  async stores(text) {
    return await this.page.evaluate(isStored, text);
  }

  /** Waits until a text stands nowhere in this browser's databases. */
  async forgets(text) {
    await this.#until(
      async () => !(await this.stores(text)),
      () => {
        assert.fail(`“${text}” is still in an IndexedDB database of ${this.#user}`);
      },
    );
  }

  async screenshot(name) {
    await mkdir(artefacts, { recursive: true });
    await this.page.screenshot({ path: join(artefacts, `${name}.png`) });
  }

  /** What stood in the console that no stopped server explains. */
  complaints() {
    return this.#console.filter((line) => /^(error|exception)/.test(line) && !NETWORK_TROUBLE.test(line));
  }

  /** The last lines of the console, for a test that failed. */
  report() {
    return [`console of ${this.#user}:`, ...this.#console.slice(-40)].join("\n  ");
  }

  #listen() {
    this.page.on("console", (message) => this.#console.push(`${message.type()}: ${message.text()}`));
    this.page.on("pageerror", (error) => this.#console.push(`exception: ${error.stack ?? error}`));
  }

  /** Waits until the service worker has stored the page: from then on it opens without a server. */
  async #servedOffline() {
    await this.page.evaluate(async () => {
      await navigator.serviceWorker.ready;
    });
  }

  /** Asks again and again in the browser's own rhythm; at the limit `explain` fails the test with what there is. */
  async #until(holds, explain) {
    const end = Date.now() + WAIT_MS;
    while (!(await holds())) {
      if (Date.now() > end) return await explain();
      await this.page.evaluate(
        () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 20))),
      );
    }
  }
}

/** Runs in the page: reads every record of every database as bytes and as JSON. */
async function isStored(text) {
  const settled = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  const decoder = new TextDecoder("utf-8");
  const read = (value) => {
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return decoder.decode(value);
    return JSON.stringify(value, (_, inner) =>
      inner instanceof ArrayBuffer || ArrayBuffer.isView(inner) ? decoder.decode(inner) : inner,
    );
  };
  for (const { name } of await indexedDB.databases()) {
    const database = await settled(indexedDB.open(name));
    try {
      const stores = [...database.objectStoreNames];
      if (stores.length === 0) continue;
      const transaction = database.transaction(stores);
      for (const store of stores) {
        const values = await settled(transaction.objectStore(store).getAll());
        if (values.some((value) => read(value)?.includes(text))) return true;
      }
    } finally {
      database.close();
    }
  }
  return false;
}
