// Pictures of the chat as people have it: at night, on a phone, full of members; and that it can be used without a mouse.

import assert from "node:assert/strict";
import { hardships } from "./readable.mjs";
import { story } from "./story.mjs";

story(
  "a dark, narrow window shows the channels, one channel, and the connection all the time",
  async ({ server, window }) => {
    const phone = window("dana", { viewport: { width: 390, height: 780 }, colorScheme: "dark" });
    await phone.signIn(server.url);
    await phone.createChannel("weekend", ["bob", "carol"]);
    await phone.send(
      "Shall we meet on Saturday? The weather should hold, and the boat is free from ten o’clock.",
    );
    await phone.send("I bring the coffee.");
    await phone.delivered(["confirmed", "confirmed"]);
    await phone.screenshot("10-narrow-channel");
    assert.deepEqual(await hardships(phone.page), []);
    assert.equal(await phone.page.locator(".status").isVisible(), true);
    await phone.page.getByRole("button", { name: "3 members" }).click();
    await phone.screenshot("11-narrow-members");
    assert.deepEqual(await hardships(phone.page), []);
    await phone.page.getByRole("button", { name: "3 members" }).click();
    await phone.page.getByRole("link", { name: "Back to the channels" }).click();
    await phone.screenshot("12-narrow-channels");
    assert.deepEqual(await hardships(phone.page), []);
    await fitsAllSizes(phone);
    await phone.openChannel("weekend");
    await fitsAllSizes(phone);
  },
);

story("everything can be reached by keyboard", async ({ server, window }) => {
  const kim = window("kim", { colorScheme: "dark" });
  await kim.open(server.url, "/");
  // The browser gives the field the focus when it draws the page for the first time.
  await kim.page.locator("#user:focus").waitFor();
  await kim.page.keyboard.type("kim");
  await kim.page.keyboard.press("Enter");
  await kim.connection("live");
  await kim.page.getByRole("button", { name: "New channel" }).press("Enter");
  await kim.page.keyboard.type("keys");
  await kim.page.keyboard.press("Enter");
  await kim.page.getByRole("heading", { name: "# keys" }).waitFor();
  await kim.page.keyboard.type("Typed without a mouse");
  await kim.page.keyboard.press("Enter");
  await kim.shows(["Typed without a mouse"]);
  await kim.page.keyboard.type("And once more");
  await kim.page.keyboard.press("Enter");
  await kim.delivered(["confirmed", "confirmed"]);
  // One press of Tab goes to the marks, arrows go from one to the next.
  await kim.page.keyboard.press("Shift+Tab");
  await kim.page.keyboard.press("ArrowUp");
  await kim.page.keyboard.press("Enter");
  const opened = kim.page.locator(".message", { hasText: "Typed without a mouse" });
  await opened.getByText("Confirmed").waitFor();
  assert.equal(await opened.locator(".mark").evaluate((mark) => mark.matches(":focus")), true);
  await kim.page.getByRole("switch", { name: "Work offline" }).press("Space");
  await kim.connection("paused");
  await kim.screenshot("13-keyboard-dark");
});

story(
  "two devices fit a phone and a wide screen, and say what the page cannot do",
  async ({ server, window }) => {
    for (const [name, viewport, colorScheme] of [
      ["24-two-devices-phone-dark", { width: 390, height: 844 }, "dark"],
      ["25-two-devices-wide-light", { width: 1440, height: 900 }, "light"],
    ]) {
      const visitor = window(name, { viewport, colorScheme });
      await visitor.open(server.url, "/?devices=2");
      await visitor.page.locator('.device[data-connection="live"]').nth(1).waitFor();
      // This server has no supervisor: the button is there and says why it does nothing.
      assert.equal(await visitor.page.getByRole("button", { name: "Kill the server" }).isDisabled(), true);
      await visitor.page.getByText("Start the page with “cargo xtask demo”").waitFor();
      await visitor.page.getByRole("button", { name: "Write 100" }).first().press("Enter");
      await visitor.page.locator('.ledger[data-settled="true"][data-written="100"]').waitFor();
      await visitor.screenshot(name);
      assert.deepEqual(await hardships(visitor.page), []);
      await fitsAllSizes(visitor);
      await visitor.close();
    }
  },
);

/** Holds the page to its window's width, on narrower windows too and with letters as wide as other machines' fonts have. */
async function fitsAllSizes({ page }) {
  const given = page.viewportSize();
  for (const width of [given.width, 1024, 768, 360, 320].filter((one) => one <= given.width)) {
    await page.setViewportSize({ ...given, width });
    for (const letters of [16, 20, 24]) {
      const outside = await page.evaluate(sticksOut, letters);
      assert.deepEqual(outside, [], `what sticks out of ${width} px with letters of ${letters} px`);
    }
  }
  await page.setViewportSize(given);
}

/** Runs in the page: what reaches beyond the right edge of the window when letters are that large. */
function sticksOut(letters) {
  const root = document.documentElement;
  root.style.fontSize = `${letters}px`;
  const names = [...document.body.querySelectorAll("*")]
    .map((element) => ({ element, beyond: element.getBoundingClientRect().right - innerWidth }))
    .filter(({ beyond }) => beyond >= 1)
    .map(({ element, beyond }) => {
      const text = element.textContent.slice(0, 30);
      return `${element.tagName.toLowerCase()}.${element.className} by ${beyond.toFixed(1)} px: ${text}`;
    });
  const wider = root.scrollWidth - innerWidth;
  root.style.fontSize = "";
  return wider > 0 ? [`the page by ${wider} px`, ...names] : names;
}
