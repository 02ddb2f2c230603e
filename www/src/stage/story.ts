// The story a visitor sees at the press of one button: everything that goes wrong in a year, in a quarter of a minute.

import { setCut } from "./device.ts";
import { capital, type Stage } from "./stage.ts";

interface Step {
  readonly text: string;
  readonly act: () => void | Promise<void>;
  /** What must have come about before the next step, beside the time to read. */
  readonly until?: () => boolean;
}

/** Tells the story. `say` is given each sentence, `null` at the end. */
export async function tellStory(stage: Stage, say: (sentence: string | null) => void): Promise<void> {
  for (const { text, act, until } of steps(stage)) {
    say(text);
    await Promise.all([act(), delay(READING_MS)]);
    if (until !== undefined) await whenever(stage, until);
  }
  say(null);
}

function steps(stage: Stage): readonly Step[] {
  const [first, second] = stage.devices;
  const one = capital(first.user);
  const other = capital(second.user);
  const kill: readonly Step[] = stage.canKill
    ? [
        {
          text: "The server process is killed: SIGKILL, in the middle of its work.",
          act: () => stage.kill(),
        },
        {
          text: `${one} and ${other} notice nothing: 25 more each, on their own disks.`,
          act: () => write(stage, 25),
        },
        { text: "The server starts again on the same database.", act: () => stage.restart() },
      ]
    : [];
  return [
    { text: `${one} and ${other} write 50 messages each.`, act: () => write(stage, 50) },
    { text: `${one}’s network is cut. Answers on their way are gone.`, act: () => setCut(first, true) },
    {
      text: `${one} goes on writing: 50 messages, on this disk alone. ${other} writes 25.`,
      act: () => {
        stage.writeMany(first, 50);
        stage.writeMany(second, 25);
      },
    },
    ...kill,
    {
      text: `${one} is back online and sends the rest again, under the same op_ids.`,
      act: () => setCut(first, false),
      until: () => stage.ledger().isSettled,
    },
  ];
}

function write(stage: Stage, count: number): void {
  for (const device of stage.devices) stage.writeMany(device, count);
}

/** Resolves when something holds, looked at after each change. */
function whenever(stage: Stage, holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!holds()) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = stage.subscribe(look);
    look();
  });
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const READING_MS = 2_200;
