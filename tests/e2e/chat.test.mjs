// The main job, told as people live it. Every window is a browser of its own with a profile on disk.

import assert from "node:assert/strict";
import { hardships } from "./readable.mjs";
import { story } from "./story.mjs";

story(
  "two people chat; one goes offline, writes, closes, and comes back to a server that is down",
  async ({ server, window }) => {
    const alice = window("alice");
    const bob = window("bob");
    await alice.signIn(server.url);
    await bob.signIn(server.url);
    await alice.screenshot("01-empty");

    await alice.createChannel("lunch", ["bob"]);
    await bob.openChannel("lunch");
    await alice.send("Hello Bob");
    await bob.shows(["Hello Bob"]);
    await bob.send("Hello Alice <b>not bold</b>");
    await alice.shows(["Hello Bob", "Hello Alice <b>not bold</b>"]);
    assert.equal(await alice.page.locator(".messages b").count(), 0, "a text became HTML");
    await alice.delivered(["confirmed"]);
    await alice.screenshot("02-chatting");

    await alice.setOffline(true);
    for (const text of ["In the tunnel", "Still there", "Nearly out"]) await alice.send(text);
    await alice.delivered(["confirmed", "local", "local", "local"]);
    await alice.pending(3);
    await alice.screenshot("03-offline");
    assert.deepEqual(await hardships(alice.page), []);
    await bob.send("Where are you?");
    await bob.delivered(["confirmed", "confirmed"]);
    await alice.close();
    await server.stop();

    const written = [
      "Hello Bob",
      "Hello Alice <b>not bold</b>",
      "In the tunnel",
      "Still there",
      "Nearly out",
    ];
    await alice.open(server.url);
    await alice.openChannel("lunch");
    await alice.shows(written);
    await alice.delivered(["confirmed", "local", "local", "local"]);
    await alice.screenshot("04-reopened-without-server");

    await server.start();
    await alice.setOffline(false);
    const all = [...written, "Where are you?"];
    await alice.shows(all);
    await bob.shows(all);
    await alice.delivered(["confirmed", "confirmed", "confirmed", "confirmed"]);
    await alice.pending(0);
    await alice.screenshot("05-back-alice");
    await bob.screenshot("06-back-bob");
  },
);

story(
  "an invited user gets the old messages, a removed one loses them on screen and on disk",
  async ({ server, window }) => {
    const alice = window("alice");
    const carol = window("carol");
    await alice.signIn(server.url);
    await carol.signIn(server.url);
    await alice.createChannel("plans", []);
    const texts = ["First plan zq1", "Second plan zq2"];
    for (const text of texts) await alice.send(text);
    await alice.delivered(["confirmed", "confirmed"]);

    await alice.invite("carol");
    await carol.openChannel("plans");
    await carol.shows(texts);
    await carol.send("Thank you zq3");
    await alice.shows([...texts, "Thank you zq3"]);
    await carol.delivered(["confirmed"]);
    assert.equal(await carol.stores("zq1"), true, "the scan of the databases finds what is there");
    await carol.screenshot("07-invited");

    await alice.removeMember("carol");
    await carol.page.getByText("This channel is not among yours").waitFor();
    assert.equal(await carol.channelLink("plans").count(), 0);
    await carol.screenshot("08-removed");
    for (const mark of ["zq1", "zq2", "zq3"]) await carol.forgets(mark);
    await carol.page.reload();
    await carol.connection("live");
    assert.equal(await carol.channelLink("plans").count(), 0);
    await alice.shows([...texts, "Thank you zq3"]);
  },
);

story(
  "a message that comes too late is refused with its reason, and can be tried again",
  async ({ server, window }) => {
    const alice = window("alice");
    const bob = window("bob");
    await alice.signIn(server.url);
    await bob.signIn(server.url);
    await bob.createChannel("closing", ["alice"]);
    await alice.openChannel("closing");
    await alice.setOffline(true);
    await alice.send("Too late");
    await alice.delivered(["local"]);
    await bob.removeMember("alice");
    await bob.pending(0);

    await alice.setOffline(false);
    const refused = alice.page.getByRole("region", { name: "Not accepted by the server" });
    await refused.getByText("Message “Too late”").waitFor();
    assert.equal(await alice.channelLink("closing").count(), 0);
    await alice.screenshot("14-refused");
    assert.deepEqual(await bob.messages(), []);

    await bob.invite("alice");
    await alice.openChannel("closing");
    await alice.delivered(["refused"]);
    await alice.screenshot("15-refused-in-place");
    assert.deepEqual(await hardships(alice.page), []);
    await alice.page.getByRole("button", { name: "Try again" }).click();
    await bob.shows(["Too late"]);
    await alice.delivered(["confirmed"]);
    await alice.page.reload();
    await alice.shows(["Too late"]);
  },
);

story(
  "the server is killed in the middle of 40 messages and everything arrives once, in one order",
  async ({ server, window }) => {
    const alice = window("alice");
    const bob = window("bob");
    await alice.signIn(server.url);
    await bob.signIn(server.url);
    await alice.createChannel("storm", ["bob"]);
    await bob.openChannel("storm");

    const sendMany = async (from, to, name, speaker) => {
      for (let n = from; n <= to; n += 1) await speaker.send(`${name} ${n}`);
    };
    await Promise.all([sendMany(1, 10, "alice", alice), sendMany(1, 10, "bob", bob)]);
    const killed = server.kill();
    await Promise.all([sendMany(11, 20, "alice", alice), sendMany(11, 20, "bob", bob)]);
    await killed;
    await server.start();

    await Promise.all([alice, bob].map((one) => one.showsCount(40)));
    await Promise.all([alice, bob].map((one) => one.pending(0)));
    const seen = await alice.messages();
    await bob.shows(seen);
    assert.equal(new Set(seen).size, 40, "a message stands twice");
    for (const name of ["alice", "bob"]) {
      const own = seen.filter((text) => text.startsWith(name));
      assert.deepEqual(
        own,
        Array.from({ length: 20 }, (_, index) => `${name} ${index + 1}`),
        `the order of ${name}'s messages`,
      );
    }
    await alice.screenshot("09-after-the-kill");
  },
);

story(
  "two windows of one browser are two users, and a third of one of them is as good as the second",
  async ({ server, window }) => {
    const browser = window("dora");
    await browser.signIn(server.url);
    const second = await browser.page.context().newPage();
    await second.goto(server.url);
    await second.getByLabel("Your name").fill("Erik");
    await second.getByRole("button", { name: "Sign in" }).click();
    await second.locator('.status[data-connection="live"]').waitFor();
    assert.equal(new URL(second.url()).searchParams.get("user"), "erik");

    await browser.createChannel("home", ["erik"]);
    await second.getByRole("link", { name: "home" }).click();
    await browser.send("Dinner?");
    await second.getByText("Dinner?").waitFor();

    const third = await browser.page.context().newPage();
    await third.goto(`${server.url}/?user=erik`);
    await third.getByRole("link", { name: "home" }).click();
    await third.getByText("Dinner?").waitFor();
    const say = async (text) => {
      await third.getByRole("textbox", { name: "Message" }).fill(text);
      await third.getByRole("textbox", { name: "Message" }).press("Enter");
    };
    await say("At eight.");
    await second.getByText("At eight.").waitFor();
    await browser.page.getByText("At eight.").waitFor();
    await second.close();
    await say("Or nine?");
    await browser.page.getByText("Or nine?").waitFor();
  },
);
