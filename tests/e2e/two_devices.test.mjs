// The page with two devices under `cargo xtask demo`: a network is cut, the server is killed, and the ledger adds up.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ChatWindow } from "./chat_window.mjs";
import { Demo } from "./demo.mjs";
import { hardships } from "./readable.mjs";

const LIMIT_MS = 240_000;

test(
  "100 messages, a cut network, a killed server: nothing lost, nothing doubled",
  { timeout: LIMIT_MS },
  (t) =>
    withStage(t, async ({ demo, stage, device, ledger }) => {
      const [alice, bob] = [device("Alice"), device("Bob")];
      assert.doesNotMatch(stage.page.url(), /control/, "the token stays in the address");

      await alice.getByRole("button", { name: "Write 100" }).click();
      await alice.getByRole("button", { name: "Cut network" }).click();
      await bob.getByRole("button", { name: "Write 100" }).click();
      await stage.page.getByRole("button", { name: "Kill the server" }).click();
      await stage.page.getByText("Dead (SIGKILL)").waitFor();
      await assert.rejects(fetch(`${demo.url}/health`), "the server still answers");
      await alice.getByRole("textbox", { name: "Message" }).fill("Written to a dead server over a cut wire");
      await alice.getByRole("textbox", { name: "Message" }).press("Enter");
      await ledger("written", 201);
      await ledger("onDisk", 201);
      await ledger("lost", 0);
      await ledger("doubled", 0);
      assert.notEqual(await stage.page.locator(".ledger").getAttribute("data-confirmed"), "201");
      await alice.getByText("Network cut").waitFor();
      await stage.screenshot("20-two-devices-broken");
      assert.deepEqual(await hardships(stage.page), []);

      await stage.page.getByRole("button", { name: "Restart the server" }).click();
      await stage.page.locator('.device[data-pending="0"]').waitFor();
      assert.notEqual(await alice.getAttribute("data-pending"), "0", "a write went through the cut wire");
      await alice.getByRole("button", { name: "Mend network" }).click();
      await ledger("settled", true);
      for (const [key, value] of Object.entries({
        written: 201,
        onDisk: 201,
        confirmed: 201,
        refused: 0,
        lost: 0,
        doubled: 0,
      })) {
        await ledger(key, value);
      }
      await stage.page.getByText("Every message is on both devices and on the server, once.").waitFor();
      const bodies = (await messagesOnServer(demo.url)).map((row) => row.body);
      assert.equal(bodies.length, 201);
      assert.equal(new Set(bodies).size, 201, "a message stands twice on the server");
      await stage.screenshot("21-two-devices-mended");

      await alice.locator(".mark").last().click();
      const life = alice.locator(".life");
      assert.deepEqual(await life.locator(".station-name").allTextContents(), [
        ...["Local", "Disk", "Sent", "Confirmed"],
        "Other device",
      ]);
      for (const time of await life.locator(".station-time").allTextContents())
        assert.match(time, /^\+[\d.]+ (ms|s)$/);
      await life.getByText(/Place \d+ in the server’s log\./).waitFor();
      await stage.screenshot("22-life-of-a-message");
      assert.deepEqual(await hardships(stage.page), []);

      await stage.page.reload();
      await ledger("settled", true);
      await ledger("written", 201);
      await ledger("lost", 0);
    }),
);

test(
  "a page that is reloaded beside a dead server opens and starts it, also in a later run",
  { timeout: LIMIT_MS },
  (t) =>
    withStage(t, async ({ demo, stage, device, ledger }) => {
      const controlled = () =>
        stage.page.evaluate(async () => (await navigator.serviceWorker.ready).active?.state);
      assert.match(await controlled(), /activat/);
      await demo.stop();
      await demo.start();
      // The later run has another endpoint and another token; the stored page must know of it.
      await stage.page.goto(`${demo.url}/`);
      await stage.page.goto(demo.url + demo.stage);
      await stage.page.locator('.device[data-connection="live"]').nth(1).waitFor();
      await stage.page.getByRole("button", { name: "Kill the server" }).click();
      await stage.page.getByText("Dead (SIGKILL)").waitFor();
      await stage.page.reload();
      await stage.page.getByText("Dead (SIGKILL)").waitFor();
      await device("Bob").getByRole("button", { name: "Write 100" }).click();
      await ledger("onDisk", 100);
      await stage.page.getByRole("button", { name: "Restart the server" }).click();
      await ledger("settled", true);
      await ledger("confirmed", 100);
    }),
);

test("a refused write is kept with its reason, tried again, and discarded", { timeout: LIMIT_MS }, (t) =>
  withStage(t, async ({ stage, device, ledger }) => {
    const alice = device("Alice");
    await alice.getByRole("button", { name: "Write as Bob" }).click();
    await ledger("refused", 1);
    await alice.getByText("Not accepted:").waitFor();
    await alice.getByRole("button", { name: "Try again" }).click();
    await ledger("refused", 1);
    await alice.getByText("Not accepted:").waitFor();
    await ledger("lost", 0);
    await stage.screenshot("23-two-devices-refused");
    assert.deepEqual(await hardships(stage.page), []);
    await alice.getByRole("button", { name: "Discard" }).click();
    await ledger("written", 0);
    await ledger("refused", 0);
    await ledger("lost", 0);
  }),
);

test("one button tells the whole story", { timeout: LIMIT_MS }, (t) =>
  withStage(t, async ({ stage, ledger }) => {
    const story = stage.page.getByRole("button", { name: "Break everything" });
    // Here some sentences take one line and some two.
    await stage.page.setViewportSize({ width: 1040, height: 760 });
    // Everything moves into the smaller window; what is drawn after that is to stay where it is.
    await stage.page.evaluate(nextFrames);
    await stage.page.evaluate(noteJumps);
    await stage.page.evaluate(noteSentences);
    await story.press("Enter");
    await stage.page.getByText("A bad day for everybody but the messages.").waitFor({ timeout: 120_000 });
    const sentences = await stage.page.evaluate(() => window.sentences);
    assert.match(
      sentences.join("\n"),
      /^Alice and Bob write.*^The server process is killed.*^The server starts again/ms,
    );
    assert.equal(await story.isEnabled(), true);
    for (const [key, value] of Object.entries({ written: 225, confirmed: 225, lost: 0, doubled: 0 }))
      await ledger(key, value);
    assert.deepEqual(await stage.page.evaluate(() => window.jumps), [], "what moved while nobody touched it");
  }),
);

test("nobody but the page of this run can kill the server", { timeout: LIMIT_MS }, (t) =>
  withStage(t, async ({ demo }) => {
    const { url, token } = demo.control;
    const call = async (headers) => (await fetch(`${url}/kill`, { method: "POST", headers })).status;
    const authorization = `Bearer ${token}`;
    assert.equal(await call({ authorization }), 403, "without an origin");
    assert.equal(await call({ authorization, origin: "http://evil.example" }), 403, "from another page");
    assert.equal(await call({ origin: demo.url }), 401, "without the token");
    assert.equal(
      await call({ origin: demo.url, authorization: `Bearer ${"0".repeat(32)}` }),
      401,
      "with another token",
    );
    assert.equal((await fetch(`${demo.url}/health`)).status, 200);
  }),
);

/** Starts the demo, opens its page, and waits until both devices are live. */
async function withStage(t, tell) {
  const folder = await mkdtemp(join(tmpdir(), "syncline-demo-"));
  const demo = new Demo(join(folder, "data"));
  const stage = new ChatWindow("stage", join(folder, "profile"), { viewport: { width: 1360, height: 860 } });
  try {
    await demo.start();
    t.diagnostic(demo.url);
    await stage.open(demo.url, demo.stage);
    await stage.page.locator('.device[data-connection="live"]').nth(1).waitFor();
    await stage.page.locator('.server[data-server="running"]').waitFor();
    const device = (name) => stage.page.getByRole("region", { name: `${name}’s device` });
    const ledger = (key, value) => stage.page.locator(`.ledger[data-${dashed(key)}="${value}"]`).waitFor();
    await tell({ demo, stage, device, ledger });
    assert.deepEqual(stage.complaints(), [], "errors in the console");
  } catch (error) {
    await stage.screenshot(`failed-${t.name.replace(/\W+/g, "-").slice(0, 40)}`).catch(() => {});
    console.error(`\n${stage.report()}\ndemo:\n${demo.log.slice(-4_000)}\n`);
    throw error;
  } finally {
    await stage.close().catch(() => {});
    await demo.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Runs in the page: resolves when what has changed until now is drawn. */
function nextFrames() {
  return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}

/** Runs in the page: keeps each sentence of the story, however long it is to be read. */
function noteSentences() {
  window.sentences = [];
  const lead = document.querySelector(".lead");
  new MutationObserver(() => window.sentences.push(lead.textContent)).observe(lead, { childList: true });
}

/** Runs in the page: notes what changes its place from now on, other than messages, which scroll. */
function noteJumps() {
  window.jumps = [];
  // What grows keeps one of its edges.
  const hasJumped = (was, is) =>
    (was.left !== is.left && was.right !== is.right) || (was.top !== is.top && was.bottom !== is.bottom);
  new PerformanceObserver((list) => {
    for (const { sources } of list.getEntries()) {
      for (const { node, previousRect, currentRect } of sources) {
        const element = node instanceof Element ? node : node?.parentElement;
        if (element === null || element === undefined || element.closest(".scroller") !== null) continue;
        if (!hasJumped(previousRect, currentRect)) continue;
        const moved = [currentRect.x - previousRect.x, currentRect.y - previousRect.y];
        window.jumps.push(`${element.tagName.toLowerCase()}.${element.className} by ${moved.join(", ")} px`);
      }
    }
  }).observe({ type: "layout-shift" });
}

async function messagesOnServer(url) {
  const post = async (path, body, headers = {}) => {
    const init = {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    };
    return (await fetch(url + path, init)).json();
  };
  const { token } = await post("/api/auth/session", { user_id: "bob" });
  return post("/api/query/messages", {}, { authorization: `Bearer ${token}` });
}

function dashed(name) {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
