// What every story has: a server, windows, an end that leaves nothing behind, and a report when it fails.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ChatWindow } from "./chat_window.mjs";
import { ChatServer, pages, program } from "./server.mjs";

const STORY_LIMIT_MS = 180_000;

/**
 * Runs a story as a test.
 * @param {string} name
 * @param {(stage: {server: ChatServer, window: (user: string, options?: object) => ChatWindow}) => Promise<void>} tell
 */
export function story(name, tell) {
  test(name, { timeout: STORY_LIMIT_MS }, async (t) => {
    t.diagnostic(`server ${program}, pages ${pages}`);
    const folder = await mkdtemp(join(tmpdir(), "syncline-e2e-"));
    const server = new ChatServer(folder);
    const windows = [];
    const window = (user, options) => {
      const made = new ChatWindow(user, join(folder, `profile-${user}-${windows.length}`), options);
      windows.push(made);
      return made;
    };
    try {
      await server.start();
      await tell({ server, window });
      for (const one of windows) assert.deepEqual(one.complaints(), [], "errors in the console");
    } catch (error) {
      await picture(windows, name);
      console.error(
        `\n${[...windows.map((one) => one.report()), `server:\n${server.log.slice(-4_000)}`].join("\n")}\n`,
      );
      throw error;
    } finally {
      await Promise.allSettled(windows.map((one) => one.close()));
      await server.kill();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    }
  });
}

async function picture(windows, name) {
  const file = `failed-${name.replace(/\W+/g, "-").slice(0, 60)}`;
  // A window that is closed has no picture; the failure itself is what gets reported.
  await Promise.allSettled(windows.map((one, index) => one.screenshot(`${file}-${index}`)));
}
