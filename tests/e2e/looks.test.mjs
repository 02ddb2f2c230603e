// Pictures of the chat as people have it: at night, on a phone, full of members; and that it can be used without a mouse.

import assert from "node:assert/strict";
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
    assert.equal(await phone.page.locator(".status").isVisible(), true);
    await phone.page.getByRole("button", { name: "3 members" }).click();
    await phone.screenshot("11-narrow-members");
    await phone.page.getByRole("button", { name: "3 members" }).click();
    await phone.page.getByRole("link", { name: "Back to the channels" }).click();
    await phone.screenshot("12-narrow-channels");
    const overflow = await phone.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.equal(overflow, 0, "the page is wider than its window");
  },
);

story("everything can be reached by keyboard", async ({ server, window }) => {
  const kim = window("kim", { colorScheme: "dark" });
  await kim.open(server.url, "/");
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
  await kim.page.getByRole("switch", { name: "Work offline" }).press("Space");
  await kim.connection("paused");
  await kim.screenshot("13-keyboard-dark");
});
