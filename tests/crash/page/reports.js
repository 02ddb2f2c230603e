// What the page tells the harness: over HTTP to another process, so that what was said survives the browser.

/** Says one thing and gives the answer. */
export async function tell(what, report) {
  const { origin, tab, round } = wishes;
  const body = JSON.stringify({ what, tab, round, ...report });
  const answer = await fetch(origin, { method: "POST", body });
  if (!answer.ok) throw new Error(`the harness answered ${answer.status} to ${what}`);
  return answer.json();
}

/** What the harness asks of this page, in its address. */
export const wishes = JSON.parse(new URLSearchParams(location.search).get("wishes"));

const waiting = [];
let isSending = false;

/** Reports that a write was acknowledged. What waits while a report is under way goes with the next. */
export function acknowledged(changes) {
  waiting.push(changes);
  if (!isSending) void send();
}

async function send() {
  isSending = true;
  while (waiting.length > 0) await tell("acknowledged", { writes: waiting.splice(0) });
  isSending = false;
}
