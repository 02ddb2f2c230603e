// Chromium's debugging protocol without a driver between: what a driver sets up in a page, a test of pages that nobody looks at
// must not have.

const FROM_BROWSER = 4;
const TO_BROWSER = 3;

export class DebuggingPipe {
  static ARGUMENTS = ["--remote-debugging-pipe"];
  static STDIO = ["ignore", "ignore", "ignore", "pipe", "pipe"];

  #to;
  #last = 0;
  #waiting = new Map();

  constructor(child) {
    this.#to = child.stdio[TO_BROWSER];
    // The browser is killed in the middle of what it says.
    for (const stream of [this.#to, child.stdio[FROM_BROWSER]]) stream.on("error", () => {});
    let text = "";
    child.stdio[FROM_BROWSER].setEncoding("utf8").on("data", (more) => {
      const messages = (text + more).split("\0");
      text = messages.pop();
      for (const message of messages) this.#hear(JSON.parse(message));
    });
  }

  /** Freezes the page at an address that contains this text, as the browser does with pages that nobody looks at. */
  async freeze(text) {
    const targetId = await this.#page(text);
    const { sessionId } = await this.#call("Target.attachToTarget", { targetId, flatten: true });
    await this.#call("Page.setWebLifecycleState", { state: "frozen" }, sessionId);
  }

  async #page(text) {
    const { targetInfos } = await this.#call("Target.getTargets");
    const page = targetInfos.find(
      ({ type, url }) => type === "page" && decodeURIComponent(url).includes(text),
    );
    if (page === undefined) throw new Error(`no page has ${text} in its address`);
    return page.targetId;
  }

  #call(method, params = {}, sessionId = undefined) {
    this.#last += 1;
    const id = this.#last;
    this.#to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { method, resolve, reject }));
  }

  #hear({ id, error, result }) {
    const { method, resolve, reject } = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (error) reject?.(new Error(`${method}: ${error.message}`));
    else resolve?.(result);
  }
}
