// Waiting, for the few places that have to.

/** Resolves after a while, or when `signal` says that nobody needs it any more. */
export function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
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
