// Waiting, for the few places that have to.

/** Resolves after a while, or when `signal` says that nobody needs it any more. */
export function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Resolves when everything that was ready to run has run. */
export function nextTask(): Promise<"later"> {
  return new Promise((resolve) => {
    setTimeout(() => resolve("later"), 0);
  });
}

/** What `work` gives, or `undefined` once `signal` says that nobody needs it any more. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const give = (): void => resolve(undefined);
    signal.addEventListener("abort", give);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", give));
  });
}
