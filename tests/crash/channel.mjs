// The ear of the harness: what pages say arrives here over HTTP, and outlives the browser that said it.

import { once } from "node:events";
import { createServer } from "node:http";

/** Listens to pages and answers them. */
export class Channel {
  #http;
  #answers = {};
  #waiting = [];
  #last = new Map();

  static async open() {
    const channel = new Channel();
    channel.#http = createServer((request, answer) => channel.#hear(request, answer));
    channel.#http.listen(0, "127.0.0.1");
    await once(channel.#http, "listening");
    return channel;
  }

  get origin() {
    return `http://127.0.0.1:${this.#http.address().port}`;
  }

  /** Who answers from now on: for each `what`, a function from the report to the answer. */
  answers(answers) {
    this.#answers = answers;
    this.#last.clear();
  }

  /** Resolves with a report that `isWanted`; rejects when it takes too long or a page has a problem. */
  heard(isWanted, msMax, waitedFor) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        const last = JSON.stringify([...this.#last]).slice(0, 2000);
        reject(new Error(`no ${waitedFor} within ${msMax / 1000} s; the last reports were ${last}`));
      }, msMax);
      const settle = (end) => (value) => {
        clearTimeout(late);
        end(value);
      };
      this.#waiting.push({ isWanted, resolve: settle(resolve), reject: settle(reject) });
    });
  }

  async close() {
    this.#http.closeAllConnections();
    this.#http.close();
    await once(this.#http, "close");
  }

  async #hear(request, answer) {
    let body = "";
    try {
      for await (const chunk of request.setEncoding("utf8")) body += chunk;
    } catch {
      // Its sender was killed while it spoke: it said nothing.
      return;
    }
    const report = JSON.parse(body);
    this.#last.set(report.tab, report.what === "problem" ? report : report.what);
    const reply = (await this.#answers[report.what]?.(report)) ?? {};
    answer.writeHead(200, { "Content-Type": "application/json", "Access-Control-Allow-Origin": "*" });
    answer.end(JSON.stringify(reply));
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      if (report.what === "problem") one.reject(new Error(`the page reported ${body}`));
      else if (one.isWanted(report)) one.resolve(report);
      else this.#waiting.push(one);
    }
  }
}
