// Kills a browser again and again while a page writes, and looks for everything that was acknowledged.
//
//   node tests/crash/run.mjs --browser chromium|firefox [--kills N] [--seed S] [--wipe] [--two-tabs]
//     [--during compaction|resync|bootstrap|recovery|upgrade] [--json]
//
// `cargo xtask crash` builds everything first and calls this. The seed fixes the writes and the moments of the kills; what a
// browser does with them it does not fix.

import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { serverProgram } from "../figures/stage/server.mjs";
import { makeSite } from "../figures/stage/site.mjs";
import { Channel } from "./channel.mjs";
import { Figures } from "./figures.mjs";
import { buildLaterPackage } from "./later_package.mjs";
import { randomFrom } from "./page/random.js";
import { Series } from "./series.mjs";

/** Kills of one profile; afterwards another one begins, so that rows stay few and everything is compared with the server. */
const KILLS_OF_A_PROFILE = 40;

const { values } = parseArgs({
  options: {
    browser: { type: "string", default: "chromium" },
    kills: { type: "string", default: "5" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 32)) },
    wipe: { type: "boolean", default: false },
    "two-tabs": { type: "boolean", default: false },
    during: { type: "string" },
    server: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const { browser, during, wipe } = values;
const options = { program: serverProgram(values.server), browser, during, wipe, twoTabs: values["two-tabs"] };
if (options.twoTabs && browser !== "chromium") {
  throw new Error("Only Chromium gives each of two tabs of one site a process that can be killed alone.");
}
const kills = Number(values.kills);
const say = (line) => process.stderr.write(`${line}\n`);
const folder = await mkdtemp(join(tmpdir(), "syncline-crash-"));
const figures = new Figures();
const channel = await Channel.open();
const random = randomFrom(Number(values.seed));
say(`${kills} kills of ${browser}, seed ${values.seed}`);
let isKept = true;
try {
  const site = join(folder, "site");
  await makeSite(site);
  await cp(join(dirname(fileURLToPath(import.meta.url)), "page"), site, { recursive: true });
  if (during === "upgrade") {
    await rm(join(site, "dist"), { recursive: true });
    await buildLaterPackage(join(site, "dist"));
  }
  while (figures.kills < kills) {
    const own = join(folder, `profile-${figures.kills}`);
    await mkdir(own);
    const count = Math.min(KILLS_OF_A_PROFILE, kills - figures.kills);
    await new Series({ options, channel, figures, random, say }).run(own, site, count);
    if (figures.failures(during).length === 0) await rm(own, { recursive: true });
  }
  isKept = figures.failures(during).length > 0;
} finally {
  await channel.close();
  const result = {
    browser,
    seed: Number(values.seed),
    during: during ?? null,
    wipe,
    two_tabs: options.twoTabs,
  };
  const text = JSON.stringify({ ...result, ...figures.summary() }, null, 2);
  console.log(values.json ? text : text.replaceAll(/[{}",]/g, ""));
  if (isKept) say(`Profiles and databases are kept in ${folder}.`);
  else await rm(folder, { recursive: true, force: true });
}
const failures = figures.failures(during);
if (failures.length > 0) {
  say(`FAILED: ${failures.join(", ")}. Again: --seed ${values.seed}`);
  process.exitCode = 1;
}
