// Sessions in several tabs of one browser: who leaves one leaves it everywhere, and a token is asked for once.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { insert, isSynced, jwt, Stage, shows, start, until } from "./stage.mjs";

let stage;

before(async () => {
  stage = await Stage.set();
});
after(() => stage.strike());
afterEach(() => stage.clear());

/** Two pages of one browser that both show a user's rows. */
async function twoTabs(config) {
  const context = await stage.browser();
  // As on an insecure origin: each tab opens the database, whoever leads.
  await context.addInitScript(() => Object.defineProperty(navigator, "locks", { value: undefined }));
  const pages = [];
  for (const name of ["first", "second"]) {
    const page = await stage.page(context);
    await start(page, config);
    if (name === "first") {
      await insert(page, "private", "of the server");
      await isSynced(page);
    }
    await shows(page, "of the server");
    pages.push(page);
  }
  return pages;
}

const identity = (page) => page.evaluate(() => window.engine.status.identity);

/** Waits until a page is somebody's, whose rows it shows, and gives what it showed since `seen` was emptied. */
async function becomes(page, userId, tenantId = null) {
  await until(
    page,
    (wanted) => {
      const { identity } = window.engine.status;
      return identity !== null && JSON.stringify([identity.userId, identity.tenantId]) === wanted;
    },
    JSON.stringify([userId, tenantId]),
  );
  return page.evaluate(() => window.seen);
}

test("signing out in one tab empties every tab of that user", async () => {
  const [first, second] = await twoTabs({ storedToken: jwt("ann") });
  const elsewhere = await stage.page(second.context());
  await start(elsewhere, { token: jwt("bea") });
  await insert(elsewhere, "private", "of bea");
  for (const page of [first, second]) await page.evaluate(() => window.seen.splice(0));
  await first.evaluate(() => window.engine.signOut());
  for (const page of [first, second]) {
    const seen = await becomes(page, null);
    assert.ok(
      seen.every((titles) => titles === ""),
      `${await page.evaluate(() => location.href)} showed ${JSON.stringify(seen)}`,
    );
  }
  // Another user of the same browser is not concerned, and nothing of ann's is known any more.
  await shows(elsewhere, "of bea");
  const known = await first.evaluate(() => localStorage.getItem("syncline_default_identities"));
  assert.deepEqual(
    JSON.parse(known).map(({ identity }) => identity.user_id),
    ["bea"],
  );
  await second.evaluate((token) => window.engine.notifySessionChanged(token), jwt("ann"));
  await shows(second, "of the server");
});

test("every tab follows to another organisation, by the token in the storage", async () => {
  const [first, second] = await twoTabs({ storedToken: jwt("cleo", { more: { org: "red" } }) });
  const blue = jwt("cleo", { more: { org: "blue" } });
  await first.evaluate((token) => {
    localStorage.setItem("syncline_token", token);
    return window.engine.notifySessionChanged();
  }, blue);
  for (const page of [first, second]) await becomes(page, "cleo", "blue");
  await insert(first, "private", "of blue");
  await shows(second, "of blue");
});

test("a tab whose storage shows the others' token late follows all the same", async () => {
  const red = jwt("clio", { more: { org: "red" } });
  const blue = jwt("clio", { more: { org: "blue" } });
  const [first, second] = await twoTabs({ storedToken: red });
  // Another process's change reaches this one's memory some time after the message of a channel does.
  await second.evaluate((old) => {
    const { getItem } = Storage.prototype;
    Storage.prototype.getItem = function (key) {
      return key === "syncline_token" && window.isLate ? old : getItem.call(this, key);
    };
    window.isLate = true;
  }, red);
  await first.evaluate((token) => {
    localStorage.setItem("syncline_token", token);
    return window.engine.notifySessionChanged();
  }, blue);
  await becomes(second, null);
  await second.evaluate(() => {
    window.isLate = false;
    window.dispatchEvent(new StorageEvent("storage", { key: "syncline_token" }));
  });
  await becomes(second, "clio", "blue");
  await insert(first, "private", "of blue");
  await shows(second, "of blue");
});

test("a token given to a tab counts as none once another tab has left its session", async () => {
  const [first, second] = await twoTabs({ token: jwt("dora") });
  await first.evaluate(() => window.engine.notifySessionChanged(null));
  await becomes(second, null);
  await second.evaluate((token) => window.engine.notifySessionChanged(token), jwt("dora"));
  assert.deepEqual(await identity(second), { userId: "dora", tenantId: null });
});

test("a session that goes on with another token goes on in every tab", async () => {
  const [first, second] = await twoTabs({ token: jwt("ella") });
  const renewed = jwt("ella", { seconds: 7200 });
  await first.evaluate((token) => window.engine.notifySessionChanged(token), renewed);
  await shows(first, "of the server");
  await shows(second, "of the server");
  assert.deepEqual(await identity(second), { userId: "ella", tenantId: null });
});

test("a token that runs out is asked for once for all tabs", async () => {
  const context = await stage.browser();
  const pages = [await stage.page(context), await stage.page(context), await stage.page(context)];
  const config = { token: jwt("fay", { seconds: 6 }), renewWith: jwt("fay") };
  await start(pages[0], config);
  await until(pages[0], () => window.engine.status.connection.state === "live");
  // One of the others may have to wait until this one is closed.
  for (const page of pages.slice(1)) void start(page, config).catch(() => {});
  for (const page of pages.slice(1)) await until(page, () => window.engine?.status.identity != null);
  const asked = async () =>
    (await Promise.all(pages.map((page) => page.evaluate(() => window.asked)))).flat();
  await Promise.any(pages.map((page) => until(page, () => window.asked.length > 0)));
  await isSynced(pages[0]);
  assert.deepEqual(await asked(), ["TOKEN_EXPIRED"]);
  // Whoever leads next has the token already.
  await pages[0].close();
  pages.shift();
  await Promise.any(pages.map((page) => isSynced(page)));
  assert.deepEqual(await asked(), []);
});

test("an application that only has refused tokens is asked less and less often", async () => {
  const page = await stage.page(await stage.browser());
  await start(page, { token: jwt("gina"), reconnectDelay: 100 });
  await insert(page, "private", "of the server");
  await isSynced(page);
  await page.evaluate((refused) => {
    window.times = [];
    window.tokens = () => {
      window.times.push(performance.now());
      return `${refused}${window.times.length}`;
    };
    return window.engine.stop();
  }, "refused");
  await start(page, { token: "refused", getTokenBy: "tokens", reconnectDelay: 100 });
  await until(page, () => window.times.length >= 5);
  assert.equal(await page.evaluate(() => window.engine.status.lastError.code), "UNAUTHENTICATED");
  const pauses = await page.evaluate(() =>
    window.times.slice(1).map((time, index) => time - window.times[index]),
  );
  // Each step is the reconnect delay doubled, counted from when the last one was due.
  for (const [index, pause] of pauses.slice(0, 4).entries())
    assert.ok(pause >= 90 * 2 ** index, String(pauses));
  await page.evaluate((token) => {
    window.tokens = () => token;
  }, jwt("gina"));
  await isSynced(page);
  await shows(page, "of the server");
});

test("a page that comes back from the browser's cache shows nothing of a session that ended meanwhile", async () => {
  const [first] = await twoTabs({ storedToken: jwt("hana") });
  const back = (change) =>
    first.evaluate((change) => {
      window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
      new Function(change)();
      window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
      return window.shown();
    }, change);
  assert.equal(await back(""), "of the server");
  // Another tab has signed out: the token is still there, but this device knows it no more.
  assert.equal(await back("localStorage.setItem('syncline_default_identities', '[]')"), "");
  await shows(first, "of the server");
  assert.equal(await back("localStorage.removeItem('syncline_token')"), "");
  await becomes(first, null);
});
